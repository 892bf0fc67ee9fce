// SPDX-License-Identifier: Apache-2.0
// Builds for real with Docker's builder in a sandbox, and what a step finds that looks around.
#include "tests/component/executor/backends/buildah/world.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>

namespace slipway::backends::dockerd {
namespace {

using buildah::World;

class DockerdBuild : public testing::Test {
protected:
  static void SetUpTestSuite() {
    if (why_not().empty()) world = std::make_unique<World>();
  }
  static void TearDownTestSuite() { world.reset(); }
  static std::string why_not() {
    if (World::dockerd().empty()) return "this machine has no dockerd";
    return World::why_not();
  }
  void SetUp() override {
    if (!world) SLIPWAY_SKIP(why_not());
    ASSERT_EQ(world->problem, "");
  }
  static std::string said_by(const BuildJob& job) {
    const auto built = world->build_with_dind(job);
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    return "\n" + world->said;
  }
  static bool says(const std::string& line) {
    return world->said.find("\n" + line + "\n") != std::string::npos;
  }
  static void expect_nothing_left() {
    EXPECT_EQ(world->podman->list("io.slipway.role", "dind")->size(), 0U);
    EXPECT_EQ(world->podman->list_networks("io.slipway.role", "dind")->size(), 0U);
    EXPECT_EQ(world->podman->list_volumes("io.slipway.role", "dind")->size(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(world->dir / "dind"));
  }
  static std::unique_ptr<World> world;
};
std::unique_ptr<World> DockerdBuild::world;

TEST_F(DockerdBuild, StandsOnTheBasesOwnLayerAndKeepsWhatIsDeclared) {
  auto job =
      world->job("# syntax=docker/dockerfile:1\nARG BASE=busybox\nFROM $BASE\nARG WHO=nobody\n"
                 "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nHEALTHCHECK CMD true\n"
                 "ONBUILD RUN true\nCOPY hello /hello\n"
                 "RUN echo $WHO; cat /hello; stat -c '%u:%g' /hello\nUSER nobody\n");
  job.build_args = {{"WHO", "somebody, here"}};
  job.labels = {{"org.example", "a b"}};

  const auto built = world->build_with_dind(job);

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  const auto config = world->config_of(built->manifest);
  EXPECT_TRUE(config.has_healthcheck);
  EXPECT_EQ(config.shell, (std::vector<std::string>{"/bin/sh", "-e", "-c"}));
  EXPECT_EQ(config.on_build, (std::vector<std::string>{"RUN true"}));
  EXPECT_EQ(config.user, "nobody");
  EXPECT_EQ(config.labels, (std::map<std::string, std::string>{{"org.example", "a b"}}));
  EXPECT_TRUE(says("somebody, here")) << world->said;
  EXPECT_TRUE(says("0:0")) << world->said;
  const auto tree = oci::read_tree(*world->result, built->manifest);
  const auto base = oci::read_tree(*world->bases, world->base_images[0].digest);
  EXPECT_EQ(tree->images[0].manifest.layers[0].digest, base->images[0].manifest.layers[0].digest);
  expect_nothing_left();
}

TEST_F(DockerdBuild, TakesABaseByItsDigestAndLeavesOutStagesThatTheTargetDoesNotNeed) {
  const auto digest = world->base_images[0].digest.str();
  auto job = world->job("FROM busybox AS broken\nRUN false\nFROM busybox@" + digest +
                        " AS made\nRUN echo made >/made\nFROM busybox AS wanted\n"
                        "COPY --from=made /made /m\nCOPY --from=busybox@" +
                        digest + " /bin/busybox /b\nFROM broken\nRUN false\n");
  job.bases.push_back({"busybox@" + digest, world->base_images[0].digest});
  job.target = "wanted";

  said_by(job);

  EXPECT_EQ(world->said.find("RUN false"), std::string::npos) << world->said;
}

TEST_F(DockerdBuild, ReportsTheStepThatFailed) {
  const auto built =
      world->build_with_dind(world->job("ARG A=1\nFROM busybox\n\nRUN i=0; while [ $i -lt 3000 ]; "
                                        "do echo line $i; i=$((i + 1)); done; "
                                        "exit 42\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what.substr(0, 53),
            "Dockerfile:4: a step ended with exit code 42: RUN i=0");
  EXPECT_TRUE(says("line 2999"));
  expect_nothing_left();
}

TEST_F(DockerdBuild, AsksNoRegistry) {
  const auto named =
      world->build_with_dind(world->job("FROM registry.invalid/other:1\nRUN true\n"));

  ASSERT_FALSE(named.ok());
  EXPECT_EQ(named.error().kind, ErrorKind::bad_input) << named.error().text();
  EXPECT_EQ(named.error().what.substr(0, 14), "Dockerfile:1: ");
  EXPECT_EQ(world->said, "");

  // What slipway's reader does not see: the daemon itself has no way to anybody. Steps have one.
  const auto asked = world->build_with_dind(
      world->job("FROM busybox\nRUN ip route | grep ^default\nADD http://192.0.2.1/x /x\n"));
  ASSERT_FALSE(asked.ok());
  EXPECT_NE(asked.error().what.find("network is unreachable"), std::string::npos)
      << asked.error().text();
  EXPECT_NE(world->said.find("\ndefault via"), std::string::npos) << world->said; // control
}

TEST_F(DockerdBuild, StopsWhenTheJobIsCancelled) {
  auto job = world->job("FROM busybox\nRUN echo begun; sleep 600\n");
  job.cancelled = [] {
    const std::lock_guard guard{world->saying};
    return world->said.find("\nbegun\n") != std::string::npos;
  };

  const auto built = world->build_with_dind(job);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what, sandbox::build_cancelled().what);
  expect_nothing_left();
}

TEST_F(DockerdBuild, EndsAtTheDeadline) {
  auto job = world->job("FROM busybox\nRUN sleep 600\n");
  job.deadline = std::chrono::seconds{15};

  const auto built = world->build_with_dind(job);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::timed_out) << built.error().text();
  expect_nothing_left();
}

TEST_F(DockerdBuild, AStepSeesTheSandboxesNetworkAndNeitherDaemonNorSocket) {
  world->write("/builds/app/of-this-build", "x\n");
  world->write("/builds/other/of-another-build", "x\n");

  const auto said = said_by(
      world->job("FROM busybox\nCOPY . /here\n"
                 "RUN echo look; find / -xdev -name 'of-*-build'; find / -xdev -type s; "
                 "ls -d /builds /build /run/slipway 2>/dev/null; "
                 "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '[c]onfig-file'; "
                 "grep -o '@[^ ]*' /proc/net/unix; "
                 "env | grep -i -E 'token|password|secret|docker'; "
                 "grep CapEff /proc/self/status; hostname; ip addr | grep -c 'inet '; "
                 "echo looked\n"));

  EXPECT_TRUE(says("/here/of-this-build")) << said; // control
  EXPECT_EQ(said.find("of-another-build\n"), std::string::npos) << said;
  EXPECT_EQ(said.find(".sock\n"), std::string::npos) << said;
  EXPECT_EQ(said.find("\n/build"), std::string::npos) << said;
  EXPECT_FALSE(says("config-file")) << said;
  EXPECT_EQ(said.find("\n@"), std::string::npos) << said;
  EXPECT_FALSE(says("/run/slipway")) << said;
  // Docker's default set and no more: no SYS_ADMIN, no NET_ADMIN.
  EXPECT_TRUE(says("CapEff:\t00000000a80425fb")) << said;
  EXPECT_TRUE(says("2")) << "addresses: its own and the loopback's: " << said;
  EXPECT_TRUE(says("looked")) << said;
}

/// "NAME" to "ok" or the error's number, of the lines of tests/programs/system_calls.cpp.
std::map<std::string, std::string> outcomes(const std::string& said) {
  std::map<std::string, std::string> outcomes;
  std::istringstream lines{said};
  for (std::string line; std::getline(lines, line);) {
    const auto space = line.find(' ');
    if (space != std::string::npos) outcomes[line.substr(0, space)] = line.substr(space + 1);
  }
  return outcomes;
}

TEST_F(DockerdBuild, AStepMakesTheCallsThatProgramsNeedAndNoOthers) {
  const auto folder = world->dir / "calls";
  const auto program = folder / "system_calls";
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "system_calls", program);
  world->bring(folder, "/builds/calls");
  process::Command alone;
  alone.argv = {program.string()};

  const auto control = world->runner.run(alone);
  auto job = world->job("FROM busybox\nCOPY system_calls /calls\nRUN echo; /calls\n");
  job.context_dir = "/builds/calls";
  const auto said = said_by(job);

  ASSERT_TRUE(control.ok());
  auto free = outcomes(control->out);
  auto step = outcomes(said);
  const std::string refused = std::to_string(EPERM);
  for (const char* call :
       {"add_key", "keyctl", "io_uring_setup", "unshare_user", "clone_user", "no_randomize"}) {
    EXPECT_EQ(free[call], "ok") << "control: " << call << " of the same user, without a filter";
    EXPECT_EQ(step[call], refused) << call << said;
  }
  EXPECT_EQ(free["clone3_user"], "ok");
  EXPECT_EQ(step["clone3_user"], std::to_string(ENOSYS)) << said;
  // A kernel may lack these, or keep them from users.
  for (const char* call :
       {"perf_event_open", "userfaultfd", "socket_alg", "socket_alg_high", "socket_vsock"})
    EXPECT_EQ(step[call], refused) << call << ", without a filter: " << free[call];
  for (const char* call : {"old_send_and_receive", "socket_inet", "socket_inet6", "socket_netlink",
                           "socket_unix", "personality_asked", "trace_me", "memfd", "threads"})
    EXPECT_EQ(step[call], "ok") << call << said;
}

TEST_F(DockerdBuild, WithoutANetworkThereIsNone) {
  auto job = world->job("FROM busybox\nRUN echo; ip addr | grep -c 'inet 1[^2]'; echo looked\n");
  job.network = "none";

  const auto said = said_by(job);

  EXPECT_TRUE(says("0")) << said;
}

TEST_F(DockerdBuild, TakesADockerfileBesideTheContextAndRefusesItWhereThatWouldChangeTheImage) {
  auto job = world->job("");
  world->in_build_sandbox("rm -f /builds/app/.dockerignore");
  job.dockerfile_dir = "/builds";
  job.dockerfile_text = "FROM busybox\nCOPY . /here\nRUN echo; ls -A /here\n";
  const auto said = said_by(job);
  EXPECT_TRUE(says("hello")) << said;
  EXPECT_EQ(said.find(".dockerfile"), std::string::npos) << said;
  EXPECT_EQ(said.find("\n.dockerignore"), std::string::npos) << said;

  world->write("/builds/app/.dockerignore", "nothing\n");
  const auto built = world->build_with_dind(job);

  world->in_build_sandbox("rm -f /builds/app/.dockerignore");
  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input) << built.error().text();
  EXPECT_NE(built.error().what.find(".dockerignore"), std::string::npos);
}

TEST_F(DockerdBuild, AStepLeavesNoProcessBehind) {
  said_by(world->job("FROM busybox\nRUN (setsid sleep 4713 &) ; echo started\n"));

  const auto left = world->podman->unshare(
      {"/bin/sh", "-c",
       "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -x 'sleep 4713 '; "
       "done; true"});

  ASSERT_TRUE(left.ok());
  EXPECT_EQ(left->out, "");
}

} // namespace
} // namespace slipway::backends::dockerd
