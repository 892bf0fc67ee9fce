// SPDX-License-Identifier: Apache-2.0
// Trivy's JSON report as values: only what the gate decides on. Source: trivy 0.69.3, pkg/types.
#pragma once

#include "executor/base/result.hpp"
#include "executor/gate/gate.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

struct ScanReport {
  std::string trivy_version;
  std::string image_id; ///< digest of the config; "" of an SBOM
  std::vector<std::string> diff_ids;
  bool has_os = false; ///< a family other than "none"
  std::string os_family;
  std::string os_name;
  bool os_end_of_life = false;
  int os_packages = 0; ///< these two without what only an SBOM in the image names
  int language_packages = 0;
  std::set<std::string> package_readers;   ///< of the system's: "dpkg", "apk", "rpm", …
  int third_party_packages = 0;            ///< Trivy does not look these up
  std::set<std::string> third_party_names; ///< of those
  /// Programs whose packages the scanner read out of themselves: "usr/bin/app".
  std::set<std::string> read_programs;
  bool is_of_sbom = false;
  bool looked_at_config = false; ///< for misconfigurations
  int suppressed = 0;            ///< findings that something made Trivy hide
  std::vector<Finding> findings;
  std::vector<Package> packages;
  /// Said by the gate, of an image without either kind of package.
  bool is_described = false; ///< signed SBOMs name what the rest of it is made of
  std::string undescribed;   ///< why they do not: "", or a sentence that follows another
};

/// Strict: another schema version, a wrong type or a finding without id is an error, not a gap.
/// Errors: bad_input.
Result<ScanReport> parse_report(std::string_view json);

/// What Trivy's messages say about how much it could see.
struct Coverage {
  struct Gap {
    std::string code; ///< the row of the table
    std::string line;
  };
  std::vector<Gap> gaps;             ///< lines that mean that something was not looked at
  std::vector<std::string> warnings; ///< lines worth passing on
};
/// `os_was_judged`: a row about the missing or unsupported OS has been dealt with already.
Coverage read_diagnostics(std::string_view diagnostics, bool os_was_judged);

/// Is this version of Trivy one that thieves of its signing keys released (CVE-2026-33634)?
bool is_malicious_trivy(std::string_view version);

/// One printable line out of text that an image may have chosen: no control characters, no terminal
/// sequences, no text direction tricks, no GitLab section marks; at most `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = 300);

} // namespace slipway::gate
