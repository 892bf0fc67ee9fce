// SPDX-License-Identifier: Apache-2.0
// A tar from a container or an image, written below one folder. Nobody vouches for its bytes:
// - Nothing is written outside of the folder: "..", and a link on the way to an entry, end it.
// - Devices and fifos are refused.
// Read are ustar, pax records and GNU's long names, which is what engines write.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::shim {

constexpr std::size_t kMaxTarRecords = 1UL << 20; ///< of one entry's pax records or long name

/// What stands before an entry's content.
struct TarEntry {
  std::string name;
  std::string link;
  char type = '0'; ///< as ustar has it: '0' file, '1' hard link, '2' link, '5' folder
  unsigned mode = 0;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
};

/// Takes headers apart; the content between them is counted, not kept.
class TarHeaders {
public:
  /// Takes bytes until an entry is complete, or all of them. Returns how many it took; with
  /// `entry()` set the next `entry()->size` bytes are its content, to be read by the caller.
  /// Errors: bad_input (no tar, an entry's records above kMaxTarRecords).
  Result<std::size_t> feed(std::string_view bytes);
  const std::optional<TarEntry>& entry() const { return entry_; }
  /// The entry's content was read; blanks up to the next block are skipped by feed().
  void next();
  bool ended() const { return ended_; } ///< the end mark was there
  bool between() const { return block_.empty() && !entry_ && records_left_ == 0; }

private:
  Status take_block();
  Status take_records();

  std::string block_;
  std::optional<TarEntry> entry_;
  TarEntry said_; ///< by records, of the entry that follows
  bool said_name_ = false;
  bool said_link_ = false;
  bool said_size_ = false;
  bool said_uid_ = false;
  bool said_gid_ = false;
  char records_type_ = 0;
  std::string records_;
  std::uint64_t records_left_ = 0;
  std::uint64_t padding_ = 0;
  bool ended_ = false;
};

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
