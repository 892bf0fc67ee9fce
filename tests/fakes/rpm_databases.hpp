// SPDX-License-Identifier: Apache-2.0
// Databases of rpm with chosen packages, in each of its formats. Source: rpm 4.18, lib/header.c,
// lib/backend/ndb/rpmpkg.c; Berkeley DB 5.3, src/dbinc/db_page.h.
#pragma once

#include "executor/oci/digest.hpp"

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace slipway::fakes {

inline std::string little(std::uint32_t value, std::size_t bytes = 4) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i)
    text += static_cast<char>(value >> 8 * i & 0xff);
  return text;
}
inline std::string big(std::uint32_t value, std::size_t bytes = 4) {
  const auto text = little(value, bytes);
  return {text.rbegin(), text.rend()};
}

struct RpmEntry {
  std::uint32_t tag = 0;
  std::uint32_t type = 6; ///< 3, 4: numbers of 16, 32 bits; 6: text; 7: bytes; 8: texts
  std::uint32_t count = 1;
  std::string data;
};

/// `dribbles`: of the last entries, those behind the region; -1: there is no region, as of rpm 3.
inline std::string rpm_header(const std::vector<RpmEntry>& entries, int dribbles = 0) {
  std::string index;
  std::string store;
  const bool has_region = dribbles >= 0;
  const auto behind = static_cast<std::size_t>(has_region ? dribbles : 0);
  std::uint32_t region_end = 0;
  const auto end_region = [&] {
    region_end = static_cast<std::uint32_t>(store.size());
    const auto back =
        static_cast<std::uint32_t>(-16 * static_cast<int>(entries.size() - behind + 1));
    store += big(63) + big(7) + big(back) + big(16);
  };
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (has_region && i == entries.size() - behind) end_region();
    const auto& [tag, type, count, data] = entries[i];
    const std::size_t aligned = type == 3 ? 2 : type == 4 ? 4 : 1;
    store.resize((store.size() + aligned - 1) / aligned * aligned);
    index += big(tag) + big(type) + big(static_cast<std::uint32_t>(store.size())) + big(count);
    store += data;
  }
  if (has_region && behind == 0) end_region();
  if (has_region) index = big(63) + big(7) + big(region_end) + big(16) + index;
  return big(static_cast<std::uint32_t>(index.size() / 16)) +
         big(static_cast<std::uint32_t>(store.size())) + index + store;
}

struct RpmFile {
  std::string path;
  std::uint32_t flags = 0; ///< 1 configuration, 2 documentation, 64 ghost, 128 licence
  std::uint32_t mode = 0100644;
  std::string digest = {};
  std::uint32_t color = 0; ///< 2: an ELF of 64 bits
};

struct Rpm {
  std::string name = "openssl-libs";
  std::string version = "3.0.7";
  std::string release = "1.el9";
  std::string vendor = {};
  std::vector<RpmFile> files = {{"/usr/lib64/libssl.so.3"}};
  std::uint32_t epoch = 0;
  std::string arch = "x86_64";
  std::string source = "openssl-3.0.7-1.el9.src.rpm";
  std::string module = {};

  std::vector<RpmEntry> entries() const {
    const auto text = [](const std::string& value) { return value + std::string(1, '\0'); };
    std::vector<RpmEntry> all{
        {1000, 6, 1, text(name)}, {1001, 6, 1, text(version)}, {1002, 6, 1, text(release)}};
    if (epoch != 0) all.push_back({1003, 4, 1, big(epoch)});
    all.push_back({1004, 9, 1, text("a package")});
    if (!vendor.empty()) all.push_back({1011, 6, 1, text(vendor)});
    all.push_back({1022, 6, 1, text(arch)});
    const auto count = static_cast<std::uint32_t>(files.size());
    std::string modes;
    std::string flags;
    std::string indexes;
    std::string digests;
    std::string colors;
    std::string bases;
    std::string dirs;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto slash = files[i].path.rfind('/') + 1;
      modes += big(files[i].mode, 2);
      flags += big(files[i].flags);
      digests += text(files[i].digest);
      colors += big(files[i].color);
      indexes += big(i);
      bases += text(files[i].path.substr(slash));
      dirs += text(files[i].path.substr(0, slash));
    }
    if (count > 0) {
      all.push_back({1030, 3, count, modes});
      all.push_back({1035, 8, count, digests});
      all.push_back({1037, 4, count, flags});
    }
    all.push_back({1044, 6, 1, text(source)});
    if (count > 0) {
      all.push_back({1116, 4, count, indexes});
      all.push_back({1117, 8, count, bases});
      all.push_back({1118, 8, count, dirs});
      all.push_back({1140, 4, count, colors});
    }
    if (!module.empty()) all.push_back({5096, 6, 1, text(module)});
    return all;
  }
  std::string header() const { return rpm_header(entries()); }
  /// With its own digest, as rpm keeps it, and another version in what was added, if any.
  std::string built_header(const std::string& added_version = "") const {
    auto all = entries();
    const auto digest =
        oci::Digest::of(std::string{"\x8e\xad\xe8\x01\0\0\0\0", 8} + rpm_header(all)).hex();
    all.push_back({273, 6, 1, digest + std::string(1, '\0')});
    all.push_back({1008, 4, 1, big(1)});
    if (added_version.empty()) return rpm_header(all, 2);
    all.push_back({1001, 6, 1, added_version + std::string(1, '\0')});
    return rpm_header(all, 3);
  }
};

/// What `statements` make, with "?1", "?2" in the last one for each of `blobs` and its number.
inline std::string sqlite_of(const std::vector<std::string>& statements,
                             const std::vector<std::string>& blobs = {}) {
  sqlite3* database = nullptr;
  ::sqlite3_open(":memory:", &database);
  for (const auto& statement : statements) {
    if (statement.find("?1") == std::string::npos) {
      ::sqlite3_exec(database, statement.c_str(), nullptr, nullptr, nullptr);
      continue;
    }
    for (std::size_t i = 0; i < blobs.size(); ++i) {
      sqlite3_stmt* insert = nullptr;
      ::sqlite3_prepare_v2(database, statement.c_str(), -1, &insert, nullptr);
      ::sqlite3_bind_blob(insert, 1, blobs[i].data(), static_cast<int>(blobs[i].size()), nullptr);
      ::sqlite3_bind_int(insert, 2, static_cast<int>(i + 1));
      ::sqlite3_step(insert);
      ::sqlite3_finalize(insert);
    }
  }
  sqlite3_int64 size = 0;
  auto* bytes = ::sqlite3_serialize(database, "main", &size, 0);
  std::string made{reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)};
  ::sqlite3_free(bytes);
  ::sqlite3_close(database);
  return made;
}

inline const std::string kRpmTable = "CREATE TABLE IF NOT EXISTS 'Packages' (hnum INTEGER PRIMARY "
                                     "KEY AUTOINCREMENT,blob BLOB NOT NULL)";
inline const std::string kRpmRow = "INSERT INTO Packages VALUES (?2, ?1)";

/// As rpm leaves it: with a write-ahead log, though an empty one.
inline std::string rpm_sqlite(const std::vector<std::string>& headers) {
  auto bytes = sqlite_of({kRpmTable,
                          "CREATE TABLE 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx "
                          "INTEGER NOT NULL, FOREIGN KEY (hnum) REFERENCES 'Packages'(hnum))",
                          "CREATE INDEX 'Name_key_idx' ON 'Name'(key ASC)", kRpmRow, "ANALYZE"},
                         headers);
  bytes[18] = bytes[19] = 2;
  return bytes;
}

/// At most 254.
inline std::string rpm_ndb(const std::vector<std::string>& headers) {
  std::string slots = "RpmP" + little(0) + little(1) + little(1) + std::string(16, '\0');
  std::string blobs;
  for (std::uint32_t i = 0; i < 254; ++i) {
    if (i >= headers.size()) {
      slots += "Slot" + std::string(12, '\0');
      continue;
    }
    const auto size = static_cast<std::uint32_t>(headers[i].size());
    auto blob = "BlbS" + little(i + 1) + little(0) + little(size) + headers[i];
    blob.resize((blob.size() + 15) / 16 * 16 + 16);
    slots += "Slot" + little(i + 1) + little(static_cast<std::uint32_t>(4096 + blobs.size()) / 16) +
             little(static_cast<std::uint32_t>(blob.size()) / 16);
    blobs += blob;
  }
  return slots + blobs;
}

/// At most 20. `number`: little() as rpm on most machines, or big().
inline std::string rpm_bdb(const std::vector<std::string>& headers,
                           std::string (*number)(std::uint32_t, std::size_t) = little) {
  constexpr std::size_t kPage = 512;
  constexpr std::size_t kContent = kPage - 26;
  const auto page = [&](std::uint32_t at, std::uint32_t next, std::uint32_t entries,
                        std::uint32_t free, char type) {
    return std::string(8, '\0') + number(at, 4) + number(0, 4) + number(next, 4) +
           number(entries, 2) + number(free, 2) + std::string{'\0', type};
  };
  std::string offsets;
  std::string items; // each grows downwards from the end of the page
  std::string chains;
  std::uint32_t at = 2;
  // The first key's value is a number of rpm's own.
  const auto add = [&](const std::string& item) {
    items = item + items;
    offsets += number(static_cast<std::uint32_t>(kPage - items.size()), 2);
  };
  add("\1" + number(0, 4));
  add("\1" + number(9, 4));
  for (const auto& header : headers) {
    add("\1" + number(at, 4));
    add(std::string{"\3\0\0\0", 4} + number(at, 4) +
        number(static_cast<std::uint32_t>(header.size()), 4));
    for (std::size_t i = 0; i < header.size(); i += kContent) {
      const auto part = header.substr(i, kContent);
      const bool is_last = i + kContent >= header.size();
      auto one = page(at, is_last ? 0 : at + 1, 1, static_cast<std::uint32_t>(part.size()), 7);
      one += part;
      one.resize(kPage);
      chains += one;
      ++at;
    }
  }
  auto metadata = std::string(8, '\0') + number(0, 4) + number(0x00061561, 4) + number(9, 4) +
                  number(kPage, 4) + std::string{"\0\10\0\0", 4} + number(0, 4) + number(at - 1, 4);
  metadata.resize(kPage);
  auto hash = page(1, 0, static_cast<std::uint32_t>(offsets.size() / 2), 0, 13) + offsets;
  hash.resize(kPage - items.size());
  return metadata + hash + items + chains;
}

} // namespace slipway::fakes
