// SPDX-License-Identifier: Apache-2.0
// Whose failure it is that the disk is full: what a job has written, of what the disk lost while
// the job lived. See "disk" in docs/operating.md.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/disk_use.hpp"

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace slipway::gitlab {

inline constexpr std::uint64_t kFewestFiles = 10000; ///< of a file system that has a number of them

/// What is free on the file system of one place.
struct Room {
  std::uint64_t bytes = 0;
  std::uint64_t files = UINT64_MAX; ///< as much as that: they are not counted
  /// Nothing where the place cannot be asked.
  static std::optional<Room> of(const std::filesystem::path& place);
  /// Less than `floor` bytes, or room for fewer than kFewestFiles? 0: nobody asks.
  bool is_short(std::uint64_t floor) const;
};

/// What was free when a job was prepared.
struct RoomAtStart {
  std::time_t since = 0;
  std::vector<Room> rooms; ///< one for each place, in their order
  static RoomAtStart of(const std::vector<std::filesystem::path>& places);
  std::string to_text() const;
  /// Nothing where it is not one.
  static std::optional<RoomAtStart> parse(const std::string& text);
};

/// A job's part of what a file system lost while the job lived.
struct DiskShare {
  std::uint64_t own = 0;
  std::uint64_t lost = 0;
  bool in_files = false; ///< their number; else bytes
};

/// Of the places that are short, the one that lost most. Nothing where none is short, or `now` is
/// not of the same places.
std::optional<DiskShare> share_of(const RoomAtStart& before, const std::vector<Room>& now,
                                  std::uint64_t floor, const sandbox::DiskUse& use);

/// The error of a script that was ended at `floor` bytes: `unavailable`, so that the runner may try
/// again, where the job has written less than a quarter of what was lost; else the job's own, also
/// where nothing is known of its share.
Error no_space(const std::string& what, std::uint64_t floor, const std::optional<DiskShare>& share);

} // namespace slipway::gitlab
