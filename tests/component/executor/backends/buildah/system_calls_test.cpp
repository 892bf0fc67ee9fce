// SPDX-License-Identifier: Apache-2.0
// What root of a builder may ask of the kernel, and what a step of each kind of builder may: the
// same program makes the same calls in the sandbox as it is, and in one without its filter.
#include "executor/backends/buildah/session.hpp"
#include "executor/sandbox/seccomp.hpp"
#include "tests/component/executor/backends/buildah/world.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace slipway::backends::buildah {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Outcomes = std::map<std::string, std::string>;

const std::string kRefused = std::to_string(EPERM);
const std::string kUnknown = std::to_string(ENOSYS);
constexpr const char* kDeep[] = {"io_uring_setup"}; ///< every kernel of a user's has it
constexpr const char* kKeys[] = {"add_key", "keyctl"};
/// What a builder's root could have, and has no use for.
constexpr const char* kRootsSockets[] = {"socket_nftables", "socket_packet"};
constexpr const char* kMaybe[] = {"perf_event_open", "userfaultfd", "kernel_log"};
constexpr const char* kOtherSockets[] = {"socket_alg", "socket_alg_high", "socket_vsock"};
constexpr const char* kUsual[] = {"socket_inet", "socket_inet6",      "socket_netlink",
                                  "socket_unix", "personality_asked", "trace_me",
                                  "memfd",       "threads",           "old_send_and_receive"};
/// What a builder is for.
constexpr const char* kBuilders[] = {"unshare_user", "clone_user", "clone3_user", "mount_tmpfs"};

/// The last two words of each line: a call of tests/programs/system_calls.cpp, and "ok" or the
/// error's number.
Outcomes outcomes_in(const std::string& said) {
  Outcomes outcomes;
  std::istringstream lines{said};
  for (std::string line; std::getline(lines, line);) {
    const auto space = line.rfind(' ');
    if (space == std::string::npos) continue;
    const auto name = line.substr(0, space);
    const auto before = name.rfind(' ');
    outcomes[before == std::string::npos ? name : name.substr(before + 1)] = line.substr(space + 1);
  }
  return outcomes;
}

class BuilderCalls : public testing::Test {
protected:
  static void SetUpTestSuite() {
    if (!World::why_not().empty()) return;
    world = std::make_unique<World>();
    folder = world->dir / "calls";
    fs::create_directory(folder);
    fs::permissions(folder, fs::perms{0755});
    fs::permissions(world->dir, fs::perms{0711});
    fs::copy_file(fs::read_symlink("/proc/self/exe").parent_path() / "system_calls",
                  folder / "system_calls");
    world->bring(folder, "/builds/calls");
  }
  static void TearDownTestSuite() { world.reset(); }
  void SetUp() override {
    if (!world) SLIPWAY_SKIP(World::why_not());
    ASSERT_EQ(world->problem, "");
  }
  static std::string program_bytes() {
    std::ifstream file{folder / "system_calls", std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  /// The attack on a sandbox of SPEC, which has nothing else in it. `filtered`: as it is.
  static Outcomes attack(sandbox::SandboxSpec spec, bool filtered) {
    spec.name += filtered ? "-with" : "-without";
    spec.entrypoint = {"/attack/system_calls"};
    spec.volumes = {{folder.string(), "/attack", true}};
    spec.network.clear();
    spec.env.clear();
    spec.script_listener = -1;
    if (!filtered) {
      spec.seccomp_profile.clear();
      spec.allow(sandbox::AllSystemCalls{"the control"});
    }
    if (auto root = sandbox::use_host_tools(*world->podman, spec); !root) {
      ADD_FAILURE() << root.error().text();
      return {};
    }
    const auto ran = world->podman->run_attached(spec, 60s, 1UL << 16);
    EXPECT_TRUE(ran.ok()) << ran.error().text();
    return ran ? outcomes_in(ran->out) : Outcomes{};
  }

  static void expect_control(Outcomes free) {
    for (const char* call : kDeep)
      EXPECT_EQ(free[call], "ok") << "control: " << call << " of the same root, without the filter";
    for (const char* call : kKeys)
      EXPECT_EQ(free[call], "ok") << call;
    for (const char* call : kRootsSockets)
      EXPECT_EQ(free[call], "ok") << call;
    for (const char* call : kBuilders)
      EXPECT_EQ(free[call], "ok") << call;
  }
  /// Of the builder's own root.
  static void expect_refused(Outcomes root, sandbox::StepsBy steps) {
    for (const char* call : kDeep)
      EXPECT_EQ(root[call], kRefused) << call;
    for (const char* call : kMaybe)
      EXPECT_EQ(root[call], kRefused) << call;
    for (const char* call : kOtherSockets)
      EXPECT_EQ(root[call], kUnknown) << call;
    for (const char* call : kRootsSockets)
      EXPECT_EQ(root[call], kUnknown) << call;
    EXPECT_EQ(root["add_key"], kUnknown);
    EXPECT_EQ(root["keyctl"], steps == sandbox::StepsBy::runc ? "ok" : kUnknown);
    for (const char* call : kBuilders)
      EXPECT_EQ(root[call], "ok") << call;
    for (const char* call : kUsual)
      EXPECT_EQ(root[call], "ok") << call;
  }
  /// Of a step, which has its builder's filter and the tool's own; the inner one's error counts.
  static void expect_refused_to_step(Outcomes step, const std::string& said) {
    const auto is_refused = [&](const char* call) {
      EXPECT_TRUE(step[call] == kRefused || step[call] == kUnknown) << call << "\n" << said;
    };
    for (const char* call : kDeep)
      is_refused(call);
    for (const char* call : kMaybe)
      is_refused(call);
    for (const char* call : kOtherSockets)
      is_refused(call);
    for (const char* call : kKeys)
      is_refused(call);
    for (const char* call : kUsual)
      EXPECT_EQ(step[call], "ok") << call << "\n" << said;
    EXPECT_NE(said.find("Seccomp_filters:\t2"), std::string::npos) << said;
  }

  static BuildJob job() {
    auto made = world->job("FROM busybox\nCOPY system_calls /calls\nRUN echo; /calls; grep "
                           "Seccomp_filters /proc/self/status\n");
    made.context_dir = "/builds/calls";
    made.no_cache = true;
    return made;
  }
  static Outcomes outcomes_as_root(const sandbox::ScriptRunner& run) {
    const sandbox::BuildClock quick{nullptr, 60s};
    const auto said = sandbox::read_program(
        run,
        sandbox::program_request(
            {"/bin/sh", "-ec", "cat >/root/calls; chmod 0755 /root/calls; exec /root/calls"},
            "/root"),
        1UL << 16, quick, {program_bytes()});
    EXPECT_TRUE(said.ok()) << said.error().text();
    return said ? outcomes_in(*said) : Outcomes{};
  }

  static SessionParts session_parts() {
    SessionParts parts;
    parts.job = "test-" + world->config.owner;
    parts.owner = world->config.owner;
    parts.container = "slipway-" + world->config.owner + "-session";
    parts.ids = world->config.slots.slot(1);
    parts.workspace_volume = world->volume;
    parts.bases = world->dir / "bases";
    parts.init_dir = world->config.init_dir;
    parts.socket = world->dir / "session.sock";
    return parts;
  }

  static std::unique_ptr<World> world;
  static fs::path folder;
};
std::unique_ptr<World> BuilderCalls::world;
fs::path BuilderCalls::folder;

TEST_F(BuilderCalls, OfBuildahsRootAreThoseThatItNeeds) {
  sandbox::BuildClock clock{nullptr, 2min};
  Opening opening;
  opening.bases = world->dir / "bases";
  opening.socket_dir = world->dir / "open-first";
  fs::create_directories(opening.socket_dir);
  opening.network = false;
  opening.ids = world->config.slots.slot(2);
  const auto spec = builder_spec(world->config, names_for("first", world->config.owner), opening);
  auto opened = world->pool->open("first", opening, clock);
  ASSERT_TRUE(opened.ok()) << opened.error().text();

  const auto live = outcomes_as_root((*opened)->run());
  (*opened)->finished(0);
  opened->reset();

  expect_refused(live, sandbox::StepsBy::changed_root);
  expect_control(attack(spec, false));
}

TEST_F(BuilderCalls, OfAStepOfBuildahsOrPodmansAreThoseThatProgramsNeed) {
  for (const auto tool : {Tool::buildah, Tool::podman}) {
    const auto built = world->build(job(), tool);
    ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;

    expect_refused_to_step(outcomes_in(world->said), world->said);
  }
}

TEST_F(BuilderCalls, OfAStepOfANewerBuildahsAreThoseThatProgramsNeed) {
  if (World::newer_buildah().empty()) SLIPWAY_SKIP("SLIPWAY_TEST_BUILDAH names no program");
  const auto built = world->build_with_newer(job());
  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;

  expect_refused_to_step(outcomes_in(world->said), world->said);
}

TEST_F(BuilderCalls, OfWorkingContainersRootAreThoseThatItNeeds) {
  const auto parts = session_parts();
  const Places places;
  const auto started = start_session(*world->podman, parts, places);
  ASSERT_TRUE(started.ok()) << started.error().text();

  const auto live = outcomes_as_root([&](const auto& request, const auto& io) {
    return sandbox::run_script(parts.socket, request, io);
  });
  EXPECT_TRUE(world->podman->remove({parts.container}).ok());
  EXPECT_TRUE(world->podman->remove_networks({parts.container}).ok());

  expect_refused(live, sandbox::StepsBy::changed_root);
  expect_control(attack(session_spec(parts, places), false));
  EXPECT_TRUE(world->podman->remove_volumes({parts.container}).ok());
}

TEST_F(BuilderCalls, OfBuildkitsRootAndItsStepsAreThoseThatTheyNeed) {
  auto* const buildkit = world->buildkit();
  if (buildkit == nullptr) SLIPWAY_SKIP("SLIPWAY_BUILDKIT_TOOLS is not set");
  const auto config = world->builder_config();
  const auto names = buildkit::names_for("first", config.owner);
  const auto spec = buildkit::builder_spec(config, names, config.slots.slot(0));
  const auto daemon = world->podman->inspect(names.container());
  ASSERT_TRUE(daemon.ok()) << daemon.error().text();
  std::ifstream status{"/proc/" + std::to_string(daemon->host_pid) + "/status"};
  const std::string facts{std::istreambuf_iterator<char>{status}, {}};

  const auto built = buildkit->build(job(), *world->result);

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  EXPECT_NE(facts.find("\nSeccomp:\t2\n"), std::string::npos) << facts;
  expect_refused_to_step(outcomes_in(world->said), world->said);
  expect_refused(attack(spec, true), sandbox::StepsBy::runc);
  expect_control(attack(spec, false));
}

} // namespace
} // namespace slipway::backends::buildah
