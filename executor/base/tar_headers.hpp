// SPDX-License-Identifier: Apache-2.0
// The headers of a tar, taken apart as its bytes come. Nobody vouches for them; what an entry's
// name may be is its reader's business. Read are ustar, pax records and GNU's long names, which is
// what engines write.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace slipway {

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

} // namespace slipway
