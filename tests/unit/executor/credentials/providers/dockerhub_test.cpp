// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::credentials {
namespace {

using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

const std::string kHub = "https://hub.example/v2/";

/// Docker Hub's API with one owner of one organisation.
class DockerhubTest : public testing::Test {
protected:
  DockerhubTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "pat", "dckr_pat_s3cret\n"));
    spec_.settings = {{"url", "https://hub.example"},
                      {"organisation", "acme"},
                      {"username", "owner"},
                      {"secret_file", (dir_.path() / "pat").string()}};
    http_.on("POST", kHub + "auth/token", [](const http::Request& request) {
      if (json::parse(request.body) !=
          json::parse(R"({"identifier":"owner","secret":"dckr_pat_s3cret"})"))
        return FakeIssuer::json(401, R"({"message":"unauthorized"})");
      return FakeIssuer::json(200, R"({"access_token":"eyJ.hub.s3cret"})");
    });
    const std::string tokens = kHub + "orgs/acme/access-tokens";
    owner_may("POST", tokens, [this](const http::Request& request) {
      asked_ = json::parse(request.body);
      WallTime end;
      EXPECT_TRUE(parse_rfc3339(asked_["expires_at"], end));
      const auto id = "a7a5ef25-" + std::to_string(http_.grants.size());
      http_.grant(id, asked_["label"], "dckr_oat_s3cret", clock_.now(), end);
      return FakeIssuer::json(201, json{{"id", id},
                                        {"label", asked_["label"]},
                                        {"expires_at", rfc3339(end)},
                                        {"token", "dckr_oat_s3cret"}}
                                       .dump());
    });
    owner_may("DELETE", tokens + "/", [this](const http::Request& request) {
      auto* token = http_.find(request.url.target.substr(request.url.target.rfind('/') + 1));
      if (token == nullptr || token->revoked)
        return FakeIssuer::json(404, R"({"message":"not found"})");
      token->revoked = true;
      return FakeIssuer::json(204, "");
    });
    owner_may("GET", tokens, [this](const http::Request& request) {
      const auto page = std::stoul(FakeIssuer::form(request.url.target, "page"));
      const auto size = std::stoul(FakeIssuer::form(request.url.target, "page_size"));
      json results = json::array();
      for (auto i = (page - 1) * size; i < std::min(page * size, http_.grants.size()); ++i) {
        const auto& token = http_.grants[i];
        results.push_back({{"id", token.id},
                           {"label", token.revoked ? "gone" : token.name},
                           {"created_at", rfc3339(token.made_at)}});
      }
      json answer{{"total", http_.grants.size()}, {"results", results}, {"next", nullptr}};
      if (page * size < http_.grants.size()) answer["next"] = "https://hub.example/next";
      return FakeIssuer::json(200, answer.dump());
    });
  }

  void owner_may(const std::string& method, const std::string& prefix,
                 const FakeIssuer::Answer& answer) {
    http_.on(method, prefix, [answer](const http::Request& request) {
      if (request.authorization.reveal() != "Bearer eyJ.hub.s3cret")
        return Result<http::Response>{FakeIssuer::json(401, R"({"message":"unauthorized"})")};
      return answer(request);
    });
  }
  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  static MintFor push() {
    MintFor wanted;
    wanted.registry = "docker.io";
    wanted.repository = "acme/web";
    wanted.actions = {"pull", "push"};
    wanted.job = "j7";
    wanted.lease_name = "slipway-00-j7";
    return wanted;
  }

  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"hub", "dockerhub", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  json asked_;
};

TEST_F(DockerhubTest, MakesATokenOfOneRepositoryForThisPushAndDeletesIt) {
  auto hub = provider();

  auto minted = hub->mint(push());

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "acme");
  EXPECT_EQ(minted->password.reveal(), "dckr_oat_s3cret");
  EXPECT_EQ(minted->lease_id, "a7a5ef25-0");
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{900});
  EXPECT_TRUE(minted->scoped_to_repository);
  EXPECT_EQ(asked_, json::parse(R"({"label":"slipway-00-j7","description":"slipway, job j7",
    "expires_at":"2027-01-15T08:15:00Z","resources":[{"type":"TYPE_REPO","path":"acme/web",
    "scopes":["scope-image-pull","scope-image-push"]}]})"));

  const Lease lease{"slipway-00-j7", minted->lease_id, "acme/web"};
  EXPECT_TRUE(hub->revoke(lease, &*minted));
  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_TRUE(provider()->revoke(lease, nullptr)) << "gone already";
}

TEST_F(DockerhubTest, APullGetsNoMoreThanPulling) {
  auto wanted = push();
  wanted.actions = {"pull"};

  ASSERT_TRUE(provider()->mint(wanted));

  EXPECT_EQ(asked_["resources"][0]["scopes"], json::parse(R"(["scope-image-pull"])"));
}

TEST_F(DockerhubTest, OtherOrganisationsAreNotAskedFor) {
  auto wanted = push();
  wanted.repository = "acme-evil/web";

  EXPECT_EQ(provider()->mint(wanted).error().kind, ErrorKind::denied);

  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(DockerhubTest, FindsATokenWhoseAnswerWasLostOnWhateverPageItStands) {
  for (int i = 0; i < 100; ++i)
    http_.grant("b-" + std::to_string(i), "of somebody", "x", clock_.now(), WallTime::max());
  auto hub = provider();
  http_.lose_answer_of = {"access-tokens"};
  EXPECT_EQ(hub->mint(push()).error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(hub->may_be_out());

  const auto found = hub->outstanding("slipway-00-j7", "acme/web", seconds{0});

  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().id, "a7a5ef25-100");
  EXPECT_TRUE(hub->outstanding("slipway-00", "acme/web", seconds{60})->empty());
  clock_.advance(seconds{61});
  EXPECT_EQ(hub->outstanding("slipway-00", "acme/web", seconds{60})->size(), 1U);
  EXPECT_TRUE(hub->revoke(found->front(), nullptr));
  EXPECT_TRUE(hub->outstanding("slipway-00", "acme/web", seconds{0})->empty());
}

TEST_F(DockerhubTest, RefusalsHaveAKindAndNoSecret) {
  http::Response redirect = FakeIssuer::json(301, "");
  redirect.headers.emplace("location", "https://evil.example/");
  struct Case {
    const char* name;
    const char* at;
    http::Response response;
    ErrorKind kind;
    bool may_be_out;
  };
  const Case table[] = {
      {"wrong token", "auth/token",
       FakeIssuer::json(401,
                        R"({"detail":"Incorrect authentication credentials dckr_pat_s3cret"})"),
       ErrorKind::denied, false},
      {"throttled login", "auth/token", FakeIssuer::json(429, "{}"), ErrorKind::unavailable, false},
      {"half a login", "auth/token", FakeIssuer::json(200, R"({"access_token":"eyJ)"),
       ErrorKind::bad_input, false},
      {"no owner", "access-tokens", FakeIssuer::json(403, R"({"message":"permission denied"})"),
       ErrorKind::denied, true},
      {"no such repository", "access-tokens", FakeIssuer::json(400, R"({"message":"bad request"})"),
       ErrorKind::misconfigured, true},
      {"down", "access-tokens", FakeIssuer::json(502, "<html>"), ErrorKind::unavailable, true},
      {"partial", "access-tokens", FakeIssuer::json(201, R"({"id":"a-1","token":"dckr_oat_s3)"),
       ErrorKind::bad_input, true},
      {"without token", "access-tokens", FakeIssuer::json(201, R"({"id":"a-1"})"),
       ErrorKind::bad_input, true},
      {"hostile id", "access-tokens",
       FakeIssuer::json(201, R"({"id":"../../x","token":"dckr_oat_s3cret"})"), ErrorKind::bad_input,
       true},
      {"redirect", "access-tokens", redirect, ErrorKind::denied, true},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
      if (request.url.str().find(one.at) == std::string::npos) return std::nullopt;
      return Result<http::Response>{one.response};
    };
    auto hub = provider();

    const auto minted = hub->mint(push());

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_EQ(hub->may_be_out(), one.may_be_out) << one.name;
    EXPECT_NE(minted.error().what.find("dockerhub \"hub\""), std::string::npos);
    const auto all = minted.error().text() + minted.error().hint;
    for (const char* secret : {"dckr_", "eyJ"})
      EXPECT_EQ(all.find(secret), std::string::npos) << all;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(DockerhubTest, NamesCannotChangeTheAddress) {
  for (const char* id : {"", "a/../../x", "a?x"})
    EXPECT_FALSE(provider()->revoke({"n", id, "acme/web"}, nullptr)) << id;
  EXPECT_TRUE(http_.seen.empty());
  spec_.settings["organisation"] = "acme/../evil";
  EXPECT_EQ(make_provider(spec_, context_).error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::credentials
