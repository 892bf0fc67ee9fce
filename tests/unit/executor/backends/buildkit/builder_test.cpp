// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/builder.hpp"
#include "executor/base/file.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/http2_server.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

namespace slipway::backends::buildkit {
namespace {

using namespace std::chrono_literals;

class TemporaryDir {
public:
  TemporaryDir() {
    char name[] = "/tmp/slipway-builder-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TemporaryDir() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

BuilderConfig config_in(const std::filesystem::path& dir) {
  BuilderConfig config;
  config.state_dir = dir;
  config.tools_dir = "/opt/slipway/buildkit";
  config.owner = "me";
  config.start_deadline = 100ms;
  config.probe_deadline = 5s;
  return config;
}

using fakes::Http2Server;

TEST(BuildkitVersion, IsWhatBuildctlSays) {
  fakes::FakeProcessRunner runner;
  runner.answer = [](const process::Command&) {
    return process::Output{process::Exited{0}, "buildctl github.com/moby/buildkit v0.34.2 abc\n",
                           ""};
  };

  EXPECT_EQ(*buildkit_version(runner, "/opt/x"), "v0.34.2");
  EXPECT_EQ(runner.seen[0].argv[0], "/opt/x/bin/buildctl");
}

TEST(BuildkitVersion, OfSomethingElseIsAMisconfiguration) {
  fakes::FakeProcessRunner runner;

  EXPECT_EQ(buildkit_version(runner, "/opt/x").error().kind, ErrorKind::misconfigured);
}

TEST(BuilderNames, DifferByKeyAndOwner) {
  EXPECT_EQ(names_for("group/app", "me").id, names_for("group/app", "me").id);
  EXPECT_NE(names_for("group/app", "me").id, names_for("group/app protected", "me").id);
  EXPECT_NE(names_for("a", "bc").id, names_for("ab", "c").id);
  EXPECT_EQ(names_for("a", "b").container(), "slipway-builder-" + names_for("a", "b").id);
}

TEST(BuildkitdToml, AllowsNoForeignFrontendAndNoEntitlement) {
  const std::string text = buildkitd_toml(config_in("/x"));

  EXPECT_NE(text.find("insecure-entitlements = []"), std::string::npos);
  EXPECT_NE(text.find("[frontend.\"gateway.v0\"]\n  enabled = false"), std::string::npos);
  EXPECT_NE(text.find("noProcessSandbox = false"), std::string::npos);
  EXPECT_NE(text.find("maxUsedSpace = 21474836480"), std::string::npos);
  EXPECT_EQ(text.find("registry"), std::string::npos);
}

TEST(BuilderSpec, MountsNothingOfTheHostButToolsAndItsOwnFolder) {
  const auto config = config_in("/state");
  const auto names = names_for("k", "me");

  const auto spec = builder_spec(config, names, config.slots.slot(0));

  ASSERT_TRUE(spec.privileged().has_value());
  EXPECT_EQ(spec.seccomp_profile, "/state/" + names.id + "/seccomp.json");
  EXPECT_EQ(spec.network, names.network());
  for (const auto& mount : spec.volumes) {
    const bool is_its_own =
        mount.source == names.volume() || mount.source == "/state/" + names.id + "/socket";
    EXPECT_TRUE(mount.read_only || is_its_own) << mount.source;
  }
  EXPECT_TRUE(spec.host_mounts().empty());
}

TEST(BuilderSpec, OfAClosedNetworkHasTheProxyAndNoWayOutOfItsOwn) {
  auto config = config_in("/state");
  config.closed = true;
  const auto names = names_for("k", "me");

  const auto without = builder_spec(config, names, {});
  config.init_dir = "/usr/libexec/slipway";
  const auto spec = builder_spec(config, names, {});

  EXPECT_EQ(without.network, names.closed_network());
  EXPECT_EQ(without.entrypoint.front(), "/tools/bin/buildkitd");
  EXPECT_EQ(spec.network, names.closed_network());
  EXPECT_EQ((std::vector<std::string>{spec.entrypoint.begin(), spec.entrypoint.begin() + 3}),
            (std::vector<std::string>{"/run/slipway/bin/slipway-init", "with-proxy",
                                      "/tools/bin/buildkitd"}));
  const auto sockets = std::find_if(spec.volumes.begin(), spec.volumes.end(), [](const auto& one) {
    return one.target == "/run/slipway/egress";
  });
  ASSERT_NE(sockets, spec.volumes.end());
  EXPECT_EQ(sockets->source, "/state/" + names.id + "/egress");
  EXPECT_TRUE(sockets->read_only);
}

TEST(Answers, TrueForAnHttp2Server) {
  const TemporaryDir dir;
  const Http2Server server{dir.path / "s"};

  EXPECT_TRUE(answers(dir.path / "s", 1s));
}

TEST(Answers, FalseWhereNobodyListensOrSomethingElseDoes) {
  const TemporaryDir dir;
  const Http2Server http1{dir.path / "h", "HTTP/1.1 400 Bad Request\r\n"};
  const Http2Server silent{dir.path / "silent", ""};

  EXPECT_FALSE(answers(dir.path / "none", 1s));
  EXPECT_FALSE(answers(dir.path / "h", 1s));
  EXPECT_FALSE(answers(dir.path / "silent", 100ms));
}

/// A Podman whose buildkitd is an Http2Server.
struct FakePodman {
  explicit FakePodman(const std::filesystem::path& state) {
    api->on_start = [this, state](const std::string& name) {
      ++started;
      running = name;
      if (starts_well)
        server = std::make_unique<Http2Server>(state / name.substr(16) / "socket/buildkitd.sock");
    };
    api->on_remove = [this](const std::string& name) {
      if (name == running) server.reset();
    };
  }
  fakes::FakeProcessRunner runner;
  std::shared_ptr<fakes::FakePodmanApi> api = std::make_shared<fakes::FakePodmanApi>();
  bool starts_well = true;
  int started = 0;
  std::string running;
  std::unique_ptr<Http2Server> server;
};

struct Pool {
  TemporaryDir dir;
  FixedClock clock{WallTime{std::chrono::seconds{1'800'000'000}}};
  FakePodman fake{dir.path};
  sandbox::Podman podman{sandbox::Engine{}, fake.runner, fake.api};
  BuilderPool pool(BuilderConfig config) { return BuilderPool{std::move(config), podman, clock}; }
};

TEST(BuilderPool, StartsOnceAndStaysWarm) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));

  const auto first = pool.acquire("a");
  const auto second = pool.acquire("a");

  ASSERT_TRUE(first.ok()) << first.error().text();
  ASSERT_TRUE(second.ok()) << second.error().text();
  EXPECT_TRUE(first->was_cold());
  EXPECT_FALSE(second->was_cold());
  EXPECT_EQ(world.fake.started, 1);
}

TEST(BuilderPool, ReplacesOneThatDoesNotAnswer) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  ASSERT_TRUE(pool.acquire("a").ok());
  world.fake.server.reset();

  const auto again = pool.acquire("a");

  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_TRUE(again->was_cold());
  EXPECT_EQ(world.fake.started, 2);
}

TEST(BuilderPool, ReplacesOneOfAnotherConfiguration) {
  Pool world;
  auto config = config_in(world.dir.path);
  ASSERT_TRUE(world.pool(config).acquire("a").ok());
  config.max_cache_bytes = 1;

  ASSERT_TRUE(world.pool(config).acquire("a").ok());

  EXPECT_EQ(world.fake.started, 2);
}

// A policy that tightens must not wait for the builds that began before it.
TEST(BuilderPool, JobsOfAnotherNetworkHaveAnotherBuilderAlsoWhileOneIsInUse) {
  Pool world;
  auto config = config_in(world.dir.path);
  const auto open = world.pool(config).acquire("a");
  config.closed = true;
  const auto closed = world.pool(config).acquire("a");
  config.init_dir = "/usr/libexec/slipway";
  const auto with_proxy = world.pool(config).acquire("a");

  ASSERT_TRUE(open.ok()) << open.error().text();
  ASSERT_TRUE(closed.ok()) << closed.error().text();
  ASSERT_TRUE(with_proxy.ok()) << with_proxy.error().text();
  EXPECT_EQ(world.fake.started, 3);
  EXPECT_NE(open->names().id, closed->names().id);
  EXPECT_NE(closed->names().id, with_proxy->names().id);
  EXPECT_NE(open->socket_dir(), closed->socket_dir());
  EXPECT_EQ(closed->socket_dir().parent_path(), world.dir.path / closed->names().id);
  const auto& containers = world.fake.api->containers;
  EXPECT_FALSE(containers.at(open->names().container()).body.dump().find("-closed") !=
               std::string::npos);
  EXPECT_TRUE(containers.at(closed->names().container()).body.dump().find("-closed") !=
              std::string::npos);
}

TEST(BuilderPool, SpoilsTheCachesOfEveryNetwork) {
  Pool world;
  auto config = config_in(world.dir.path);
  ASSERT_TRUE(world.pool(config).acquire("a").ok());
  auto closed = config;
  closed.closed = true;
  ASSERT_TRUE(world.pool(closed).acquire("a").ok());

  ASSERT_TRUE(world.pool(config).spoil("a").ok());

  EXPECT_EQ(world.pool(config).reap_idle()->removed.size(), 2U);
}

TEST(BuilderPool, EachBuilderHasAnIdRangeOfItsOwnAndKeepsIt) {
  Pool world;
  auto config = config_in(world.dir.path);
  config.slots = sandbox::plan_slots(6 * sandbox::kSlotSize, {1, 2, 0});
  const auto first = world.pool(config).acquire("a");
  const auto second = world.pool(config).acquire("b");
  const auto again = world.pool(config).acquire("a");
  const auto third = world.pool(config).acquire("c"); // control: there are two

  ASSERT_TRUE(first.ok() && second.ok() && again.ok() && third.ok());
  EXPECT_FALSE(first->ids().shared);
  EXPECT_FALSE(second->ids().shared);
  EXPECT_NE(first->ids(), second->ids());
  EXPECT_EQ(again->ids(), first->ids());
  EXPECT_TRUE(third->ids().shared);
  EXPECT_NE(third->ids(), first->ids());
}

TEST(BuilderPool, KeepsItsIdRangeWhileSomebodyUsesIt) {
  Pool world;
  auto config = config_in(world.dir.path);
  const auto cache = names_for("a", "me").volume();
  auto held = world.pool(config).acquire("a");
  ASSERT_TRUE(held.ok() && held->ids().shared);
  world.fake.api->volumes.at(cache)["Of"] = "slot 0";
  config.slots = sandbox::plan_slots(6 * sandbox::kSlotSize, {1, 2, 0});

  const auto beside = world.pool(config).acquire("a");
  ASSERT_TRUE(beside.ok());
  EXPECT_TRUE(beside->ids().shared);
  EXPECT_TRUE(world.fake.api->volumes.at(cache).contains("Of"));
}

TEST(BuilderPool, OneThatNobodyUsesMoves) {
  Pool world;
  auto config = config_in(world.dir.path);
  const auto cache = names_for("a", "me").volume();
  ASSERT_TRUE(world.pool(config).acquire("a").ok());
  world.fake.api->volumes.at(cache)["Of"] = "slot 0";
  config.slots = sandbox::plan_slots(6 * sandbox::kSlotSize, {1, 2, 0});

  const auto moved = world.pool(config).acquire("a");

  ASSERT_TRUE(moved.ok());
  EXPECT_TRUE(moved->was_cold());
  EXPECT_FALSE(moved->ids().shared);
  EXPECT_FALSE(world.fake.api->volumes.at(cache).contains("Of"));
}

// To a reaper all of them look as if they could have it, and only one can.
TEST(BuilderPool, OnesThatShareARangeKeepTheirCachesUntilTheyMove) {
  Pool world;
  auto config = config_in(world.dir.path);
  ASSERT_TRUE(world.pool(config).acquire("a").ok());
  ASSERT_TRUE(world.pool(config).acquire("b").ok());
  config.slots = sandbox::plan_slots(6 * sandbox::kSlotSize, {1, 2, 0});

  EXPECT_TRUE(world.pool(config).reap_idle()->removed.empty());
  EXPECT_FALSE(world.pool(config).acquire("a")->ids().shared);
  config.slots = sandbox::plan_slots(6 * sandbox::kSlotSize, {2, 1, 0}); // its range is a job's now
  EXPECT_EQ(world.pool(config).reap_idle()->removed,
            std::vector<std::string>{names_for("a", "me").container()});
}

TEST(BuilderPool, SaysWhatADaemonSaidThatDoesNotStart) {
  Pool world;
  world.fake.starts_well = false;

  const auto failed = world.pool(config_in(world.dir.path)).acquire("a");

  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_NE(failed.error().what.find("does not answer"), std::string::npos);
  EXPECT_TRUE(world.fake.api->containers.empty());
  EXPECT_FALSE(world.fake.api->removed.empty());
}

TEST(BuilderPool, ReapsABuilderWithAnUnfinishedBuildOnceNobodyUsesItAndKeepsItsCache) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  auto held = pool.acquire("a");
  ASSERT_TRUE(held.ok());
  const auto finished = held->begin_build();
  const auto left = held->begin_build();
  ASSERT_TRUE(finished.ok() && left.ok());
  finished->finished();

  const auto while_held = pool.reap_idle();
  { auto ended = *std::move(held); }
  const auto after = pool.reap_idle();
  const auto again = pool.reap_idle();

  ASSERT_TRUE(while_held.ok() && after.ok() && again.ok());
  EXPECT_TRUE(while_held->stopped.empty());
  EXPECT_EQ(after->stopped, std::vector<std::string>{names_for("a", "me").container()});
  EXPECT_EQ(world.fake.api->volumes.size(), 1U);
  EXPECT_TRUE(again->stopped.empty());
}

TEST(BuilderPool, LeavesABuilderWhoseBuildsAllFinished) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  {
    const auto held = pool.acquire("a");
    ASSERT_TRUE(held.ok());
    const auto build = held->begin_build();
    ASSERT_TRUE(build.ok());
    build->finished();
  }

  const auto reaped = pool.reap_idle();

  ASSERT_TRUE(reaped.ok());
  EXPECT_TRUE(reaped->stopped.empty());
}

TEST(BuilderPool, LeavesABuilderWithAnUnfinishedBuildToThoseWhoUseIt) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  const auto held = pool.acquire("a");
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(held->begin_build().ok());

  const auto beside = pool.acquire("a");

  ASSERT_TRUE(beside.ok());
  EXPECT_FALSE(beside->was_cold());
}

TEST(BuilderPool, StartsABuilderAnewAfterAnUnfinishedBuildThatNobodyUses) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  {
    const auto held = pool.acquire("a");
    ASSERT_TRUE(held.ok());
    ASSERT_TRUE(held->begin_build().ok());
  }

  const auto next = pool.acquire("a");
  const auto one_more = pool.acquire("a");

  ASSERT_TRUE(next.ok() && one_more.ok());
  EXPECT_TRUE(next->was_cold());
  EXPECT_FALSE(one_more->was_cold());
}

TEST(BuilderPool, GivesASpoiltCacheToNobody) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  const auto volume = names_for("a", "me").volume();
  {
    const auto held = pool.acquire("a");
    ASSERT_TRUE(held.ok());
    world.fake.api->volumes[volume]["mark"] = "old";
    ASSERT_TRUE(pool.spoil("a").ok());
    int told = 0;
    const auto beside = pool.acquire("a", [&] { ++told; });
    ASSERT_FALSE(beside.ok());
    EXPECT_EQ(beside.error().kind, ErrorKind::timed_out);
    EXPECT_EQ(told, 1) << "it waits as if all were in use";
    EXPECT_TRUE(pool.reap_idle()->removed.empty());
  }

  const auto next = pool.acquire("a");
  const auto one_more = pool.acquire("a");

  ASSERT_TRUE(next.ok()) << next.error().text();
  EXPECT_TRUE(next->was_cold());
  EXPECT_FALSE(world.fake.api->volumes.at(volume).contains("mark"));
  EXPECT_FALSE(one_more->was_cold());
}

TEST(BuilderPool, ReapsASpoiltCache) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  ASSERT_TRUE(pool.acquire("a").ok());
  ASSERT_TRUE(pool.spoil("a").ok());

  const auto reaped = pool.reap_idle();

  ASSERT_TRUE(reaped.ok());
  EXPECT_EQ(reaped->removed, std::vector<std::string>{names_for("a", "me").container()});
  EXPECT_TRUE(world.fake.api->volumes.empty());
}

TEST(BuilderPool, ReapsWhatIsIdleAndNotWhatIsInUse) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  auto held = pool.acquire("a");
  ASSERT_TRUE(held.ok());
  world.clock.advance(2h);

  const auto while_held = pool.reap_idle();
  { auto ended = *std::move(held); }
  const auto after = pool.reap_idle();

  ASSERT_TRUE(while_held.ok());
  ASSERT_TRUE(after.ok());
  EXPECT_TRUE(while_held->stopped.empty());
  EXPECT_EQ(after->stopped, std::vector<std::string>{names_for("a", "me").container()});
  EXPECT_EQ(world.fake.api->volumes.size(), 1U);
}

// As where its slipway died while it started, and the project builds no more.
TEST(BuilderPool, ReapsOneThatNeverBecameReady) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  world.fake.starts_well = false;
  world.fake.api->instead =
      [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (request.method != "DELETE" || world.fake.started == 0) return std::nullopt;
    return fakes::FakePodmanApi::trouble(500, "device busy");
  };
  ASSERT_FALSE(pool.acquire("a").ok());
  world.fake.api->instead = nullptr;
  const auto container = names_for("a", "me").container();
  ASSERT_TRUE(world.fake.api->containers.contains(container));
  world.clock.advance(2h);

  const auto reaped = pool.reap_idle();

  ASSERT_TRUE(reaped.ok());
  EXPECT_EQ(reaped->stopped, std::vector<std::string>{container});
  EXPECT_FALSE(world.fake.api->containers.contains(container));
}

TEST(BuilderPool, ReapsTheOthersWhereOneCannotBeRemoved) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  for (const char* key : {"stuck", "other"}) {
    ASSERT_TRUE(pool.acquire(key).ok());
    world.clock.advance(1min);
  }
  world.clock.advance(24h * 15);
  const auto stuck = names_for("stuck", "me");
  world.fake.api->instead =
      [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (request.method != "DELETE" || request.target.find(stuck.container()) == std::string::npos)
      return std::nullopt;
    return fakes::FakePodmanApi::trouble(500, "device busy");
  };

  const auto reaped = pool.reap_idle();

  ASSERT_FALSE(reaped.ok());
  EXPECT_NE(reaped.error().text().find(stuck.container()), std::string::npos)
      << reaped.error().text();
  EXPECT_TRUE(world.fake.api->volumes.contains(stuck.volume()));
  EXPECT_FALSE(world.fake.api->volumes.contains(names_for("other", "me").volume()));
}

TEST(BuilderPool, ForgetsACacheThatIsTooOld) {
  Pool world;
  auto pool = world.pool(config_in(world.dir.path));
  ASSERT_TRUE(pool.acquire("a").ok());
  world.clock.advance(24h * 15);

  const auto reaped = pool.reap_idle();
  const auto again = pool.reap_idle();

  ASSERT_TRUE(reaped.ok());
  EXPECT_EQ(reaped->removed.size(), 1U);
  EXPECT_FALSE(world.fake.api->volumes.contains(names_for("a", "me").volume()));
  EXPECT_TRUE(again->removed.empty());
}

TEST(BuilderPool, RemovesTheLeastUsedWhereThereAreTooMany) {
  Pool world;
  auto config = config_in(world.dir.path);
  config.most = 1;
  auto pool = world.pool(config);
  ASSERT_TRUE(pool.acquire("old").ok());
  world.clock.advance(1min);

  const auto next = pool.acquire("new");

  ASSERT_TRUE(next.ok()) << next.error().text();
  EXPECT_FALSE(world.fake.api->volumes.contains(names_for("old", "me").volume()));
}

TEST(BuilderPool, RefusesWhereAllAreInUse) {
  Pool world;
  auto config = config_in(world.dir.path);
  config.most = 1;
  auto pool = world.pool(config);
  const auto held = pool.acquire("a");
  ASSERT_TRUE(held.ok());

  int told = 0;

  const auto refused = pool.acquire("b", [&] { ++told; });

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(told, 1);
  EXPECT_EQ(refused.error().kind, ErrorKind::timed_out);
  EXPECT_NE(refused.error().what.find("all 1 builders are in use"), std::string::npos);
}

} // namespace
} // namespace slipway::backends::buildkit
