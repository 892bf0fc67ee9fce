// SPDX-License-Identifier: Apache-2.0
// Docker Hub: an organisation access token for one repository, made for one push and deleted after
// it, found again by its label. Source: Docker Hub API, authentication-api and org-access-tokens.
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"

#include <algorithm>

namespace slipway::credentials {

namespace {

constexpr int kPageSize = 100;
constexpr int kMaxPages = 50;
const std::string kMayDo = "the account needs to be an owner of the organisation";

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
}

class Dockerhub final : public CredentialProvider {
public:
  Dockerhub(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context}, organisation_{spec.text("organisation")} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.can_revoke = true;
    traits.can_list = true;
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    may_be_out_ = false;
    if (!wanted.repository.starts_with(organisation_ + "/"))
      return Error{ErrorKind::denied,
                   issuer_.name() + ": " + wanted.repository + " is not of the organisation " +
                       organisation_,
                   "use a [[credential]] entry of its own for each organisation",
                   {}};
    const std::string action = "creating an access token for " + wanted.repository;
    auto request = prepared("POST", "");
    if (!request) return std::move(request).error();
    std::string scopes = json_quote("scope-image-pull");
    if (wants_push(wanted)) scopes += "," + json_quote("scope-image-push");
    JsonBody body;
    body.add("label", wanted.lease_name);
    body.add("description", "slipway, job " + wanted.job);
    body.add("expires_at", rfc3339(issuer_.clock().now() + wanted.ceiling));
    body.add_json("resources",
                  "[{\"type\":\"TYPE_REPO\",\"path\":" + json_quote(wanted.repository) +
                      ",\"scopes\":[" + scopes + "]}]");
    request->headers.emplace_back("Content-Type", "application/json");
    request->body = body.take();
    may_be_out_ = true;
    auto answer = issuer_.ask(*std::move(request), action, kMayDo);
    if (!answer) return std::move(answer).error();
    Minted minted;
    minted.username = organisation_;
    minted.password = answer->secret("/token");
    minted.lease_id = answer->text("/id");
    if (minted.password.empty() || !is_name(minted.lease_id))
      return issuer_.unreadable(action, "it has no id and token");
    if (const auto end = answer->text("/expires_at");
        !end.empty() && !parse_rfc3339(end, minted.expires_at))
      return issuer_.unreadable(action, "its expires_at is no date");
    minted.scoped_to_repository = true;
    return minted;
  }

  bool may_be_out() const override { return may_be_out_; }

  Status revoke(const Lease& lease, const Minted*) override {
    if (!is_name(lease.id))
      return Error{
          ErrorKind::misconfigured, "\"" + lease.id + "\" is no access token's id", "", {}};
    auto request = prepared("DELETE", "/" + lease.id);
    if (!request) return std::move(request).error();
    return issuer_.end(*std::move(request), "deleting access token " + lease.id, kMayDo);
  }

  Result<std::vector<Lease>> outstanding(std::string_view prefix, const std::string& repository,
                                         std::chrono::seconds age) override {
    const std::string action = "listing the access tokens of " + organisation_;
    std::vector<Lease> leases;
    for (int page = 1; page <= kMaxPages; ++page) {
      auto request = prepared("GET", "?page=" + std::to_string(page) +
                                         "&page_size=" + std::to_string(kPageSize));
      if (!request) return std::move(request).error();
      auto answer = issuer_.ask(*std::move(request), action, kMayDo);
      if (!answer) return std::move(answer).error();
      for (const auto& token : answer->items("/results")) {
        const std::string label = token.text("/label");
        WallTime made;
        const bool is_old =
            age <= std::chrono::seconds{0} ||
            (parse_rfc3339(token.text("/created_at"), made) && made + age <= issuer_.clock().now());
        if (label.starts_with(prefix) && is_old && is_name(token.text("/id")))
          leases.push_back({label, token.text("/id"), repository});
      }
      if (answer->text("/next").empty()) return leases;
    }
    return Error{ErrorKind::misconfigured,
                 issuer_.name() + ": " + organisation_ + " has more than " +
                     std::to_string(kMaxPages * kPageSize) + " access tokens",
                 "delete those that nobody uses",
                 {}};
  }

private:
  /// A request to the organisation's tokens, after a login of ten minutes.
  Result<http::Request> prepared(const std::string& method, const std::string& rest) const {
    auto login = log_in();
    if (!login) return std::move(login).error();
    auto request =
        issuer_.request(method, "url", "/v2/orgs/" + organisation_ + "/access-tokens" + rest);
    if (request) request->authorization = bearer_authorization(*login);
    return request;
  }

  Result<Secret> log_in() const {
    auto secret = issuer_.secret_file("secret_file");
    if (!secret) return std::move(secret).error();
    auto request = issuer_.request("POST", "url", "/v2/auth/token");
    if (!request) return std::move(request).error();
    JsonBody body;
    body.add("identifier", issuer_.spec().text("username"));
    body.add("secret", secret->reveal());
    request->headers.emplace_back("Content-Type", "application/json");
    request->body = body.take();
    auto answer = issuer_.ask(*std::move(request), "logging in",
                              "check username and secret_file: is the token over or revoked?");
    if (!answer) return std::move(answer).error();
    Secret token = answer->secret("/access_token");
    if (token.empty()) return issuer_.unreadable("logging in", "it holds no access_token");
    return token;
  }

  Issuer issuer_;
  std::string organisation_;
  bool may_be_out_ = true;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_dockerhub(const engine_api::IssuerSpec& spec,
                                                           const ProviderContext& context) {
  const Issuer issuer{spec, context};
  if (!is_name(spec.text("organisation")))
    return Error{ErrorKind::misconfigured,
                 issuer.name() + ": organisation \"" + spec.text("organisation") + "\" is no name",
                 "write it as it stands in the names of its images",
                 {}};
  if (auto url = issuer.url("url", ""); !url) return std::move(url).error();
  if (auto secret = issuer.secret_file("secret_file"); !secret) return std::move(secret).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Dockerhub>(spec, context)};
}

} // namespace slipway::credentials
