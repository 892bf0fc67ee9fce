// SPDX-License-Identifier: Apache-2.0
// Takes an archive of images apart, what `docker load` is sent: a tar, perhaps packed by gzip. What
// its entries mean is for who asked to say; see engine_api::ArchiveEntries.
#pragma once

#include "executor/engine_api/archive_entries.hpp"

#include <archive.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace slipway::gate_worker {

class Unpacker {
public:
  using Source = engine_api::ArchiveEntries::Source;
  explicit Unpacker(Source source);
  Unpacker(const Unpacker&) = delete; // libarchive has its address
  Unpacker& operator=(const Unpacker&) = delete;

  /// The next bytes of the entries in the form of engine_api::ArchiveEntries, at most `capacity`; 0
  /// at the end. Memory does not grow with the archive, and a bomb's entries come for as long as
  /// somebody takes them. Errors: bad_input (no tar; an entry without name or size, or above
  /// engine_api::kMaxEntryName); those of the source.
  Result<std::size_t> read(char* buffer, std::size_t capacity);

private:
  static la_ssize_t read_part(archive* unused, void* self, const void** bytes);
  /// The head of the next entry in head_; false at the end.
  Result<bool> next();
  Error broken() const;

  Source source_;
  std::vector<char> part_;
  std::optional<Error> error_; ///< the source's
  std::unique_ptr<archive, decltype(&::archive_read_free)> archive_;
  bool is_open_ = false;
  std::string head_;
  std::size_t head_at_ = 0;
  std::uint64_t left_ = 0; ///< of the entry's bytes
};

} // namespace slipway::gate_worker
