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

const std::string kProjects = "https://gitlab.example/api/v4/projects/";

/// The deploy tokens of one project, as GitLab's API shows them.
class GitlabDeployTokenTest : public testing::Test {
protected:
  GitlabDeployTokenTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "token", "glpat-s3cret\n"));
    spec_.settings = {{"url", "https://gitlab.example"},
                      {"token_file", (dir_.path() / "token").string()}};
    http_.on("", kProjects, [](const http::Request&) {
      return FakeIssuer::json(404, R"({"message":"404 Project Not Found"})");
    });
    for (const std::string project : {"grp%2Fapp", "42"}) {
      const std::string tokens = kProjects + project + "/deploy_tokens";
      http_.on("POST", tokens, [this](const http::Request& request) { return make(request); });
      http_.on("GET", tokens, [this](const http::Request& request) { return list(request); });
      http_.on("DELETE", tokens + "/", [this](const http::Request& request) {
        auto* token = http_.find(request.url.target.substr(request.url.target.rfind('/') + 1));
        if (token == nullptr || token->revoked)
          return FakeIssuer::json(404, R"({"message":"404 Deploy Token Not Found"})");
        token->revoked = true;
        return FakeIssuer::json(204, "");
      });
    }
  }

  http::Response make(const http::Request& request) {
    if (request.authorization.reveal() != "Bearer glpat-s3cret")
      return FakeIssuer::json(401, R"({"message":"401 Unauthorized"})");
    asked_ = json::parse(request.body);
    WallTime end;
    EXPECT_TRUE(parse_rfc3339(asked_["expires_at"], end));
    const auto id = std::to_string(http_.grants.size() + 17);
    http_.grant(id, asked_["name"], "gldt-s3cret", clock_.now(), end);
    return FakeIssuer::json(201, json{{"id", std::stoi(id)},
                                      {"name", asked_["name"]},
                                      {"username", "gitlab+deploy-token-" + id},
                                      {"expires_at", rfc3339(end)},
                                      {"token", "gldt-s3cret"},
                                      {"revoked", false},
                                      {"expired", false}}
                                     .dump());
  }

  http::Response list(const http::Request& request) {
    const auto number = [&](const char* name, std::size_t fallback) {
      const auto text = FakeIssuer::form(request.url.target, name);
      return text.empty() ? fallback : std::stoul(text);
    };
    json tokens = json::array();
    const auto size = number("per_page", 20);
    const auto page = number("page", 1);
    for (auto i = (page - 1) * size; i < std::min(page * size, http_.grants.size()); ++i) {
      const auto& token = http_.grants[i];
      tokens.push_back({{"id", std::stoi(token.id)},
                        {"name", token.revoked ? "gone" : token.name},
                        {"expires_at", rfc3339(token.expires_at)}});
    }
    return FakeIssuer::json(200, tokens.dump());
  }

  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  static MintFor push(const std::string& repository) {
    MintFor wanted;
    wanted.registry = "registry.gitlab.example";
    wanted.repository = repository;
    wanted.actions = {"pull", "push"};
    wanted.lease_name = "slipway-00-j7";
    return wanted;
  }

  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}}; // 2027-01-15T08:00:00Z
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"gl", "gitlab_deploy_token", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  json asked_;
};

TEST_F(GitlabDeployTokenTest, MakesATokenOfTheProjectForThisPushAndDeletesIt) {
  auto gitlab = provider();

  auto minted = gitlab->mint(push("grp/app"));

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "gitlab+deploy-token-17");
  EXPECT_EQ(minted->password.reveal(), "gldt-s3cret");
  EXPECT_EQ(minted->lease_id, "17@grp/app");
  EXPECT_EQ(rfc3339(minted->expires_at), "2027-01-17T00:00:00Z");
  EXPECT_FALSE(minted->scoped_to_repository);
  EXPECT_EQ(asked_, json::parse(R"({"name":"slipway-00-j7","expires_at":"2027-01-17T00:00:00Z",
                                    "scopes":["read_registry","write_registry"]})"));

  const Lease lease{"slipway-00-j7", minted->lease_id, "grp/app"};
  EXPECT_TRUE(gitlab->revoke(lease, &*minted));
  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_TRUE(provider()->revoke(lease, nullptr)) << "gone already";
}

TEST_F(GitlabDeployTokenTest, APullGetsNoMoreThanReading) {
  auto wanted = push("grp/app");
  wanted.actions = {"pull"};

  ASSERT_TRUE(provider()->mint(wanted));

  EXPECT_EQ(asked_["scopes"], json::parse(R"(["read_registry"])"));
}

TEST_F(GitlabDeployTokenTest, FindsTheProjectOfAnImageBelowIt) {
  const auto minted = provider()->mint(push("grp/app/web/debug"));
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->lease_id, "17@grp/app");

  const auto none = provider()->mint(push("grp/app/a/b/c"));
  ASSERT_FALSE(none) << "deeper than GitLab names images";
  EXPECT_EQ(none.error().kind, ErrorKind::denied);
  EXPECT_EQ(provider()->mint(push("other")).error().kind, ErrorKind::denied);

  spec_.settings["project"] = "42";
  const auto named = provider()->mint(push("anything/else"));
  ASSERT_TRUE(named) << named.error().text();
  EXPECT_EQ(named->lease_id, "18@42");
}

TEST_F(GitlabDeployTokenTest, FindsATokenWhoseAnswerWasLostOnWhateverPageItStands) {
  for (int i = 0; i < 100; ++i)
    http_.grant(std::to_string(1000 + i), "of somebody", "x", clock_.now(), WallTime::max());
  auto gitlab = provider();
  http_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method != "POST") return std::nullopt;
    (void)make(request);
    return Result<http::Response>{FakeIssuer::lost()};
  };
  EXPECT_EQ(gitlab->mint(push("grp/app")).error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(gitlab->may_be_out());

  const auto found = gitlab->outstanding("slipway-00-j7", "grp/app", seconds{0});

  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().id, "117@grp/app");
  EXPECT_TRUE(gitlab->outstanding("slipway-00", "grp/app", seconds{60})->empty())
      << "younger than asked for";
  clock_.advance(std::chrono::hours{41});
  EXPECT_EQ(gitlab->outstanding("slipway-00", "grp/app", seconds{60})->size(), 1U);
  EXPECT_TRUE(gitlab->revoke(found->front(), nullptr));
  EXPECT_TRUE(gitlab->outstanding("slipway-00", "grp/app", seconds{0})->empty());
}

TEST_F(GitlabDeployTokenTest, ATokenIsNotTakenForGoneWhereTheProjectIsOutOfSight) {
  const auto revoked = provider()->revoke({"n", "17@grp/hidden", "grp/hidden"}, nullptr);

  ASSERT_FALSE(revoked);
  EXPECT_EQ(revoked.error().kind, ErrorKind::denied);
  EXPECT_NE(revoked.error().hint.find("Maintainer"), std::string::npos);
}

TEST_F(GitlabDeployTokenTest, RefusalsHaveAKindAndNoSecret) {
  http::Response redirect = FakeIssuer::json(302, "");
  redirect.headers.emplace("location", "https://evil.example/users/sign_in");
  struct Case {
    const char* name;
    const char* method;
    http::Response response;
    ErrorKind kind;
    bool may_be_out;
  };
  const Case table[] = {
      {"unauthorized", "GET", FakeIssuer::json(401, R"({"message":"401 Unauthorized"})"),
       ErrorKind::denied, false},
      {"forbidden", "POST", FakeIssuer::json(403, R"({"message":"403 Forbidden glpat-s3cret"})"),
       ErrorKind::denied, true},
      {"down before", "GET", FakeIssuer::json(502, "<html>"), ErrorKind::unavailable, false},
      {"throttled", "POST", FakeIssuer::json(429, "Retry later"), ErrorKind::unavailable, true},
      {"down", "POST", FakeIssuer::json(500, "{}"), ErrorKind::unavailable, true},
      {"bad name", "POST", FakeIssuer::json(400, R"({"message":"name is too long"})"),
       ErrorKind::misconfigured, true},
      {"partial", "POST", FakeIssuer::json(201, R"({"id":17,"token":"gldt-s3)"),
       ErrorKind::bad_input, true},
      {"without token", "POST", FakeIssuer::json(201, R"({"id":17,"username":"x"})"),
       ErrorKind::bad_input, true},
      {"redirect", "POST", redirect, ErrorKind::denied, true},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
      if (request.method != one.method) return std::nullopt;
      return Result<http::Response>{one.response};
    };
    auto gitlab = provider();

    const auto minted = gitlab->mint(push("grp/app"));

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_EQ(gitlab->may_be_out(), one.may_be_out) << one.name;
    EXPECT_NE(minted.error().what.find("gitlab_deploy_token \"gl\""), std::string::npos);
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_EQ(all.find("s3"), std::string::npos) << all;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(GitlabDeployTokenTest, AnIdFromTheJournalCannotChangeTheAddress) {
  for (const char* id : {"", "17", "@grp/app", "1/../2@grp/app", "-1@grp/app"})
    EXPECT_FALSE(provider()->revoke({"n", id, "grp/app"}, nullptr)) << id;
  EXPECT_TRUE(http_.seen.empty());

  EXPECT_FALSE(provider()->revoke({"n", "1@../../users?x", "grp/app"}, nullptr));
  EXPECT_EQ(http_.seen[0].url, kProjects + "..%2F..%2Fusers%3Fx/deploy_tokens/1");
}

} // namespace
} // namespace slipway::credentials
