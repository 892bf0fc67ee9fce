// SPDX-License-Identifier: Apache-2.0
// The second slipway-push, which starts the operator's programs for the confined one.
#include "executor/engine_api/script_protocol.hpp"
#include "executor/push_worker/programs.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <fstream>

namespace slipway::push_worker {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

fs::path slipway_push() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin/slipway-push";
}

process::Command shell(const std::string& script) {
  process::Command command;
  command.argv = {"/bin/sh", "-c", script};
  command.env = {{"NAME", "value"}};
  return command;
}

Program program(const process::Command& command) {
  return {command.argv, command.env};
}

TEST(Programs, AreRunAsTheLocalRunnerDoes) {
  auto echoing = shell("cat; echo \"$NAME $(env | grep -c OTHER)\" >&2; exit 3");
  echoing.input = std::string{"\0\xff bytes\n", 9};
  auto sleeping = shell("sleep 1000");
  sleeping.deadline = 100ms;
  auto ending = shell("kill -9 $$");
  auto talking = shell("echo much");
  talking.output_limit = 1;
  process::Command missing;
  missing.argv = {"/nonexistent/program"};
  auto programs =
      Programs::start(slipway_push(), {program(echoing), program(sleeping), program(ending),
                                       program(talking), program(missing)});
  ASSERT_TRUE(programs.ok()) << programs.error().text();

  const auto echoed = (*programs)->run(echoing);
  const auto slept = (*programs)->run(sleeping);
  const auto ended = (*programs)->run(ending);
  const auto talked = (*programs)->run(talking);
  const auto none = (*programs)->run(missing);
  const auto again = (*programs)->run(echoing);

  ASSERT_TRUE(echoed.ok()) << echoed.error().text();
  EXPECT_EQ(echoed->ending, process::Ending{process::Exited{3}});
  EXPECT_EQ(echoed->out, echoing.input);
  EXPECT_EQ(echoed->err, "value 0\n");
  EXPECT_EQ(slept->ending, process::Ending{process::DeadlinePassed{100ms}});
  EXPECT_EQ(ended->ending, (process::Ending{process::Signaled{9, false}}));
  EXPECT_EQ(talked.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(none.error().kind, ErrorKind::not_found);
  EXPECT_NE(none.error().text().find("/nonexistent/program"), std::string::npos);
  EXPECT_EQ(again->out, echoing.input);
}

TEST(Programs, StartNothingElse) {
  const fakes::TempDir dir;
  const auto file = dir.path() / "made";
  const auto named = shell("echo named");
  auto other = shell("touch " + file.string());
  auto with_environment = named;
  with_environment.env = {{"LD_PRELOAD", "/tmp/x.so"}};
  auto programs = Programs::start(slipway_push(), {program(named)});
  ASSERT_TRUE(programs.ok()) << programs.error().text();

  EXPECT_EQ((*programs)->run(other).error().kind, ErrorKind::internal);
  EXPECT_EQ((*programs)->run(with_environment).error().kind, ErrorKind::internal);
  EXPECT_EQ((*programs)->run(named)->out, "named\n");
  EXPECT_FALSE(fs::exists(file));
}

// Who took the confined process over speaks the protocol itself.
TEST(Programs, EndWhereOneIsAskedForThatWasNotNamed) {
  for (const std::string asked :
       {R"({"program":1,"input":"","deadline":1000,"grace":1,"output_limit":9})",
        R"({"program":-1,"input":"","deadline":1000,"grace":1,"output_limit":9})",
        R"({"argv":["/bin/true"]})", "no JSON"}) {
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd ours{ends[0]};
    UniqueFd theirs{ends[1]};
    process::Command command;
    command.argv = {slipway_push().string()};
    command.fds = {{theirs.get(), 3}};
    auto child = process::spawn(command);
    ASSERT_TRUE(child.ok()) << child.error().text();
    theirs.reset();
    ASSERT_TRUE(engine_api::send_frame(
        ours.get(), R"({"programs":[{"argv":["/bin/true"],"env":[]}]})", {}, 10s));
    ASSERT_TRUE(engine_api::send_frame(ours.get(), asked, {}, 10s));

    EXPECT_FALSE(engine_api::receive_frame(ours.get(), 30s).ok()) << asked;
    EXPECT_EQ(child->wait(30s, 1s), process::Ending{process::Exited{0}}) << asked;
  }
}

TEST(Programs, AreThoseOfTheRequest) {
  engine_api::WorkerRequest request;
  request.push.emplace();
  request.push->signing.emplace().command = {"/bin/sign", "-"};
  request.push->registry.lease.emplace().issuer.settings = {
      {"argv", "/bin/mint\na\n"}, {"list_argv", ""}, {"environment", "A=b=c\n"}};
  engine_api::WorkerRequest helper;
  helper.pull.emplace().registry.lease.emplace().issuer.settings = {
      {"program", "/bin/docker-credential-x"}, {"environment", ""}};

  EXPECT_EQ(programs_of(request),
            (std::vector<Program>{{{"/bin/mint", "a"}, {{"A", "b=c"}}}, {{"/bin/sign", "-"}, {}}}));
  EXPECT_EQ(programs_of(helper), (std::vector<Program>{{{"/bin/docker-credential-x", "get"}, {}}}));
}

} // namespace
} // namespace slipway::push_worker
