// SPDX-License-Identifier: Apache-2.0
// SBOMs that policy owners signed for programs that no scanner can read: CycloneDX or SPDX, as
// JSON. They name executables by their SHA-256 and what these were made of.
#pragma once

#include "executor/base/result.hpp"
#include "executor/gate/gate.hpp"
#include "executor/oci/executable.hpp"

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

inline constexpr std::size_t kMaxSbomBytes = 32UL << 20; ///< of a document

/// All SHA-256 that a document gives for files and components, as hex in small letters. Errors:
/// bad_input (neither CycloneDX nor SPDX 2, or not of their form). Source: CycloneDX 1.6,
/// bom-1.6.schema.json; SPDX 2.3, spdx-schema.json.
Result<std::set<std::string>> hashes_of_sbom(std::string_view json);

class Sboms {
public:
  /// Reads and verifies what `policy` names, if anything. What cannot be used covers nothing.
  explicit Sboms(const SignedFiles& policy);

  /// Whether the policy names any.
  bool are_asked() const { return are_asked_; }
  /// Why a document covers nothing: a line for each.
  const std::vector<std::string>& complaints() const { return complaints_; }
  /// Differs whenever a byte of documents, signatures and keys does; "" where policy names none.
  const std::string& identity() const { return identity_; }

  struct Document {
    std::string name; ///< of its file, and of the key that signed: for people
    std::string text;
    std::set<std::string> hashes;
  };
  struct Cover {
    std::vector<const Document*> documents; ///< each that names one of the executables
    std::vector<std::string> missing; ///< "usr/bin/app (sha256:…)", of executables that none names
  };
  Cover cover(const std::vector<oci::Executable>& executables) const;

private:
  bool are_asked_;
  std::vector<Document> documents_;
  std::vector<std::string> complaints_;
  std::string identity_;
};

} // namespace slipway::gate
