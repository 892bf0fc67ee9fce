// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/store.hpp"
#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace slipway::backends::buildah {
namespace {

using namespace std::chrono_literals;

/// A pool over a Podman that keeps its things in memory; its sandboxes' init asks for its socket.
class StoreTest : public testing::Test {
protected:
  /// This process is the init of all sandboxes, so it has what they have: a filter of system calls,
  /// if one that lets all pass. Source: seccomp(2).
  static void SetUpTestSuite() {
    sock_filter all{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    const sock_fprog filter{1, &all};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
  }

  StoreTest() {
    char name[] = "/tmp/slipway-store-XXXXXX";
    dir_ = ::mkdtemp(name);
    config_.state_dir = dir_ / "stores";
    config_.init_dir = "/opt/slipway/bin";
    config_.owner = "me";
    config_.most = 2;
    config_.max_bytes = 1000;
    config_.max_idle = 1h;
    sandbox::Engine engine;
    engine.runtime_dir = dir_;
    api_ = std::make_shared<fakes::FakePodmanApi>();
    api_->pid = ::getpid();
    api_->on_start = [this](const std::string& container) { be_init_of(container); };
    podman_ = std::make_unique<sandbox::Podman>(engine, runner_, api_);
  }
  ~StoreTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }

  void be_init_of(const std::string& container) {
    for (const auto& mount : api_->containers.at(container).body.at("mounts")) {
      if (mount.at("destination") != "/run/slipway/handover") continue;
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      const auto path = mount.at("source").get<std::string>() + "/s";
      std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
      UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
      ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                0);
      inits_.push_back(std::move(fd));
    }
  }
  Result<std::unique_ptr<Workshop>> open(const std::string& key, bool network = true) {
    StorePool pool{config_, *podman_, clock_};
    const sandbox::BuildClock build{[this] { return cancelled_; }, 1500ms};
    return pool.open(key, opening(network), build, [this] { ++waited_; });
  }
  Opening opening(bool network = true) const {
    Opening one;
    one.bases = dir_ / "bases";
    one.socket_dir = dir_;
    one.labels = {{"io.slipway.job", "j7"}};
    one.network = network;
    return one;
  }
  bool has_volume(const std::string& key) const {
    return api_->volumes.contains(names_for(key, "me").volume());
  }

  std::filesystem::path dir_;
  StoreConfig config_;
  FixedClock clock_{WallTime{std::chrono::seconds{1'800'000'000}}};
  fakes::FakeProcessRunner runner_;
  std::shared_ptr<fakes::FakePodmanApi> api_;
  std::unique_ptr<sandbox::Podman> podman_;
  std::vector<UniqueFd> inits_;
  bool cancelled_ = false;
  int waited_ = 0;
};

TEST_F(StoreTest, SandboxHasNothingButItsBuildAndItsStore) {
  const auto names = names_for("k", "me");

  const auto spec = builder_spec(config_, names, opening());

  EXPECT_EQ(spec.network, names.network());
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j7");
  EXPECT_EQ(spec.labels.at("io.slipway.owner"), "me");
  EXPECT_TRUE(spec.host_mounts().empty());
  EXPECT_TRUE(spec.devices().empty());
  EXPECT_TRUE(spec.env.empty());
  EXPECT_EQ(spec.seccomp_profile, config_.state_dir / names.id / "seccomp.json");
  int writable = 0;
  for (const auto& mount : spec.volumes) {
    if (mount.read_only) continue;
    ++writable;
    EXPECT_EQ(mount.source, names.volume());
  }
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(builder_spec(config_, names, opening(false)).network, "");
}

TEST_F(StoreTest, OfAClosedNetworkTheJobsProxyIsTheWayOutUnlessTheBuildHasNone) {
  const auto names = names_for("k", "me");
  auto closed = opening();
  closed.closed = true;
  closed.proxies = "/run/user/1/slipway/j7/egress";
  auto without = opening(false);
  without.closed = true;
  without.proxies = closed.proxies;

  const auto spec = builder_spec(config_, names, closed);

  EXPECT_EQ(spec.network, names.closed_network());
  ASSERT_EQ(spec.env.size(), 1U);
  EXPECT_EQ(spec.env.front().second, "sandbox") << "its own loopback alone";
  EXPECT_TRUE(builder_spec(config_, names, without).env.empty()) << "--network none";
}

TEST_F(StoreTest, NamesDifferByKeyAndOwner) {
  EXPECT_EQ(names_for("app", "me").id, names_for("app", "me").id);
  EXPECT_NE(names_for("app", "me").id, names_for("app protected", "me").id);
  EXPECT_NE(names_for("a", "bc").id, names_for("ab", "c").id);
}

TEST_F(StoreTest, HasAnIdRangeOfItsOwnWhereThereIsOne) {
  config_.slots = sandbox::plan_slots(5 * sandbox::kSlotSize, {1, 0, 2});

  const auto first = open("a");
  const auto second = open("b");

  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_FALSE((*first)->ids().shared);
  EXPECT_FALSE((*second)->ids().shared);
  EXPECT_NE((*first)->ids(), (*second)->ids());
}

TEST_F(StoreTest, IsEmptiedBeforeItMovesToAnotherIdRange) {
  const auto volume = names_for("a", "me").volume();
  {
    const auto shared = open("a");
    ASSERT_TRUE(shared.ok());
    EXPECT_TRUE((*shared)->ids().shared);
  }
  api_->volumes.at(volume)["Of"] = "slot 0";
  ASSERT_TRUE(open("a").ok());
  EXPECT_TRUE(api_->volumes.at(volume).contains("Of")); // control: it stays
  config_.slots = sandbox::plan_slots(5 * sandbox::kSlotSize, {1, 0, 2});

  const auto moved = open("a");

  ASSERT_TRUE(moved.ok());
  EXPECT_FALSE((*moved)->ids().shared);
  EXPECT_FALSE(api_->volumes.at(volume).contains("Of"));
}

TEST_F(StoreTest, LivesLongerThanTheSandboxOfABuild) {
  const auto container = names_for("k", "me").container();
  {
    auto store = open("k");
    ASSERT_TRUE(store.ok()) << store.error().text();
    EXPECT_TRUE(api_->containers.at(container).running);
    EXPECT_FALSE((*store)->was_cut_short());
    (*store)->finished(500);
  }

  EXPECT_TRUE(api_->containers.empty());
  EXPECT_TRUE(has_volume("k"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "store.sock"));
}

TEST_F(StoreTest, IsUsedByOneBuildAtATime) {
  auto first = open("k");
  ASSERT_TRUE(first.ok()) << first.error().text();

  auto second = open("k");
  auto other = open("other");

  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::timed_out);
  EXPECT_EQ(waited_, 1);
  EXPECT_TRUE(other.ok());
}

TEST_F(StoreTest, IsGivenToTheBuildThatWaits) {
  auto first = open("k");
  ASSERT_TRUE(first.ok());
  std::thread ending{[&] {
    std::this_thread::sleep_for(200ms);
    (*first)->finished(1);
    first->reset();
  }};

  auto second = open("k");
  ending.join();

  EXPECT_TRUE(second.ok()) << second.error().text();
}

TEST_F(StoreTest, IsNotWaitedForByACancelledBuild) {
  auto first = open("k");
  ASSERT_TRUE(first.ok());
  cancelled_ = true;

  auto second = open("k");

  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().what, "the build was cancelled");
}

TEST_F(StoreTest, TellsTheNextBuildThatOneWasCutShort) {
  { auto cut = open("k"); }

  auto next = open("k");
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE((*next)->was_cut_short());
  (*next)->finished(1);
  next->reset();

  EXPECT_FALSE((*open("k"))->was_cut_short());
}

TEST_F(StoreTest, RemovesTheSandboxThatAKilledSlipwayLeft) {
  const auto container = names_for("k", "me").container();
  api_->containers[container] = {{{"labels", nlohmann::json::object()}}, true};

  auto store = open("k");

  ASSERT_TRUE(store.ok()) << store.error().text();
  EXPECT_EQ(api_->removed.at(0), container);
}

TEST_F(StoreTest, GoesWhereItIsTooLargeOrSpoiled) {
  {
    auto large = open("large");
    ASSERT_TRUE(large.ok());
    (*large)->finished(1001);
    auto spoiled = open("spoiled");
    ASSERT_TRUE(spoiled.ok());
    (*spoiled)->spoil();
    (*spoiled)->finished(1);
  }

  EXPECT_FALSE(has_volume("large"));
  EXPECT_FALSE(has_volume("spoiled"));
  EXPECT_TRUE(api_->networks.empty());
}

TEST_F(StoreTest, MakesRoomByTheOneThatWasIdleLongest) {
  for (const char* key : {"first", "second", "third"}) {
    auto store = open(key);
    ASSERT_TRUE(store.ok()) << store.error().text();
    (*store)->finished(1);
    clock_.advance(10s);
  }

  EXPECT_FALSE(has_volume("first"));
  EXPECT_TRUE(has_volume("second"));
  EXPECT_TRUE(has_volume("third"));
}

TEST_F(StoreTest, IsNotTakenFromABuildToMakeRoom) {
  auto first = open("first");
  auto second = open("second");
  ASSERT_TRUE(first.ok() && second.ok());

  auto third = open("third");

  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().what, "all 2 stores are in use");
}

TEST_F(StoreTest, IsForTheBuildThatTriesAgainOnceOneOfAllIsFree) {
  auto first = open("first");
  auto second = open("second");
  ASSERT_TRUE(first.ok() && second.ok());
  StorePool pool{config_, *podman_, clock_};
  const sandbox::BuildClock build{[] { return false; }, 1min};
  int told = 0;
  const auto try_third = [&] {
    auto third = opening();
    third.none_is_free = [&] { ++told; };
    return pool.open("third", third, build, [] {});
  };

  const auto busy = try_third();
  ASSERT_FALSE(busy.ok());
  EXPECT_EQ(busy.error().kind, ErrorKind::timed_out) << "nobody's fault: the router waits";
  EXPECT_EQ(told, 1);
  (*first)->finished(1);
  first->reset();
  const auto free = try_third();

  EXPECT_TRUE(free.ok()) << free.error().text();
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(has_volume("first"));
  EXPECT_TRUE(has_volume("second")) << "its build goes on";
}

TEST_F(StoreTest, IsReapedOnceIdleButNotWhileInUse) {
  for (const char* key : {"idle", "used"}) {
    auto store = open(key);
    ASSERT_TRUE(store.ok());
    (*store)->finished(1);
  }
  clock_.advance(2h);
  StorePool pool{config_, *podman_, clock_};
  auto used = open("used");
  clock_.advance(2h); // it builds for long

  const auto reaped = pool.reap();

  ASSERT_TRUE(reaped.ok());
  EXPECT_EQ(*reaped, std::vector<std::string>{names_for("idle", "me").volume()});
  EXPECT_FALSE(has_volume("idle"));
  EXPECT_TRUE(has_volume("used"));
}

TEST_F(StoreTest, IsReapedThoughAnotherCannotBe) {
  for (const char* key : {"stuck", "other"}) {
    auto store = open(key);
    ASSERT_TRUE(store.ok());
    (*store)->finished(1);
    store->reset();
    clock_.advance(1min);
  }
  clock_.advance(2h);
  const auto stuck = names_for("stuck", "me").volume();
  api_->instead = [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (request.method != "DELETE" || request.target.find(stuck) == std::string::npos)
      return std::nullopt;
    return fakes::FakePodmanApi::trouble(500, "volume is being used");
  };

  const auto reaped = StorePool{config_, *podman_, clock_}.reap();

  ASSERT_FALSE(reaped.ok());
  EXPECT_NE(reaped.error().text().find(stuck), std::string::npos) << reaped.error().text();
  EXPECT_TRUE(has_volume("stuck"));
  EXPECT_FALSE(has_volume("other"));
}

TEST_F(StoreTest, IsReapedOnceSpoiltAndServesNobodyBefore) {
  StorePool pool{config_, *podman_, clock_};
  const auto volume = names_for("k", "me").volume();
  {
    auto store = open("k");
    ASSERT_TRUE(store.ok());
    (*store)->finished(1);
    api_->volumes[volume]["mark"] = "old";
    ASSERT_TRUE(pool.spoil("k").ok());
    EXPECT_TRUE(pool.reap()->empty());
  }
  {
    auto next = open("k");
    ASSERT_TRUE(next.ok());
    EXPECT_FALSE(api_->volumes.at(volume).contains("mark"));
    (*next)->finished(1);
  }
  ASSERT_TRUE(pool.reap()->empty());
  ASSERT_TRUE(pool.spoil("k").ok());
  EXPECT_EQ(*pool.reap(), std::vector<std::string>{volume});
}

TEST_F(StoreTest, LosesTheSandboxOfAKilledSlipwayToTheNextReaper) {
  const auto names = names_for("k", "me");
  {
    auto store = open("k");
    ASSERT_TRUE(store.ok());
    auto in_use = StorePool{config_, *podman_, clock_}.reap();
    ASSERT_TRUE(in_use.ok());
    EXPECT_TRUE(api_->containers.contains(names.container()));
  }
  api_->containers[names.container()] = {}; // as if it had not come to its end
  ASSERT_TRUE(replace_file(config_.state_dir / names.id / "unfinished", "").ok());

  const auto reaped = StorePool{config_, *podman_, clock_}.reap();

  ASSERT_TRUE(reaped.ok());
  EXPECT_TRUE(reaped->empty());
  EXPECT_FALSE(api_->containers.contains(names.container()));
  EXPECT_TRUE(has_volume("k"));
}

TEST_F(StoreTest, IsDiscardedUnlessInUse) {
  StorePool pool{config_, *podman_, clock_};
  {
    auto store = open("k");
    ASSERT_TRUE(store.ok());
    EXPECT_FALSE(pool.discard("k").ok());
  }

  EXPECT_TRUE(pool.discard("k").ok());
  EXPECT_FALSE(has_volume("k"));
  EXPECT_TRUE(pool.discard("never").ok());
}

TEST(BuildahProbe, FindsTheProgramWhereTheSandboxWillHaveIt) {
  fakes::FakeProcessRunner runner;
  runner.answer = [](const process::Command&) {
    return process::Output{process::Exited{0}, "buildah version 1.41.4 (x)\n", ""};
  };

  EXPECT_EQ(probe(runner, Tool::buildah, "/usr/bin/buildah")->path, "/usr/bin/buildah");
  EXPECT_EQ(probe(runner, Tool::buildah, "/opt/new/bin/buildah")->path, "/tools/buildah");
}

TEST(BuildahProbe, OfSomethingElseIsAMisconfiguration) {
  fakes::FakeProcessRunner runner;

  EXPECT_EQ(probe(runner, Tool::buildah, "/bin/true").error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::backends::buildah
