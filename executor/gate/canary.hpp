// SPDX-License-Identifier: Apache-2.0
// Whether the scanner finds what it has to find. A scanner that was changed, or that cannot use its
// DB, reports nothing, and so does one that has nothing to report. So it is shown an image made for
// it: one old package of the system in question, of which the DB itself knows a vulnerability. Same
// program, same DB, same arguments as for the images that it is to judge.
#pragma once

#include "executor/base/result.hpp"
#include "executor/gate/gate.hpp"

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

/// A package in a version older than every fix, and a vulnerability that the DB knows of it.
struct ScanCanary {
  std::string bucket;  ///< "debian 12"
  std::string package; ///< "curl"
  std::string id;      ///< "CVE-2023-38545"
  std::string fixed;   ///< "" = every version has it
};

/// The first advisory of `bucket` in DIR/trivy.db that an image can be made for, of none of the
/// packages `passed_over`; none where the
/// bucket has none, or is of a system that no image is made of here. Errors: as BoltFile.
Result<std::optional<ScanCanary>> choose_canary(const std::filesystem::path& db_dir,
                                                const std::string& bucket,
                                                const std::set<std::string>& passed_over = {});

/// Whether images can be made for this bucket's system; `second`: and Grype knows it. Pure.
bool has_canary_for(std::string_view bucket, bool second = false);

/// The image's only layer: a tar with the system's name and its package database. Pure.
std::string canary_layer(const ScanCanary& canary);

/// What a judgement relies on.
struct ProofSubject {
  std::string scanner; ///< differs whenever the program does
  std::string db;      ///< Database::identity
  std::vector<std::string> arguments;
  /// Grype's report is read, and any vulnerability of the package will do: which one it is comes
  /// from Trivy's DB, and Grype's has its own.
  bool second = false;
};

/// Has `scanner` find a vulnerability in an image of the system whose bucket in the DB this is; of
/// any system that it knows where `bucket` is none, or is one that no image is made of. What was
/// found once is remembered in `config.cache_dir`, for this scanner, this DB and these arguments.
/// Gives "" where it was found, else what is wrong, for the operator. Errors: io.
Result<std::string> prove_scanner(Scanner& scanner, const ScannerConfig& config,
                                  const ProofSubject& subject,
                                  const std::optional<std::string>& bucket);

} // namespace slipway::gate
