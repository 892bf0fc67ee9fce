// SPDX-License-Identifier: Apache-2.0
// What an archive holds, entry by entry, on its way from the process that unpacks it to the one
// that uses it: a head, and as many bytes as that says. Who unpacked a hostile archive may be
// hostile, so heads are read as such. Both ends are on one machine and of one build.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace slipway::engine_api {

constexpr std::size_t kMaxEntryName = 64UL << 10; ///< bytes of a name, and of a link's target

struct ArchiveEntry {
  enum class Kind : std::uint8_t { file, folder, symbolic_link, hard_link, other };
  Kind kind = Kind::other;
  std::uint64_t size = 0; ///< of a file: so many bytes follow; of all others 0
  std::string name;       ///< as the archive has it: anything
  std::string target;     ///< of a link, likewise
  bool operator==(const ArchiveEntry&) const = default;
};

/// The head of an entry whose names are within the limit.
std::string encode(const ArchiveEntry& entry);

class ArchiveEntries {
public:
  /// Gives the next bytes, at most `capacity`; 0 at the end. Called until then, or until an error.
  using Source = std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>;
  /// `source` is lent.
  explicit ArchiveEntries(const Source& source) : source_{source} {}

  /// The next entry, what was not read of the last one skipped; none at the end. Errors: those of
  /// the source; internal (no such head; it ends within an entry).
  Result<std::optional<ArchiveEntry>> next();
  /// The next bytes of the entry; 0 at its end. Errors: the same.
  Result<std::size_t> read(char* buffer, std::size_t capacity);

private:
  /// False where the source has ended before the first byte. Errors: as above.
  Result<bool> fill(char* buffer, std::size_t size);
  const Source& source_;
  std::uint64_t left_ = 0;
};

} // namespace slipway::engine_api
