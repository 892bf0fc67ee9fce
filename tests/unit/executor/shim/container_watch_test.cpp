// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_command.hpp"
#include "executor/shim/container_watch.hpp"
#include "executor/shim/go_template.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

#include "fake_broker.hpp"

namespace slipway::shim {
namespace {

using Json = nlohmann::json;

struct Sample {
  const char* name;
  const char* stats;
  const char* field;
  const char* shown;
};
void PrintTo(const Sample& row, std::ostream* out) {
  *out << row.name;
}

class StatsRow : public testing::TestWithParam<Sample> {};

TEST_P(StatsRow, IsWhatDockerMakesOfTheSample) {
  const auto row = stats_row(GetParam().stats, "web", false);

  ASSERT_TRUE(row) << row.error().text();
  EXPECT_EQ(Json::parse(*row)[GetParam().field], GetParam().shown);
}

INSTANTIATE_TEST_SUITE_P(
    , StatsRow,
    testing::Values(
        Sample{"Name", R"({"name":"/web","id":"0123456789abcdef"})", "Name", "web"},
        Sample{"NameOfNothing", "{}", "Name", "--"},
        Sample{"Id", R"({"name":"/web","id":"0123456789abcdef"})", "ID", "0123456789ab"},
        Sample{"IdThatIsNotSaid", "{}", "ID", "web"},
        Sample{
            "CpuOfOneOfFour",
            R"({"cpu_stats":{"cpu_usage":{"total_usage":350},"system_cpu_usage":2000,"online_cpus":4},
                   "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000}})",
            "CPUPerc", "100.00%"},
        Sample{
            "CpuOfAnEngineThatListsProcessors",
            R"({"cpu_stats":{"cpu_usage":{"total_usage":2,"percpu_usage":[1,1]},"system_cpu_usage":300},
                   "precpu_stats":{"cpu_usage":{"total_usage":1}}})",
            "CPUPerc", "0.67%"},
        Sample{"CpuWithoutTime", R"({"cpu_stats":{"cpu_usage":{"total_usage":2},"online_cpus":4}})",
               "CPUPerc", "0.00%"},
        Sample{"CpuThatWentBack",
               R"({"cpu_stats":{"cpu_usage":{"total_usage":1},"system_cpu_usage":9,"online_cpus":4},
                   "precpu_stats":{"cpu_usage":{"total_usage":2},"system_cpu_usage":1}})",
               "CPUPerc", "0.00%"},
        Sample{
            "MemoryOfVersionTwo",
            R"({"memory_stats":{"usage":20971520,"limit":104857600,"stats":{"inactive_file":10485760}}})",
            "MemUsage", "10MiB / 100MiB"},
        Sample{
            "MemoryOfVersionOne",
            R"({"memory_stats":{"usage":3072,"limit":1073741824,"stats":{"total_inactive_file":1024,"inactive_file":5}}})",
            "MemUsage", "2KiB / 1GiB"},
        Sample{"MemoryThatIsAllOfFiles",
               R"({"memory_stats":{"usage":1536,"limit":3000,"stats":{"inactive_file":2000}}})",
               "MemUsage", "1.5KiB / 2.93KiB"},
        Sample{"MemoryWithoutLimit", R"({"memory_stats":{"limit":18446744073709551615}})",
               "MemUsage", "0B / 16EiB"},
        Sample{"MemoryOfAHostWithoutController", "{}", "MemUsage", "0B / 0B"},
        Sample{"MemoryShare", R"({"memory_stats":{"usage":25,"limit":200}})", "MemPerc", "12.50%"},
        Sample{"MemoryShareOfNothing", "{}", "MemPerc", "0.00%"},
        Sample{
            "Networks",
            R"({"networks":{"eth0":{"rx_bytes":1000,"tx_bytes":5},"eth1":{"rx_bytes":234,"tx_bytes":1}}})",
            "NetIO", "1.23kB / 6B"},
        Sample{
            "Disks",
            R"({"blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":1},{"op":"read","value":2},
                   {"op":"write","value":4096},{"op":"Total","value":9},{"op":""}]}})",
            "BlockIO", "3B / 4.1kB"},
        Sample{"DisksOfNothing", R"({"blkio_stats":{"io_service_bytes_recursive":null}})",
               "BlockIO", "0B / 0B"},
        Sample{"Processes", R"({"pids_stats":{"current":12}})", "PIDs", "12"},
        Sample{"WhatIsOfNoUse",
               R"({"name":7,"cpu_stats":[],"memory_stats":{"usage":"x","stats":3},"networks":[1],
                   "blkio_stats":{"io_service_bytes_recursive":[4]},"pids_stats":null})",
               "MemUsage", "0B / 0B"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(StatsRowOfAnEngine, HasTheWholeIdAndIsOfAnObjectAlone) {
  EXPECT_EQ(Json::parse(*stats_row(R"({"id":"0123456789abcdef"})", "web", true))["ID"],
            "0123456789abcdef");
  EXPECT_EQ(stats_row("[]", "web", false).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(stats_row("{", "web", false).error().kind, ErrorKind::bad_input);
}

constexpr const char* kEvent =
    R"({"status":"start","id":"c1","from":"app:1","Type":"container","Action":"start",)"
    R"("Actor":{"ID":"c1","Attributes":{"name":"web","image":"app:1"}},"scope":"local",)"
    R"("time":1700000000,"timeNano":1700000000000000250})";

TEST(Event, LinesHaveTheTimeOfThisMachineAndSortedAttributes) {
  ::setenv("TZ", "XYZ-2", 1); // two hours east of Greenwich
  ::tzset();
  const auto there = event_line(kEvent);
  ::setenv("TZ", "UTC", 1);
  ::tzset();

  EXPECT_EQ(*there, "2023-11-15T00:13:20.000000250+02:00 container start c1 "
                    "(image=app:1, name=web)");
  EXPECT_EQ(*event_line(R"({"Type":"network","Action":"create","Actor":{"ID":"n"},"time":5})"),
            "1970-01-01T00:00:05.000000000Z network create n");
  EXPECT_EQ(*event_line("{}"), "  ");
  EXPECT_EQ(event_line("[]").error().kind, ErrorKind::bad_input);
}

TEST(Event, FieldsAreGosAndJsonIsTheEngines) {
  const auto shown = [](const std::string& format) {
    const auto text = render_template(format, *event_fields(kEvent));
    return text ? *text : text.error().what;
  };

  EXPECT_EQ(shown("{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.TimeNano}}"),
            "container start c1 web 1700000000000000250");
  EXPECT_EQ(shown("{{.Status}} {{.ID}} {{.From}} {{.Scope}} {{.Time}}"),
            "start c1 app:1 local 1700000000");
  EXPECT_EQ(shown("{{.Actor.Attributes.exitCode}}"), "<no value>");
  EXPECT_EQ(shown("{{json .}}"), kEvent);
  EXPECT_EQ(shown("{{json .Actor.ID}}"), "\"c1\"");
  EXPECT_NE(shown("{{.Nope}}").find("Nope"), std::string::npos);
}

/// The commands against a broker that answers as the engine does.
class Watching : public testing::Test {
protected:
  Watching() {
    world_.sockets = {broker_.socket()};
    world_.now = 1700000000;
    world_.out = [this](std::string_view text) { out_ += text; };
    world_.err = [this](std::string_view text) { err_ += text; };
  }

  int tool(const std::vector<std::string>& argv, const std::string& input = "/dev/null") {
    out_.clear();
    err_.clear();
    const UniqueFd in{::open(input.c_str(), O_RDONLY | O_CLOEXEC)};
    world_.input = in.get();
    return run(read_invocation(argv, {}), world_);
  }

  static std::string refusal(int status, const std::string& message) {
    const auto body = Json{{"message", message}}.dump();
    return "HTTP/1.1 " + std::to_string(status) +
           " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  static std::string sample(const std::string& id, const std::string& name) {
    return FakeBroker::json_answer(R"({"id":")" + id + R"(","name":"/)" + name +
                                   R"(","pids_stats":{"current":3}})");
  }

  FakeBroker broker_;
  Surroundings world_;
  std::string out_;
  std::string err_;
};

TEST_F(Watching, StatsOfAllThatRunAreATable) {
  broker_.answers = {
      {"GET /containers/json", FakeBroker::json_answer(R"([{"Id":"c1"},{"Id":"c2"},{"Id":"c3"}])")},
      {"GET /containers/c1/stats", sample("0123456789abcdef", "web")},
      {"GET /containers/c2/stats", refusal(404, "No such container: c2")}, // gone meanwhile
      {"GET /containers/c3/stats", sample("fedcba9876543210", "db")}};

  ASSERT_EQ(tool({"docker", "stats", "--no-stream"}), 0) << err_;

  EXPECT_EQ(out_, "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   "
                  "BLOCK I/O   PIDS\n"
                  "0123456789ab   web       0.00%     0B / 0B             0.00%     0B / 0B   "
                  "0B / 0B     3\n"
                  "fedcba987654   db        0.00%     0B / 0B             0.00%     0B / 0B   "
                  "0B / 0B     3\n");
  const auto seen = broker_.seen();
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[0].first("all"), "");
  EXPECT_EQ(seen[1].first("stream"), "false");

  ASSERT_EQ(tool({"docker", "container", "stats", "-a", "--no-stream", "--no-trunc", "--format",
                  "{{.Container}} {{.Name}}"}),
            0);
  EXPECT_EQ(out_, "c1 web\nc3 db\n");
  EXPECT_EQ(broker_.seen()[4].first("all"), "1");
  ASSERT_EQ(tool({"docker", "stats", "--no-stream", "--format", "json", "c3"}), 0) << err_;
  EXPECT_EQ(out_, R"({"BlockIO":"0B / 0B","CPUPerc":"0.00%","Container":"c3","ID":"fedcba987654",)"
                  R"("MemPerc":"0.00%","MemUsage":"0B / 0B","Name":"db","NetIO":"0B / 0B",)"
                  R"("PIDs":"3"})"
                  "\n");
  EXPECT_EQ(tool({"docker", "stats", "--no-stream", "--format", "{{.Nope}}", "c3"}), 1);
}

TEST_F(Watching, StatsEndWithTheContainersThatWereNamed) {
  broker_.answers = {{"GET /containers/c1/stats", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}};

  EXPECT_EQ(tool({"docker", "stats", "c1"}), 0) << err_;
  EXPECT_EQ(out_ + err_, "");
}

TEST_F(Watching, StatsOfWhatIsNotThereEndWithOneAndNoTable) {
  broker_.answers = {{"GET /containers/c1/stats", sample("c1", "web")},
                     {"GET /containers/gone/stats", refusal(404, "No such container: gone")}};

  EXPECT_EQ(tool({"docker", "stats", "--no-stream", "c1", "gone"}), 1);
  EXPECT_EQ(out_ + err_, "Error response from daemon: No such container: gone\n");
  EXPECT_EQ(tool({"docker", "stats", "gone"}), 1) << "it does not wait for it";
  EXPECT_EQ(tool({"podman", "stats", "--no-stream", "gone"}), 125);
  EXPECT_EQ(out_ + err_, "Error: No such container: gone\n");
  EXPECT_EQ(tool({"podman", "stats", "--interval", "x", "c1"}), 125);
  EXPECT_EQ(tool({"podman", "stats", "--latest"}), 125);
  EXPECT_NE(err_.find("--latest"), std::string::npos) << err_;
  EXPECT_EQ(tool({"podman", "stats", "--format", "json", "c1"}), 125);
  broker_.answers["GET /containers/json"] = refusal(501, "no containers here");
  EXPECT_EQ(tool({"docker", "stats"}), 1);
  EXPECT_EQ(err_, "Error response from daemon: no containers here\n");
}

TEST_F(Watching, EventsAreALineEachAsTheyCome) {
  const std::string second = R"({"Type":"network","Action":"create","Actor":{"ID":"n"},"time":5})";
  const std::string events = std::string{kEvent} + "\n" + second + "\n";
  broker_.answers = {{"GET /events", FakeBroker::json_answer(events)}};

  ASSERT_EQ(tool({"docker", "events", "--since", "10m", "--until", "1700000005", "-f",
                  "type=container", "--filter", "label=a=b", "--format", "{{.Type}}:{{.Action}}"}),
            0)
      << err_;
  EXPECT_EQ(out_, "container:start\nnetwork:create\n");
  EXPECT_EQ(broker_.last().first("since"), "1699999400");
  EXPECT_EQ(broker_.last().first("until"), "1700000005");
  EXPECT_EQ(broker_.last().first("filters"), R"({"type":{"container":true},"label":{"a=b":true}})");

  ASSERT_EQ(tool({"docker", "system", "events", "--format", "json"}), 0) << err_;
  EXPECT_EQ(out_, events);
  EXPECT_EQ(broker_.last().first("until"), "") << "until the engine ends";
  ASSERT_EQ(tool({"podman", "events", "--stream=false"}), 0) << err_;
  EXPECT_NE(out_.find(" container start c1 (image=app:1, name=web)\n"), std::string::npos) << out_;
  EXPECT_EQ(broker_.last().first("until"), "1700000000.999999999");
}

TEST_F(Watching, EventsAreNotAskedForWhereTheCommandIsWrong) {
  EXPECT_EQ(tool({"docker", "events", "--format", "{{.Nope}}"}), 64);
  EXPECT_TRUE(err_.starts_with("Error parsing format: ")) << err_;
  EXPECT_EQ(tool({"docker", "events", "--since", "tomorrow"}), 1);
  EXPECT_NE(err_.find("tomorrow"), std::string::npos) << err_;
  EXPECT_TRUE(broker_.seen().empty());

  broker_.answers = {{"GET /events", refusal(400, "Invalid filter 'x'")}};
  EXPECT_EQ(tool({"docker", "events", "-f", "x=y"}), 1);
  EXPECT_EQ(err_, "Error response from daemon: Invalid filter 'x'\n");
  broker_.answers = {{"GET /events", FakeBroker::json_answer("nonsense\n")}};
  EXPECT_EQ(tool({"docker", "events"}), 1);
  EXPECT_NE(err_.find("event is no JSON object"), std::string::npos) << err_;
}

TEST_F(Watching, AttachGoesOnWithWhatRunsAndEndsWithItsCode) {
  const std::string frame{"\1\0\0\0\0\0\0\3hi\n", 11};
  const std::string running =
      R"({"State":{"Running":true},"Config":{"OpenStdin":true},"HostConfig":{"AutoRemove":true}})";
  broker_.answers = {{"GET /containers/c9/json", FakeBroker::json_answer(running)},
                     {"POST /containers/c9/wait", "HTTP/1.1 200 OK\r\n\r\n{\"StatusCode\":3}\n"},
                     {"POST /containers/c9/attach", "HTTP/1.1 101 UPGRADED\r\n\r\n" + frame}};

  EXPECT_EQ(tool({"docker", "attach", "--sig-proxy=false", "c9"}), 3) << err_;
  EXPECT_EQ(out_, "hi\n");
  const auto seen = broker_.seen();
  ASSERT_EQ(seen.size(), 4U) << "nothing is started";
  EXPECT_EQ(seen[3].path, "/containers/c9/json") << "it may have ended before it was attached to";
  EXPECT_EQ(seen[1].path + "?" + seen[1].first("condition"), "/containers/c9/wait?not-running");
  EXPECT_EQ(seen[2].first("stdin"), "1");

  EXPECT_EQ(tool({"podman", "container", "attach", "--no-stdin", "c9"}), 3) << err_;
  EXPECT_EQ(broker_.last().first("stdin"), "");
}

TEST_F(Watching, AttachSaysWhyThereIsNothingToAttachTo) {
  for (const auto& [facts, says] :
       {std::pair{R"({"State":{"Running":false}})", "cannot attach to a stopped container"},
        {R"({"State":{"Running":true,"Paused":true}})", "cannot attach to a paused container"},
        {R"({"State":{"Running":true,"Restarting":true}})", "cannot attach to a restarting"},
        {R"({"State":{"Running":true},"Config":{"Tty":true}})", "the input device is not a TTY"}}) {
    broker_.answers = {{"GET /containers/c9/json", FakeBroker::json_answer(facts)}};
    EXPECT_EQ(tool({"docker", "attach", "c9"}), 1);
    EXPECT_TRUE(err_.starts_with(says)) << err_;
    EXPECT_EQ(tool({"podman", "attach", "c9"}), 125);
    EXPECT_TRUE(err_.starts_with(std::string{"Error: "} + says)) << err_;
  }
  broker_.answers = {{"GET /containers/c9/json", refusal(404, "No such container: c9")}};
  EXPECT_EQ(tool({"docker", "attach", "c9"}), 1);
  EXPECT_EQ(err_, "Error response from daemon: No such container: c9\n");
}

TEST_F(Watching, UpdateSendsWhatWasSaidAndPrintsNamesAndWarnings) {
  broker_.answers = {
      {"POST /containers/c1/update", FakeBroker::json_answer(R"({"Warnings":["no swap here"]})")},
      {"POST /containers/gone/update", refusal(404, "No such container: gone")},
      {"POST /containers/c2/update", FakeBroker::json_answer(R"({"Warnings":null})")}};

  EXPECT_EQ(tool({"docker", "update", "-m", "64m", "--memory-swap", "-1", "--cpus", "1.5",
                  "--cpuset-cpus", "0-1", "--pids-limit", "99", "--restart", "on-failure:3", "c1",
                  "gone", "c2"}),
            1);
  EXPECT_EQ(out_, "c1\nc2\nno swap here\n");
  EXPECT_EQ(err_, "Error response from daemon: No such container: gone\n");
  EXPECT_EQ(Json::parse(broker_.last().body),
            Json::parse(R"({"Memory":67108864,"MemorySwap":-1,"NanoCpus":1500000000,
                            "CpusetCpus":"0-1","PidsLimit":99,
                            "RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}})"));

  EXPECT_EQ(tool({"docker", "update", "--pids-limit", "0", "c2"}), 0) << err_;
  EXPECT_EQ(broker_.last().body, "{}") << "as it is";

  EXPECT_EQ(tool({"docker", "container", "update", "c1"}), 1);
  EXPECT_EQ(err_, "you must provide one or more flags when using this command\n");
  EXPECT_EQ(tool({"docker", "update", "--memory", "lots", "c1"}), 1);
  EXPECT_EQ(err_, "invalid argument \"lots\" for \"--memory\": invalid size\n");
  EXPECT_EQ(tool({"podman", "update", "--restart", "no", "c2"}), 0) << err_;
}

} // namespace
} // namespace slipway::shim
