// SPDX-License-Identifier: Apache-2.0
// A GitHub App's installation token, for GHCR: asked for with a JWT that the app's key signs, good
// for packages alone, ended after the push. Source: GitHub's REST API, "apps"; "Generating a JSON
// Web Token (JWT) for a GitHub App".
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/rs256.hpp"
#include "executor/credentials/token_client.hpp"

namespace slipway::credentials {

namespace {

constexpr std::chrono::seconds kBackdated{60}; ///< for clocks that run ahead, as GitHub advises
constexpr std::chrono::seconds kJwtLife{300};  ///< at most ten minutes are taken

class Github final : public CredentialProvider {
public:
  Github(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.can_revoke = true;
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    may_be_out_ = false;
    const std::string installation = issuer_.spec().text("installation_id");
    const std::string action = "asking for a token of installation " + installation;
    auto request = prepared("POST", "/app/installations/" + installation + "/access_tokens");
    if (!request) return std::move(request).error();
    auto jwt = identity();
    if (!jwt) return std::move(jwt).error();
    request->authorization = bearer_authorization(*jwt);
    const std::string permission = wants_push(wanted) ? "write" : "read";
    request->headers.emplace_back("Content-Type", "application/json");
    request->body = body(permission);
    may_be_out_ = true;
    auto answer =
        issuer_.ask(*std::move(request), action,
                    "check app_id, installation_id and the key; is this machine's clock right?");
    if (!answer) return std::move(answer).error();
    Minted minted;
    minted.username = "x-access-token"; // GHCR takes any name with a token
    minted.password = answer->secret("/token");
    if (minted.password.empty() || !parse_rfc3339(answer->text("/expires_at"), minted.expires_at))
      return issuer_.unreadable(action, "it holds no token or no end of it");
    if (answer->text("/permissions/packages") != permission) {
      may_be_out_ = !end(minted.password);
      return Error{ErrorKind::denied,
                   issuer_.name() + ": the installation was not given packages: " + permission,
                   "the app needs the repository permission Packages, read and write",
                   {}};
    }
    minted.lease_id = "installation-" + installation; // says whose it is; only itself can end it
    return minted;
  }

  bool may_be_out() const override { return may_be_out_; }

  Status revoke(const Lease&, const Minted* live) override {
    if (live == nullptr)
      return Error{ErrorKind::denied,
                   issuer_.name() + ": only the token itself can end it, and it went with the "
                                    "process that had it",
                   "it ends by itself an hour after it was made; suspending the installation ends "
                   "it at once",
                   {}};
    auto ended = end(live->password);
    if (!ended && live->expires_at <= issuer_.clock().now()) return {}; // over, and unknown there
    return ended;
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

  /// What GitHub knows the app by. Errors: misconfigured.
  Result<Secret> identity() const {
    auto key = issuer_.secret_file("private_key_file");
    if (!key) return std::move(key).error();
    const auto now = issuer_.clock().now().time_since_epoch();
    const std::string claims = "{\"iat\":" + std::to_string((now - kBackdated).count()) +
                               ",\"exp\":" + std::to_string((now + kJwtLife).count()) +
                               ",\"iss\":" + json_quote(issuer_.spec().text("app_id")) + "}";
    auto jwt = sign_rs256(claims, *key);
    if (!jwt) return std::move(jwt).error().in("reading private_key_file of " + issuer_.name());
    return jwt;
  }

private:
  std::string body(const std::string& permission) const {
    std::string names;
    for (const auto& repository : issuer_.spec().list("repositories"))
      names += (names.empty() ? "" : ",") + json_quote(repository);
    JsonBody body;
    if (!names.empty()) body.add_json("repositories", "[" + names + "]");
    body.add_json("permissions", "{\"packages\":" + json_quote(permission) + "}");
    return body.take();
  }

  Status end(const Secret& token) const {
    auto request = prepared("DELETE", "/installation/token");
    if (!request) return std::move(request).error();
    request->authorization = bearer_authorization(token);
    const std::string action = "ending the token";
    auto response = issuer_.send(*std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 204) return issuer_.refusal(*response, action);
    return {};
  }

  Result<http::Request> prepared(const std::string& method, const std::string& path) const {
    auto request = issuer_.request(method, "url", path);
    if (!request) return request;
    request->headers.emplace_back("X-GitHub-Api-Version", "2022-11-28");
    return request;
  }

  Issuer issuer_;
  bool may_be_out_ = true;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_github(const engine_api::IssuerSpec& spec,
                                                        const ProviderContext& context) {
  const std::string installation = spec.text("installation_id");
  if (installation.empty() || installation.find_first_not_of("0123456789") != std::string::npos)
    return Error{ErrorKind::misconfigured,
                 "[[credential]] " + spec.name + ": installation_id \"" + installation +
                     "\" is no number",
                 "it is the last part of the installation's address in GitHub's settings",
                 {}};
  if (auto url = Issuer{spec, context}.url("url", ""); !url) return std::move(url).error();
  auto provider = std::make_unique<Github>(spec, context);
  if (auto signs = provider->identity(); !signs) return std::move(signs).error();
  return std::unique_ptr<CredentialProvider>{std::move(provider)};
}

} // namespace slipway::credentials
