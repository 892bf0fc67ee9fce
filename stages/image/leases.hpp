// SPDX-License-Identifier: Apache-2.0
// What is minted for a job's requests, from the intent on the disk to its end: written down before
// the worker starts, revoked by it, and where it died or could not, by cleanup, the next prepare,
// `slipway gc` and `slipway leases revoke`.
#pragma once

#include "config/config.hpp"
#include "executor/audit/audit.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/secret.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/state/leases.hpp"

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace slipway::image {

class Leases {
public:
  /// All must outlive it.
  Leases(const config::Config& config, audit::AuditLog& audit, const Clock& clock)
      : config_{config}, audit_{audit}, clock_{clock}, journal_{config.slipway.state_dir} {}

  /// Writes the intent down; only then may a worker get the order. `job_secrets`: of these the
  /// order takes those that the issuer's settings name. Errors: misconfigured (no such entry); io.
  Result<engine_api::LeaseOrder> intend(const config::Registry& registry,
                                        const std::string& repository, const std::string& job,
                                        const std::map<std::string, Secret>& job_secrets);
  /// What the worker told of a lease. Errors: io: the intent still stands, so that it is looked
  /// for.
  Status note(const std::string& name, const engine_api::LeaseNote& note);

  /// Ends what is out: of `job`, or where that is "" of processes that no longer live. Forgets what
  /// is over. An issuer that does not answer is asked again later and later, with `insist` at once.
  /// Errors: the first failure; the other issuers' leases are ended all the same.
  enum class Haste { patient, insist };
  Status collect(const std::string& job, Haste haste);
  /// Ends one lease, whoever holds it. Errors: not_found; unavailable (still out: why).
  Status revoke(const std::string& name);

  std::vector<state::LeaseRecord> all() const { return journal_.all(); }

private:
  /// True where nothing of it lives any more.
  Result<bool> end(const state::LeaseRecord& record);
  bool is_over(const state::LeaseRecord& record) const;
  bool is_due(const state::LeaseRecord& record) const;

  const config::Config& config_;
  audit::AuditLog& audit_;
  const Clock& clock_;
  state::LeaseJournal journal_;
};

/// How long ago the password of a static entry was set, by its file; nullopt where it cannot be
/// looked at.
std::optional<std::chrono::hours> age_of_static(const engine_api::IssuerSpec& spec,
                                                const Clock& clock);

/// One line for people about a lease of `spec`, after the request it was for.
std::string lease_line(const engine_api::IssuerSpec& spec, const engine_api::LeaseNote& note,
                       const Clock& clock);

} // namespace slipway::image
