// SPDX-License-Identifier: Apache-2.0
// The second scanner, Grype, as the gate asks it: about each image that the first one reported on.
// It adds blockers and denials of its own and takes nothing back (docs/decisions/0022).
#pragma once

#include "executor/base/clock.hpp"
#include "executor/gate/bench.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/origins.hpp"
#include "executor/gate/threats.hpp"

#include <optional>
#include <set>
#include <string>

namespace slipway::gate {

class SecondScanner {
public:
  /// `config`, `policy` and `verdict` outlive this. `scanner`: null where nobody made one.
  SecondScanner(const ScannerConfig& config, Scanner* scanner, const GatePolicy& policy,
                WallTime now, Verdict& verdict);

  /// False where the operator has named none: then nothing else here is asked.
  bool is_wanted() const { return !config_.grype.empty(); }
  /// Looks whether there is something to scan with. False where that was denied: the judgement
  /// ends.
  bool is_ready(Bench& bench);
  /// Differs whenever the program, its arguments or its DB do. After is_ready().
  std::string identity() const;

  /// One image of the tree, as the first scanner was shown it.
  struct Image {
    std::filesystem::path layout;
    oci::Digest manifest;
    oci::Digest config;
    std::vector<oci::Digest> diff_ids;
    std::string who;    ///< "the image for linux/amd64"
    std::string prefix; ///< of its findings' targets
    ImageNames names;
    const Origins& origins;
    Threats& threats;
    bool is_sbom = false; ///< `layout` is a folder with Scanner::kSbomFile: no image
  };
  /// Scans it and adds what was found to the bench. False where there is no report that could be
  /// used, which was denied: the judgement ends.
  bool judge(Bench& bench, const Image& image, const ScanReport& first);

  /// As prove_scanner(), by the advisories of Trivy's DB `db`. Errors: io.
  Result<std::string> prove(const std::string& db, const std::optional<std::string>& bucket);

  /// Writes down which DB it was. Errors: unavailable (another lies there now); io.
  Status note_database();

private:
  bool judge_age(Bench& bench, WallTime built);
  const ScannerConfig& config_;
  Scanner* scanner_;
  const GatePolicy& policy_;
  WallTime now_;
  Verdict& verdict_;
  std::string db_; ///< differs whenever another DB lies there
};

/// What differs whenever another program is at this path: its pin, or what the file system says.
std::string program_identity(const std::filesystem::path& program, const std::string& sha256);

} // namespace slipway::gate
