// SPDX-License-Identifier: Apache-2.0
// Quay: a robot account that trusts the host's identity provider (robot federation). Quay takes the
// host's token for a password of the robot that lives an hour. Source: Red Hat Quay's API,
// oauth2/federation/robot/token; quay/quay, endpoints/oauth/robot_identity_federation.py.
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"

namespace slipway::credentials {

namespace {

constexpr std::chrono::seconds kLife{3600}; ///< TMP_ROBOT_TOKEN_VALIDITY_LIFETIME_S

class Quay final : public CredentialProvider {
public:
  Quay(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.bypassable = !issuer_.spec().text("token_variable").empty();
    traits.built_in_ceiling = kLife; // nobody can shorten it
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    may_be_out_ = false;
    const auto& spec = issuer_.spec();
    const std::string only = spec.text("repository");
    if (!only.empty() && only != wanted.repository)
      return Error{ErrorKind::denied,
                   issuer_.name() + ": the robot is for " + only + ", not for " + wanted.repository,
                   "use a robot and a [[credential]] entry of its own for each repository",
                   {}};
    auto identity = spec.text("token_file").empty()
                        ? issuer_.job_secret(spec.text("token_variable"))
                        : issuer_.secret_file("token_file");
    if (!identity) return std::move(identity).error();
    auto request = issuer_.request("GET", "url", "/oauth2/federation/robot/token");
    if (!request) return std::move(request).error();
    request->authorization = basic_authorization(spec.text("robot"), *identity);
    const std::string action = "asking for a password of " + spec.text("robot");
    may_be_out_ = true;
    auto answer = issuer_.ask(*std::move(request), action,
                              "check the robot's federation in Quay: its issuer and subject; is "
                              "the token over, or this machine's clock wrong?");
    if (!answer) return std::move(answer).error();
    Minted minted;
    minted.username = spec.text("robot");
    minted.password = answer->secret("/token");
    if (minted.password.empty()) return issuer_.unreadable(action, "it holds no token");
    const auto now = issuer_.clock().now();
    minted.expires_at = now + jwt_lifetime(minted.password.reveal(), now).value_or(kLife);
    minted.scoped_to_repository = !only.empty();
    return minted;
  }

  bool may_be_out() const override { return may_be_out_; }

  Status revoke(const Lease&, const Minted*) override {
    return Error{ErrorKind::denied,
                 issuer_.name() + ": a federated robot's password cannot be revoked",
                 "to end them all, delete the robot",
                 {}};
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  Issuer issuer_;
  bool may_be_out_ = true;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_quay(const engine_api::IssuerSpec& spec,
                                                      const ProviderContext& context) {
  const Issuer issuer{spec, context};
  const auto wrong = [&](const std::string& what, const std::string& hint) {
    return Error{ErrorKind::misconfigured, issuer.name() + ": " + what, hint, {}};
  };
  if (spec.text("robot").find('+') == std::string::npos)
    return wrong("robot \"" + spec.text("robot") + "\" is no robot account", "write ORG+NAME");
  const bool from_file = !spec.text("token_file").empty();
  if (!from_file == spec.text("token_variable").empty())
    return wrong("it needs either token_file or token_variable",
                 "token_file, a token of this host, is what no job has");
  if (auto url = issuer.url("url", ""); !url) return std::move(url).error();
  if (from_file) {
    if (auto token = issuer.secret_file("token_file"); !token) return std::move(token).error();
  }
  return std::unique_ptr<CredentialProvider>{std::make_unique<Quay>(spec, context)};
}

} // namespace slipway::credentials
