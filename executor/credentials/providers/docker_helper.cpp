// SPDX-License-Identifier: Apache-2.0
// A docker-credential-* program of the operator's choice, asked for one server of the operator's
// choice: what a job names is compared with it and never reaches the program. Source:
// docker/docker-credential-helpers, the protocol of "get".
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/program.hpp"
#include "executor/credentials/providers/providers.hpp"

namespace slipway::credentials {

namespace {

class DockerHelper final : public CredentialProvider {
public:
  DockerHelper(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override { return {}; }

  Result<Minted> mint(const MintFor& wanted) override {
    const auto& spec = issuer_.spec();
    if (wanted.registry != spec.text("registry"))
      return Error{ErrorKind::denied,
                   issuer_.name() + ": the helper is for " + spec.text("registry") + ", not for " +
                       wanted.registry,
                   "use a [[credential]] entry of its own for each registry",
                   {}};
    const std::string server =
        spec.text("server").empty() ? spec.text("registry") : spec.text("server");
    const std::string action = "asking the helper for " + server;
    auto answer = ask_program(issuer_, {spec.text("program"), "get"}, server, action);
    if (!answer) return std::move(answer).error();
    if (answer->has("/ServerURL") && answer->text("/ServerURL") != server)
      return issuer_.unreadable(action, "it is for another server");
    Minted minted;
    minted.username = answer->text("/Username");
    minted.password = answer->secret("/Secret");
    if (minted.username.empty() || minted.password.empty())
      return issuer_.unreadable(action, "it has no Username and Secret");
    if (minted.username == "<token>")
      return Error{ErrorKind::denied,
                   issuer_.name() + ": the helper holds a refresh token, which is good for all "
                                    "that its owner may do",
                   "log in with a user name and a password or token",
                   {}};
    minted.expires_at = issuer_.clock().now() + spec.duration("lifetime");
    return minted;
  }

  Status revoke(const Lease&, const Minted*) override {
    return Error{ErrorKind::denied,
                 issuer_.name() + ": a docker-credential helper cannot revoke",
                 "revoke it where it comes from",
                 {}};
  }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_docker_helper(const engine_api::IssuerSpec& spec,
                                                               const ProviderContext& context) {
  const Issuer issuer{spec, context};
  const std::string program = spec.text("program");
  if (!program.substr(program.rfind('/') + 1).starts_with("docker-credential-"))
    return Error{ErrorKind::misconfigured,
                 issuer.name() + ": program \"" + program + "\" is no docker-credential-*",
                 "for other programs there is the type command",
                 {}};
  if (auto checked = check_program(issuer, {program}); !checked) return std::move(checked).error();
  if (spec.duration("lifetime") <= std::chrono::seconds{0})
    return Error{ErrorKind::misconfigured,
                 issuer.name() + " needs the key 'lifetime'",
                 "say how long what the helper hands out lives: the helper does not",
                 {}};
  return std::unique_ptr<CredentialProvider>{std::make_unique<DockerHelper>(spec, context)};
}

} // namespace slipway::credentials
