// SPDX-License-Identifier: Apache-2.0
// The seam to whoever mints credentials: one implementation for each kind of issuer, one file each
// below executor/credentials/providers. They run in slipway-push alone. What a provider mints is a
// login for the registry; what the registry's own token server makes of it is token_client.hpp.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/engine_api/issuer_spec.hpp"
#include "executor/http/transport.hpp"
#include "executor/process/process.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::credentials {

/// What one mint is for. `lease_name` is unique, was written down durably before, and goes into
/// whatever name the issuer lets us choose, so that a mint whose answer was lost can be found.
struct MintFor {
  std::string registry;              ///< "reg.example:5000"
  std::string repository;            ///< "grp/app"
  std::vector<std::string> actions;  ///< "pull", "push"
  std::string digest;                ///< of what is pushed; "" for a pull
  std::string job;                   ///< job key, for the issuer's own log
  std::string lease_name;            ///< "slipway-<16 hex>-<job key>": [a-z0-9-], at most 63
  std::chrono::seconds ceiling{900}; ///< ask for no more; what lives longer is judged by the caller
};

/// A login that lives until `expires_at` or until it is revoked.
struct Minted {
  std::string username;
  Secret password;
  WallTime expires_at = WallTime::max();
  /// What revoke() needs after a crash: an id or accessor, never a secret; "" where there is none.
  std::string lease_id;
  /// What revoke() needs and must not be written down (a Vault token that revokes itself).
  Secret revoke_with;
  bool scoped_to_repository = false; ///< good for this one repository only
  bool bearer = false; ///< `password` is the registry's own token: no token server is asked
};

/// What can be said about an issuer before anything is minted.
struct IssuerTraits {
  bool can_revoke = false;
  bool can_list = false;   ///< outstanding() finds mints whose answer was lost
  bool bypassable = false; ///< what the job itself holds is enough to mint the same
  bool standing = false;   ///< mints nothing: a login without an end, which a rule has to name
  /// Longest life that passes without a policy's word although it is above the ceiling: for issuers
  /// whose credentials cannot be shorter. Counts only for mints that are scoped to the repository.
  std::chrono::seconds built_in_ceiling{0};
};

/// One lease, as the journal keeps it.
struct Lease {
  std::string name;       ///< MintFor::lease_name
  std::string id;         ///< Minted::lease_id; "" where the answer was lost
  std::string repository; ///< MintFor::repository
};

/// Mints and revokes at one issuer. Every call has a deadline of its own (60 s by default); an
/// error names the issuer, the status, the cause and what to do next, and never a secret.
class CredentialProvider {
public:
  virtual ~CredentialProvider() = default;
  virtual IssuerTraits traits() const = 0;
  /// Errors: denied (the issuer refused); misconfigured; unavailable, timed_out; bad_input (the
  /// issuer's answer cannot be read).
  virtual Result<Minted> mint(const MintFor& wanted) = 0;
  /// After a mint that failed: false where the issuer certainly holds nothing because of it (it
  /// never came so far, or what there was is ended).
  virtual bool may_be_out() const { return true; }
  /// Ends a lease. One that is gone already is a success. `live`: the mint itself where this is
  /// still the process that made it, else null. Errors: as mint; denied also where it cannot be
  /// revoked.
  virtual Status revoke(const Lease& lease, const Minted* live) = 0;
  /// What this issuer still holds for `repository` under names that begin with `prefix` and were
  /// made more than `age` ago: many issuers list by project. Empty where it cannot list.
  virtual Result<std::vector<Lease>>
  outstanding(std::string_view prefix, const std::string& repository, std::chrono::seconds age) = 0;
};

/// What a provider gets besides its settings.
struct ProviderContext {
  http::Transport& transport; ///< to the issuer: its own CA, client certificate and proxy
  const Clock& clock;
  process::ProcessRunner& runner; ///< for the issuers that are programs
  /// What the job itself holds, by name ("CI_JOB_TOKEN", the names of its id_tokens). Only
  /// providers that are marked bypassable, or that let the job's identity admit, look at it.
  const std::map<std::string, Secret>& job_secrets;
};

} // namespace slipway::credentials
