// SPDX-License-Identifier: Apache-2.0
// Which blobs were searched for which secrets and hold none of them: one file (0600) per blob in a
// folder of slipway's own. Sets of secrets stand in it as keyed hashes, so a copy of the folder
// without the key tells nothing about them. What cannot be read counts as not searched.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/leaks/secrets.hpp"
#include "executor/oci/digest.hpp"

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway::leaks {

/// A remembered search counts this long; then the blob is searched again.
constexpr std::chrono::hours kSearchedAge{24 * 30};
/// Sets remembered per blob, the newest; and blobs.
constexpr std::size_t kMaxSetsPerBlob = 16;
constexpr std::size_t kMaxSearchedBlobs = 20000;

class SearchedBlobs {
public:
  /// Makes DIR and the key in it where there are none. Errors: io.
  static Result<SearchedBlobs> open(const std::filesystem::path& dir);

  enum class Of {
    lasting, ///< without the parts that have a time of their making: the same for many jobs
    all      ///< one job's own: what it pushes again is not searched again
  };
  /// The keyed hash of what a search looks for and how (`as`: what the blob is read as).
  std::string name_of(const SecretSet& secrets, const std::string& as, Of of = Of::lasting) const;

  struct Known {
    bool searched = false;               ///< for this set
    std::optional<WallTime> whole_since; ///< it was there, whole, at this time
  };
  Known look(const oci::Digest& blob, const std::string& set, WallTime now) const;
  /// Best effort: what is not remembered is searched again.
  void remember(const oci::Digest& blob, const std::string& set, WallTime now) const;

  /// Removes what is over its age or beyond the number, oldest first.
  static void prune(const std::filesystem::path& dir, WallTime now);

private:
  SearchedBlobs(std::filesystem::path dir, Secret key)
      : dir_{std::move(dir)}, key_{std::move(key)} {}
  std::filesystem::path dir_;
  Secret key_;
};

} // namespace slipway::leaks
