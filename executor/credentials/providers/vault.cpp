// SPDX-License-Identifier: Apache-2.0
// HashiCorp Vault or OpenBao: a login, one secret read with it, and the login's end, which ends the
// leases of what was read. After a crash a fresh login ends them by what the journal holds: the id
// of the lease, or the accessor of the login. Sources: Vault's HTTP API, /auth/{approle,jwt,cert},
// /auth/token, /sys/leases.
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"

#include <algorithm>

namespace slipway::credentials {

namespace {

/// Before an accessor in Minted::lease_id; ids of leases begin with the path of their engine.
constexpr std::string_view kAccessor = "accessor:";

/// Where an auth method is mounted or a secret stands: no query, no step up, nothing to escape.
bool is_vault_path(std::string_view path) {
  return !path.empty() && path.front() != '/' && path.find("..") == std::string_view::npos &&
         std::all_of(path.begin(), path.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '/' || c == '-' || c == '_' || c == '.';
         });
}

/// One member in a JSON pointer. Source: RFC 6901, 3.
std::string member(const std::string& name) {
  std::string escaped = "/";
  for (const char c : name)
    escaped += c == '~' ? std::string{"~0"} : c == '/' ? std::string{"~1"} : std::string{c};
  return escaped;
}

class Vault final : public CredentialProvider {
public:
  Vault(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.standing = !is_dynamic();
    traits.can_revoke = is_dynamic();
    traits.bypassable = !issuer_.spec().text("jwt_variable").empty();
    return traits;
  }

  Result<Minted> mint(const MintFor&) override {
    may_be_out_ = false; // a login whose answer is lost reads nothing
    auto login = log_in();
    if (!login) return std::move(login).error();
    auto minted = read(*login);
    if (minted && is_dynamic()) {
      minted->revoke_with = std::move(login->token);
      return minted;
    }
    // Of no more use. Nobody else holds it, and with it ends what a lost answer brought.
    may_be_out_ = !end(login->token) && is_dynamic();
    return minted;
  }

  bool may_be_out() const override { return may_be_out_; }

  Status revoke(const Lease& lease, const Minted* live) override {
    if (live != nullptr) {
      auto ended = end(live->revoke_with);
      if (ended || ended.error().kind == ErrorKind::unavailable ||
          ended.error().kind == ErrorKind::timed_out)
        return ended;
      if (live->expires_at <= issuer_.clock().now()) return {}; // over, and so it is unknown there
      // A batch token cannot be ended; what was read with it can, if its policy says so.
      return end_by_id(lease.id, live->revoke_with) ? Status{} : std::move(ended);
    }
    auto login = log_in();
    if (!login) return std::move(login).error().in("ending a lease that a dead process left");
    auto revoked = end_by_id(lease.id, login->token);
    (void)end(login->token); // else it ends with its own life, in nobody's hands
    return revoked;
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  struct Login {
    Secret token;
    std::string accessor;
    WallTime expires_at = WallTime::max();
  };

  bool is_dynamic() const { return issuer_.spec().text("engine") == "dynamic"; }

  Result<http::Request> prepared(const std::string& method, const std::string& path,
                                 const Secret* token) const {
    auto request = issuer_.request(method, "url", "/v1/" + path);
    if (!request) return request;
    request->headers.emplace_back("X-Vault-Request", "true");
    if (const auto space = issuer_.spec().text("namespace"); !space.empty())
      request->headers.emplace_back("X-Vault-Namespace", space);
    if (method == "POST") request->headers.emplace_back("Content-Type", "application/json");
    if (token != nullptr) request->authorization = bearer_authorization(*token);
    return request;
  }

  Result<Login> log_in() const {
    const auto& spec = issuer_.spec();
    const std::string method = spec.text("auth");
    const std::string mount = spec.text("auth_mount").empty() ? method : spec.text("auth_mount");
    const std::string action = "logging in at auth/" + mount;
    JsonBody body;
    if (method == "approle") {
      auto secret_id = issuer_.secret_file("secret_id_file");
      if (!secret_id) return std::move(secret_id).error();
      body.add("role_id", spec.text("role_id"));
      body.add("secret_id", secret_id->reveal());
    } else if (method == "jwt") {
      auto jwt = spec.text("jwt_file").empty() ? issuer_.job_secret(spec.text("jwt_variable"))
                                               : issuer_.secret_file("jwt_file");
      if (!jwt) return std::move(jwt).error();
      body.add("role", spec.text("role"));
      body.add("jwt", jwt->reveal());
    } else if (!spec.text("role").empty()) {
      body.add("name", spec.text("role"));
    }
    auto request = prepared("POST", "auth/" + mount + "/login", nullptr);
    if (!request) return std::move(request).error();
    request->body = body.take();
    auto response = issuer_.send(*std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status != 200) {
      const bool denied = response->status == 400; // Vault's word for a SecretID or JWT of no use
      Error error = issuer_.refusal(*response, action,
                                    "check the role and what slipway logs in with: is it over, or "
                                    "bound to another address or audience?");
      if (denied) error.kind = ErrorKind::denied;
      return error;
    }
    auto answer = Answer::parse(response->body);
    if (!answer) return issuer_.unreadable(action, "it is not JSON");
    Login login;
    login.token = answer->secret("/auth/client_token");
    login.accessor = answer->text("/auth/accessor");
    if (login.token.empty()) return issuer_.unreadable(action, "it holds no token");
    if (const auto life = answer->number("/auth/lease_duration"); life && *life > 0)
      login.expires_at = issuer_.clock().now() + std::chrono::seconds{*life};
    return login;
  }

  Result<Minted> read(const Login& login) const {
    const auto& spec = issuer_.spec();
    const std::string action = "reading " + spec.text("secret");
    auto request = prepared("GET", spec.text("secret"), &login.token);
    if (!request) return std::move(request).error();
    auto answer = issuer_.ask(*std::move(request), action,
                              "the role needs a policy with \"read\" on " + spec.text("secret") +
                                  ", and the engine there must work");
    if (!answer) return std::move(answer).error();
    const std::string data = spec.text("engine") == "kv2" ? "/data/data" : "/data";
    Minted minted;
    minted.username = spec.text("username").empty()
                          ? answer->text(data + member(spec.text("username_field")))
                          : spec.text("username");
    minted.password = answer->secret(data + member(spec.text("password_field")));
    if (minted.username.empty() || minted.password.empty())
      return Error{ErrorKind::misconfigured,
                   issuer_.name() + ": " + spec.text("secret") + " has no member \"" +
                       spec.text("username_field") + "\" or \"" + spec.text("password_field") +
                       "\"",
                   "check engine, username_field and password_field; or set username",
                   {}};
    if (!is_dynamic()) return minted;
    minted.lease_id = answer->text("/lease_id");
    const auto life = answer->number("/lease_duration");
    if (minted.lease_id.empty() || !life || *life <= 0)
      return Error{ErrorKind::misconfigured,
                   issuer_.name() + ": " + spec.text("secret") + " comes without a lease",
                   "engine = \"kv1\" or \"kv2\" is for secrets that somebody wrote there",
                   {}};
    // A lease ends with the login that it was read with.
    minted.expires_at =
        std::min(issuer_.clock().now() + std::chrono::seconds{*life}, login.expires_at);
    if (spec.text("revoke_by") == "accessor" && !login.accessor.empty())
      minted.lease_id = std::string{kAccessor} + login.accessor;
    return minted;
  }

  /// Ends a login, and with it what was read with it.
  Status end(const Secret& token) const {
    const std::string path = "auth/token/revoke-self";
    auto request = prepared("POST", path, &token);
    if (!request) return std::move(request).error();
    return judged(issuer_.send(*std::move(request), "ending the login"), "ending the login", path);
  }

  Status end_by_id(const std::string& id, const Secret& token) const {
    const bool is_accessor = id.starts_with(kAccessor);
    const std::string path = is_accessor ? "auth/token/revoke-accessor" : "sys/leases/revoke";
    const std::string action = "ending lease " + id;
    auto request = prepared("POST", path, &token);
    if (!request) return std::move(request).error();
    JsonBody body;
    if (is_accessor) {
      body.add("accessor", std::string_view{id}.substr(kAccessor.size()));
    } else {
      body.add("lease_id", id);
      body.add_json("sync", "true"); // the answer says whether it is ended, not queued
    }
    request->body = body.take();
    auto response = issuer_.send(*std::move(request), action);
    if (response && is_accessor && response->status == 400) return {}; // older Vaults: gone
    return judged(std::move(response), action, path);
  }

  Status judged(Result<http::Response> response, const std::string& action,
                const std::string& path) const {
    if (!response) return std::move(response).error();
    if (response->status >= 200 && response->status <= 299) return {};
    return issuer_.refusal(*response, action, "the role needs a policy with \"update\" on " + path);
  }

  Issuer issuer_;
  bool may_be_out_ = false;
};

Error wrong(const Issuer& issuer, const std::string& what, const std::string& hint) {
  return {ErrorKind::misconfigured, issuer.name() + ": " + what, hint, {}};
}

/// The keys that belong together, and the files behind them.
Status check(const Issuer& issuer) {
  const auto& spec = issuer.spec();
  const std::string auth = spec.text("auth");
  if (!is_vault_path(spec.text("secret")))
    return wrong(issuer, "secret \"" + spec.text("secret") + "\" is no path in Vault",
                 "write it as `vault read` takes it, with data/ after the mount for kv2");
  if (!spec.text("auth_mount").empty() && !is_vault_path(spec.text("auth_mount")))
    return wrong(issuer, "auth_mount is no path in Vault", "write it without auth/ and '/'");
  if (spec.text("engine") != "dynamic" && spec.text("reason").empty())
    return wrong(issuer, "a password in KV never ends, and there is no reason for it",
                 "set reason, or read a dynamic secret");
  if (auth == "approle") {
    if (spec.text("role_id").empty())
      return wrong(issuer, "auth = \"approle\" needs role_id", "`vault read auth/approle/role/…`");
    if (auto file = issuer.secret_file("secret_id_file"); !file) return std::move(file).error();
  } else if (auth == "jwt") {
    const bool from_file = !spec.text("jwt_file").empty();
    if (spec.text("role").empty() || from_file == !spec.text("jwt_variable").empty())
      return wrong(issuer, "auth = \"jwt\" needs role, and jwt_file or jwt_variable",
                   "jwt_file, a token of this host, is what no job has");
    if (!from_file) return {};
    if (auto file = issuer.secret_file("jwt_file"); !file) return std::move(file).error();
  } else if (spec.text("client_cert_file").empty() || spec.text("client_key_file").empty()) {
    return wrong(issuer, "auth = \"cert\" needs client_cert_file and client_key_file",
                 "name the PEM files");
  }
  return {};
}

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_vault(const engine_api::IssuerSpec& spec,
                                                       const ProviderContext& context) {
  const Issuer issuer{spec, context};
  if (auto url = issuer.url("url", ""); !url) return std::move(url).error();
  if (auto checked = check(issuer); !checked) return std::move(checked).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Vault>(spec, context)};
}

} // namespace slipway::credentials
