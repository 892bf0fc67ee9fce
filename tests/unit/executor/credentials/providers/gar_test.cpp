// SPDX-License-Identifier: Apache-2.0
// The double of Google checks what its STS and its IAM Credentials API are documented to check.
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

using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1800000000}};
constexpr const char* kAudience = "//iam.googleapis.com/projects/42/locations/global/"
                                  "workloadIdentityPools/ci/providers/hosts";
constexpr const char* kSts = "https://sts.googleapis.com/v1/token";
constexpr const char* kAccount = "push@proj.iam.gserviceaccount.com";
constexpr const char* kGenerate =
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
    "push%40proj.iam.gserviceaccount.com:generateAccessToken";

class Google {
public:
  explicit Google(FakeIssuer& http) : http_{http} {
    http.on("POST", kSts, [this](const http::Request& request) { return sts(request); });
    http.on("POST", "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/",
            [this](const http::Request& request) { return generate(request); });
  }

  WallTime now = kNow; ///< Google's own clock
  std::vector<std::string> may_impersonate{kAccount};
  std::vector<std::string> scopes; ///< of the last access token

  static http::Response oauth_error(int status, const std::string& code, const std::string& why) {
    return FakeIssuer::json(status, json{{"error", code}, {"error_description", why}}.dump());
  }
  static http::Response api_error(int status, const std::string& code, const std::string& why) {
    return FakeIssuer::json(
        status, json{{"error", {{"code", status}, {"message", why}, {"status", code}}}}.dump());
  }

private:
  Result<http::Response> sts(const http::Request& request) {
    const auto field = [&](const char* name) { return FakeIssuer::form(request.body, name); };
    if (!request.authorization.empty())
      return oauth_error(400, "invalid_request", "no Authorization header is expected");
    if (field("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange")
      return oauth_error(400, "unsupported_grant_type", "");
    if (field("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token" ||
        field("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" ||
        field("scope") != "https://www.googleapis.com/auth/cloud-platform")
      return oauth_error(400, "invalid_request", "types or scope");
    if (field("audience") != kAudience)
      return oauth_error(400, "invalid_target", "The target service indicated is invalid");
    const auto claims = fakes::claims_of(field("subject_token"));
    if (claims.value("iss", "") != "https://issuer.example")
      return oauth_error(400, "invalid_grant", "The issuer in ID Token is not the configured one");
    if (claims.value("aud", "") != std::string{"https:"} + kAudience)
      return oauth_error(400, "invalid_grant", "The audience in ID Token does not match");
    if (claims.value("exp", 0L) <= now.time_since_epoch().count())
      return oauth_error(400, "invalid_grant", "ID Token issued at 17 is stale to sign-in");
    auto& made = http_.grant("federated", "", "ya29.d.federated-Token0", now, now + seconds{3599});
    return FakeIssuer::json(
        200, json{{"access_token", made.secret},
                  {"issued_token_type", "urn:ietf:params:oauth:token-type:access_token"},
                  {"token_type", "Bearer"},
                  {"expires_in", 3599}}
                 .dump());
  }

  Result<http::Response> generate(const http::Request& request) {
    const auto* federated = http_.find("federated");
    if (federated == nullptr || federated->expires_at <= now ||
        request.authorization.reveal() != "Bearer " + federated->secret)
      return api_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    if (request.url.str() != kGenerate)
      return api_error(403, "PERMISSION_DENIED",
                       "Permission 'iam.serviceAccounts.getAccessToken' denied");
    const auto body = json::parse(request.body, nullptr, false);
    if (!body.is_object() || !body.contains("scope") || body["scope"].empty())
      return api_error(400, "INVALID_ARGUMENT", "scope");
    const std::string life = body.value("lifetime", "3600s");
    const int seconds_asked = std::stoi(life);
    if (life.back() != 's' || seconds_asked <= 0 || seconds_asked > 3600)
      return api_error(400, "INVALID_ARGUMENT", "lifetime");
    scopes = body["scope"].get<std::vector<std::string>>();
    auto& made = http_.grant("account", kAccount, "ya29.c.account-Token0", now,
                             now + seconds{seconds_asked});
    return FakeIssuer::json(
        200, json{{"accessToken", made.secret}, {"expireTime", rfc3339(made.expires_at)}}.dump());
  }

  FakeIssuer& http_;
};

class GarTest : public testing::Test {
protected:
  GarTest() {
    token_.audience = std::string{"https:"} + kAudience;
    token_.expires_at = kNow + std::chrono::hours{1};
  }
  ~GarTest() override { std::filesystem::remove(file_); }

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
    EXPECT_EQ(said.find(token_.text()), std::string::npos) << said;
    EXPECT_EQ(said.find("ya29"), std::string::npos) << said;
    EXPECT_NE(said.find("prod"), std::string::npos) << said;
    return minted.error();
  }

  FakeIssuer http_;
  Google google_{http_};
  FixedClock clock_{kNow};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  fakes::CloudToken token_;
  std::string file_ = testing::TempDir() + "gar-token-" + std::to_string(::getpid());
  engine_api::IssuerSpec spec_{"prod",
                               "gar",
                               {{"audience", kAudience},
                                {"subject_token_file", file_},
                                {"subject_token_type", "urn:ietf:params:oauth:token-type:jwt"},
                                {"service_account", kAccount},
                                {"sts_url", "https://sts.googleapis.com"},
                                {"iam_url", "https://iamcredentials.googleapis.com"}}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  MintFor wanted_{"europe-docker.pkg.dev",
                  "proj/repo/app",
                  {"pull", "push"},
                  "sha256:0",
                  "j7-00000000",
                  "slipway-0123456789abcdef-j7-00000000",
                  seconds{900}};
};

TEST_F(GarTest, ImpersonatesTheServiceAccountForAsLongAsAPushMayLast) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "oauth2accesstoken");
  EXPECT_EQ(minted->password.reveal(), "ya29.c.account-Token0");
  EXPECT_EQ(minted->expires_at, kNow + seconds{900});
  EXPECT_EQ(google_.scopes,
            std::vector<std::string>{"https://www.googleapis.com/auth/cloud-platform"});
}

TEST_F(GarTest, DoesNotClaimToBeScopedToARepository) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_FALSE(minted->scoped_to_repository);
}

TEST_F(GarTest, APullAsksForReadingAlone) {
  wanted_.actions = {"pull"};

  ASSERT_TRUE(mint());

  EXPECT_EQ(google_.scopes,
            std::vector<std::string>{"https://www.googleapis.com/auth/cloud-platform.read-only"});
}

TEST_F(GarTest, NeverAsksForMoreThanGoogleGives) {
  wanted_.ceiling = std::chrono::hours{5};

  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->expires_at, kNow + seconds{3600});
}

TEST_F(GarTest, ATokenThatIsOverOrForOthersIsDenied) {
  token_.expires_at = kNow - seconds{1};
  auto error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("400 (ID Token issued at"), std::string::npos) << error.text();
  EXPECT_NE(error.hint.find("over"), std::string::npos);

  token_.expires_at = kNow + seconds{60};
  token_.audience = "https://gitlab.example";
  error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("audience"), std::string::npos) << error.text();

  token_.audience = std::string{"https:"} + kAudience;
  token_.issuer = "https://evil.example";
  EXPECT_EQ(failure().kind, ErrorKind::denied);

  token_.issuer = "https://issuer.example";
  spec_.settings["audience"] = "//iam.googleapis.com/projects/43/x";
  EXPECT_EQ(failure().kind, ErrorKind::denied);

  spec_.settings["audience"] = kAudience;
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(GarTest, AMachineWhoseClockIsBehindUsesAnOldToken) {
  google_.now = kNow + std::chrono::hours{2};

  EXPECT_NE(failure().hint.find("clock"), std::string::npos);
}

TEST_F(GarTest, AServiceAccountThatMayNotBeImpersonatedIsNamed) {
  spec_.settings["service_account"] = "other@proj.iam.gserviceaccount.com";

  const auto error = failure();

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("other@proj"), std::string::npos);
  EXPECT_NE(error.hint.find("workloadIdentityUser"), std::string::npos);
}

TEST_F(GarTest, NoNameOfAnAccountLeavesItsPlaceInTheUrl) {
  spec_.settings["service_account"] = "x@y/../../other?a=b";

  EXPECT_EQ(failure().kind, ErrorKind::denied);

  EXPECT_EQ(http_.seen[1].url.find("/../"), std::string::npos);
}

TEST_F(GarTest, ServersThatFailAreUnavailable) {
  for (const char* url : {kSts, kGenerate}) {
    for (const int status : {429, 500, 503}) {
      http_.answer_at(url, Google::api_error(status, "UNAVAILABLE", "The service is unavailable."));
      EXPECT_EQ(failure().kind, ErrorKind::unavailable) << url << status;
    }
  }
}

TEST_F(GarTest, AnswersThatAreCutOrLackSomethingAreUnreadable) {
  for (
      const std::string body :
      {"", R"({"access_token":"ya29.cut)", "{}", R"({"access_token":"ya29.x"})",
       R"({"access_token":7,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"})",
       R"({"access_token":"ya29.x","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"})"}) {
    http_.answer_at(kSts, FakeIssuer::json(200, body));
    EXPECT_EQ(failure().kind, ErrorKind::bad_input) << body;
  }
  for (const std::string body :
       {"", R"({"accessToken":"ya29.cut)", "{}", R"({"accessToken":"ya29.x"})",
        R"({"accessToken":"ya29.x","expireTime":"soon"})",
        R"({"expireTime":"2027-01-15T08:15:00Z"})"}) {
    http_.answer_at(kGenerate, FakeIssuer::json(200, body));
    EXPECT_EQ(failure().kind, ErrorKind::bad_input) << body;
  }
  http_.answer_at(kGenerate, FakeIssuer::json(200, R"({"accessToken":"ya29.x",
                                              "expireTime":"2027-01-15T08:15:00.5Z"})"));
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(GarTest, RedirectsAreNotFollowed) {
  auto elsewhere = FakeIssuer::json(302, "");
  elsewhere.headers = {{"location", "https://evil.example/"}};
  http_.answer_at(kGenerate, elsewhere);

  EXPECT_EQ(failure().kind, ErrorKind::denied);
  EXPECT_EQ(http_.count("", "evil"), 0U);
}

TEST_F(GarTest, SaysThatItCannotRevoke) {
  ASSERT_TRUE(mint());
  const auto provider = make_provider(spec_, context_);
  ASSERT_TRUE(provider);

  EXPECT_FALSE((*provider)->traits().can_revoke);
  EXPECT_EQ((*provider)->traits().built_in_ceiling, seconds{0});
  EXPECT_EQ((*provider)->revoke({}, nullptr).error().kind, ErrorKind::denied);
}

TEST_F(GarTest, SettingsThatCannotBeRightAreFoundBeforeAnythingIsSent) {
  spec_.settings["service_account"] = "push";
  EXPECT_EQ(failure().kind, ErrorKind::misconfigured);
  spec_.settings["service_account"] = kAccount;
  spec_.settings["subject_token_file"] = "/nowhere/prod";
  EXPECT_EQ(failure().kind, ErrorKind::misconfigured);
  EXPECT_TRUE(http_.seen.empty());
}

} // namespace
} // namespace slipway::credentials
