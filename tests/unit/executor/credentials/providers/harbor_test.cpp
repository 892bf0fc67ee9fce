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

/// Harbor's robots of two projects, as its API shows them.
class HarborTest : public testing::Test {
protected:
  HarborTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "pw", "parent-s3cret\n"));
    spec_.settings = {{"url", "https://harbor.example"},
                      {"username", "robot$slipway"},
                      {"password_file", (dir_.path() / "pw").string()}};
    const std::string api = "https://harbor.example/api/v2.0";
    http_.on("POST", api + "/robots", [this](const http::Request& request) {
      asked_ = json::parse(request.body);
      const auto id = std::to_string(http_.grants.size() + 7);
      const std::string name = "robot$" + asked_["permissions"][0]["namespace"].get<std::string>() +
                               "+" + asked_["name"].get<std::string>();
      const auto end = clock_.now() + std::chrono::hours{24};
      http_.grant(id, name, "robot-s3cret", clock_.now(), end);
      return FakeIssuer::json(201, json{{"id", std::stoi(id)},
                                        {"name", name},
                                        {"secret", "robot-s3cret"},
                                        {"expires_at", end.time_since_epoch().count()}}
                                       .dump());
    });
    http_.on("DELETE", api + "/robots/", [this](const http::Request& request) {
      auto* grant = http_.find(request.url.target.substr(request.url.target.rfind('/') + 1));
      if (grant == nullptr || grant->revoked)
        return FakeIssuer::json(404, R"({"errors":[{"code":"NOT_FOUND","message":"no robot"}]})");
      grant->revoked = true;
      return FakeIssuer::json(200, "");
    });
    http_.on("GET", api + "/projects/grp", [](const http::Request& request) {
      EXPECT_EQ(FakeIssuer::header(request, "X-Is-Resource-Name"), "true");
      return FakeIssuer::json(200, R"({"project_id":3,"name":"grp"})");
    });
    http_.on("GET", api + "/robots", [this](const http::Request& request) {
      EXPECT_EQ(FakeIssuer::form(request.url.target, "q"), "Level=project,ProjectID=3");
      const auto page = std::stoul(FakeIssuer::form(request.url.target, "page"));
      json robots = json::array();
      for (std::size_t i = (page - 1) * 100; i < std::min(page * 100, http_.grants.size()); ++i) {
        const auto& grant = http_.grants[i];
        if (!grant.revoked)
          robots.push_back({{"id", std::stoi(grant.id)},
                            {"name", grant.name},
                            {"creation_time", rfc3339(grant.made_at)}});
        else
          robots.push_back({{"id", 0}, {"name", "robot$grp+other"}});
      }
      return FakeIssuer::json(200, robots.dump());
    });
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    provider_ = *std::move(made);
  }

  MintFor push() const {
    MintFor wanted;
    wanted.registry = "harbor.example";
    wanted.repository = "grp/app";
    wanted.actions = {"pull", "push"};
    wanted.job = "j7-0a";
    wanted.lease_name = "slipway-00-j7-0a";
    return wanted;
  }

  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"h", "harbor", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  std::unique_ptr<CredentialProvider> provider_;
  json asked_;
};

TEST_F(HarborTest, MakesARobotOfTheProjectForThisPushAndDeletesIt) {
  auto minted = provider_->mint(push());

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "robot$grp+slipway-00-j7-0a");
  EXPECT_EQ(minted->password.reveal(), "robot-s3cret");
  EXPECT_EQ(minted->lease_id, "7");
  EXPECT_EQ(minted->expires_at, clock_.now() + std::chrono::hours{24});
  EXPECT_FALSE(minted->scoped_to_repository);
  EXPECT_EQ(asked_, json::parse(R"({"name":"slipway-00-j7-0a","description":"slipway, job j7-0a",
    "level":"project","duration":1,"permissions":[{"kind":"project","namespace":"grp",
    "access":[{"resource":"repository","action":"pull"},{"resource":"repository","action":"push"}]}]})"));
  EXPECT_EQ(http_.seen[0].authorization, "Basic cm9ib3Qkc2xpcHdheTpwYXJlbnQtczNjcmV0");

  EXPECT_TRUE(provider_->revoke({"slipway-00-j7-0a", "7", "grp/app"}, &*minted));
  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_TRUE(provider_->revoke({"slipway-00-j7-0a", "7", "grp/app"}, nullptr)) << "gone already";
}

TEST_F(HarborTest, FindsARobotWhoseAnswerWasLostOnWhateverPageItStands) {
  for (int i = 0; i < 150; ++i)
    http_.grant(std::to_string(1000 + i), "robot$grp+slipway-other", "x", clock_.now(),
                WallTime::max());
  http_.lose_answer_of = {"/robots"};
  EXPECT_EQ(provider_->mint(push()).error().kind, ErrorKind::unavailable);

  const auto found = provider_->outstanding("slipway-00-j7-0a", "grp/app", std::chrono::seconds{0});

  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().id, "157");
  EXPECT_TRUE(
      provider_->outstanding("slipway-00", "grp/app", std::chrono::seconds{60}).value().empty())
      << "younger than asked for";
  clock_.advance(std::chrono::seconds{61});
  EXPECT_EQ(provider_->outstanding("slipway-00", "grp/app", std::chrono::seconds{60})->size(), 1U);
  EXPECT_TRUE(provider_->revoke(found->front(), nullptr));
  EXPECT_TRUE(provider_->outstanding("slipway-00", "grp/app", std::chrono::seconds{0})->empty());
}

TEST_F(HarborTest, RefusalsHaveAKindAndNoSecret) {
  struct Case {
    const char* name;
    http::Response response;
    ErrorKind kind;
  };
  const Case table[] = {
      {"unauthorized", FakeIssuer::json(401, R"({"errors":[{"message":"unauthorized"}]})"),
       ErrorKind::denied},
      {"forbidden", FakeIssuer::json(403, R"({"errors":[{"message":"forbidden"}]})"),
       ErrorKind::denied},
      {"throttled", FakeIssuer::json(429, ""), ErrorKind::unavailable},
      {"down", FakeIssuer::json(502, "<html>"), ErrorKind::unavailable},
      {"conflict", FakeIssuer::json(409, R"({"errors":[{"message":"exists"}]})"),
       ErrorKind::misconfigured},
      {"partial", FakeIssuer::json(201, R"({"id":7,"name":"robot$grp+x","sec)"),
       ErrorKind::bad_input},
      {"without secret", FakeIssuer::json(201, R"({"id":7,"name":"robot$grp+x"})"),
       ErrorKind::bad_input},
      {"redirect",
       [] {
         auto response = FakeIssuer::json(302, "");
         response.headers.emplace("location", "https://evil.example/");
         return response;
       }(),
       ErrorKind::denied},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request&) { return Result<http::Response>{one.response}; };

    const auto minted = provider_->mint(push());

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_NE(minted.error().what.find("harbor \"h\""), std::string::npos) << one.name;
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_EQ(all.find("s3cret"), std::string::npos) << all;
    EXPECT_EQ(all.find("czNjcmV0"), std::string::npos) << all;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(HarborTest, AnIdFromTheJournalCannotChangeTheAddress) {
  for (const char* id : {"", "7/../../projects/1", "-1", "7?x", "99999999999999999999"}) {
    EXPECT_FALSE(provider_->revoke({"n", id, "grp/app"}, nullptr)) << id;
  }
  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(HarborTest, NeedsItsFileAndTls) {
  spec_.settings["url"] = "http://harbor.example";
  EXPECT_EQ(make_provider(spec_, context_).error().kind, ErrorKind::misconfigured);
  spec_.settings["url"] = "https://harbor.example";
  spec_.settings["password_file"] = (dir_.path() / "none").string();
  EXPECT_EQ(make_provider(spec_, context_).error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::credentials
