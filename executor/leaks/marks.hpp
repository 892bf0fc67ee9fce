// SPDX-License-Identifier: Apache-2.0
// What the leak scan of one build found, for pushes that do not know the value any more: those of
// the job's other scripts, and those of later jobs that take the layer from a cache.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <chrono>
#include <filesystem>
#include <set>
#include <string>

namespace slipway::leaks {

/// Digests by which a blob is known again: those of all blobs, and of what layers expand to, since
/// an archive may carry a layer unpacked.
std::set<oci::Digest> keys_of(const oci::ImageTree& tree);

struct LeakMark {
  std::set<std::string> names; ///< of the secrets
  std::string sentence;        ///< for people, without the value
  auto operator<=>(const LeakMark&) const = default;
};

/// A folder with a file for each marked digest, by its hex. Several processes at once.
class LeakMarks {
public:
  explicit LeakMarks(std::filesystem::path dir) : dir_{std::move(dir)} {}
  /// Names are added to those of an older mark. Errors: io; bad_input, as on().
  Status mark(const oci::Digest& key, const LeakMark& mark) const;
  /// Those on KEYS, each once. Errors: io; bad_input (somebody else wrote there).
  Result<std::set<LeakMark>> on(const std::set<oci::Digest>& keys) const;
  /// Removes marks below ROOT/*/ that nobody met for AGE.
  static void prune(const std::filesystem::path& root, WallTime now, std::chrono::hours age);

private:
  std::filesystem::path dir_;
};

} // namespace slipway::leaks
