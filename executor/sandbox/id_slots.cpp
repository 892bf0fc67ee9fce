// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/id_slots.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMostFileBytes = 1UL << 20;

bool read_number(std::string_view text, std::uint64_t& number) {
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  return read.ec == std::errc{} && read.ptr == end && !text.empty();
}

Result<uid_t> uid_of(const std::string& user) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  const int cause = ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (cause != 0) return io_error("getpwnam", cause, user);
  if (found == nullptr) return Error{ErrorKind::misconfigured, "no such user: " + user, "", {}};
  return entry.pw_uid;
}

Result<std::uint64_t> ids_in(const std::filesystem::path& file, const std::string& user,
                             uid_t uid) {
  auto text = read_file(file, kMostFileBytes);
  if (!text) {
    if (text.error().kind == ErrorKind::not_found) return std::uint64_t{0};
    return std::move(text).error();
  }
  return count_subordinate_ids(*text, user, uid);
}

Result<std::uint64_t> ids_of(const SubordinateFiles& files, const std::string& user) {
  auto uid = uid_of(user);
  if (!uid) return std::move(uid).error();
  auto uids = ids_in(files.subuid, user, *uid);
  if (!uids) return uids;
  auto gids = ids_in(files.subgid, user, *uid);
  if (!gids) return gids;
  return std::min(*uids, *gids);
}

// Arithmetic with slots has 32 bits: at most 65535 exist.
int ranges_in(std::uint64_t ids) {
  return static_cast<int>(std::min<std::uint64_t>(ids / kSlotSize, 65535));
}

// The lock file's descriptor, or none where somebody else holds it.
Result<UniqueFd> try_lock(const std::filesystem::path& dir, int number, int mode) {
  const auto file = dir / ("slot-" + std::to_string(number));
  UniqueFd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!fd) return io_error("open", errno, file.string());
  if (::flock(fd.get(), mode | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return UniqueFd{};
  return io_error("flock", errno, file.string());
}

} // namespace

std::uint64_t count_subordinate_ids(std::string_view text, std::string_view user, uid_t uid) {
  const std::string number = std::to_string(uid);
  std::uint64_t sum = 0;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const auto owner = line.substr(0, first);
    std::uint64_t start = 0;
    std::uint64_t count = 0;
    if (owner != user && owner != number) continue;
    if (!read_number(line.substr(first + 1, second - first - 1), start)) continue;
    if (!read_number(line.substr(second + 1), count)) continue;
    // Ids end at 2^32 - 2; a range beyond is one that newuidmap refuses.
    if (start == 0 || count > 0xffffffffULL || start + count > 0xffffffffULL) continue;
    sum += count;
  }
  return sum;
}

IdSlot SlotPlan::slot(int number) const {
  IdSlot slot;
  slot.number = number;
  slot.shared = number == 0;
  slot.first = 1 + static_cast<std::uint32_t>(number) * kSlotSize;
  slot.size = number == 0 ? common_size : kSlotSize;
  return slot;
}

SlotPlan plan_slots(std::uint64_t ids, const SlotWishes& wishes) {
  SlotPlan plan;
  plan.common_size = static_cast<std::uint32_t>(std::min<std::uint64_t>(ids, kSlotSize));
  int left = std::max(ranges_in(ids) - 1, 0);
  int next = 1;
  const auto give = [&](SlotShare& share, int wanted) {
    share.first = next;
    share.count = std::clamp(wanted, 0, left);
    next += share.count;
    left -= share.count;
  };
  const int others = 1 + wishes.builders + wishes.stores;
  give(plan.jobs, std::min(wishes.jobs, std::max(left - others, (left + 1) / 2)));
  give(plan.scanner, 1);
  give(plan.builders, std::min(wishes.builders, left - std::min(wishes.stores, left / 2)));
  give(plan.stores, wishes.stores);
  return plan;
}

Result<SlotPlan> read_slot_plan(const SubordinateFiles& files, const std::string& user,
                                const SlotWishes& wishes) {
  auto ids = ids_of(files, user);
  if (!ids) return std::move(ids).error();
  return plan_slots(*ids, wishes);
}

Result<HeldSlot> take_id_slot_from(const SubordinateFiles& files,
                                   const std::filesystem::path& lock_dir, const std::string& user,
                                   int most, const std::set<int>& in_use) {
  const auto granted = ids_of(files, user);
  if (!granted) return Error{granted.error()};
  const std::uint64_t ids = *granted;
  if (ids < 1000) {
    return Error{ErrorKind::misconfigured,
                 "user " + user + " has " + std::to_string(ids) + " subordinate ids",
                 "run packaging/setup-runner, or: usermod --add-subuids 100000-165535 "
                 "--add-subgids 100000-165535 " +
                     user,
                 {}};
  }
  if (auto made = make_directory(lock_dir); !made) return std::move(made).error();

  for (int number = 1; number < std::min(ranges_in(ids), most + 1); ++number) {
    if (in_use.contains(number)) continue;
    auto lock = try_lock(lock_dir, number, LOCK_EX);
    if (!lock) return std::move(lock).error();
    if (!*lock) continue;
    IdSlot slot;
    slot.first = 1 + static_cast<std::uint32_t>(number) * kSlotSize;
    slot.size = kSlotSize;
    slot.number = number;
    return HeldSlot{slot, *std::move(lock)};
  }
  auto lock = try_lock(lock_dir, 0, LOCK_SH);
  if (!lock) return std::move(lock).error();
  IdSlot slot;
  slot.first = 1;
  slot.size = static_cast<std::uint32_t>(std::min<std::uint64_t>(ids, kSlotSize));
  slot.number = 0;
  slot.shared = true;
  return HeldSlot{slot, *std::move(lock)};
}

Result<HeldSlot> take_id_slot(const std::filesystem::path& lock_dir, const std::string& user,
                              int most) {
  return take_id_slot_from({}, lock_dir, user, most);
}

} // namespace slipway::sandbox
