// SPDX-License-Identifier: Apache-2.0
// Google Artifact Registry. The host's token is exchanged at Google's Security Token Service
// (workload identity federation), and what comes back impersonates one service account for as long
// as a push may last. Sources: RFC 8693; Google's STS and IAM Credentials APIs.
#include "executor/base/percent.hpp"
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"

#include <algorithm>

namespace slipway::credentials {

namespace {

constexpr std::string_view kCloudPlatform = "https://www.googleapis.com/auth/cloud-platform";
constexpr std::string_view kAccessToken = "urn:ietf:params:oauth:token-type:access_token";
constexpr std::chrono::seconds kLongestLife{3600}; // without an organisation policy's word

Secret bearer(const Secret& token) {
  std::string value;
  value.reserve(7 + token.reveal().size());
  value.append("Bearer ").append(token.reveal());
  Secret secret{std::string_view{value}};
  wipe(value);
  return secret;
}

class Gar final : public CredentialProvider {
public:
  Gar(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override { return {}; }

  Result<Minted> mint(const MintFor& wanted) override {
    auto federated = exchange();
    if (!federated) return std::move(federated).error();
    return impersonate(*federated, wanted);
  }

  Status revoke(const Lease&, const Minted*) override {
    return Error{ErrorKind::denied,
                 issuer_.name() + ": tokens of a service account cannot be revoked",
                 "to end them all, disable the service account",
                 {}};
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  /// The host's token for one of Google's. It is good for nothing but impersonating.
  Result<Secret> exchange() const {
    auto url = issuer_.url("sts_url", "/v1/token");
    if (!url) return std::move(url).error();
    auto subject = issuer_.secret_file("subject_token_file");
    if (!subject) return std::move(subject).error();
    http::Request request;
    request.method = "POST";
    request.url = *std::move(url);
    request.headers = {{"Content-Type", "application/x-www-form-urlencoded"}};
    FormBody body;
    body.add("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    body.add("audience", issuer_.spec().text("audience"));
    body.add("scope", kCloudPlatform);
    body.add("requested_token_type", kAccessToken);
    body.add("subject_token_type", issuer_.spec().text("subject_token_type"));
    body.add("subject_token", subject->reveal());
    request.body = body.take();
    const std::string action = "exchanging the host's token";
    auto response = issuer_.send(std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status == 400) {
      Error error = issuer_.refusal(*response, action,
                                    "is the token in subject_token_file over, or not for this "
                                    "audience? is this machine's clock right?");
      error.kind = ErrorKind::denied; // OAuth's invalid_grant and invalid_target are 400
      return error;
    }
    if (response->status != 200) return issuer_.refusal(*response, action);
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    Secret token = answer->secret("/access_token");
    if (token.empty() || answer->text("/issued_token_type") != kAccessToken)
      return issuer_.unreadable(action, "it holds no access token");
    return token;
  }

  Result<Minted> impersonate(const Secret& federated, const MintFor& wanted) const {
    auto url = issuer_.url("iam_url", "/v1/projects/-/serviceAccounts/" +
                                          percent_encode(issuer_.spec().text("service_account")) +
                                          ":generateAccessToken");
    if (!url) return std::move(url).error();
    const bool push =
        std::find(wanted.actions.begin(), wanted.actions.end(), "push") != wanted.actions.end();
    const auto life = std::min(wanted.ceiling, kLongestLife);
    http::Request request;
    request.method = "POST";
    request.url = *std::move(url);
    request.headers = {{"Content-Type", "application/json"}};
    request.authorization = bearer(federated);
    request.body = R"({"scope":[)" +
                   json_quote(std::string{kCloudPlatform} + (push ? "" : ".read-only")) +
                   R"(],"lifetime":")" + std::to_string(life.count()) + R"(s"})";
    const std::string action = "impersonating " + issuer_.spec().text("service_account");
    auto response = issuer_.send(std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 200)
      return issuer_.refusal(*response, action,
                             "the federated identity needs roles/iam.workloadIdentityUser "
                             "on that service account");
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    Minted minted;
    minted.username = "oauth2accesstoken";
    minted.password = answer->secret("/accessToken");
    if (minted.password.empty() || !parse_rfc3339(answer->text("/expireTime"), minted.expires_at))
      return issuer_.unreadable(action, "it holds no access token or no end of it");
    return minted; // what it may do is the service account's: nothing narrows it to a repository
  }

  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_gar(const engine_api::IssuerSpec& spec,
                                                     const ProviderContext& context) {
  const std::string account = spec.text("service_account");
  if (account.find('@') == std::string::npos) {
    return Error{ErrorKind::misconfigured,
                 "[[credential]] " + spec.name + ": service_account \"" + account +
                     "\" is no address of a service account",
                 "write NAME@PROJECT.iam.gserviceaccount.com",
                 {}};
  }
  // Read once, so that a file that is not there is found before the first push.
  if (auto token = Issuer{spec, context}.secret_file("subject_token_file"); !token)
    return std::move(token).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Gar>(spec, context)};
}

} // namespace slipway::credentials
