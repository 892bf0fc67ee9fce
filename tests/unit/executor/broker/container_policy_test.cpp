// SPDX-License-Identifier: Apache-2.0
// What a job may ask its own container engine for: each refusal with a control that passes.
#include "executor/broker/container_policy.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::broker {
namespace {

using Json = nlohmann::json;

const ContainerRules kRules{"/builds", "/run/slipway/sock/docker.sock"};

std::string with_host(const std::string& members) {
  return R"({"Image":"app:1","HostConfig":{)" + members + "}}";
}

struct Row {
  const char* name;
  const char* attack;     ///< members of HostConfig
  const char* words;      ///< of the refusal
  const char* control;    ///< the same without the attack: passes
  bool by_folder = false; ///< what holds is that the folder is not the workspace's
};

class CreateBody : public testing::TestWithParam<Row> {};

TEST_P(CreateBody, RefusesWhatIsOfTheHostByName) {
  const auto refused = check_container(with_host(GetParam().attack), kRules);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  EXPECT_NE(refused.error().what.find(GetParam().words), std::string::npos) << refused.error().what;

  const auto passed = check_container(with_host(GetParam().control), kRules);
  EXPECT_TRUE(passed) << passed.error().text();

  // The same attack where any folder would do.
  const auto unbound = check_container(with_host(GetParam().attack), {"/", kRules.broker_socket});
  EXPECT_EQ(unbound.ok(), GetParam().by_folder);
}

INSTANTIATE_TEST_SUITE_P(
    Attacks, CreateBody,
    testing::Values(
        Row{"BindOfTheRoot", R"("Binds":["/:/host"])", "HostConfig.Binds /",
            R"("Binds":["/builds:/host"])", true},
        Row{"BindOfEtc", R"("Binds":["/etc/shadow:/x:ro"])", "workspace",
            R"("Binds":["/builds/grp/app:/x:ro"])", true},
        Row{"BindThatClimbsOut", R"("Binds":["/builds/../etc:/x"])", "/builds/../etc",
            R"("Binds":["/builds/a/../b:/x"])", true},
        Row{"BindBesideTheWorkspace", R"("Binds":["/builds2:/x"])", "/builds2",
            R"("Binds":["/builds/2:/x"])", true},
        Row{"BindOfTheEnginesSocket", R"("Binds":["/run/slipway-engine/docker.sock:/x"])",
            "/run/slipway-engine", R"("Binds":["/var/run/docker.sock:/x"])", true},
        Row{"RelativeBind", R"("Binds":["../../etc:/x"])", "../../etc",
            R"("Binds":["named-volume:/x"])"},
        Row{"MountOfTheRoot", R"("Mounts":[{"Type":"bind","Source":"/","Target":"/x"}])",
            "HostConfig.Mounts /",
            R"("Mounts":[{"Type":"bind","Source":"/builds/x","Target":"/x"}])", true},
        Row{"MountOfAnotherCase", R"("Mounts":[{"type":"bind","source":"/","target":"/x"}])",
            "HostConfig.Mounts.source", R"("Mounts":[{"Type":"tmpfs","Target":"/x"}])"},
        Row{"VolumeThatIsABind",
            R"("Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}])",
            "DriverConfig",
            R"("Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"NoCopy":true}}])"},
        Row{"OptionsOfABind",
            R"("Mounts":[{"Type":"bind","Source":"/builds","Target":"/x","BindOptions":{"New":1}}])",
            "BindOptions.New",
            R"("Mounts":[{"Type":"bind","Source":"/builds","Target":"/x","BindOptions":{"Propagation":"rprivate"}}])"},
        Row{"NamedPipe", R"("Mounts":[{"Type":"npipe","Source":"x","Target":"/x"}])", "npipe",
            R"("Mounts":[])"},
        Row{"Disk", R"("Devices":[{"PathOnHost":"/dev/sda","PathInContainer":"/dev/sda"}])",
            "/dev/sda", R"("Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse"}])"},
        Row{"DeviceThatClimbs", R"("Devices":[{"PathOnHost":"/dev/fuse/../sda"}])", "Devices",
            R"("Devices":null)"},
        Row{"GraphicsCard", R"("DeviceRequests":[{"Count":-1}])", "DeviceRequests",
            R"("DeviceRequests":[])"},
        Row{"DeviceRules", R"("DeviceCgroupRules":["b *:* rwm"])", "DeviceCgroupRules",
            R"("DeviceCgroupRules":null)"},
        Row{"Runtime", R"("Runtime":"kata")", "Runtime", R"("Runtime":"")"},
        Row{"GroupOfTheHost", R"("CgroupParent":"/")", "CgroupParent", R"("CgroupParent":"")"},
        Row{"LogsThatLeave", R"("LogConfig":{"Type":"syslog","Config":{"a":"udp://x"}})", "syslog",
            R"("LogConfig":{"Type":"json-file"})"},
        Row{"VolumePlugin", R"("VolumeDriver":"sshfs")", "sshfs", R"("VolumeDriver":"local")"},
        Row{"OtherCase", R"("binds":["/:/x"])", "HostConfig.binds", R"("binds":null)"},
        Row{"FoldedLetter", R"("Bind\u017f":["/:/x"])", "HostConfig.Bind", R"("Binds":null)"},
        Row{"Unknown", R"("NewThing":{"x":1})", "HostConfig.NewThing", R"("NewThing":{})"}),
    [](const auto& row) { return std::string{row.param.name}; });

TEST(CreateBodyRules, WhatStaysInTheEngineIsPassed) {
  for (const char* members :
       {R"("Privileged":true)", R"("NetworkMode":"host","PidMode":"host","IpcMode":"host")",
        R"("CapAdd":["SYS_ADMIN"],"SecurityOpt":["seccomp=unconfined"])",
        R"("PortBindings":{"80/tcp":[{"HostPort":"8080"}]},"AutoRemove":true)"}) {
    const auto passed = check_container(with_host(members), kRules);
    EXPECT_TRUE(passed) << members << passed.error().text();
  }
}

TEST(CreateBodyRules, TheDockerSocketIsTheJobsBroker) {
  const auto order = check_container(
      with_host(
          R"("Binds":["/var/run/docker.sock:/var/run/docker.sock:ro","/run//docker.sock:/s"])"),
      kRules);

  ASSERT_TRUE(order) << order.error().text();
  const auto binds = Json::parse(order->body)["HostConfig"]["Binds"];
  EXPECT_EQ(binds[0], "/run/slipway/sock/docker.sock:/var/run/docker.sock:ro");
  EXPECT_EQ(binds[1], "/run/slipway/sock/docker.sock:/s");
}

TEST(CreateBodyRules, TheLastOfTwoMembersIsTheOneThatIsSentOn) {
  const auto order = check_container(
      R"({"Image":"a","HostConfig":{"Binds":["/:/x"]},"HostConfig":{"Binds":["/builds:/x"]}})",
      kRules);

  ASSERT_TRUE(order) << order.error().text();
  EXPECT_EQ(order->body.find("\"/:/x\""), std::string::npos);
  EXPECT_EQ(Json::parse(with_image(order->body, "sha256:1"))["Image"], "sha256:1");
}

TEST(CreateBodyRules, TakesOneNetworkAlongAndTheOthersLater) {
  const auto order = check_container(
      R"({"Image":"a","HostConfig":{"NetworkMode":"front"},"NetworkingConfig":{"EndpointsConfig":
          {"back":{"Aliases":["db"]},"front":{"MacAddress":"02:42:ac:11:00:99"},"none":null}}})",
      kRules);

  ASSERT_TRUE(order) << order.error().text();
  const auto body = Json::parse(order->body);
  EXPECT_EQ(body["NetworkingConfig"]["EndpointsConfig"], Json({{"front", Json::object()}}));
  EXPECT_EQ(body["MacAddress"], "02:42:ac:11:00:99");
  ASSERT_EQ(order->later_networks.size(), 2U);
  EXPECT_EQ(order->later_networks[0].name, "back");
  EXPECT_EQ(order->later_networks[0].endpoint, R"({"Aliases":["db"]})");
  EXPECT_EQ(order->later_networks[1].endpoint, "{}");
}

TEST(CreateBodyRules, ANewerApiTakesAllNetworksAtOnceAndHasMembersMore) {
  const char* const networks = R"({"Image":"a","HostConfig":{"NetworkMode":"front"},
      "NetworkingConfig":{"EndpointsConfig":{"back":{"Aliases":["db"]},"front":{"MacAddress":"m"}}}})";
  const auto order = check_container(networks, kRules, 44);
  ASSERT_TRUE(order) << order.error().text();
  EXPECT_TRUE(order->later_networks.empty());
  EXPECT_EQ(Json::parse(order->body), Json::parse(networks));

  struct Since {
    unsigned api;
    const char* members;
  };
  for (const auto& [api, members] :
       {Since{42, R"("Mounts":[{"Type":"bind","Source":"/builds/x","Target":"/x",
                     "BindOptions":{"CreateMountpoint":true}}])"},
        Since{43, R"("Annotations":{"a":"b"})"},
        Since{44, R"("Mounts":[{"Type":"bind","Source":"/builds/x","Target":"/x",
                     "BindOptions":{"ReadOnlyNonRecursive":true}}])"},
        Since{45, R"("Mounts":[{"Type":"volume","Source":"v","Target":"/x",
                     "VolumeOptions":{"Subpath":"s"}}])"},
        Since{46, R"("Mounts":[{"Type":"tmpfs","Target":"/x",
                     "TmpfsOptions":{"Options":[["exec"]]}}])"}}) {
    EXPECT_TRUE(check_container(with_host(members), kRules, api)) << members;
    const auto older = check_container(with_host(members), kRules, api - 1);
    ASSERT_FALSE(older) << members;
    EXPECT_EQ(older.error().kind, ErrorKind::denied);
  }
}

TEST(CreateBodyRules, WhatOnlyANewerEngineKnowsIsNotDroppedOnTheWay) {
  using C = ContainerCall;
  const std::string check = R"("Healthcheck":{"Test":["NONE"],"StartInterval":1000000000})";
  const std::string endpoint = R"({"GwPriority":5})";
  const std::string image = R"({"Image":"app",)";

  for (const auto& [api, body, says] :
       {std::tuple{44U, image + check + "}", "Healthcheck.StartInterval"},
        {48U, image + R"("NetworkingConfig":{"EndpointsConfig":{"a":)" + endpoint + "}}}",
         "NetworkingConfig.EndpointsConfig.GwPriority"}}) {
    EXPECT_TRUE(check_container(body, kRules, api)) << body;
    const auto older = check_container(body, kRules, api - 1);
    ASSERT_FALSE(older) << body;
    EXPECT_EQ(older.error().kind, ErrorKind::denied);
    EXPECT_NE(older.error().text().find(says), std::string::npos) << older.error().text();
  }
  const auto join = R"({"Container":"a","EndpointConfig":)" + endpoint + "}";
  EXPECT_TRUE(check_body(C::join_network, join, 48));
  EXPECT_FALSE(check_body(C::join_network, join, 47));
  EXPECT_FALSE(check_body(C::commit, "{" + check + "}"));
  EXPECT_TRUE(
      check_container(image + R"("Healthcheck":{"Test":["NONE"],"StartInterval":0}})", kRules))
      << "it says nothing";
  EXPECT_TRUE(
      check_body(C::join_network, R"({"Container":"a","EndpointConfig":{"GwPriority":0}})"));
}

TEST(CreateBodyRules, TheAddressOfTheOnlyNetworkIsTheContainers) {
  const auto body = [](const std::string& members) {
    const auto order = check_container(
        R"({"Image":"a","NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:42:ac:11:00:99"}}})" +
            members + "}",
        kRules);
    EXPECT_TRUE(order);
    return order && order->later_networks.empty() ? Json::parse(order->body) : Json{};
  };

  EXPECT_EQ(body("")["MacAddress"], "02:42:ac:11:00:99");
  EXPECT_EQ(body(R"(,"MacAddress":"02:42:ac:11:00:01")")["MacAddress"], "02:42:ac:11:00:01");
}

TEST(CreateBodyRules, WhatNamesNoNetworkIsNoPartOfAPath) {
  for (const char* name : {"", ".", "..", "../containers/x", "a/b"}) {
    const auto refused = check_container(
        R"({"Image":"a","HostConfig":{"NetworkMode":"n"},"NetworkingConfig":{"EndpointsConfig":{"n":{},")" +
            std::string{name} + R"(":{}}}})",
        kRules);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().kind, ErrorKind::bad_input) << name;
  }
}

TEST(CreateBodyRules, WhatIsNoRequestIsRefused) {
  for (const char* body :
       {"", "[]", "{", "{}", R"({"Image":1})", R"({"Image":"a","HostConfig":[]})",
        R"({"Image":"a","HostConfig":{"Binds":"/:/x"}})",
        R"({"Image":"a","HostConfig":{"Binds":[1]}})",
        R"({"Image":"a","HostConfig":{"Mounts":[1]}})"}) {
    const auto refused = check_container(body, kRules);
    ASSERT_FALSE(refused) << body;
    EXPECT_EQ(refused.error().kind, ErrorKind::bad_input) << body;
  }
  EXPECT_EQ(
      check_container(R"({"Image":"a","hostconfig":{"Binds":["/:/x"]}})", kRules).error().kind,
      ErrorKind::denied);
}

TEST(NetworkAndVolumeBodies, ANetworkWithoutIpv4IsOfANewerApi) {
  const char* const body = R"({"Name":"n","EnableIPv4":false,"EnableIPv6":true})";
  const auto order = check_body(ContainerCall::create_network, body, 48);
  ASSERT_TRUE(order) << order.error().text();
  EXPECT_EQ(Json::parse(*order)["EnableIPv4"], false);
  // An older engine's networks all have it: what says no more than that is not said.
  const auto older =
      check_body(ContainerCall::create_network, R"({"Name":"n","EnableIPv4":true})", 47);
  ASSERT_TRUE(older) << older.error().text();
  EXPECT_FALSE(Json::parse(*older).contains("EnableIPv4"));
}

TEST(NetworkAndVolumeBodies, OnlyTheEnginesOwnKindsPass) {
  const auto network = [](const char* body) {
    return check_body(ContainerCall::create_network, body).ok();
  };
  EXPECT_TRUE(network(R"({"Name":"n","Driver":"bridge","IPAM":{"Config":[]}})"));
  EXPECT_TRUE(network(R"({"Name":"n","Options":{"com.docker.network.driver.mtu":"1400"}})"));
  EXPECT_TRUE(network(R"({"Name":"n","EnableIPv4":true})"));
  EXPECT_FALSE(network(R"({"Name":"n","EnableIPv4":1})"));
  EXPECT_FALSE(network(R"({"Name":"n","Driver":"macvlan"})"));
  EXPECT_FALSE(network(R"({"Name":"n","driver":"macvlan"})"));
  EXPECT_FALSE(network(R"({"Name":"n","Options":{"parent":"eth0"}})"));
  EXPECT_FALSE(network(R"({"Name":"n","IPAM":{"Driver":"dhcp"}})"));
  EXPECT_FALSE(network(R"({"Name":"n","ConfigFrom":{"Network":"host"}})"));
  const auto volume = [](const char* body) {
    return check_body(ContainerCall::create_volume, body).ok();
  };
  EXPECT_TRUE(volume(R"({"Name":"v","Driver":"local","DriverOpts":{}})"));
  EXPECT_FALSE(volume(R"({"Name":"v","DriverOpts":{"type":"none","o":"bind","device":"/"}})"));
  EXPECT_FALSE(volume(R"({"Name":"v","Driver":"nfs"})"));
}

TEST(OtherBodies, OnlyKnownMembersReachTheEngine) {
  using C = ContainerCall;
  struct Case {
    ContainerCall call;
    const char* control;
    const char* attack;
    const char* words;
  };
  for (const auto& [call, control, attack, words] :
       {Case{C::create_exec, R"({"Cmd":["id"],"Privileged":true,"New":false})",
             R"({"Cmd":["id"],"New":true})", "exec New"},
        Case{C::start_exec, R"({"Detach":true,"Tty":false})", R"({"Binds":["/:/x"]})",
             "exec Binds"},
        Case{C::update_container, R"({"Memory":1000000,"RestartPolicy":{"Name":"no"}})",
             R"({"Devices":[{"PathOnHost":"/dev/sda"}]})", "update Devices"},
        Case{C::join_network, R"({"Container":"a","EndpointConfig":{"Aliases":["b"]}})",
             R"({"Container":"a","EndpointConfig":{"x":1}})", "EndpointConfig.x"},
        Case{C::leave_network, R"({"Container":"a","Force":true})", R"({"x":1})", "disconnect x"},
        Case{C::forward, "{}", R"({"Binds":["/:/x"]})", "Binds"},
        Case{C::attach, "", R"({"Binds":["/:/x"]})", "Binds"}}) {
    const auto passed = check_body(call, control);
    EXPECT_TRUE(passed) << words << passed.error().text();
    const auto refused = check_body(call, attack);
    ASSERT_FALSE(refused) << words;
    EXPECT_EQ(refused.error().kind, ErrorKind::denied) << words;
    EXPECT_NE(refused.error().what.find(words), std::string::npos) << refused.error().what;
  }
  EXPECT_EQ(check_body(C::forward, "x").error().kind, ErrorKind::bad_input);
}

TEST(ExecBodies, TheContainerIsThatOfThePath) {
  const auto passed =
      check_body(ContainerCall::create_exec, R"({"Container":"other","Cmd":["id"]})");
  ASSERT_TRUE(passed) << passed.error().text();
  EXPECT_EQ(Json::parse(*passed), Json::parse(R"({"Cmd":["id"]})"));
}

TEST(ContainerCalls, RefuseWhatIsNestedTooDeeplyToBeWrittenAnew) {
  const std::string deep = std::string(500000, '[') + std::string(500000, ']');

  const auto order = check_container(R"({"Image":"x","Labels":)" + deep + "}", kRules);

  ASSERT_FALSE(order.ok());
  EXPECT_EQ(order.error().kind, ErrorKind::bad_input);
}

TEST(ContainerBodies, TakeTheDetachKeysAsDockerPySpellsThem) {
  const auto body =
      check_body(ContainerCall::create_exec, R"({"Cmd":["id"],"detachKeys":"ctrl-p"})");
  ASSERT_TRUE(body) << body.error().text();
  EXPECT_EQ(Json::parse(*body), (Json{{"Cmd", {"id"}}, {"DetachKeys", "ctrl-p"}}));
}

TEST(ContainerCalls, OnlyKnownEndpointsReachTheEngine) {
  using C = ContainerCall;
  EXPECT_EQ(container_call("POST", "/containers/create"), C::create_container);
  EXPECT_EQ(container_call("POST", "/containers/a/attach"), C::attach);
  EXPECT_EQ(container_call("POST", "/exec/a/start"), C::start_exec);
  EXPECT_EQ(container_call("POST", "/containers/a/exec"), C::create_exec);
  EXPECT_EQ(container_call("POST", "/containers/a/update"), C::update_container);
  EXPECT_EQ(container_call("POST", "/networks/a/connect"), C::join_network);
  EXPECT_EQ(container_call("GET", "/containers/json"), C::forward);
  EXPECT_EQ(container_call("PUT", "/containers/a/archive"), C::forward);
  EXPECT_EQ(container_call("DELETE", "/containers/a"), C::forward);
  EXPECT_EQ(container_call("DELETE", "/containers/a/link"), C::forward);
  EXPECT_EQ(container_call("POST", "/networks/create"), C::create_network);
  EXPECT_EQ(container_call("POST", "/volumes/create"), C::create_volume);
  EXPECT_EQ(container_call("GET", "/images/json"), C::none);
  for (const auto& [method, path] : {std::pair{"GET", "/containers/a/attach/ws"},
                                     {"GET", "/commit"},
                                     {"POST", "/commit/x"},
                                     {"POST", "/containers/a/../../images/load"},
                                     {"POST", "/containers//create"},
                                     {"DELETE", "/containers/a/../../images/b"},
                                     {"DELETE", "/containers/a/b/c"},
                                     {"GET", "/networks/a/b"},
                                     {"POST", "/volumes/a"},
                                     {"POST", "/containers/a/checkpoints"}}) {
    EXPECT_EQ(container_call(method, path), C::unserved) << path;
  }
}

} // namespace
} // namespace slipway::broker
