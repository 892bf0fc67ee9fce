// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/archive_entries.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace slipway::engine_api {
namespace {

/// Before the names. Filled from zeroes: no byte of it is left to chance.
struct Head {
  std::uint64_t size;
  std::uint32_t name;
  std::uint32_t target;
  std::uint64_t kind;
};

Error broken(const char* what) {
  return Error{ErrorKind::internal, std::string{"what was unpacked "} + what, "", {}};
}

} // namespace

std::string encode(const ArchiveEntry& entry) {
  const Head head{entry.size, static_cast<std::uint32_t>(entry.name.size()),
                  static_cast<std::uint32_t>(entry.target.size()),
                  static_cast<std::uint64_t>(entry.kind)};
  std::array<char, sizeof head> bytes{};
  std::memcpy(bytes.data(), &head, sizeof head);
  return std::string{bytes.data(), bytes.size()} + entry.name + entry.target;
}

Result<bool> ArchiveEntries::fill(char* buffer, std::size_t size) {
  for (std::size_t have = 0; have < size;) {
    auto got = source_(buffer + have, size - have);
    if (!got) return std::move(got).error();
    if (*got == 0 && have == 0) return false;
    if (*got == 0) return broken("ends within an entry");
    have += *got;
  }
  return true;
}

Result<std::optional<ArchiveEntry>> ArchiveEntries::next() {
  std::array<char, 4096> skipped{};
  for (;;) {
    auto got = read(skipped.data(), skipped.size());
    if (!got) return std::move(got).error();
    if (*got == 0) break;
  }
  std::array<char, sizeof(Head)> bytes{};
  auto there = fill(bytes.data(), bytes.size());
  if (!there) return std::move(there).error();
  if (!*there) return std::optional<ArchiveEntry>{};
  Head head{};
  std::memcpy(&head, bytes.data(), sizeof head);
  ArchiveEntry entry;
  if (head.kind > static_cast<std::uint64_t>(ArchiveEntry::Kind::other) ||
      head.name > kMaxEntryName || head.target > kMaxEntryName)
    return broken("has an entry that cannot be");
  entry.kind = static_cast<ArchiveEntry::Kind>(head.kind);
  entry.size = head.size;
  if (entry.kind != ArchiveEntry::Kind::file && entry.size != 0)
    return broken("has bytes in what is no file");
  entry.name.resize(head.name);
  entry.target.resize(head.target);
  for (auto* text : {&entry.name, &entry.target}) {
    auto whole = text->empty() ? Result<bool>{true} : fill(text->data(), text->size());
    if (!whole) return std::move(whole).error();
    if (!*whole) return broken("ends within an entry");
  }
  left_ = entry.size;
  return std::optional{std::move(entry)};
}

Result<std::size_t> ArchiveEntries::read(char* buffer, std::size_t capacity) {
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(left_, capacity));
  if (most == 0) return std::size_t{0};
  auto got = source_(buffer, most);
  if (!got) return std::move(got).error();
  if (*got == 0) return broken("ends within an entry");
  left_ -= *got;
  return *got;
}

} // namespace slipway::engine_api
