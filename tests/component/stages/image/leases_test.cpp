// SPDX-License-Identifier: Apache-2.0
// A lease from intent to end, with a worker that dies at every step and an issuer that keeps what
// it minted (tests/programs/folder_issuer_push.cpp).
#include "executor/base/file.hpp"
#include "stages/image/leases.hpp"
#include "stages/image/push_client.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class LeasesTest : public testing::Test {
protected:
  LeasesTest() {
    config_.programs.push = fs::read_symlink("/proc/self/exe").parent_path() / "folder_issuer_push";
    config_.credentials.push_back({"folder", "folder", {{"dir", (dir_ / "issuer").string()}}});
    registry_.host = "reg.example";
    registry_.credential = "issuer";
    registry_.issuer = "folder";
    fs::create_directories(dir_ / "issuer/live");
  }
  ~LeasesTest() override { fs::remove_all(dir_); }

  static fs::path fresh_folder() {
    char name[] = "/tmp/slipway-leases-XXXXXX";
    return mkdtemp(name);
  }

  static config::Config below(const fs::path& dir) {
    config::Config config;
    config.slipway.state_dir = dir / "state";
    return config;
  }

  /// One request with a login of the issuer, in a process that is gone afterwards; it dies at its
  /// `note`-th word of the worker (0: never).
  void request_of_a_dead_process(int note = 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto order = leases_.intend(registry_, "grp/app", "j1-0a", {});
      if (!order) ::_exit(3);
      if (note < 0) ::_exit(0); // between intent and worker
      engine_api::PullRequest request;
      request.registry.host = "reg.example";
      request.repository = "grp/app";
      request.target = "v1";
      request.manifest_only = true;
      const std::string name = order->name;
      request.registry.lease = *std::move(order);
      int heard = 0;
      const PushClient client{config_.programs.push, [&](const engine_api::LeaseNote& told) {
                                if (++heard == note) ::_exit(0);
                                if (!leases_.note(name, told)) ::_exit(4);
                                return Status{};
                              }};
      (void)client.pull(request, nullptr, nullptr).ok();
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }

  std::size_t live() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator{dir_ / "issuer/live"}, fs::directory_iterator{}));
  }
  void die_at(const std::string& point) { ASSERT_TRUE(replace_file(dir_ / "issuer/die", point)); }
  void no_more_dying() { fs::remove(dir_ / "issuer/die"); }
  /// The worker of a parent that died takes a moment to notice and to end what it minted.
  void await_orphan() {
    for (int i = 0; i < 200 && live() > 0; ++i)
      ::usleep(10000);
  }

  fs::path dir_ = fresh_folder();
  config::Config config_ = below(dir_);
  config::Registry registry_;
  SystemClock clock_;
  audit::FileAuditLog audit_{dir_ / "audit.jsonl", clock_};
  Leases leases_{config_, audit_, clock_};
};

TEST_F(LeasesTest, ARequestLeavesNothing) {
  request_of_a_dead_process();

  EXPECT_EQ(live(), 0U);
  EXPECT_TRUE(leases_.all().empty());
  const auto log = read_file(dir_ / "audit.jsonl", 1 << 20);
  ASSERT_TRUE(log);
  EXPECT_NE(log->find("credential_minted"), std::string::npos);
  EXPECT_NE(log->find("credential_ended"), std::string::npos);
  EXPECT_EQ(log->find("open-sesame"), std::string::npos);
}

struct Death {
  const char* name;
  const char* worker; ///< where the worker dies; "" = it does not
  int parent;         ///< at which word of the worker the parent dies; -1: before it starts one
};
class LeasesAfter : public LeasesTest, public testing::WithParamInterface<Death> {};

TEST_P(LeasesAfter, TheReaperLeavesNothingLive) {
  if (*GetParam().worker != '\0') die_at(GetParam().worker);
  request_of_a_dead_process(GetParam().parent);
  no_more_dying();
  ASSERT_EQ(leases_.all().size(), 1U) << "the journal forgot it too early";

  const auto reaped = leases_.collect("", Leases::Haste::insist);

  EXPECT_TRUE(reaped) << reaped.error().text();
  if (GetParam().parent > 0) await_orphan();
  EXPECT_EQ(live(), 0U);
  // What was never reported is watched until a mint on its way cannot appear any more.
  FixedClock later{clock_.now() + 10min};
  auto left = leases_.all();
  for (auto& record : left) {
    EXPECT_EQ(record.id, "");
    record.created = rfc3339(clock_.now() - 10min);
    EXPECT_TRUE(state::LeaseJournal{config_.slipway.state_dir}.write(record));
  }
  Leases next{config_, audit_, later};
  EXPECT_TRUE(next.collect("", Leases::Haste::patient));
  EXPECT_TRUE(next.all().empty());
}

INSTANTIATE_TEST_SUITE_P(Death, LeasesAfter,
                         testing::Values(Death{"OfTheParentAfterTheIntent", "", -1},
                                         Death{"OfTheWorkerBeforeMinting", "mint", 0},
                                         Death{"OfTheWorkerOnceMinted", "minted", 0},
                                         Death{"OfTheParentBeforeItNotesTheMint", "", 1},
                                         Death{"OfTheWorkerOnceItTold", "told", 0},
                                         Death{"OfTheWorkerWhilePulling", "work", 0},
                                         Death{"OfTheWorkerOnceRevoked", "revoked", 0},
                                         Death{"OfTheParentBeforeItNotesTheEnd", "", 2}),
                         [](const auto& tested) { return std::string{tested.param.name}; });

TEST_F(LeasesTest, AMintOnItsWayWhileTheReaperLooksIsFoundByTheNext) {
  request_of_a_dead_process(-1);
  const auto name = leases_.all().at(0).name;
  EXPECT_TRUE(leases_.collect("", Leases::Haste::insist));
  ASSERT_EQ(leases_.all().size(), 1U);

  std::ofstream{dir_ / "issuer/live" / (name + ".late")};
  EXPECT_TRUE(leases_.collect("", Leases::Haste::insist));

  EXPECT_EQ(live(), 0U);
  EXPECT_TRUE(leases_.all().empty());
}

TEST_F(LeasesTest, ALeaseThatIsMintedAgainIsAnIntentOnceMore) {
  auto order = leases_.intend(registry_, "grp/app", "j1-0a", {});
  ASSERT_TRUE(order);
  engine_api::LeaseNote note;
  note.id = "first";
  note.expires_at = rfc3339(clock_.now() - 2h);
  ASSERT_TRUE(leases_.note(order->name, note));
  note = {};
  note.state = engine_api::LeaseNote::State::renewing;
  ASSERT_TRUE(leases_.note(order->name, note));

  // It died there, and the second mint is at the issuer: the first one's end says nothing of it.
  std::ofstream{dir_ / "issuer/live" / (order->name + ".second")};
  EXPECT_TRUE(leases_.collect("j1-0a", Leases::Haste::insist));

  EXPECT_EQ(live(), 0U);
}

TEST_F(LeasesTest, LeasesOfOthersThatLiveAreLeftAlone) {
  auto order = leases_.intend(registry_, "grp/app", "j1-0a", {}); // this process lives
  ASSERT_TRUE(order);
  std::ofstream{dir_ / "issuer/live" / (order->name + ".1")};

  EXPECT_TRUE(leases_.collect("", Leases::Haste::insist));
  EXPECT_TRUE(leases_.collect("j2-0b", Leases::Haste::insist));
  EXPECT_EQ(live(), 1U);

  EXPECT_TRUE(leases_.collect("j1-0a", Leases::Haste::insist)) << "the job's own cleanup";
  EXPECT_EQ(live(), 0U);
}

TEST_F(LeasesTest, AnIssuerThatIsDownIsAskedAgainLater) {
  die_at("told");
  request_of_a_dead_process();
  no_more_dying();
  std::ofstream{dir_ / "issuer/down"};

  EXPECT_TRUE(leases_.collect("", Leases::Haste::insist));
  ASSERT_EQ(leases_.all().size(), 1U);
  EXPECT_NE(leases_.all()[0].problem.find("the folder is down"), std::string::npos);
  const auto refused = leases_.revoke(leases_.all()[0].name);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("may still live until"), std::string::npos);
  fs::remove(dir_ / "issuer/down");

  EXPECT_TRUE(leases_.collect("", Leases::Haste::patient));
  EXPECT_EQ(live(), 1U) << "too early for another try";
  FixedClock later{clock_.now() + 10min};
  EXPECT_TRUE((Leases{config_, audit_, later}.collect("", Leases::Haste::patient)));
  EXPECT_EQ(live(), 0U);
  EXPECT_TRUE(leases_.all().empty());
}

TEST_F(LeasesTest, WhatIsOverIsForgottenWithoutAskingTheIssuer) {
  die_at("told");
  request_of_a_dead_process();
  std::ofstream{dir_ / "issuer/down"};
  FixedClock later{clock_.now() + 2h};

  EXPECT_TRUE((Leases{config_, audit_, later}.collect("", Leases::Haste::patient)));
  EXPECT_TRUE(leases_.all().empty());
}

TEST_F(LeasesTest, OneLeaseIsEndedByItsName) {
  die_at("told");
  request_of_a_dead_process();
  no_more_dying();

  EXPECT_FALSE(leases_.revoke("slipway-nothing"));
  EXPECT_FALSE(leases_.revoke("../../etc/passwd"));
  const auto revoked = leases_.revoke(leases_.all().at(0).name);

  EXPECT_TRUE(revoked) << revoked.error().text();
  EXPECT_EQ(live(), 0U);
}

TEST_F(LeasesTest, ALeaseOfAnEntryThatIsGoneSaysWhatToDo) {
  die_at("told");
  request_of_a_dead_process();
  config_.credentials.clear();

  const auto reaped = leases_.collect("", Leases::Haste::insist);

  ASSERT_FALSE(reaped);
  EXPECT_EQ(reaped.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(reaped.error().hint.find("put the entry back"), std::string::npos);
}

TEST_F(LeasesTest, AnOrderTakesOnlyTheSecretsThatItsSettingsName) {
  config_.credentials[0].settings["jwt_variable"] = "VAULT_TOKEN";
  std::map<std::string, Secret> secrets;
  secrets.emplace("VAULT_TOKEN", std::string_view{"one"});
  secrets.emplace("OTHER", std::string_view{"two"});

  const auto order = leases_.intend(registry_, "grp/app", "j1-0a", secrets);

  ASSERT_TRUE(order);
  ASSERT_EQ(order->job_secrets.size(), 1U);
  EXPECT_EQ(order->job_secrets.at("VAULT_TOKEN").reveal(), "one");
  const auto file =
      read_file(config_.slipway.state_dir / "leases" / (order->name + ".json"), 65536);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->find("one\""), std::string::npos);
}

} // namespace
} // namespace slipway::image
