// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/unpacker.hpp"

#include <archive_entry.h>

#include <algorithm>
#include <utility>

namespace slipway::gate_worker {
namespace {

using engine_api::ArchiveEntry;

Error bad_archive(const std::string& what) {
  return Error{ErrorKind::bad_input, "the image archive " + what, "", {}};
}

/// Errors: bad_input.
Result<ArchiveEntry> entry_of(archive_entry* entry) {
  ArchiveEntry made;
  const char* name = ::archive_entry_pathname(entry);
  if (name == nullptr) return bad_archive("has an entry without a readable name");
  made.name = name;
  const auto type = ::archive_entry_filetype(entry);
  const char* target = nullptr;
  if ((target = ::archive_entry_hardlink(entry)) != nullptr) {
    made.kind = ArchiveEntry::Kind::hard_link;
  } else if (type == AE_IFLNK) {
    made.kind = ArchiveEntry::Kind::symbolic_link;
    target = ::archive_entry_symlink(entry);
  } else if (type == AE_IFDIR) {
    made.kind = ArchiveEntry::Kind::folder;
  } else if (type == AE_IFREG) {
    made.kind = ArchiveEntry::Kind::file;
    if (::archive_entry_size_is_set(entry) == 0 || ::archive_entry_size(entry) < 0)
      return bad_archive("has an entry without a size: " + made.name.substr(0, 200));
    made.size = static_cast<std::uint64_t>(::archive_entry_size(entry));
  }
  if (target != nullptr) made.target = target;
  if (std::max(made.name.size(), made.target.size()) > engine_api::kMaxEntryName)
    return bad_archive("has an entry with a name above " +
                       std::to_string(engine_api::kMaxEntryName) + " bytes");
  return made;
}

} // namespace

Unpacker::Unpacker(Source source)
    : source_{std::move(source)},
      part_(64UL << 10), archive_{::archive_read_new(), &::archive_read_free} {
  ::archive_read_support_filter_gzip(archive_.get());
  ::archive_read_support_format_tar(archive_.get());
}

la_ssize_t Unpacker::read_part(archive*, void* self, const void** bytes) {
  auto& unpacker = *static_cast<Unpacker*>(self);
  auto got = unpacker.source_(unpacker.part_.data(), unpacker.part_.size());
  if (!got) {
    unpacker.error_ = std::move(got).error();
    return -1;
  }
  *bytes = unpacker.part_.data();
  return static_cast<la_ssize_t>(*got);
}

Error Unpacker::broken() const {
  if (error_) return *error_;
  const char* text = ::archive_error_string(archive_.get());
  return bad_archive(std::string{"cannot be read: "} + (text != nullptr ? text : "no tar"));
}

Result<bool> Unpacker::next() {
  if (!std::exchange(is_open_, true) &&
      ::archive_read_open(archive_.get(), this, nullptr, &read_part, nullptr) != ARCHIVE_OK)
    return broken();
  archive_entry* found = nullptr;
  const int code = ::archive_read_next_header(archive_.get(), &found);
  if (code == ARCHIVE_EOF) return false;
  if (code != ARCHIVE_OK) return broken();
  auto entry = entry_of(found);
  if (!entry) return std::move(entry).error();
  left_ = entry->size;
  head_ = engine_api::encode(*entry);
  head_at_ = 0;
  return true;
}

Result<std::size_t> Unpacker::read(char* buffer, std::size_t capacity) {
  if (head_at_ == head_.size() && left_ == 0) {
    auto there = next();
    if (!there) return std::move(there).error();
    if (!*there) return std::size_t{0};
  }
  if (head_at_ < head_.size()) {
    const auto count = head_.copy(buffer, capacity, head_at_);
    head_at_ += count;
    return count;
  }
  const la_ssize_t got = ::archive_read_data(
      archive_.get(), buffer, static_cast<std::size_t>(std::min<std::uint64_t>(left_, capacity)));
  if (got <= 0) return broken();
  left_ -= static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

} // namespace slipway::gate_worker
