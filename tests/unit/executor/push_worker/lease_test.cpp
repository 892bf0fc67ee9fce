// SPDX-License-Identifier: Apache-2.0
// Mint, use, revoke: against an issuer that keeps what it minted, and a registry that takes
// nothing else.
#include "executor/push_worker/lease.hpp"
#include "executor/push_worker/worker.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_registry.hpp"
#include "tests/fakes/push_blobs.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <deque>

namespace slipway::push_worker {
namespace {

using namespace std::chrono_literals;
using engine_api::LeaseNote;

/// What an issuer keeps; it outlives the providers that are made for each request.
struct Shelf {
  struct Grant {
    std::string name;
    std::string id;
    WallTime expires_at;
    bool live = true;
  };
  std::vector<Grant> grants;
  credentials::IssuerTraits traits{true, true, false, false, 0s};
  std::chrono::seconds life = 600s;
  bool endless = false;
  bool scoped = true;
  bool bearer = false;
  std::string username = "pusher";
  bool may_be_out = true;
  std::vector<credentials::MintFor> asked;
  /// Of the next mints: the answer is lost after the grant was made.
  int lose_answers = 0;
  /// Of the next calls of each kind.
  std::deque<ErrorKind> mint_faults;
  std::deque<ErrorKind> revoke_faults;
  std::deque<ErrorKind> list_faults;

  std::size_t live() const {
    return static_cast<std::size_t>(
        std::count_if(grants.begin(), grants.end(), [](const Grant& one) { return one.live; }));
  }
};

class ShelfProvider final : public credentials::CredentialProvider {
public:
  ShelfProvider(Shelf& shelf, const Clock& clock) : shelf_{shelf}, clock_{clock} {}

  credentials::IssuerTraits traits() const override { return shelf_.traits; }

  Result<credentials::Minted> mint(const credentials::MintFor& wanted) override {
    shelf_.asked.push_back(wanted);
    if (auto fault = next(shelf_.mint_faults)) return *std::move(fault);
    const auto id = "id-" + std::to_string(shelf_.grants.size() + 1);
    const auto end = shelf_.endless ? WallTime::max() : clock_.now() + shelf_.life;
    shelf_.grants.push_back({wanted.lease_name, id, end});
    if (shelf_.lose_answers > 0) {
      --shelf_.lose_answers;
      return Error{ErrorKind::unavailable, "the wire was cut", "", {}};
    }
    credentials::Minted minted;
    minted.username = shelf_.username;
    minted.password = Secret{std::string_view{"open-sesame"}};
    minted.expires_at = end;
    minted.lease_id = id;
    minted.scoped_to_repository = shelf_.scoped;
    minted.bearer = shelf_.bearer;
    return minted;
  }

  bool may_be_out() const override { return shelf_.may_be_out; }

  Status revoke(const credentials::Lease& lease, const credentials::Minted*) override {
    if (auto fault = next(shelf_.revoke_faults)) return *std::move(fault);
    if (!shelf_.traits.can_revoke) return Error{ErrorKind::denied, "cannot revoke", "", {}};
    for (auto& grant : shelf_.grants) {
      if (grant.id == lease.id) grant.live = false;
    }
    return {};
  }

  Result<std::vector<credentials::Lease>> outstanding(std::string_view prefix, const std::string&,
                                                      std::chrono::seconds) override {
    if (auto fault = next(shelf_.list_faults)) return *std::move(fault);
    std::vector<credentials::Lease> found;
    for (const auto& grant : shelf_.grants) {
      if (shelf_.traits.can_list && grant.live && grant.name.starts_with(prefix))
        found.push_back({grant.name, grant.id, ""});
    }
    return found;
  }

private:
  static std::optional<Error> next(std::deque<ErrorKind>& faults) {
    if (faults.empty()) return std::nullopt;
    const auto kind = faults.front();
    faults.pop_front();
    return Error{kind, "fault of the fake", "", {}};
  }
  Shelf& shelf_;
  const Clock& clock_;
};

class Leases : public ::testing::Test {
protected:
  Leases() : layout_{*oci::Layout::create(dir_.path() / "layout")} {
    root_ = fakes::write_image(layout_, {5000}, 1);
    pacing_.pause = [](std::chrono::milliseconds) {};
    pacing_.random = [] { return 0.0; };
    pacing_.deadline = std::chrono::steady_clock::now() + 1h;
    pacing_.cancelled = [this] { return cancelled_; };
  }

  World world() {
    return {registry_,
            [](const engine_api::IssuerSpec&) { return std::make_unique<fakes::FakeIssuer>(); },
            clock_,
            runner_,
            pacing_,
            [this](std::chrono::milliseconds wait) { waits_.push_back(wait); },
            [this](const std::string& line) { lines_.push_back(line); },
            [this](const LeaseNote& note) {
              notes_.push_back(note);
              live_at_note_.push_back(shelf_.live());
            },
            [this] {
              EXPECT_EQ(shelf_.live(), shelf_.traits.can_revoke ? 0U : 1U);
              ++renewals_;
              return may_renew_;
            },
            [this](const engine_api::IssuerSpec&, const credentials::ProviderContext& context)
                -> Result<std::unique_ptr<credentials::CredentialProvider>> {
              return std::unique_ptr<credentials::CredentialProvider>{
                  std::make_unique<ShelfProvider>(shelf_, context.clock)};
            }};
  }

  engine_api::LeaseOrder order() {
    engine_api::LeaseOrder made;
    made.issuer.name = "shelf";
    made.issuer.settings = settings_;
    made.name = "slipway-0123456789abcdef-j7-00000000";
    made.job = "j7-00000000";
    return made;
  }

  engine_api::WorkerAnswer push() {
    engine_api::PushRequest request;
    request.registry.host = "reg.example";
    request.registry.lease = order();
    request.repository = "grp/app";
    request.tags = {"v1"};
    request.layout_dir = layout_.path();
    request.root_digest = request.pass_digest = root_->str();
    request.blobs = fakes::blobs_to_push(layout_, *root_);
    request.pass_repository = pass_repository_;
    request.pass_expires_at = rfc3339(clock_.now() + 1h);
    engine_api::WorkerRequest wrapped;
    wrapped.push = std::move(request);
    auto with = world();
    return serve(std::move(wrapped), with);
  }

  engine_api::WorkerAnswer revoke(const std::string& id, WallTime since) {
    engine_api::IssuerRequest request;
    request.action = engine_api::IssuerRequest::Action::revoke;
    request.issuer = order().issuer;
    request.lease_name = order().name;
    request.lease_id = id;
    request.since = rfc3339(since);
    engine_api::WorkerRequest wrapped;
    wrapped.issuer = std::move(request);
    auto with = world();
    return serve(std::move(wrapped), with);
  }

  fakes::TempDir dir_;
  oci::Layout layout_;
  std::optional<oci::Digest> root_;
  fakes::FakeRegistry registry_;
  Shelf shelf_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  process::LocalRunner runner_;
  registry::Pacing pacing_;
  std::map<std::string, std::string> settings_;
  std::string pass_repository_ = "reg.example/grp/app";
  bool cancelled_ = false;
  bool may_renew_ = true;
  int renewals_ = 0;
  std::vector<std::chrono::milliseconds> waits_;
  std::vector<std::string> lines_;
  std::vector<LeaseNote> notes_;
  std::vector<std::size_t> live_at_note_;
};

TEST_F(Leases, ALoginIsMintedUsedAndRevokedAndEachStepIsTold) {
  const auto answer = push();

  ASSERT_TRUE(answer.ok) << answer.what;
  ASSERT_EQ(shelf_.asked.size(), 1U);
  EXPECT_EQ(shelf_.asked[0].registry, "reg.example");
  EXPECT_EQ(shelf_.asked[0].repository, "grp/app");
  EXPECT_EQ(shelf_.asked[0].actions, (std::vector<std::string>{"pull", "push"}));
  EXPECT_EQ(shelf_.asked[0].digest, root_->str());
  EXPECT_EQ(shelf_.asked[0].lease_name, order().name);
  EXPECT_EQ(shelf_.asked[0].ceiling, 900s);
  EXPECT_EQ(shelf_.live(), 0U);
  ASSERT_EQ(notes_.size(), 2U);
  EXPECT_EQ(notes_[0].state, LeaseNote::State::minted);
  EXPECT_EQ(notes_[0].id, "id-1");
  EXPECT_EQ(notes_[0].expires_at, rfc3339(clock_.now() + 600s));
  EXPECT_EQ(live_at_note_[0], 1U);
  EXPECT_EQ(notes_[1].state, LeaseNote::State::ended);
  EXPECT_EQ(live_at_note_[1], 0U);
}

TEST_F(Leases, NothingIsMintedWithoutAPermit) {
  pass_repository_ = "reg.example/grp/other";

  EXPECT_EQ(push().kind, "denied");
  EXPECT_TRUE(shelf_.asked.empty());
}

TEST_F(Leases, AFailedPushIsRevokedToo) {
  registry_.fault = [](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT") return fakes::FakeRegistry::status(403);
    return std::nullopt;
  };

  const auto answer = push();

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.hint.find("[[credential]] \"shelf\""), std::string::npos) << answer.hint;
  EXPECT_EQ(shelf_.live(), 0U);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, AUserNameThatBasicAuthorizationCannotCarryIsToldAndEnded) {
  shelf_.username = "jwt-project_path:grp/app-1";

  const auto answer = push();

  EXPECT_EQ(answer.kind, "misconfigured");
  EXPECT_NE(answer.what.find("\"jwt-project_path:grp/app-1\" of [[credential]] \"shelf\""),
            std::string::npos)
      << answer.what;
  EXPECT_EQ(shelf_.live(), 0U);
}

TEST_F(Leases, ACancelledPushIsRevokedToo) {
  registry_.fault = [this](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "POST") cancelled_ = true;
    return std::nullopt;
  };

  EXPECT_EQ(push().kind, "timed_out");
  EXPECT_EQ(shelf_.grants.size(), 1U);
  EXPECT_EQ(shelf_.live(), 0U);
}

TEST_F(Leases, NothingIsMintedOnceCancelled) {
  cancelled_ = true;

  EXPECT_EQ(push().kind, "timed_out");
  EXPECT_TRUE(shelf_.grants.empty());
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, RevokingIsTriedAgainAndTheRestIsLeftToTheReaper) {
  shelf_.revoke_faults = {ErrorKind::unavailable, ErrorKind::timed_out};
  EXPECT_TRUE(push().ok);
  EXPECT_EQ(shelf_.live(), 0U);
  EXPECT_EQ(waits_.size(), 2U);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);

  shelf_.revoke_faults = std::deque<ErrorKind>(4, ErrorKind::unavailable);
  EXPECT_TRUE(push().ok) << "the image is there; the lease is the journal's concern";
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);
  EXPECT_EQ(notes_.back().id, "id-2");
  EXPECT_EQ(notes_.back().expires_at, rfc3339(clock_.now() + 600s));
  EXPECT_NE(notes_.back().what.find("fault of the fake"), std::string::npos);
}

struct Ceiling {
  const char* name;
  std::chrono::seconds life; ///< 0: endless
  bool can_revoke;
  bool scoped;
  std::chrono::seconds built_in;
  const char* max_lifetime;
  bool passes;
};

TEST_F(Leases, WhatLivesTooLongIsRefusedNamingTheKeyAndEndedAtOnce) {
  const Ceiling table[] = {
      {"below the ceiling", 900s, false, false, 0s, "0", true},
      {"above the ceiling", 1000s, false, true, 0s, "0", false},
      {"built in and scoped", 43200s, false, true, 43200s, "0", true},
      {"built in and not scoped", 43200s, false, false, 43200s, "0", false},
      {"above what is built in", 50000s, false, true, 43200s, "0", false},
      {"above, allowed by the entry", 5000s, false, false, 0s, "5000", true},
      {"the entry says less than what is built in", 4000s, false, true, 43200s, "3600", false},
      {"revocable", 86400s, true, false, 0s, "0", true},
      {"revocable for too long", 200000s, true, false, 0s, "0", false},
      {"revocable without an end", 0s, true, false, 0s, "0", false},
      {"without an end", 0s, false, true, 43200s, "43200", false},
  };
  for (const auto& one : table) {
    shelf_.life = one.life;
    shelf_.endless = one.life == 0s;
    shelf_.traits.can_revoke = one.can_revoke;
    shelf_.traits.built_in_ceiling = one.built_in;
    shelf_.scoped = one.scoped;
    settings_["max_lifetime"] = one.max_lifetime;
    shelf_.grants.clear();
    registry_.seen.clear();

    const auto answer = push();

    EXPECT_EQ(answer.ok, one.passes) << one.name << ": " << answer.what;
    if (!one.passes) {
      EXPECT_EQ(answer.kind, "denied") << one.name;
      EXPECT_NE(answer.hint.find("max_lifetime"), std::string::npos) << one.name;
      EXPECT_TRUE(registry_.seen.empty()) << one.name;
    }
    EXPECT_EQ(shelf_.live(), one.can_revoke ? 0U : 1U) << one.name;
    EXPECT_EQ(notes_.back().state,
              one.can_revoke ? LeaseNote::State::ended : LeaseNote::State::left)
        << one.name;
  }
}

TEST_F(Leases, AStandingLoginPassesTheCeilingAndLeavesNothing) {
  shelf_.traits = {false, false, false, true, 0s};
  shelf_.endless = true;

  const auto answer = push();

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.token_seconds, 300U) << "what is pushed with is the token server's";
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);

  registry_.basic_only = true;
  EXPECT_EQ(push().kind, "denied") << "a password that never ends, shown to the registry itself";
}

TEST_F(Leases, AMintWhoseAnswerWasLostIsFoundAndRevokedBeforeTheNextTry) {
  shelf_.lose_answers = 1;

  const auto answer = push();

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(shelf_.grants.size(), 2U);
  EXPECT_EQ(shelf_.live(), 0U);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, AMintThatMayHaveHappenedIsLeftWithABoundedEnd) {
  shelf_.traits = {false, false, false, false, 3600s};
  shelf_.lose_answers = 5;

  const auto answer = push();

  EXPECT_EQ(answer.kind, "unavailable");
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);
  EXPECT_EQ(notes_.back().id, "");
  EXPECT_EQ(notes_.back().expires_at, rfc3339(clock_.now() + 3600s));
}

TEST_F(Leases, NothingIsLeftWhereTheProviderKnowsThatNothingWasMinted) {
  shelf_.traits = {true, false, false, false, 0s};
  shelf_.mint_faults = {ErrorKind::unavailable, ErrorKind::unavailable, ErrorKind::unavailable};
  shelf_.may_be_out = false;

  EXPECT_EQ(push().kind, "unavailable");
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_EQ(notes_[0].state, LeaseNote::State::ended);
}

TEST_F(Leases, AnIssuerThatSaysNoMintedNothing) {
  shelf_.mint_faults = {ErrorKind::denied};

  EXPECT_EQ(push().kind, "denied");
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_EQ(notes_[0].state, LeaseNote::State::ended);
}

TEST_F(Leases, ALoginThatEndsDuringTheUploadIsMintedAgain) {
  // The registry's own token ends early, and its token server no longer takes a login that is over.
  registry_.token_seconds = 30;
  int puts = 0;
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT" && ++puts == 1) clock_.advance(700s);
    if (request.url.target.starts_with("/token") && clock_.now() >= shelf_.grants.back().expires_at)
      return fakes::FakeRegistry::status(401);
    return std::nullopt;
  };

  const auto answer = push();

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(renewals_, 1);
  EXPECT_EQ(shelf_.grants.size(), 2U);
  EXPECT_EQ(shelf_.live(), 0U);
  ASSERT_EQ(notes_.size(), 3U);
  EXPECT_EQ(notes_[1].state, LeaseNote::State::minted);
  EXPECT_EQ(notes_[1].id, "id-2");
  EXPECT_EQ(notes_[2].state, LeaseNote::State::ended);

  // What was not written down is not minted.
  registry_.manifests.clear();
  registry_.repository_blobs.clear();
  may_renew_ = false;
  puts = 0;
  EXPECT_EQ(push().kind, "denied");
  EXPECT_EQ(shelf_.grants.size(), 3U);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, ALoginThatEndsIsMintedAgainAlsoWhereNothingCanBeRevoked) {
  shelf_.traits = {false, false, false, false, 0s};
  registry_.token_seconds = 30;
  int puts = 0;
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT" && ++puts == 1) clock_.advance(700s);
    if (request.url.target.starts_with("/token") && clock_.now() >= shelf_.grants.back().expires_at)
      return fakes::FakeRegistry::status(401);
    return std::nullopt;
  };

  const auto answer = push();

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(shelf_.grants.size(), 2U);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);
  EXPECT_EQ(notes_.back().id, "id-2");
}

TEST_F(Leases, ABearerTokenGoesToTheRegistryWithoutATokenServer) {
  shelf_.bearer = true;
  registry_.good_tokens.insert("open-sesame");

  const auto answer = push();

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(registry_.count("GET", "/token"), 0U);
}

TEST_F(Leases, AMintedLoginMayBeShownToARegistryWithoutATokenServer) {
  registry_.basic_only = true;

  EXPECT_TRUE(push().ok);
}

TEST_F(Leases, WhatADeadWorkerLeftIsRevokedByIdOrFoundByName) {
  shelf_.grants = {{order().name, "id-1", clock_.now() + 600s},
                   {order().name, "id-2", clock_.now() + 600s},
                   {"slipway-of-another", "id-3", clock_.now() + 600s}};

  EXPECT_TRUE(revoke("id-1", clock_.now()).ok);

  EXPECT_EQ(shelf_.live(), 1U);
  EXPECT_TRUE(shelf_.grants[2].live);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, AnIntentIsWatchedUntilALateMintCannotAppearAnyMore) {
  const auto since = clock_.now();
  EXPECT_TRUE(revoke("", since).ok);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);

  clock_.advance(301s);
  EXPECT_TRUE(revoke("", since).ok);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::ended);
}

TEST_F(Leases, WhatCannotBeRevokedIsLeftWithItsEnd) {
  shelf_.traits = {false, false, false, false, 3600s};

  EXPECT_TRUE(revoke("id-1", clock_.now()).ok);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);
  EXPECT_EQ(notes_.back().expires_at, "") << "the journal knows it";
  EXPECT_TRUE(revoke("", clock_.now()).ok);
  EXPECT_EQ(notes_.back().expires_at, rfc3339(clock_.now() + 3900s));
}

TEST_F(Leases, AnIssuerThatIsDownLeavesTheLease) {
  shelf_.grants = {{order().name, "id-1", clock_.now() + 600s}};
  shelf_.revoke_faults = std::deque<ErrorKind>(9, ErrorKind::unavailable);

  EXPECT_TRUE(revoke("id-1", clock_.now()).ok);
  EXPECT_EQ(notes_.back().state, LeaseNote::State::left);
  EXPECT_EQ(notes_.back().id, "id-1");
}

TEST_F(Leases, AnIssuerIsDescribed) {
  engine_api::WorkerRequest wrapped;
  wrapped.issuer = engine_api::IssuerRequest{};
  shelf_.traits.bypassable = true;
  auto with = world();

  const auto answer = serve(std::move(wrapped), with);

  ASSERT_TRUE(answer.ok && answer.facts) << answer.what;
  EXPECT_TRUE(answer.facts->can_revoke && answer.facts->can_list && answer.facts->bypassable);
  EXPECT_FALSE(answer.facts->standing);
  EXPECT_TRUE(notes_.empty());
}

} // namespace
} // namespace slipway::push_worker
