// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/disk_share.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <sstream>

namespace slipway::gitlab {
namespace {

constexpr std::uint64_t kSmallPart = 4; // one of so many is no small part any more
constexpr std::size_t kMostRooms = 16;

std::string amount(std::uint64_t number, bool in_files) {
  return in_files ? std::to_string(number) + " files" : std::to_string(number >> 20) + " MiB";
}

} // namespace

std::optional<Room> Room::of(const std::filesystem::path& place) {
  struct statvfs facts {};
  if (::statvfs(place.c_str(), &facts) != 0) return std::nullopt;
  Room room{facts.f_bavail * facts.f_frsize};
  if (facts.f_files > 0) room.files = facts.f_favail; // where they are not counted it is 0
  return room;
}

bool Room::is_short(std::uint64_t floor) const {
  return floor != 0 && (bytes < floor || files < kFewestFiles);
}

RoomAtStart RoomAtStart::of(const std::vector<std::filesystem::path>& places) {
  RoomAtStart start{std::time(nullptr), {}};
  for (const auto& place : places)
    start.rooms.push_back(Room::of(place).value_or(Room{}));
  return start;
}

std::string RoomAtStart::to_text() const {
  auto text = std::to_string(since);
  for (const auto& room : rooms)
    text += " " + std::to_string(room.bytes) + " " + std::to_string(room.files);
  return text + "\n";
}

std::optional<RoomAtStart> RoomAtStart::parse(const std::string& text) {
  RoomAtStart start;
  std::istringstream words{text};
  if (!(words >> start.since)) return std::nullopt;
  for (Room room; words >> room.bytes >> room.files;)
    start.rooms.push_back(room);
  const bool is_whole = start.to_text() == text;
  if (!is_whole || start.rooms.empty() || start.rooms.size() > kMostRooms) return std::nullopt;
  return start;
}

std::optional<DiskShare> share_of(const RoomAtStart& before, const std::vector<Room>& now,
                                  std::uint64_t floor, const sandbox::DiskUse& use) {
  if (before.rooms.size() != now.size()) return std::nullopt;
  const auto lost = [](std::uint64_t then, std::uint64_t left) {
    return then > left ? then - left : 0;
  };
  std::optional<DiskShare> most;
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (!now[i].is_short(floor)) continue;
    const auto share = now[i].bytes < floor
                           ? DiskShare{use.bytes, lost(before.rooms[i].bytes, now[i].bytes), false}
                           : DiskShare{use.files, lost(before.rooms[i].files, now[i].files), true};
    if (!most || share.lost > most->lost) most = share;
  }
  return most;
}

Error no_space(const std::string& what, std::uint64_t floor,
               const std::optional<DiskShare>& share) {
  Error error{ErrorKind::denied,
              what + ": less than " + std::to_string(floor >> 20) +
                  " MiB of disk are left on this runner, or room for fewer than " +
                  std::to_string(kFewestFiles) + " files",
              "write less, or ask the operator for space (disk_floor in [sandbox])",
              {}};
  if (!share) return error;
  const bool is_small = share->own < share->lost / kSmallPart;
  error.what += "; of the " + amount(share->lost, share->in_files) +
                " that went since this job was prepared it wrote " + (is_small ? "only " : "") +
                amount(share->own, share->in_files);
  if (is_small) {
    error.kind = ErrorKind::unavailable;
    error.hint = "run it again (retry: when: runner_system_failure does); the operator finds what "
                 "else fills the disk (disk_floor in [sandbox])";
  }
  return error;
}

} // namespace slipway::gitlab
