// SPDX-License-Identifier: Apache-2.0
// Grype's JSON report and its log as values: only what the gate decides on. Source: grype 0.121.3,
// grype/presenter/models, cmd/grype/cli/commands/root.go.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/gate/gate.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

struct GrypeReport {
  std::string version;
  std::string image_id; ///< digest of the config; "" of an SBOM
  std::vector<std::string> diff_ids;
  std::string distro; ///< "debian 12"; "" = it saw none
  WallTime db_built_at;
  bool os_end_of_life = false;
  int ignored = 0; ///< matches that a rule made it leave out
  std::vector<Finding> findings;
};

/// Strict: a wrong type, a match without id or package, no time of the DB is an error, not a gap.
/// A vulnerability that has one CVE goes by that name, and what Grype calls it is an alias.
/// Errors: bad_input.
Result<GrypeReport> parse_grype_report(std::string_view json);

/// What Grype's log says about how much it looked at.
struct GrypeCoverage {
  std::optional<std::int64_t> packages; ///< none: it does not say; the smallest that it says
  std::vector<std::string> gaps;        ///< lines that mean that something was not looked at
};
GrypeCoverage read_grype_log(std::string_view log);

} // namespace slipway::gate
