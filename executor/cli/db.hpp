// SPDX-License-Identifier: Apache-2.0
// `slipway db`: the vulnerability DB that the gate judges with; how old it is, and how a newer one
// takes its place.
#pragma once

#include "config/config.hpp"
#include "executor/audit/audit.hpp"
#include "executor/base/clock.hpp"
#include "executor/vulndb/update.hpp"

#include <iosfwd>
#include <string>
#include <vector>

namespace slipway::cli {

/// Exit codes of `db status`, as monitoring wants them.
constexpr int kDbFresh = 0;
constexpr int kDbOld = 1;      ///< older than db_warn_age; the gate says so and passes
constexpr int kDbUnusable = 2; ///< the gate denies every push

/// Where, how old, how much it knows of which source, where it came from. Returns the exit code.
int db_status(const config::Config& config, WallTime now, bool json, std::ostream& out);

/// Exit codes, of the two kinds the worse: 0 there is a newer one now, or none is offered; 1 what
/// is offered was refused; 2 it could not be tried. `accepted_losses`: see vulndb::Rules.
int db_update(const config::Config& config, const std::vector<std::string>& accepted_losses,
              vulndb::Mirror& mirror, audit::AuditLog& audit, const Clock& clock, std::ostream& out,
              std::ostream& err);

/// Exit codes: 0, and 1 where there is no former one.
int db_rollback(const vulndb::Kind& kind, const config::Config& config, audit::AuditLog& audit,
                std::ostream& out, std::ostream& err);

/// What is to be signed of an archive or a folder.
int db_digest(const vulndb::Kind& kind, const std::string& path, std::ostream& out,
              std::ostream& err);

/// Asks registries through slipway-push, with the operator's login where the [[registry]] entry has
/// one.
class RegistryMirror final : public vulndb::Mirror {
public:
  explicit RegistryMirror(const config::Config& config) : config_{config} {}
  Result<oci::Digest> pull(const oci::Reference& reference, const std::string& target,
                           oci::Layout* into, std::uint64_t max_bytes) override;

private:
  const config::Config& config_;
};

} // namespace slipway::cli
