// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/idle_places.hpp"

#include "executor/base/file.hpp"
#include "executor/base/passing_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

namespace slipway::sandbox {

namespace {

using namespace std::chrono_literals;

constexpr const char* kLastUsed = "last-used";
constexpr const char* kSpoilt = "spoilt";
constexpr const char* kSlot = "slot"; ///< its number
constexpr const char* kSlotsLock = "slots.lock";

bool is_id(const std::string& text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

} // namespace

Result<std::filesystem::path> IdlePlaces::make(const std::string& id) const {
  if (Status made = make_directory(folder_, 0700); !made) return std::move(made).error();
  if (Status made = make_directory(dir(id), 0700); !made) return std::move(made).error();
  return dir(id);
}

Status IdlePlaces::used(const std::string& id) const {
  // One that a crash leaves empty was written when its file was.
  return replace_passing_file(dir(id) / kLastUsed, rfc3339(clock_.now()));
}

Status IdlePlaces::spoil(const std::string& id) const {
  std::error_code failed;
  if (!std::filesystem::exists(dir(id), failed)) return {};
  return replace_file(dir(id) / kSpoilt, "");
}

bool IdlePlaces::is_spoilt(const std::string& id) const {
  return ::access((dir(id) / kSpoilt).c_str(), F_OK) == 0;
}

void IdlePlaces::forget(const std::string& id) const noexcept {
  (void)::unlink((dir(id) / kSpoilt).c_str());
  (void)::unlink((dir(id) / kLastUsed).c_str()); // from now on others may be given its slot
  (void)::unlink((dir(id) / kSlot).c_str());
}

/// None where nothing is kept: a number that was left by what died while it forgot is nobody's.
/// What was kept before slots were written down is of slot 0.
std::optional<int> IdlePlaces::slot_of(const std::string& id) const {
  if (::access((dir(id) / kLastUsed).c_str(), F_OK) != 0) return std::nullopt;
  int number = -1;
  if (const auto text = read_file(dir(id) / kSlot, 16)) {
    const auto read = std::from_chars(text->data(), text->data() + text->size(), number);
    if (read.ec != std::errc{} || number < 0) return 0;
    return number;
  }
  return 0;
}

std::set<int> IdlePlaces::slots_of_others(const std::string& id) const {
  std::set<int> taken;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{folder_, failed}, end; !failed && it != end;
       it.increment(failed)) {
    const auto other = it->path().filename().string();
    if (!is_id(other) || other == id) continue;
    if (const auto slot = slot_of(other)) taken.insert(*slot);
  }
  return taken;
}

bool IdlePlaces::has_anothers_slot(const std::string& id, const SlotShare& share) const {
  const auto slot = slot_of(id);
  return slot && *slot != 0 && !share.has(*slot);
}

bool IdlePlaces::is_misplaced(const std::string& id, const SlotShare& share) const {
  if (has_anothers_slot(id, share)) return true;
  if (slot_of(id) != 0) return false;
  const auto taken = slots_of_others(id);
  for (int number = share.first; share.has(number); ++number)
    if (!taken.contains(number)) return true;
  return false;
}

Result<int> IdlePlaces::take_slot(const std::string& id, const SlotShare& share) const {
  auto lock = lock_file(folder_ / kSlotsLock, LOCK_EX, 10s);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0)
    return Error{ErrorKind::timed_out, "others give out id slots for too long", "", {}};
  int wanted = 0;
  const auto held = slot_of(id);
  if (held) {
    wanted = *held;
  } else {
    const auto taken = slots_of_others(id);
    for (int number = share.first; wanted == 0 && share.has(number); ++number)
      if (!taken.contains(number)) wanted = number;
  }
  // In this order: what dies in between is found by a reaper.
  if (Status written = used(id); !written) return std::move(written).error();
  if (held) return wanted;
  if (Status written = replace_file(dir(id) / kSlot, std::to_string(wanted)); !written)
    return std::move(written).error();
  return wanted;
}

Result<std::vector<IdlePlace>> IdlePlaces::all() const {
  std::vector<IdlePlace> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{folder_, failed}, end; !failed && it != end;
       it.increment(failed)) {
    IdlePlace one;
    one.id = it->path().filename().string();
    one.dir = it->path();
    if (!is_id(one.id)) continue;
    struct stat facts {};
    if (::stat((one.dir / kLastUsed).c_str(), &facts) != 0) continue; // erased
    if (const auto text = read_file(one.dir / kLastUsed, 64);
        !text || !parse_rfc3339(*text, one.last_used))
      one.last_used = WallTime{std::chrono::seconds{facts.st_mtim.tv_sec}};
    found.push_back(std::move(one));
  }
  if (failed && failed != std::errc::no_such_file_or_directory)
    return Error{ErrorKind::io, "reading " + folder_.string() + ": " + failed.message(), "", {}};
  std::sort(found.begin(), found.end(),
            [](const IdlePlace& a, const IdlePlace& b) { return a.last_used < b.last_used; });
  return found;
}

Result<bool> IdlePlaces::make_room(const std::string& wanted, std::size_t most,
                                   const Erase& erase) const {
  auto found = all();
  if (!found) return std::move(found).error();
  auto others = static_cast<std::size_t>(std::count_if(
      found->begin(), found->end(), [&](const IdlePlace& one) { return one.id != wanted; }));
  std::optional<Error> failed; // it is as good as in use: another may go
  for (const IdlePlace& one : *found) {
    if (others < most) return true;
    if (one.id == wanted) continue;
    auto erased = erase(one);
    if (!erased && !failed) failed = erased.error();
    if (erased.ok() && *erased) --others;
  }
  if (others >= most && failed) return *std::move(failed);
  return others < most;
}

} // namespace slipway::sandbox
