// SPDX-License-Identifier: Apache-2.0
// The double of Azure checks what Entra ID and the registry's OAuth endpoints are documented to
// check.
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/cloud_token.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace slipway::credentials {
namespace {

using fakes::CloudToken;
using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1800000000}};
constexpr const char* kTenant = "66666666-7777-8888-9999-000000000000";
constexpr const char* kClient = "11111111-2222-3333-4444-555555555555";
constexpr const char* kEntra =
    "https://login.microsoftonline.com/66666666-7777-8888-9999-000000000000/oauth2/v2.0/token";
constexpr const char* kExchange = "https://corp.azurecr.io/oauth2/exchange";
constexpr const char* kToken = "https://corp.azurecr.io/oauth2/token";

class Azure {
public:
  explicit Azure(FakeIssuer& http) {
    http.on("POST", kEntra, [this](const http::Request& request) { return entra(request); });
    http.on("POST", kExchange, [this](const http::Request& request) { return exchange(request); });
    http.on("POST", kToken, [this](const http::Request& request) { return token(request); });
  }

  WallTime now = kNow; ///< Azure's own clock
  std::map<std::string, std::vector<std::string>> may{{"grp/app", {"pull", "push"}}};
  std::string refresh_token;
  std::string access_token;

  static http::Response entra_error(int status, const std::string& code, const std::string& why) {
    return FakeIssuer::json(status, json{{"error", code}, {"error_description", why}}.dump());
  }
  static http::Response registry_error(int status, const std::string& code,
                                       const std::string& why) {
    return FakeIssuer::json(status, json{{"errors", {{{"code", code}, {"message", why}}}}}.dump());
  }

private:
  bool is_live(const json& claims) const {
    return claims.value("exp", 0L) > now.time_since_epoch().count();
  }

  Result<http::Response> entra(const http::Request& request) {
    const auto field = [&](const char* name) { return FakeIssuer::form(request.body, name); };
    if (field("grant_type") != "client_credentials")
      return entra_error(400, "unsupported_grant_type", "AADSTS70003: The app requested it");
    if (field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
      return entra_error(400, "invalid_request", "AADSTS90023: client_assertion_type");
    if (field("scope") != "https://containerregistry.azure.net/.default")
      return entra_error(400, "invalid_scope", "AADSTS70011: The provided value is not valid");
    if (field("client_id") != kClient)
      return entra_error(400, "unauthorized_client", "AADSTS700016: Application was not found");
    const auto claims = fakes::claims_of(field("client_assertion"));
    if (claims.value("iss", "") != "https://issuer.example" || claims.value("sub", "") != "host-7")
      return entra_error(401, "invalid_client",
                         "AADSTS70021: No matching federated identity record found");
    if (claims.value("aud", "") != "api://AzureADTokenExchange")
      return entra_error(401, "invalid_client", "AADSTS700212: No matching audience found");
    if (!is_live(claims))
      return entra_error(401, "invalid_client",
                         "AADSTS700024: Client assertion is not within its valid time range.");
    CloudToken made{"https://sts.windows.net/", "https://containerregistry.azure.net", kClient,
                    now + seconds{3599}};
    return FakeIssuer::json(
        200,
        json{{"access_token", made.text()}, {"token_type", "Bearer"}, {"expires_in", 3599}}.dump());
  }

  Result<http::Response> exchange(const http::Request& request) {
    const auto field = [&](const char* name) { return FakeIssuer::form(request.body, name); };
    if (field("grant_type") != "access_token" || field("service") != "corp.azurecr.io")
      return registry_error(400, "UNSUPPORTED", "grant_type or service");
    const auto claims = fakes::claims_of(field("access_token"));
    if (field("tenant") != kTenant ||
        claims.value("aud", "") != "https://containerregistry.azure.net" || !is_live(claims))
      return registry_error(401, "UNAUTHORIZED", "authentication required");
    CloudToken made{"Azure Container Registry", "corp.azurecr.io", kClient,
                    now + std::chrono::hours{3}};
    made.more = {{"grant_type", "refresh_token"}};
    refresh_token = made.text();
    return FakeIssuer::json(200, json{{"refresh_token", refresh_token}}.dump());
  }

  Result<http::Response> token(const http::Request& request) {
    const auto field = [&](const char* name) { return FakeIssuer::form(request.body, name); };
    if (field("grant_type") != "refresh_token" || field("service") != "corp.azurecr.io")
      return registry_error(400, "UNSUPPORTED", "grant_type or service");
    const auto claims = fakes::claims_of(field("refresh_token"));
    if (field("refresh_token") != refresh_token || !is_live(claims))
      return registry_error(401, "UNAUTHORIZED", "authentication required");
    // repository:NAME:ACTION,ACTION; what may not be is left out without a word
    const std::string scope = field("scope");
    const auto first = scope.find(':');
    const auto last = scope.rfind(':');
    const std::string name = scope.substr(first + 1, last - first - 1);
    json granted = json::array();
    for (const std::string action : {"pull", "push"}) {
      const auto found = may.find(name);
      if (found != may.end() && scope.find(action, last) != std::string::npos &&
          std::find(found->second.begin(), found->second.end(), action) != found->second.end())
        granted.push_back(action);
    }
    CloudToken made{"Azure Container Registry", "corp.azurecr.io", kClient,
                    now + std::chrono::minutes{75}};
    made.more = {{"access", json::array()}, {"grant_type", "access_token"}};
    if (!granted.empty())
      made.more["access"].push_back({{"type", "repository"}, {"name", name}, {"actions", granted}});
    access_token = made.text();
    return FakeIssuer::json(200, json{{"access_token", access_token}}.dump());
  }
};

class AcrTest : public testing::Test {
protected:
  AcrTest() {
    token_.audience = "api://AzureADTokenExchange";
    token_.expires_at = kNow + std::chrono::hours{1};
  }
  ~AcrTest() override { std::filesystem::remove(file_); }

  Result<Minted> mint() {
    std::ofstream{file_} << token_.text() << "\n";
    auto provider = make_provider(spec_, context_);
    if (!provider) return std::move(provider).error();
    return (*provider)->mint(wanted_);
  }
  /// The error of a mint that must fail; no secret is in it.
  Error failure() {
    auto minted = mint();
    EXPECT_FALSE(minted);
    if (minted) return Error{};
    const std::string said = minted.error().text() + minted.error().hint;
    EXPECT_EQ(said.find("signed-by"), std::string::npos) << said;
    EXPECT_NE(said.find("prod"), std::string::npos) << said;
    return minted.error();
  }
  /// An answer of the registry with these claims in its access token.
  void grant(const json& claims) {
    http_.answer_at(
        kToken,
        FakeIssuer::json(200, json{{"access_token", "e30." + CloudToken::url_form(claims.dump()) +
                                                        ".signed-by-registry"}}
                                  .dump()));
  }

  FakeIssuer http_;
  Azure azure_{http_};
  FixedClock clock_{kNow};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  CloudToken token_;
  std::string file_ = testing::TempDir() + "acr-token-" + std::to_string(::getpid());
  engine_api::IssuerSpec spec_{"prod",
                               "acr",
                               {{"tenant", kTenant},
                                {"client_id", kClient},
                                {"client_assertion_file", file_},
                                {"authority_url", "https://login.microsoftonline.com"}}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  MintFor wanted_{"corp.azurecr.io", "grp/app",     {"pull", "push"},
                  "sha256:0",        "j7-00000000", "slipway-0123456789abcdef-j7-00000000",
                  seconds{900}};
};

TEST_F(AcrTest, MintsATokenOfTheRegistryForOneRepository) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_TRUE(minted->bearer);
  EXPECT_TRUE(minted->scoped_to_repository);
  EXPECT_EQ(minted->password.reveal(), azure_.access_token);
  EXPECT_EQ(minted->expires_at, kNow + std::chrono::minutes{75});
  EXPECT_EQ(FakeIssuer::form(http_.seen[2].body, "scope"), "repository:grp/app:pull,push");
}

TEST_F(AcrTest, TheRefreshTokenGoesNowhereButToTheRegistry) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  ASSERT_FALSE(azure_.refresh_token.empty());
  for (const auto held : {minted->password.reveal(), minted->revoke_with.reveal(),
                          std::string_view{minted->lease_id}, std::string_view{minted->username}})
    EXPECT_EQ(held.find(azure_.refresh_token), std::string_view::npos);
  for (const auto& one : http_.seen) {
    if (FakeIssuer::form(one.body, "refresh_token").empty()) continue;
    EXPECT_EQ(one.url, kToken);
  }
}

TEST_F(AcrTest, APullAsksForPullAlone) {
  wanted_.actions = {"pull"};

  ASSERT_TRUE(mint());

  EXPECT_EQ(FakeIssuer::form(http_.seen[2].body, "scope"), "repository:grp/app:pull");
}

TEST_F(AcrTest, WhatTheRegistryLeavesOutIsNoticed) {
  azure_.may["grp/app"] = {"pull"};
  auto error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("did not grant push on grp/app"), std::string::npos) << error.text();

  azure_.may.clear();
  error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.hint.find("AcrPush"), std::string::npos);
}

TEST_F(AcrTest, ATokenForMoreThanTheRepositoryIsNotUsed) {
  const json own = {{"type", "repository"}, {"name", "grp/app"}, {"actions", {"pull", "push"}}};
  const json other = {{"type", "repository"}, {"name", "grp/lib"}, {"actions", {"push"}}};
  const json catalog = {{"type", "registry"}, {"name", "grp/app"}, {"actions", {"pull", "push"}}};
  for (const auto& access : {json{own, other}, json::array({other}), json::array({catalog})}) {
    grant({{"exp", 1800004500}, {"access", access}});
    EXPECT_EQ(failure().kind, ErrorKind::denied) << access;
  }
  grant({{"exp", 1800004500}, {"access", json::array({own})}});
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(AcrTest, AnAssertionThatIsOverOrForOthersIsDenied) {
  token_.expires_at = kNow - seconds{1};
  auto error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("401 (AADSTS700024:"), std::string::npos) << error.text();
  EXPECT_NE(error.hint.find("over"), std::string::npos);

  token_.expires_at = kNow + seconds{60};
  token_.audience = "https://gitlab.example";
  EXPECT_EQ(failure().kind, ErrorKind::denied);

  token_.audience = "api://AzureADTokenExchange";
  token_.subject = "host-8";
  EXPECT_EQ(failure().kind, ErrorKind::denied);

  token_.subject = "host-7";
  spec_.settings["client_id"] = "other";
  error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("400 (AADSTS700016:"), std::string::npos) << error.text();

  spec_.settings["client_id"] = kClient;
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(AcrTest, AMachineWhoseClockIsBehindUsesAnOldToken) {
  azure_.now = kNow + std::chrono::hours{2};

  EXPECT_NE(failure().hint.find("clock"), std::string::npos);
}

TEST_F(AcrTest, ARegistryOfAnotherTenantIsDenied) {
  http_.answer_at(kExchange, Azure::registry_error(401, "UNAUTHORIZED", "authentication required"));

  const auto error = failure();

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.hint.find("AcrPush"), std::string::npos);
}

TEST_F(AcrTest, ServersThatFailAreUnavailable) {
  for (const char* url : {kEntra, kExchange, kToken}) {
    for (const int status : {429, 500, 503}) {
      http_.answer_at(url, Azure::registry_error(status, "TOOMANYREQUESTS", "slow down"));
      EXPECT_EQ(failure().kind, ErrorKind::unavailable) << url << status;
    }
  }
}

TEST_F(AcrTest, AnswersThatAreCutOrLackSomethingAreUnreadable) {
  for (const char* url : {kEntra, kExchange, kToken}) {
    for (const std::string body : {"", R"({"access_token":"signed-by)", "{}", R"(["x"])",
                                   R"({"access_token":7,"refresh_token":7})"}) {
      http_.answer_at(url, FakeIssuer::json(200, body));
      EXPECT_EQ(failure().kind, ErrorKind::bad_input) << url << body;
    }
  }
  http_.answer_at(kToken, FakeIssuer::json(200, R"({"access_token":"opaque"})"));
  EXPECT_EQ(failure().kind, ErrorKind::bad_input);
  grant({{"access", json::array()}});
  EXPECT_EQ(failure().kind, ErrorKind::bad_input) << "without exp";
}

TEST_F(AcrTest, RedirectsAreNotFollowed) {
  auto elsewhere = FakeIssuer::json(307, "");
  elsewhere.headers = {{"location", "https://evil.example/"}};
  http_.answer_at(kExchange, elsewhere);

  EXPECT_EQ(failure().kind, ErrorKind::denied);
  EXPECT_EQ(http_.count("", "evil"), 0U);
}

TEST_F(AcrTest, SaysThatItCannotRevokeAndHowLongATokenLives) {
  ASSERT_TRUE(mint());
  const auto provider = make_provider(spec_, context_);
  ASSERT_TRUE(provider);

  EXPECT_FALSE((*provider)->traits().can_revoke);
  EXPECT_EQ((*provider)->traits().built_in_ceiling, std::chrono::minutes{75});
  EXPECT_EQ((*provider)->revoke({}, nullptr).error().kind, ErrorKind::denied);
}

TEST_F(AcrTest, SettingsThatCannotBeRightAreFoundBeforeAnythingIsSent) {
  for (const char* tenant : {"", "../x", "a/b", "a?b"}) {
    spec_.settings["tenant"] = tenant;
    EXPECT_EQ(failure().kind, ErrorKind::misconfigured) << tenant;
  }
  spec_.settings["tenant"] = kTenant;
  wanted_.registry = "corp.azurecr.io/evil";
  EXPECT_EQ(failure().kind, ErrorKind::misconfigured);
  EXPECT_TRUE(http_.seen.empty());
}

} // namespace
} // namespace slipway::credentials
