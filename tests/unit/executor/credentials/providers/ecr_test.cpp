// SPDX-License-Identifier: Apache-2.0
// The double of AWS checks what STS, ECR and IMDSv2 are documented to check, with their codes.
#include "executor/base/base64.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/sigv4.hpp"
#include "tests/fakes/cloud_token.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <variant>

namespace slipway::credentials {
namespace {

using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1800000000}};
constexpr const char* kSts = "https://sts.eu-central-1.amazonaws.com/";
constexpr const char* kEcr = "https://api.ecr.eu-central-1.amazonaws.com/";
constexpr const char* kImds = "http://169.254.169.254/latest/";
constexpr const char* kRole = "arn:aws:iam::123456789012:role/ci/slipway";

/// One session of a role, and what its inline policy leaves of the role.
struct Session {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;
  json policy; ///< null: all that the role may
};

class Aws {
public:
  explicit Aws(FakeIssuer& http) : http_{http} {
    instance_ = add_session(nullptr);
    http.on("POST", kSts, [this](const http::Request& request) { return sts(request); });
    http.on("POST", kEcr, [this](const http::Request& request) { return ecr(request); });
    http.on("", kImds, [this](const http::Request& request) { return imds(request); });
  }

  WallTime now = kNow; ///< AWS's own clock
  seconds login_life = std::chrono::hours{12};
  std::vector<Session> sessions;
  std::string password = "ecr-Passw0rd-eyJwYXlsb2FkIjoi";

  static http::Response xml_error(int status, const std::string& code, const std::string& message) {
    return FakeIssuer::json(status, "<ErrorResponse><Error><Type>Sender</Type><Code>" + code +
                                        "</Code><Message>" + message +
                                        "</Message></Error></ErrorResponse>");
  }
  static http::Response json_error(const std::string& code, const std::string& message) {
    return FakeIssuer::json(400, json{{"__type", code}, {"message", message}}.dump());
  }

private:
  std::size_t add_session(json policy) {
    const std::string n = std::to_string(sessions.size());
    sessions.push_back(
        {"ASIAEXAMPLE" + n, "secretAccessKey/" + n, "sessionToken+/=" + n, std::move(policy)});
    return sessions.size() - 1;
  }

  /// The session that signed, else the answer: Signature Version 4 is computed anew.
  std::variant<std::size_t, http::Response> signer_of(const http::Request& request,
                                                      const std::string& service) const {
    const std::string authorization{request.authorization.reveal()};
    http::Request again;
    again.method = request.method;
    again.url = request.url;
    again.body = request.body;
    std::smatch parts;
    if (!std::regex_search(authorization, parts, std::regex{"SignedHeaders=([^,]+)"}))
      return json_error("MissingAuthenticationTokenException", "");
    const std::string covered = ";" + parts.str(1) + ";";
    for (const auto& header : request.headers) {
      std::string name = header.first;
      for (char& c : name)
        c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      const bool is_covered = covered.find(";" + name + ";") != std::string::npos;
      if (name.rfind("x-amz-", 0) == 0 && !is_covered)
        return json_error("IncompleteSignatureException", name + " must be signed");
      if (is_covered && name != "x-amz-date" && name != "x-amz-security-token")
        again.headers.push_back(header);
    }
    std::smatch date;
    const std::string time = FakeIssuer::header(request, "X-Amz-Date");
    WallTime at;
    if (!std::regex_match(time, date, std::regex{"(....)(..)(..)T(..)(..)(..)Z"}) ||
        !parse_rfc3339(date.format("$1-$2-$3T$4:$5:$6Z"), at))
      return json_error("IncompleteSignatureException", "X-Amz-Date");
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      const auto& one = sessions[i];
      if (FakeIssuer::header(request, "X-Amz-Security-Token") != one.session_token) continue;
      if (at < now - seconds{300} || at > now + seconds{300})
        return json_error("InvalidSignatureException",
                          "Signature expired: " + time + " is now earlier than others");
      AwsKeys keys;
      keys.access_key_id = one.access_key_id;
      keys.secret_access_key = Secret{std::string_view{one.secret_access_key}};
      keys.session_token = Secret{std::string_view{one.session_token}};
      sign_v4(again, keys, {"eu-central-1", service}, at);
      if (again.authorization.reveal() == authorization) return i;
      return json_error("InvalidSignatureException", "The request signature does not match");
    }
    return json_error("UnrecognizedClientException", "The security token is invalid.");
  }

  Result<http::Response> sts(const http::Request& request) {
    const auto field = [&](const char* name) { return FakeIssuer::form(request.body, name); };
    if (field("Version") != "2011-06-15") return xml_error(400, "InvalidAction", "no version");
    if (!std::regex_match(field("RoleSessionName"), std::regex{"[\\w+=,.@-]{2,64}"}))
      return xml_error(400, "ValidationError", "RoleSessionName");
    const auto policy = json::parse(field("Policy"), nullptr, false);
    if (policy.is_discarded() || field("Policy").size() > 2048)
      return xml_error(400, "MalformedPolicyDocument", "the policy");
    if (std::stoi(field("DurationSeconds")) < 900)
      return xml_error(400, "ValidationError", "DurationSeconds");
    const std::string action = field("Action");
    if (action == "AssumeRoleWithWebIdentity") {
      if (!request.authorization.empty()) return xml_error(400, "InvalidAction", "is not signed");
      const auto claims = fakes::claims_of(field("WebIdentityToken"));
      if (claims.value("iss", "") != "https://issuer.example")
        return xml_error(400, "InvalidIdentityToken", "No OpenIDConnect provider found");
      if (claims.value("aud", "") != "sts.amazonaws.com")
        return xml_error(400, "InvalidIdentityToken", "Incorrect token audience");
      if (claims.value("exp", 0L) <= now.time_since_epoch().count())
        return xml_error(400, "ExpiredTokenException", "Token expired: current date/time 18");
      if (claims.value("sub", "") != "host-7")
        return xml_error(403, "AccessDenied", "Not authorized to perform " + action);
    } else if (action == "AssumeRole") {
      const auto signer = signer_of(request, "sts");
      if (std::holds_alternative<http::Response>(signer)) return std::get<http::Response>(signer);
      if (std::get<std::size_t>(signer) != instance_)
        return xml_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRole");
    } else {
      return xml_error(400, "InvalidAction", action);
    }
    if (field("RoleArn") != kRole) return xml_error(403, "AccessDenied", "no such role");
    const auto& made = sessions[add_session(policy)];
    return FakeIssuer::json(
        200, "<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Credentials><AccessKeyId>" +
                 made.access_key_id + "</AccessKeyId><SecretAccessKey>" + made.secret_access_key +
                 "</SecretAccessKey><SessionToken>" + made.session_token +
                 "</SessionToken><Expiration>2027-01-15T08:15:00Z</Expiration></Credentials></R>");
  }

  Result<http::Response> ecr(const http::Request& request) {
    if (FakeIssuer::header(request, "X-Amz-Target") !=
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" ||
        FakeIssuer::header(request, "Content-Type") != "application/x-amz-json-1.1")
      return json_error("UnknownOperationException", "");
    if (json::parse(request.body, nullptr, false) != json::object())
      return json_error("SerializationException", "");
    const auto signer = signer_of(request, "ecr");
    if (std::holds_alternative<http::Response>(signer)) return std::get<http::Response>(signer);
    return FakeIssuer::json(
        200,
        json{{"authorizationData",
              {{{"authorizationToken", base64("AWS:" + password)},
                {"expiresAt",
                 static_cast<double>((now + login_life).time_since_epoch().count()) + 0.25},
                {"proxyEndpoint", "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"}}}}}
            .dump());
  }

  Result<http::Response> imds(const http::Request& request) {
    const auto text = [](std::string body) { return FakeIssuer::json(200, std::move(body)); };
    const std::string& path = request.url.target;
    if (path == "/latest/api/token") {
      const auto life = FakeIssuer::header(request, "X-aws-ec2-metadata-token-ttl-seconds");
      return request.method == "PUT" && !life.empty() ? text("imds-token==")
                                                      : FakeIssuer::json(400, "");
    }
    if (FakeIssuer::header(request, "X-aws-ec2-metadata-token") != "imds-token==")
      return FakeIssuer::json(401, "");
    const std::string roles = "/latest/meta-data/iam/security-credentials/";
    if (path == roles) return text("ci-host");
    if (path != roles + "ci-host") return FakeIssuer::json(404, "");
    const auto& own = sessions[instance_];
    return text(json{{"Code", "Success"},
                     {"AccessKeyId", own.access_key_id},
                     {"SecretAccessKey", own.secret_access_key},
                     {"Token", own.session_token}}
                    .dump());
  }

  FakeIssuer& http_;
  std::size_t instance_ = 0;
};

class EcrTest : public testing::Test {
protected:
  EcrTest() {
    token_.audience = "sts.amazonaws.com";
    token_.expires_at = kNow + std::chrono::hours{1};
  }
  ~EcrTest() override { std::filesystem::remove(file_); }

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
    for (const auto& session : aws_.sessions) {
      EXPECT_EQ(said.find(session.secret_access_key), std::string::npos) << said;
      EXPECT_EQ(said.find(session.session_token), std::string::npos) << said;
    }
    EXPECT_EQ(said.find(aws_.password), std::string::npos) << said;
    EXPECT_NE(said.find("ecr \"prod\""), std::string::npos) << said;
    return minted.error();
  }

  FakeIssuer http_;
  Aws aws_{http_};
  FixedClock clock_{kNow};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  fakes::CloudToken token_;
  std::string file_ = testing::TempDir() + "ecr-token-" + std::to_string(::getpid());
  engine_api::IssuerSpec spec_{"prod",
                               "ecr",
                               {{"region", "eu-central-1"},
                                {"role_arn", kRole},
                                {"identity", "web_identity"},
                                {"web_identity_token_file", file_},
                                {"metadata_url", "http://169.254.169.254"}}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  MintFor wanted_{"123456789012.dkr.ecr.eu-central-1.amazonaws.com",
                  "grp/app",
                  {"pull", "push"},
                  "sha256:0",
                  "j7-00000000",
                  "slipway-0123456789abcdef-j7-00000000",
                  seconds{900}};
};

TEST_F(EcrTest, MintsALoginForOneRepositoryWithTheHostsToken) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "AWS");
  EXPECT_EQ(minted->password.reveal(), aws_.password);
  EXPECT_EQ(minted->expires_at, kNow + std::chrono::hours{12});
  EXPECT_TRUE(minted->scoped_to_repository);
  EXPECT_EQ(FakeIssuer::form(http_.seen[0].body, "RoleSessionName"), wanted_.lease_name);
}

TEST_F(EcrTest, TheSessionMayPushToTheRepositoryAndNothingElse) {
  ASSERT_TRUE(mint());

  const json& policy = aws_.sessions.back().policy;
  ASSERT_EQ(policy["Statement"].size(), 2U);
  EXPECT_EQ(policy["Statement"][0]["Action"], "ecr:GetAuthorizationToken");
  EXPECT_EQ(policy["Statement"][1]["Resource"],
            "arn:aws:ecr:eu-central-1:123456789012:repository/grp/app");
  const auto verbs = policy["Statement"][1]["Action"].get<std::vector<std::string>>();
  EXPECT_EQ(verbs, (std::vector<std::string>{"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
                                             "ecr:GetDownloadUrlForLayer",
                                             "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
                                             "ecr:CompleteLayerUpload", "ecr:PutImage"}));
}

TEST_F(EcrTest, APullGetsNoVerbThatWrites) {
  wanted_.actions = {"pull"};

  ASSERT_TRUE(mint());

  EXPECT_EQ(aws_.sessions.back().policy["Statement"][1]["Action"].size(), 3U);
  EXPECT_EQ(aws_.sessions.back().policy.dump().find("Put"), std::string::npos);
}

TEST_F(EcrTest, ANameThatWouldWidenThePolicyIsRefusedBeforeAnythingIsSent) {
  for (const char* name : {"*", "grp/*", "grp/a?p", "a\"]},{", "${aws:username}", "grp:app", ""}) {
    wanted_.repository = name;
    EXPECT_EQ(failure().kind, ErrorKind::denied) << name;
  }
  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(EcrTest, TheInstancesRoleAssumesTheRole) {
  spec_.settings["identity"] = "instance_role";
  spec_.settings.erase("web_identity_token_file");

  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->password.reveal(), aws_.password);
  EXPECT_EQ(FakeIssuer::form(http_.seen[3].body, "Action"), "AssumeRole");
  EXPECT_EQ(aws_.sessions.back().policy["Statement"].size(), 2U);
}

TEST_F(EcrTest, AMetadataServiceElsewhereNeedsPlainHttp) {
  spec_.settings["identity"] = "instance_role";
  spec_.settings["metadata_url"] = "http://169.254.169.254.evil.example";

  EXPECT_EQ(failure().kind, ErrorKind::misconfigured);
  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(EcrTest, AMachineWithoutARoleIsToldSo) {
  spec_.settings["identity"] = "instance_role";
  http_.answer_at("http://169.254.169.254/latest/meta-data/iam/security-credentials/",
                  FakeIssuer::json(404, "<html>"));

  const auto error = failure();

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.hint.find("does this instance have a role"), std::string::npos);
}

TEST_F(EcrTest, AnIdentityThatIsOverOrForOthersIsDenied) {
  token_.expires_at = kNow - seconds{1};
  auto error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("400 (ExpiredTokenException: Token expired"), std::string::npos)
      << error.text();
  EXPECT_NE(error.hint.find("is over"), std::string::npos);

  token_.expires_at = kNow + seconds{60};
  token_.audience = "https://gitlab.example";
  error = failure();
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.text().find("Incorrect token audience"), std::string::npos) << error.text();

  token_.audience = "sts.amazonaws.com";
  token_.subject = "host-8";
  EXPECT_EQ(failure().kind, ErrorKind::denied);

  token_.subject = "host-7";
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(EcrTest, AClockThatIsWrongIsNamed) {
  aws_.now = kNow + seconds{301};

  const auto error = failure();

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.hint.find("clock"), std::string::npos);
}

TEST_F(EcrTest, ThrottlingPassesThoughItIsA400) {
  http_.answer_at(kSts, Aws::xml_error(400, "Throttling", "Rate exceeded"));
  EXPECT_EQ(failure().kind, ErrorKind::unavailable);
  http_.answer_at(kEcr, Aws::json_error("ThrottlingException", "Rate exceeded"));
  EXPECT_EQ(failure().kind, ErrorKind::unavailable);
}

TEST_F(EcrTest, ServersThatFailAreUnavailable) {
  for (const char* url : {kSts, kEcr}) {
    for (const int status : {429, 500, 503}) {
      http_.answer_at(url, FakeIssuer::json(status, "<html>busy</html>"));
      EXPECT_EQ(failure().kind, ErrorKind::unavailable) << url << status;
    }
  }
}

TEST_F(EcrTest, ARoleThatMayNotAskEcrIsDenied) {
  http_.answer_at(kEcr, Aws::json_error("AccessDeniedException", "User is not authorized"));

  const auto error = failure();

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_NE(error.hint.find("ecr:GetAuthorizationToken"), std::string::npos);
}

TEST_F(EcrTest, AnswersThatAreCutOrLackSomethingAreUnreadable) {
  const std::string whole =
      R"({"authorizationData":[{"authorizationToken":"QVdTOnB3","expiresAt":1800043200.0}]})";
  for (
      const auto& body :
      {whole.substr(0, whole.size() / 2), std::string{"{}"}, std::string{"[]"},
       std::string{R"({"authorizationData":[]})"},
       std::string{R"({"authorizationData":[{"authorizationToken":"QVdTOnB3"}]})"},
       std::string{R"({"authorizationData":[{"authorizationToken":"*","expiresAt":1800043200}]})"},
       std::string{
           R"({"authorizationData":[{"authorizationToken":"Qm9iOnB3","expiresAt":1800043200}]})"}}) {
    http_.answer_at(kEcr, FakeIssuer::json(200, body));
    EXPECT_EQ(failure().kind, ErrorKind::bad_input) << body;
  }
  for (const std::string body :
       {"", "{}", "<AccessKeyId>A</AccessKeyId>",
        "<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>cut"}) {
    http_.answer_at(kSts, FakeIssuer::json(200, body));
    EXPECT_EQ(failure().kind, ErrorKind::bad_input) << body;
  }
  http_.answer_at(kEcr, FakeIssuer::json(200, whole));
  EXPECT_TRUE(mint()) << "the control";
}

TEST_F(EcrTest, RedirectsAreNotFollowed) {
  auto elsewhere = FakeIssuer::json(307, "");
  elsewhere.headers = {{"location", "https://evil.example/"}};
  http_.answer_at(kSts, elsewhere);

  EXPECT_EQ(failure().kind, ErrorKind::denied);
  EXPECT_EQ(http_.count("", "evil"), 0U);
}

TEST_F(EcrTest, SaysThatItCannotRevokeAndHowLongALoginLives) {
  ASSERT_TRUE(mint());
  const auto provider = make_provider(spec_, context_);
  ASSERT_TRUE(provider);

  EXPECT_EQ((*provider)->traits().built_in_ceiling, std::chrono::hours{12});
  EXPECT_FALSE((*provider)->traits().can_revoke);
  EXPECT_FALSE((*provider)->traits().bypassable);
  EXPECT_EQ((*provider)->revoke({}, nullptr).error().kind, ErrorKind::denied);
}

TEST_F(EcrTest, SettingsThatCannotBeRightAreFoundBeforeAnythingIsSent) {
  struct Case {
    const char* key;
    const char* value;
  };
  for (const auto& one :
       {Case{"region", "eu-central-1.evil.example/"}, Case{"region", ""},
        Case{"role_arn", "slipway"}, Case{"role_arn", "arn:aws:iam::123456789012:user/x"},
        Case{"role_arn", "arn:a\",\":iam::123456789012:role/x"}, Case{"account", "12*"},
        Case{"web_identity_token_file", "/nowhere"}}) {
    const auto before = spec_.settings[one.key];
    spec_.settings[one.key] = one.value;
    EXPECT_EQ(failure().kind, ErrorKind::misconfigured) << one.key << " " << one.value;
    spec_.settings[one.key] = before;
  }
  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(EcrTest, OtherPartitionsHaveTheirOwnNames) {
  spec_.settings["region"] = "cn-north-1";
  spec_.settings["role_arn"] = "arn:aws-cn:iam::123456789012:role/slipway";

  EXPECT_EQ(failure().kind, ErrorKind::denied); // the double is not there

  EXPECT_EQ(http_.seen[0].url, "https://sts.cn-north-1.amazonaws.com.cn/");
  EXPECT_NE(FakeIssuer::form(http_.seen[0].body, "Policy").find("arn:aws-cn:ecr:cn-north-1:"),
            std::string::npos);
}

} // namespace
} // namespace slipway::credentials
