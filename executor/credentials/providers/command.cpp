// SPDX-License-Identifier: Apache-2.0
// A program of the operator's that mints, and others that list and revoke: for issuers that slipway
// does not know. The protocol is in docs/credentials.md, section "command".
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/program.hpp"
#include "executor/credentials/providers/providers.hpp"

namespace slipway::credentials {

namespace {

constexpr std::size_t kMaxIdBytes = 512;

/// What goes into the journal: printable as Answer::text() takes it, and bounded.
bool is_id(const std::string& id) {
  return !id.empty() && id.size() <= kMaxIdBytes;
}

class Command final : public CredentialProvider {
public:
  Command(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.can_revoke = !revoke_argv().empty();
    traits.can_list = !list_argv().empty();
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    std::string actions;
    for (const auto& action : wanted.actions)
      actions += (actions.empty() ? "" : ",") + json_quote(action);
    JsonBody request = begun("mint");
    request.add("lease_name", wanted.lease_name);
    request.add("registry", wanted.registry);
    request.add("repository", wanted.repository);
    request.add_json("actions", "[" + actions + "]");
    request.add("digest", wanted.digest);
    request.add("job", wanted.job);
    request.add_json("lifetime", std::to_string(wanted.ceiling.count()));
    const std::string action = "minting for " + wanted.repository;
    auto answer = ask_program(issuer_, issuer_.spec().list("argv"), request.take(), action);
    if (!answer) return std::move(answer).error();
    Minted minted;
    minted.username = answer->text("/username");
    minted.password = answer->secret("/password");
    minted.lease_id = answer->text("/lease_id");
    minted.scoped_to_repository = answer->is_true("/scoped_to_repository");
    if (minted.username.empty() || minted.password.empty())
      return issuer_.unreadable(action, "it has no username and password");
    if (!parse_rfc3339(answer->text("/expires_at"), minted.expires_at))
      return issuer_.unreadable(action, "its expires_at is no time of RFC 3339");
    if (traits().can_revoke && !is_id(minted.lease_id))
      return issuer_.unreadable(action, "it has no lease_id, and without one it cannot be revoked");
    return minted;
  }

  Status revoke(const Lease& lease, const Minted*) override {
    const auto argv = revoke_argv();
    if (argv.empty())
      return Error{ErrorKind::denied,
                   issuer_.name() + ": what it mints cannot be revoked",
                   "set revoke_argv in the [[credential]] entry",
                   {}};
    JsonBody request = begun("revoke");
    request.add("lease_name", lease.name);
    request.add("lease_id", lease.id);
    request.add("repository", lease.repository);
    auto said = run_program(issuer_, argv, request.take(), "revoking " + lease.name);
    if (!said) return std::move(said).error();
    wipe(*said);
    return {};
  }

  Result<std::vector<Lease>> outstanding(std::string_view prefix, const std::string& repository,
                                         std::chrono::seconds age) override {
    std::vector<Lease> leases;
    const auto argv = list_argv();
    if (argv.empty()) return leases;
    JsonBody request = begun("list");
    request.add("prefix", prefix);
    request.add("repository", repository);
    request.add_json("age", std::to_string(age.count()));
    const std::string action = "listing what is out";
    auto answer = ask_program(issuer_, argv, request.take(), action);
    if (!answer) return std::move(answer).error();
    if (!answer->has("/leases")) return issuer_.unreadable(action, "it has no member leases");
    for (const auto& one : answer->items("/leases")) {
      const std::string name = one.text("/lease_name");
      const std::string id = one.text("/lease_id");
      if (!is_id(id)) return issuer_.unreadable(action, "a lease has no lease_id");
      if (name.starts_with(prefix)) leases.push_back({name, id, repository});
    }
    return leases;
  }

private:
  std::vector<std::string> revoke_argv() const { return issuer_.spec().list("revoke_argv"); }
  std::vector<std::string> list_argv() const { return issuer_.spec().list("list_argv"); }

  static JsonBody begun(std::string_view action) {
    JsonBody request;
    request.add_json("version", "1");
    request.add("action", action);
    return request;
  }

  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_command(const engine_api::IssuerSpec& spec,
                                                         const ProviderContext& context) {
  const Issuer issuer{spec, context};
  for (const char* key : {"argv", "revoke_argv", "list_argv"}) {
    const auto argv = spec.list(key);
    if (argv.empty() && std::string_view{key} != "argv") continue;
    if (auto checked = check_program(issuer, argv); !checked)
      return std::move(checked).error().in(std::string{"reading "} + key);
  }
  if (!spec.list("list_argv").empty() && spec.list("revoke_argv").empty())
    return Error{ErrorKind::misconfigured,
                 issuer.name() + ": list_argv without revoke_argv",
                 "what is found has to be revoked: set revoke_argv, or leave list_argv out",
                 {}};
  return std::unique_ptr<CredentialProvider>{std::make_unique<Command>(spec, context)};
}

} // namespace slipway::credentials
