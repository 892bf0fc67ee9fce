// SPDX-License-Identifier: Apache-2.0
// A tar from a container or an image, written below one folder. Nobody vouches for its bytes:
// - Nothing is written outside of the folder: "..", and a link on the way to an entry, end it.
// - Devices are refused.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/tar_headers.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::shim {

/// Writes the entries of one tar as they come.
class TarExtractor {
public:
  /// `folder` is lent. The first entry is the top one: it, with all that is below it, is written
  /// as `as`; with "" what is below it is written into the folder. Owners are kept only where
  /// asked for and where this is root.
  TarExtractor(int folder, std::string as, bool keep_owners)
      : folder_{folder}, as_{std::move(as)}, keep_owners_{keep_owners} {}

  /// No entry is the top one: all are written below the folder by their names.
  static TarExtractor of_files(int folder) {
    TarExtractor extractor{folder, "", false};
    extractor.top_.emplace();
    return extractor;
  }

  /// Errors: bad_input (no tar; an entry that would leave the folder, a device; a folder where a
  /// file is, or the other way round), io.
  Status feed(std::string_view bytes);
  /// Errors: bad_input (the tar was cut short), io.
  Status finish();

private:
  using Parts = std::vector<std::string>;
  Result<Parts> target_of(const std::string& name);
  Result<UniqueFd> parent_of(const Parts& parts) const;
  Status begin(const TarEntry& entry);
  Status make_room(int parent, const std::string& name, bool for_folder, bool& is_there) const;
  Status give_away(int parent, const std::string& name, const TarEntry& entry) const;
  Status end_file();

  int folder_;
  std::string as_;
  bool keep_owners_;
  TarHeaders headers_;
  std::optional<Parts> top_;
  UniqueFd file_;
  std::uint64_t left_ = 0;
  bool in_content_ = false;
  std::vector<std::pair<Parts, TarEntry>> folders_; ///< their modes are set last
};

} // namespace slipway::shim
