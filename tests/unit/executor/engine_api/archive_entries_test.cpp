// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/archive_entries.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace slipway::engine_api {
namespace {

using Kind = ArchiveEntry::Kind;

/// Gives `bytes` in pieces of three.
ArchiveEntries::Source source_of(const std::string& bytes) {
  return [bytes, at = std::size_t{0}](char* buffer,
                                      std::size_t capacity) mutable -> Result<std::size_t> {
    const auto count = bytes.copy(buffer, std::min<std::size_t>(capacity, 3), at);
    at += count;
    return count;
  };
}

std::string content_of(ArchiveEntries& entries) {
  std::string content;
  std::array<char, 4> part{};
  for (;;) {
    const auto got = entries.read(part.data(), part.size());
    EXPECT_TRUE(got) << got.error().text();
    if (!got || *got == 0) return content;
    content.append(part.data(), *got);
  }
}

TEST(ArchiveEntries, ComeAsTheyWereWritten) {
  const ArchiveEntry folder{Kind::folder, 0, "a/", ""};
  const ArchiveEntry file{Kind::file, 5, std::string{"\xff\0b", 3}, ""};
  const ArchiveEntry link{Kind::symbolic_link, 0, "c", "../d"};
  const auto source =
      source_of(encode(folder) + encode(file) + "12345" + encode(file) + "67890" + encode(link));
  ArchiveEntries entries{source};

  EXPECT_EQ(entries.next().value(), folder);
  EXPECT_EQ(content_of(entries), "");
  EXPECT_EQ(entries.next().value(), file);
  EXPECT_EQ(content_of(entries), "12345");
  EXPECT_EQ(entries.next().value(), file) << "and is not read";
  EXPECT_EQ(entries.next().value(), link);
  EXPECT_EQ(entries.next().value(), std::nullopt);
}

TEST(ArchiveEntries, ThatCannotBeAreRefused) {
  const ArchiveEntry file{Kind::file, 5, "name", "target"};
  const auto whole = encode(file) + "12345";
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const auto source = source_of(whole.substr(0, size));
    ArchiveEntries entries{source};
    auto entry = entries.next();
    if (entry) entry = entries.next();
    ASSERT_FALSE(entry) << size;
    EXPECT_EQ(entry.error().kind, ErrorKind::internal);
  }
  for (const auto& bad :
       {ArchiveEntry{Kind::file, 0, std::string(kMaxEntryName + 1, 'x'), ""},
        ArchiveEntry{Kind::symbolic_link, 0, "x", std::string(kMaxEntryName + 1, 'x')},
        ArchiveEntry{Kind::folder, 7, "x", ""}, ArchiveEntry{static_cast<Kind>(9), 0, "x", ""}}) {
    const auto source = source_of(encode(bad) + "1234567");
    EXPECT_FALSE(ArchiveEntries{source}.next());
  }
}

TEST(ArchiveEntries, EndWithTheErrorOfTheirSource) {
  const ArchiveEntries::Source source = [](char*, std::size_t) -> Result<std::size_t> {
    return Error{ErrorKind::timed_out, "late", "", {}};
  };
  const auto entry = ArchiveEntries{source}.next();
  ASSERT_FALSE(entry);
  EXPECT_EQ(entry.error().kind, ErrorKind::timed_out);
}

} // namespace
} // namespace slipway::engine_api
