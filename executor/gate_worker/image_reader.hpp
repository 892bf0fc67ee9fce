// SPDX-License-Identifier: Apache-2.0
// What reads an image's bytes from the first to the last: unpacks layers, and archives in them. The
// bytes are the job's, so this happens in slipway-gate, a process that can do nothing else.
#pragma once

#include "executor/base/result.hpp"
#include "executor/leaks/search.hpp"
#include "executor/leaks/secrets.hpp"
#include "executor/oci/executable.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/package_change.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway::gate_worker {

/// A search for leaked secrets; see leaks::LeakSearch.
struct SearchTask {
  leaks::SearchSettings settings;
  std::vector<leaks::KnownSecret> secrets;
  std::vector<std::string> exempt;
  /// Layers that the search had no reason to read are read too where this is not 0, as far as they
  /// expand to no more: what they expand to is known then (settings.layers).
  std::uint64_t learn_up_to = 0;
};

class ImageReader {
public:
  virtual ~ImageReader() = default;
  /// Errors: those of oci::read_tree and leaks::LeakSearch.
  virtual Result<leaks::Report> search(const oci::Layout& layout, const oci::Digest& root,
                                       const SearchTask& task) = 0;
  /// oci::verify_tree() on the tree below ROOT. Errors: those.
  virtual Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::Digest& root,
                                        const oci::VerifyRules& rules, oci::Flaw* flaw) = 0;
  /// find_executables(). Errors: those.
  virtual Result<std::vector<oci::Executable>>
  executables(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) = 0;
  /// package_changes(). Errors: those.
  virtual Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& layout,
                                                                  const oci::Digest& manifest,
                                                                  std::uint64_t max_layer) = 0;
  /// find_false_sboms(). Errors: those.
  virtual Result<std::vector<std::string>>
  false_sboms(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) = 0;
};

/// Reads here and now: what slipway-gate does, and tests.
class ReadsHere final : public ImageReader {
public:
  explicit ReadsHere(const Clock& clock) : clock_{clock} {}
  Result<leaks::Report> search(const oci::Layout& layout, const oci::Digest& root,
                               const SearchTask& task) override;
  Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::Digest& root,
                                const oci::VerifyRules& rules, oci::Flaw* flaw) override;
  Result<std::vector<oci::Executable>> executables(const oci::Layout& layout,
                                                   const oci::Digest& manifest,
                                                   std::uint64_t max_layer) override;
  Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& layout,
                                                          const oci::Digest& manifest,
                                                          std::uint64_t max_layer) override;
  Result<std::vector<std::string>> false_sboms(const oci::Layout& layout,
                                               const oci::Digest& manifest,
                                               std::uint64_t max_layer) override;

private:
  const Clock& clock_;
};

} // namespace slipway::gate_worker
