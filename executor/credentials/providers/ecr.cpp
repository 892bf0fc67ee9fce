// SPDX-License-Identifier: Apache-2.0
// AWS ECR. A role is assumed for one repository (inline session policy), by the host's web identity
// token or by its instance role, and its session asks ECR once for a login. Sources: STS API,
// AssumeRole and AssumeRoleWithWebIdentity; ECR API, GetAuthorizationToken; EC2 user guide, IMDSv2.
#include "executor/base/base64.hpp"
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/sigv4.hpp"

#include <algorithm>
#include <array>

namespace slipway::credentials {

namespace {

constexpr std::string_view kSessionSeconds = "900"; // the shortest; it serves for one call
constexpr std::size_t kMaxRoleNameBytes = 64;       // IAM's own limit

bool consists_of(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz0123456789";
constexpr std::string_view kDigits = "0123456789";

/// "arn:PARTITION:iam::ACCOUNT:role/NAME" and what else the entry says, checked.
struct Place {
  std::string partition;
  std::string account;
  std::string region;
};

Result<Place> place_of(const Issuer& issuer) {
  const auto wrong = [&](const std::string& key, const std::string& expected) {
    return Error{ErrorKind::misconfigured,
                 issuer.name() + ": " + key + " \"" + issuer.spec().text(key) + "\" is not " +
                     expected,
                 "correct its [[credential]] entry",
                 {}};
  };
  Place place;
  place.region = issuer.spec().text("region");
  if (!consists_of(place.region, std::string{kLower} + "-"))
    return wrong("region", "a region such as eu-central-1");
  const std::string arn = issuer.spec().text("role_arn");
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= arn.size();) {
    const auto colon = std::min(arn.find(':', from), arn.size());
    parts.push_back(arn.substr(from, colon - from));
    from = colon + 1;
  }
  if (parts.size() != 6 || parts[0] != "arn" || parts[2] != "iam" ||
      parts[5].rfind("role/", 0) != 0 || !consists_of(parts[1], std::string{kLower} + "-") ||
      parts[4].size() != 12 || !consists_of(parts[4], kDigits))
    return wrong("role_arn", "the ARN of a role: arn:aws:iam::123456789012:role/slipway");
  place.partition = parts[1];
  place.account = issuer.spec().text("account");
  if (place.account.empty()) place.account = parts[4];
  if (place.account.size() != 12 || !consists_of(place.account, kDigits))
    return wrong("account", "the twelve digits of an account");
  return place;
}

/// What an XML answer holds between <NAME> and </NAME>; "" where that is not there exactly once or
/// not plain text.
std::string_view element(std::string_view xml, std::string_view name) {
  const std::string open = "<" + std::string{name} + ">";
  const auto begin = xml.find(open);
  if (begin == std::string_view::npos || xml.find(open, begin + 1) != std::string_view::npos)
    return "";
  const auto text = xml.substr(begin + open.size());
  const auto end = text.find("</" + std::string{name} + ">");
  const auto held = text.substr(0, end == std::string_view::npos ? 0 : end);
  return held.find_first_of("<&") == std::string_view::npos ? held : "";
}

/// What AWS says with a code and, often, with status 400.
struct Known {
  std::string_view code; ///< part of it
  ErrorKind kind;
  std::string_view hint;
};
constexpr std::array kKnown{
    Known{"Throttl", ErrorKind::unavailable, "AWS limits the rate of these calls: try again later"},
    Known{"RequestLimitExceeded", ErrorKind::unavailable,
          "AWS limits the rate of these calls: try again later"},
    Known{"IDPCommunicationError", ErrorKind::unavailable,
          "AWS could not reach the identity provider: try again later"},
    Known{"RequestExpired", ErrorKind::denied, "check this machine's clock"},
    Known{"Signature", ErrorKind::denied, "check this machine's clock"},
    Known{"ExpiredToken", ErrorKind::denied,
          "the identity that the role is assumed with is over: is the program that renews it "
          "running, and this machine's clock right?"},
    Known{"InvalidIdentityToken", ErrorKind::denied,
          "check the identity provider in IAM: its URL and its audiences"},
    Known{"IDPRejectedClaim", ErrorKind::denied,
          "check the identity provider in IAM: its URL and its audiences"},
    Known{"AccessDenied", ErrorKind::denied,
          "check the role's trust policy, and that it allows ecr:GetAuthorizationToken"},
    Known{"UnrecognizedClient", ErrorKind::denied, "check region, and that it is enabled"},
};

/// An Error that shows AWS's code and message, which stand in XML (STS) or JSON (ECR).
Error refusal(const Issuer& issuer, http::Response& response, const std::string& action) {
  std::string code{element(response.body, "Code")};
  std::string message{element(response.body, "Message")};
  if (code.empty()) {
    if (const auto answer = Answer::parse(response.body)) {
      code = answer->text("/__type");
      code.erase(0, code.find('#') + 1); // "com.amazonaws.ecr#ServerException"
      message = answer->text(answer->has("/message") ? "/message" : "/Message");
    }
  }
  response.body =
      "{\"message\":" + json_quote(code + (message.empty() ? "" : ": ") + message) + "}";
  Error error = issuer.refusal(response, action);
  for (const auto& known : kKnown) {
    if (code.find(known.code) == std::string::npos) continue;
    error.kind = known.kind;
    error.hint = known.hint;
    break;
  }
  return error;
}

/// Everything that may be done with the login: the verbs of a pull or a push, on one repository.
/// `repository` is plain: no character of it means something in an ARN.
std::string session_policy(const Place& place, const std::string& repository, bool push) {
  std::string verbs = R"("ecr:BatchCheckLayerAvailability","ecr:BatchGetImage",)"
                      R"("ecr:GetDownloadUrlForLayer")";
  if (push)
    verbs += R"(,"ecr:InitiateLayerUpload","ecr:UploadLayerPart","ecr:CompleteLayerUpload",)"
             R"("ecr:PutImage")";
  return R"({"Version":"2012-10-17","Statement":[)"
         R"({"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"},)"
         R"({"Effect":"Allow","Action":[)" +
         verbs + R"(],"Resource":"arn:)" + place.partition + ":ecr:" + place.region + ":" +
         place.account + ":repository/" + repository + R"("}]})";
}

class Ecr final : public CredentialProvider {
public:
  Ecr(const engine_api::IssuerSpec& spec, const ProviderContext& context, Place place)
      : issuer_{spec, context}, place_{std::move(place)} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.built_in_ceiling = std::chrono::hours{12}; // ECR knows no shorter one
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    if (!consists_of(wanted.repository, std::string{kLower} + "._/-")) {
      return Error{ErrorKind::denied,
                   issuer_.name() + ": \"" + wanted.repository + "\" is no name of ECR",
                   "ECR's repositories are named with a-z, 0-9, '.', '_', '-' and '/'",
                   {}};
    }
    auto session = assume(wanted);
    if (!session) return std::move(session).error();
    return authorize(*session);
  }

  Status revoke(const Lease&, const Minted*) override {
    return Error{ErrorKind::denied,
                 issuer_.name() + ": ECR's logins cannot be revoked",
                 "to end all of the role's sessions, deny those with an aws:TokenIssueTime before "
                 "now in its policy",
                 {}};
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  Result<http::Url> endpoint(const std::string& key, const std::string& host) const {
    if (!issuer_.spec().text(key).empty()) return issuer_.url(key, "/");
    const std::string suffix =
        place_.partition == "aws-cn" ? ".amazonaws.com.cn" : ".amazonaws.com";
    return http::Url{"https", host + "." + place_.region + suffix, "/"};
  }

  Result<AwsKeys> assume(const MintFor& wanted) const {
    const bool by_instance = issuer_.spec().text("identity") == "instance_role";
    auto url = endpoint("sts_url", "sts");
    if (!url) return std::move(url).error();
    http::Request request;
    request.method = "POST";
    request.url = *std::move(url);
    request.headers = {{"Content-Type", "application/x-www-form-urlencoded"},
                       {"Accept", "text/xml"}};
    FormBody body;
    body.add("Action", by_instance ? "AssumeRole" : "AssumeRoleWithWebIdentity");
    body.add("Version", "2011-06-15");
    body.add("RoleArn", issuer_.spec().text("role_arn"));
    body.add("RoleSessionName", wanted.lease_name);
    body.add("DurationSeconds", kSessionSeconds);
    const bool push =
        std::find(wanted.actions.begin(), wanted.actions.end(), "push") != wanted.actions.end();
    body.add("Policy", session_policy(place_, wanted.repository, push));
    if (by_instance) {
      auto keys = instance_keys();
      if (!keys) return std::move(keys).error();
      request.body = body.take();
      sign_v4(request, *keys, {place_.region, "sts"}, issuer_.clock().now());
    } else {
      auto token = issuer_.secret_file("web_identity_token_file");
      if (!token) return std::move(token).error();
      body.add("WebIdentityToken", token->reveal());
      request.body = body.take();
    }
    const std::string action = "assuming the role";
    auto response = issuer_.send(std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 200) return refusal(issuer_, *response, action);
    AwsKeys keys;
    keys.access_key_id = element(response->body, "AccessKeyId");
    keys.secret_access_key = Secret{element(response->body, "SecretAccessKey")};
    keys.session_token = Secret{element(response->body, "SessionToken")};
    wipe(response->body);
    return checked(std::move(keys), action);
  }

  Result<AwsKeys> checked(AwsKeys keys, const std::string& action) const {
    constexpr std::string_view base64_text =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-";
    for (const auto text : {std::string_view{keys.access_key_id}, keys.secret_access_key.reveal(),
                            keys.session_token.reveal()}) {
      if (!consists_of(text, base64_text))
        return issuer_.unreadable(action, "it holds no temporary access key");
    }
    return keys;
  }

  /// One request to the metadata service. It is at a fixed link-local address, so that plain http
  /// to it needs no permission.
  Result<http::Response> ask_instance(const std::string& method, const std::string& path,
                                      std::pair<std::string, std::string> header) const {
    http::Request request;
    auto url = http::Url::parse(issuer_.spec().text("metadata_url"));
    if (url && (url->str() == "http://169.254.169.254/" || url->str() == "http://[fd00:ec2::254]/"))
      request.metadata_service = true;
    else
      url = issuer_.url("metadata_url", "");
    if (!url) return std::move(url).error();
    request.method = method;
    request.url = *std::move(url);
    request.url.target = path;
    request.headers.push_back(std::move(header));
    const std::string action = "asking for the instance's identity";
    auto response = issuer_.send(std::move(request), action);
    if (!response)
      return std::move(response).error().hinting("is this machine an EC2 instance with a role?");
    if (response->status != 200)
      return issuer_.refusal(*response, action, "does this instance have a role, and IMDSv2?");
    return response;
  }

  Result<AwsKeys> instance_keys() const {
    const std::string base = "/latest/meta-data/iam/security-credentials/";
    auto token =
        ask_instance("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds", "60"});
    if (!token) return std::move(token).error();
    const std::string action = "asking for the instance's identity";
    if (token->body.empty() || std::any_of(token->body.begin(), token->body.end(),
                                           [](char c) { return c <= ' ' || c > '~'; }))
      return issuer_.unreadable(action, "it holds no token");
    auto role = ask_instance("GET", base, {"X-aws-ec2-metadata-token", token->body});
    if (!role) return std::move(role).error();
    const std::string name = role->body.substr(0, role->body.find('\n'));
    if (name.empty() || name.size() > kMaxRoleNameBytes ||
        std::any_of(name.begin(), name.end(),
                    [](char c) { return c <= ' ' || c > '~' || c == '/' || c == '?'; }))
      return issuer_.unreadable(action, "it names no role");
    auto response = ask_instance("GET", base + name, {"X-aws-ec2-metadata-token", token->body});
    wipe(token->body);
    if (!response) return std::move(response).error();
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    AwsKeys keys;
    keys.access_key_id = answer->text("/AccessKeyId");
    keys.secret_access_key = answer->secret("/SecretAccessKey");
    keys.session_token = answer->secret("/Token");
    return checked(std::move(keys), action);
  }

  Result<Minted> authorize(const AwsKeys& session) const {
    auto url = endpoint("ecr_url", "api.ecr");
    if (!url) return std::move(url).error();
    http::Request request;
    request.method = "POST";
    request.url = *std::move(url);
    request.headers = {
        {"Content-Type", "application/x-amz-json-1.1"},
        {"X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"}};
    request.body = "{}";
    sign_v4(request, session, {place_.region, "ecr"}, issuer_.clock().now());
    const std::string action = "asking ECR for a login";
    auto response = issuer_.send(std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 200) return refusal(issuer_, *response, action);
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    const auto expires_at = answer->number("/authorizationData/0/expiresAt");
    auto login = base64_decode(answer->secret("/authorizationData/0/authorizationToken").reveal());
    if (!expires_at || !login || login->rfind("AWS:", 0) != 0 || login->size() == 4)
      return issuer_.unreadable(action, "it holds no login or no end of it");
    Minted minted;
    minted.username = "AWS";
    minted.password = Secret{std::string_view{*login}.substr(4)};
    wipe(*login);
    minted.expires_at = WallTime{std::chrono::seconds{*expires_at}};
    minted.scoped_to_repository = true;
    return minted;
  }

  Issuer issuer_;
  Place place_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_ecr(const engine_api::IssuerSpec& spec,
                                                     const ProviderContext& context) {
  const Issuer issuer{spec, context};
  auto place = place_of(issuer);
  if (!place) return std::move(place).error();
  if (spec.text("identity") == "web_identity") {
    // Read once, so that a file that is not there is found before the first push.
    if (auto token = issuer.secret_file("web_identity_token_file"); !token)
      return std::move(token).error();
  }
  return std::unique_ptr<CredentialProvider>{
      std::make_unique<Ecr>(spec, context, *std::move(place))};
}

} // namespace slipway::credentials
