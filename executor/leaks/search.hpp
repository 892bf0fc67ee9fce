// SPDX-License-Identifier: Apache-2.0
// The leak scan: searches every byte of an image, packed or not, for the secrets of the job that
// wants to push it. What it finds it names by variable, form and place; the value, and text that
// holds it, is never in what it says.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/leaks/searched_blobs.hpp"
#include "executor/leaks/secrets.hpp"
#include "executor/oci/layout.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway::leaks {

/// Told per image; what is beyond is counted.
constexpr std::size_t kMaxHits = 20;

struct Hit {
  std::vector<std::string> names; ///< of the variables that have this value
  Form form = Form::raw;
  oci::Digest blob;
  std::string what;    ///< "layer", "image config", "manifest", …
  std::string place;   ///< path in the layer ("app.jar!/a.properties"), member of a document
  std::string made_by; ///< the history's created_by of a layer, "" where there is none
  /// One sentence for people.
  std::string text() const;
};

struct Report {
  std::vector<Hit> hits;
  std::size_t more_hits = 0;
  /// Every blob that holds a secret, also beyond kMaxHits, with the names of what it holds.
  std::map<oci::Digest, std::set<std::string>> leaking;
  /// Why an image cannot be searched to its end: its bytes are not what it says, an archive expands
  /// without bounds.
  std::vector<std::string> not_searched;
  std::vector<std::string> notes; ///< archives that could not be opened, searched as they are
  std::uint64_t bytes = 0;        ///< read and expanded for this report; 0: all was remembered
};

struct SearchSettings {
  std::filesystem::path cache_dir;             ///< see SearchedBlobs; "": nothing is remembered
  std::uint64_t max_layer_bytes = 20UL << 30;  ///< expanded; the same again for archives in a layer
  std::optional<oci::KnownLayers> layers = {}; ///< is told what layers expand to
};

class LeakSearch {
public:
  LeakSearch(SearchSettings settings, SecretSet secrets, const Clock& clock);

  /// Searches what was not searched yet. One at a time or several at once. Errors: io,
  /// misconfigured, unavailable, internal: nothing is known then.
  Result<Report> search(const oci::Layout& layout, const oci::ImageTree& tree);
  const SecretSet& secrets() const noexcept { return secrets_; }

private:
  bool is_due(const SearchedBlobs* remembered, const oci::Digest& blob, const std::string& as);
  SearchSettings settings_;
  SecretSet secrets_;
  const Clock& clock_;
  std::optional<WallTime> newest_; ///< the earliest time of making of the parts that have one
  std::mutex searching_;
  std::set<std::string> done_; ///< blobs that this object found clean
};

} // namespace slipway::leaks
