// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_command.hpp"
#include "executor/shim/container_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <stdlib.h>
#include <time.h>

#include <sstream>

namespace slipway::shim {
namespace {

using Json = nlohmann::json;

ContainerCommand command_of(const std::string& verb, const std::string& text) {
  std::istringstream words{text};
  Words list;
  for (std::string word; words >> word;)
    list.push_back(word);
  const auto read = read_container_command(verb, "docker " + verb, list, {{"HOME", "/h"}});
  return std::get<ContainerCommand>(*read);
}

Json body_of(const std::string& text) {
  const auto body = create_container_body(command_of("run", text), "/builds/grp/app");
  return body ? Json::parse(*body) : Json{{"error", body.error().text()}};
}

TEST(ContainerRun, TimesOfLogsBecomeSecondsAsDockersClientSendsThem) {
  ::setenv("TZ", "XYZ-2", 1); // two hours east of Greenwich
  ::tzset();
  const auto said = [](const std::string& text) {
    const auto time = log_time(text, 1700000000);
    return time ? *time : time.error().what;
  };
  for (const auto& [text, time] : Pairs{{"10m", "1699999400"},
                                        {"1h30m", "1699994600"},
                                        {"1.5s", "1699999998"},
                                        {"300ms", "1699999999"},
                                        {"1.1m", "1699999934"},
                                        {"-1m", "1700000060"},
                                        {"0s", "1700000000"},
                                        {"1700000000", "1700000000"},
                                        {"1700000000.25", "1700000000.25"},
                                        {"0", "0"},
                                        {"2023-11-14T22:13:20Z", "1700000000.000000000"},
                                        {"2023-11-14T22:13:20.25Z", "1700000000.250000000"},
                                        {"2023-11-14T23:13:20.5+01:00", "1700000000.500000000"},
                                        {"2023-11-14T19:13:20-03:00", "1700000000.000000000"},
                                        {"2023-11-14T22:13Z", "1699999980.000000000"},
                                        {"2023-11-14Z", "1699920000.000000000"},
                                        {"2023-11-15T00:13:20", "1700000000.000000000"},
                                        {"2023-11-15T00:13", "1699999980.000000000"},
                                        {"2023-11-15T00", "1699999200.000000000"},
                                        {"2023-11-15", "1699999200.000000000"}})
    EXPECT_EQ(said(text), time) << text;
  for (const auto* text : {"yesterday", "10x", "m", "-", "1h30", "2023-13-14", "2023-11-14T",
                           "2023-11-14T1", "2023-11-14T22:13:20+01", "2023-11-14T22:13:20.Z",
                           "2023-11-14 22:13", "1700000000.", "inf"})
    EXPECT_EQ(said(text),
              "failed to parse value as time or duration: \"" + std::string{text} + "\"");
  ::unsetenv("TZ");
  ::tzset();
}

TEST(ContainerRun, FlagsBecomeTheBodyThatDockerSends) {
  const auto body = body_of(
      "--rm -d -e A=1 -e HOME -e UNSET -v ./data:/d:ro -v /builds/x:/y -v cache:/c -v /anonymous "
      "-w /w -u 1:2 --entrypoint sh -p 127.0.0.1:8080:80 -p 53/udp --network back "
      "--network-alias db --mount type=bind,src=.,dst=/m,readonly -m 64m image:1 -c ls -l");

  EXPECT_EQ(body["Image"], "image:1");
  EXPECT_EQ(body["Cmd"], Json({"-c", "ls", "-l"}));
  EXPECT_EQ(body["Env"], Json({"A=1", "HOME=/h"}));
  EXPECT_EQ(body["Entrypoint"], Json({"sh"}));
  EXPECT_EQ(body["User"], "1:2");
  EXPECT_EQ(body["WorkingDir"], "/w");
  EXPECT_EQ(body["AttachStdout"], false);
  EXPECT_TRUE(body["Volumes"].contains("/anonymous"));
  const auto& host = body["HostConfig"];
  EXPECT_EQ(host["Binds"], Json({"/builds/grp/app/data:/d:ro", "/builds/x:/y", "cache:/c"}));
  EXPECT_EQ(host["Mounts"][0]["Source"], "/builds/grp/app/");
  EXPECT_EQ(host["Mounts"][0]["ReadOnly"], true);
  EXPECT_EQ(host["PortBindings"]["80/tcp"][0]["HostIp"], "127.0.0.1");
  EXPECT_EQ(host["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
  EXPECT_EQ(host["PortBindings"]["53/udp"][0]["HostPort"], "");
  EXPECT_EQ(host["NetworkMode"], "back");
  EXPECT_EQ(host["Memory"], 64 << 20);
  EXPECT_EQ(host["AutoRemove"], true);
  EXPECT_EQ(body["NetworkingConfig"]["EndpointsConfig"]["back"]["Aliases"], Json({"db"}));
}

TEST(ContainerRun, InTheForegroundTheExitCodeComesBeforeTheRemoval) {
  const auto body = body_of("--rm -i image");

  EXPECT_FALSE(body["HostConfig"].contains("AutoRemove"));
  EXPECT_EQ(body["OpenStdin"], true);
  EXPECT_EQ(body["StdinOnce"], true);
  EXPECT_EQ(body["AttachStdin"], true);
}

TEST(ContainerRun, WhatIsCreatedCanBeAttachedToAtItsStart) {
  const auto body = Json::parse(*create_container_body(command_of("create", "--rm -i image"), "/"));

  EXPECT_EQ(body["HostConfig"]["AutoRemove"], true);
  EXPECT_EQ(body["StdinOnce"], true) << "the end of what is typed is the container's, too";
  EXPECT_EQ(body["AttachStdin"], true);
  EXPECT_EQ(body["AttachStdout"], true);
}

TEST(ContainerRun, LimitsAreTheEnginesToKeepOrRefuse) {
  const auto body =
      body_of("--cpus 1.5 --cpu-shares 512 --pids-limit 100 --memory-swap -1 --ulimit nofile=10:20 "
              "--ulimit core=0 --log-opt max-size=1m --stop-timeout 3 --no-healthcheck image");

  const auto& host = body["HostConfig"];
  EXPECT_EQ(host["NanoCpus"], 1'500'000'000);
  EXPECT_EQ(host["CpuShares"], 512);
  EXPECT_EQ(host["PidsLimit"], 100);
  EXPECT_EQ(host["MemorySwap"], -1);
  EXPECT_EQ(host["Ulimits"][0], Json({{"Name", "nofile"}, {"Soft", 10}, {"Hard", 20}}));
  EXPECT_EQ(host["Ulimits"][1]["Hard"], 0);
  EXPECT_EQ(host["LogConfig"], Json({{"Config", {{"max-size", "1m"}}}}));
  EXPECT_EQ(body["StopTimeout"], 3);
  EXPECT_EQ(body["Healthcheck"]["Test"], Json({"NONE"}));
}

TEST(ContainerRun, SizesAreReadAsDockerReadsThem) {
  for (const auto& [text, bytes] : {std::pair<const char*, std::int64_t>{"64m", 64LL << 20},
                                    {"1.5g", 3LL << 29},
                                    {"2GiB", 2LL << 30},
                                    {"2gb", 2LL << 30},
                                    {".5K", 512},
                                    {"512", 512},
                                    {"7b", 7},
                                    {"1t", 1LL << 40},
                                    {"0", 0}})
    EXPECT_EQ(body_of("-m " + std::string{text} + " i")["HostConfig"]["Memory"], bytes) << text;
  for (const char* text : {"g", "1x", "1gi", "1kbb", "-1", "1.2.3", "9999999p", "nan1", "1bb"})
    EXPECT_TRUE(body_of("--shm-size " + std::string{text} + " i").contains("error")) << text;
}

TEST(ContainerRun, WhatThePolicyLetsThroughHasItsFlag) {
  const auto body = body_of(
      "--network back --ip 10.9.0.5 --ip6 fd00::5 --cpuset-cpus 0 --cpuset-mems 0-1 "
      "--memory-reservation 1.5m --memory-swappiness 10 --cpu-period 100000 --cpu-quota 50000 "
      "--blkio-weight 300 --oom-score-adj -5 --oom-kill-disable --dns-search x --dns-search y "
      "--dns-option ndots:2 --dns-opt debug --cgroupns private --storage-opt size=1G "
      "--domainname d.example --mac-address 92:d0:c6:0a:29:33 image");

  const auto& host = body["HostConfig"];
  EXPECT_EQ(host["CpusetCpus"], "0");
  EXPECT_EQ(host["CpusetMems"], "0-1");
  EXPECT_EQ(host["MemoryReservation"], 3 << 19);
  EXPECT_EQ(host["MemorySwappiness"], 10);
  EXPECT_EQ(host["CpuPeriod"], 100000);
  EXPECT_EQ(host["CpuQuota"], 50000);
  EXPECT_EQ(host["BlkioWeight"], 300);
  EXPECT_EQ(host["OomScoreAdj"], -5);
  EXPECT_EQ(host["OomKillDisable"], true);
  EXPECT_EQ(host["DnsSearch"], Json({"x", "y"}));
  EXPECT_EQ(host["DnsOptions"], Json({"ndots:2", "debug"}));
  EXPECT_EQ(host["CgroupnsMode"], "private");
  EXPECT_EQ(host["StorageOpt"], Json({{"size", "1G"}}));
  EXPECT_EQ(body["Domainname"], "d.example");
  EXPECT_EQ(body["MacAddress"], "92:d0:c6:0a:29:33");
  EXPECT_EQ(body["NetworkingConfig"]["EndpointsConfig"]["back"]["IPAMConfig"],
            Json({{"IPv4Address", "10.9.0.5"}, {"IPv6Address", "fd00::5"}}));
}

TEST(ContainerRun, AHealthcheckIsTheContainersOwn) {
  const auto body = body_of("--health-cmd pg_isready --health-interval 10s --health-timeout 1m30s "
                            "--health-retries 5 --health-start-period 500ms "
                            "--health-start-interval 2s postgres");

  EXPECT_EQ(body["Healthcheck"], Json({{"Test", {"CMD-SHELL", "pg_isready"}},
                                       {"Interval", 10'000'000'000},
                                       {"Timeout", 90'000'000'000},
                                       {"Retries", 5},
                                       {"StartPeriod", 500'000'000},
                                       {"StartInterval", 2'000'000'000}}));
  EXPECT_FALSE(body_of("postgres").contains("Healthcheck")) << "the image's own counts";
}

TEST(ContainerRun, WhatIsNotServedIsRefusedByName) {
  for (const auto& [verb, text] :
       {std::pair{"run", "--device-read-bps /dev/sda:1 i"}, {"run", "--label-file f i"}}) {
    std::istringstream in{text};
    Words list;
    for (std::string word; in >> word;)
      list.push_back(word);
    const auto read = read_container_command(verb, "docker", list, {});
    const auto& say = std::get<Say>(*read);
    EXPECT_EQ(say.exit_code, 125) << text;
    EXPECT_NE(say.err.find("slipway does not support --"), std::string::npos) << say.err;
  }
}

TEST(ContainerRun, ValuesThatMeanNothingAreRefused) {
  for (const char* text : {"-p web:80 i",
                           "-p 1-3:1-3 i",
                           "-m lots i",
                           "--cpus many i",
                           "--cpus 1.x i",
                           "--pids-limit 1k i",
                           "--ulimit nofile i",
                           "--ulimit nofile=a i",
                           "--network a --network a i",
                           "--network a --network host i",
                           "--network-alias x i",
                           "--network host --network-alias x i",
                           "--ip 10.0.0.2 i",
                           "--network bridge --ip6 ::1 i",
                           "--storage-opt size i",
                           "--cpu-quota many i",
                           "--memory-reservation lots i",
                           "--network name=a,ip=10.0.0.2 i",
                           "--network alias=x i",
                           "--network-alias x --network name=a,alias=y i",
                           "--mount type=bind,wat=1 i",
                           "--health-interval soon i",
                           "--health-timeout -1s i",
                           "--health-retries many i",
                           "--no-healthcheck --health-cmd true i",
                           "--env-file /no/such/file i",
                           "-v :/x i"}) {
    EXPECT_TRUE(body_of(text).contains("error")) << text;
  }
}

TEST(ContainerRun, MountsHaveTheOptionsOfTheirType) {
  const auto body = body_of("--mount type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770 "
                            "--mount type=bind,src=/builds,dst=/b,bind-propagation=rslave "
                            "--mount src=cache,dst=/c,volume-nocopy i");

  const auto& mounts = body["HostConfig"]["Mounts"];
  EXPECT_EQ(mounts[0]["TmpfsOptions"], Json({{"SizeBytes", 64 << 20}, {"Mode", 01770}}));
  EXPECT_EQ(mounts[1]["BindOptions"], Json({{"Propagation", "rslave"}}));
  EXPECT_EQ(mounts[2]["VolumeOptions"], Json({{"NoCopy", true}}));
  for (const char* text :
       {"--mount type=bind,src=/b,dst=/b,tmpfs-size=1m i",
        "--mount dst=/b,bind-propagation=rslave i", "--mount type=tmpfs,dst=/t,volume-nocopy i",
        "--mount type=tmpfs,dst=/t,tmpfs-size=lots i", "--mount type=tmpfs,dst=/t,tmpfs-mode=8 i",
        "--mount dst=/c,volume-nocopy=maybe i"})
    EXPECT_TRUE(body_of(text).contains("error")) << text;
}

TEST(ContainerRun, AHostIsAddedInBothSpellings) {
  EXPECT_EQ(body_of("--add-host a=10.0.0.1 --add-host b:10.0.0.2 --add-host c=[::1] --add-host "
                    "d:::2 --add-host e=host-gateway i")["HostConfig"]["ExtraHosts"],
            Json({"a:10.0.0.1", "b:10.0.0.2", "c:::1", "d:::2", "e:host-gateway"}));
  for (const char* text : {"--add-host a i", "--add-host =10.0.0.1 i"})
    EXPECT_TRUE(body_of(text).contains("error")) << text;
}

Json network_of(const std::string& text) {
  const auto body = create_network_body(command_of("network create", text));
  return body ? Json::parse(*body) : Json{{"error", body.error().text()}};
}

TEST(NetworkCreate, FlagsBecomeTheBodyThatDockerSends) {
  EXPECT_EQ(network_of("net"), Json({{"Name", "net"}, {"CheckDuplicate", true}}));
  const auto body = network_of(
      "-d bridge --ipam-driver default -o com.docker.network.bridge.name=br9 --opt x --ipv6 "
      "--internal --label a=b --subnet 10.9.0.0/16 --subnet fd00:9::/64 --gateway 10.9.0.1 "
      "--gateway fd00:9::1 --ip-range 10.9.4.0/22 --aux-address db=10.9.0.7 net");

  EXPECT_EQ(body["Driver"], "bridge");
  EXPECT_EQ(body["EnableIPv6"], true);
  EXPECT_EQ(body["Internal"], true);
  EXPECT_EQ(body["Options"], Json({{"com.docker.network.bridge.name", "br9"}, {"x", ""}}));
  EXPECT_EQ(body["IPAM"], Json::parse(R"({"Driver":"default","Config":[
              {"Subnet":"10.9.0.0/16","IPRange":"10.9.4.0/22","Gateway":"10.9.0.1",
               "AuxiliaryAddresses":{"db":"10.9.0.7"}},
              {"Subnet":"fd00:9::/64","Gateway":"fd00:9::1"}]})"));
}

TEST(NetworkCreate, AnAddressBelongsToASubnet) {
  for (const auto& [text, words] :
       {std::pair{"--gateway 10.9.0.1 n", "no matching subnet for gateway 10.9.0.1"},
        {"--subnet 10.9.0.0/23 --gateway 10.9.2.1 n", "no matching subnet for gateway 10.9.2.1"},
        {"--subnet 10.9.0.0/16 --ip-range fd00::/80 n", "no matching subnet for range fd00::/80"},
        {"--subnet 10.9.0.0/16 --aux-address a=10.8.0.1 n", "no matching subnet for aux-address"},
        {"--subnet 10.9.0.0/16 --aux-address 10.9.0.1 n", "invalid argument"},
        {"--subnet 10.9.0.0 --gateway 10.9.0.1 n", "no matching subnet"},
        {"--subnet 10.9.0.0/16 --gateway 10.9.0.1 --gateway 10.9.0.2 n",
         "cannot configure multiple gateways"}})
    EXPECT_NE(network_of(text)["error"].get<std::string>().find(words), std::string::npos)
        << network_of(text);
}

TEST(ContainerRun, WhatFollowsTheImageIsTheContainers) {
  const auto command = command_of("run", "image ls --rm -p 1");

  EXPECT_TRUE(command.flags.empty());
  EXPECT_EQ(command.arguments, (Words{"image", "ls", "--rm", "-p", "1"}));
}

TEST(ContainerCommit, TakesAContainerAndAName) {
  const auto command = command_of("commit", "-a me -c USER=x -m why --pause=false c1 reg/app:1");

  EXPECT_EQ(command.verb, "commit");
  EXPECT_EQ(command.arguments, (Words{"c1", "reg/app:1"}));
  EXPECT_EQ(command.flags.back(), (std::pair<std::string, std::string>{"pause", "false"}));
}

TEST(OutputFrames, FramesCutAnywhereGoToTheirStreams) {
  const std::string stream =
      std::string{"\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\3err\1\0\0\0\0\0\0\0", 32};
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    std::string out;
    std::string err;
    OutputFrames frames{[&](std::string_view bytes) { out += bytes; },
                        [&](std::string_view bytes) { err += bytes; }};
    for (std::size_t at = 0; at < stream.size(); at += step)
      frames.feed(std::string_view{stream}.substr(at, step));
    EXPECT_EQ(out, "hello");
    EXPECT_EQ(err, "err");
  }
}

} // namespace
} // namespace slipway::shim
