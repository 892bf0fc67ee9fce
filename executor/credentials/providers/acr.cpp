// SPDX-License-Identifier: Apache-2.0
// Azure Container Registry. Entra ID takes the host's token for one of its own (a federated
// credential), the registry takes that for a refresh token, which is as good as everything that the
// identity may, and that for an access token of one repository. The refresh token stays in here.
// Sources: Microsoft identity platform, client credentials with a federated credential; Azure/acr,
// docs/AAD-OAuth.md.
#include "executor/base/base64.hpp"
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"

#include <algorithm>

namespace slipway::credentials {

namespace {

bool is_plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.';
  });
}

/// The payload of a JWT, unverified: it says what the registry granted, and the registry judges it.
std::optional<Answer> payload_of(std::string_view token) {
  const auto first = token.find('.');
  const auto second = token.find('.', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  auto payload = base64_decode(token.substr(first + 1, second - first - 1));
  if (!payload) return std::nullopt;
  return Answer::parse(*payload);
}

class Acr final : public CredentialProvider {
public:
  Acr(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.built_in_ceiling = std::chrono::minutes{75}; // ACR's own, which nobody can shorten
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    auto registry = registry_url(wanted.registry);
    if (!registry) return std::move(registry).error();
    auto identity = log_in();
    if (!identity) return std::move(identity).error();
    FormBody exchange;
    exchange.add("grant_type", "access_token");
    exchange.add("service", registry->authority);
    exchange.add("tenant", issuer_.spec().text("tenant"));
    exchange.add("access_token", identity->reveal());
    auto refresh = ask_registry(*registry, "/oauth2/exchange", exchange, "refresh_token",
                                "showing the identity to the registry");
    if (!refresh) return std::move(refresh).error();
    std::string actions;
    for (const auto& action : wanted.actions)
      actions += (actions.empty() ? "" : ",") + action;
    FormBody access;
    access.add("grant_type", "refresh_token");
    access.add("service", registry->authority);
    access.add("scope", "repository:" + wanted.repository + ":" + actions);
    access.add("refresh_token", refresh->reveal());
    auto token = ask_registry(*registry, "/oauth2/token", access, "access_token", kAsking);
    if (!token) return std::move(token).error();
    return judged(*std::move(token), wanted);
  }

  Status revoke(const Lease&, const Minted*) override {
    return Error{
        ErrorKind::denied,
        issuer_.name() + ": ACR's access tokens cannot be revoked",
        "it ends by itself; the identity's role assignments decide what it can do until then",
        {}};
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  static constexpr const char* kAsking = "asking the registry for a token of the repository";

  Result<http::Url> registry_url(const std::string& host) const {
    if (!issuer_.spec().text("registry_url").empty()) return issuer_.url("registry_url", "");
    http::Url url{"https", http::normal_authority("https", host), ""};
    if (url.authority.empty())
      return Error{ErrorKind::misconfigured,
                   issuer_.name() + ": \"" + host + "\" is no registry host",
                   "correct host in the [[registry]] entry",
                   {}};
    return url;
  }

  Result<Secret> log_in() const {
    auto url =
        issuer_.url("authority_url", "/" + issuer_.spec().text("tenant") + "/oauth2/v2.0/token");
    if (!url) return std::move(url).error();
    auto assertion = issuer_.secret_file("client_assertion_file");
    if (!assertion) return std::move(assertion).error();
    FormBody body;
    body.add("grant_type", "client_credentials");
    body.add("client_id", issuer_.spec().text("client_id"));
    body.add("scope", "https://containerregistry.azure.net/.default");
    body.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    body.add("client_assertion", assertion->reveal());
    return ask(*std::move(url), body, "access_token", "logging in at Entra ID",
               "check the federated credential of client_id: its issuer, subject and audience; is "
               "the token in client_assertion_file over, or this machine's clock wrong?");
  }

  Result<Secret> ask_registry(http::Url url, const std::string& path, FormBody& body,
                              const std::string& member, const std::string& action) const {
    url.target = path;
    return ask(std::move(url), body, member, action,
               "the identity needs AcrPush (or AcrPull) on this registry or repository, and the "
               "registry must take Entra ID's tokens");
  }

  /// One POST of a form; the answer's `member`, a token.
  Result<Secret> ask(http::Url url, FormBody& body, const std::string& member,
                     const std::string& action, const std::string& hint) const {
    http::Request request;
    request.method = "POST";
    request.url = std::move(url);
    request.headers = {{"Content-Type", "application/x-www-form-urlencoded"}};
    request.body = body.take();
    auto response = issuer_.send(std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 200) {
      const bool denied = response->status == 400; // OAuth's word for an assertion that is no good
      Error error = issuer_.refusal(*response, action, hint);
      if (denied) error.kind = ErrorKind::denied;
      return error;
    }
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    Secret token = answer->secret("/" + member);
    if (token.empty()) return issuer_.unreadable(action, "it holds no " + member);
    return token;
  }

  /// A registry grants less without a word, and says in the token what.
  Result<Minted> judged(Secret token, const MintFor& wanted) const {
    auto payload = payload_of(token.reveal());
    const auto expires_at = payload ? payload->number("/exp") : std::nullopt;
    if (!expires_at) return issuer_.unreadable(kAsking, "the token does not say when it ends");
    auto granted = payload->items("/access");
    if (granted.size() != 1 || granted[0].text("/type") != "repository" ||
        granted[0].text("/name") != wanted.repository) {
      return Error{ErrorKind::denied,
                   issuer_.name() + ": the registry's token is not for " + wanted.repository +
                       " alone",
                   "the identity needs AcrPush (or AcrPull) on this registry or repository",
                   {}};
    }
    for (const auto& action : wanted.actions) {
      bool found = false;
      for (std::size_t i = 0; granted[0].has("/actions/" + std::to_string(i)); ++i)
        found = found || granted[0].text("/actions/" + std::to_string(i)) == action;
      if (!found)
        return Error{ErrorKind::denied,
                     issuer_.name() + ": the registry did not grant " + action + " on " +
                         wanted.repository,
                     "the identity needs AcrPush (or AcrPull) on this registry or repository",
                     {}};
    }
    Minted minted;
    minted.username = "00000000-0000-0000-0000-000000000000"; // as Microsoft says for tokens
    minted.password = std::move(token);
    minted.bearer = true;
    minted.expires_at = WallTime{std::chrono::seconds{*expires_at}};
    minted.scoped_to_repository = true;
    return minted;
  }

  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_acr(const engine_api::IssuerSpec& spec,
                                                     const ProviderContext& context) {
  if (!is_plain(spec.text("tenant"))) {
    return Error{ErrorKind::misconfigured,
                 "[[credential]] " + spec.name + ": tenant \"" + spec.text("tenant") +
                     "\" is neither a UUID nor a domain",
                 "the portal shows it as \"Directory (tenant) ID\"",
                 {}};
  }
  // Read once, so that a file that is not there is found before the first push.
  if (auto token = Issuer{spec, context}.secret_file("client_assertion_file"); !token)
    return std::move(token).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Acr>(spec, context)};
}

} // namespace slipway::credentials
