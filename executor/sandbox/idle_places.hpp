// SPDX-License-Identifier: Apache-2.0
// What is kept warm between jobs (builders, stores): a folder of slipway's own with one folder for
// each place, which tells when the place was used last and holds the locks of those who use it.
//   - A place is erased under its lock alone; its folder and its lock files stay, since a process
//     may be waiting on them. They are empty and few.
//   - What is kept belongs to the ids of one slot, so a place has the same slot until it is erased.
//   - Which one goes first is told by its last use, never by what a job says.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/lock_file.hpp"
#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/id_slots.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway::sandbox {

struct IdlePlace {
  std::string id; ///< 16 hex digits
  std::filesystem::path dir;
  WallTime last_used;
};

class IdlePlaces {
public:
  IdlePlaces(std::filesystem::path folder, const Clock& clock)
      : folder_{std::move(folder)}, clock_{clock} {}

  std::filesystem::path dir(const std::string& id) const { return folder_ / id; }
  /// Makes the place's folder, 0700. Errors: io.
  Result<std::filesystem::path> make(const std::string& id) const;
  /// Writes down that it is used now: from then on it is among `all`. Errors: io.
  Status used(const std::string& id) const;
  /// What is kept there must not serve anybody any more: whoever has it alone next erases it first.
  /// Nothing where there is no such place. Errors: io.
  Status spoil(const std::string& id) const;
  bool is_spoilt(const std::string& id) const;
  /// Of one that was erased.
  void forget(const std::string& id) const noexcept;
  /// Those that were used and not erased, the one idle longest first. Errors: io.
  Result<std::vector<IdlePlace>> all() const;

  /// Is its slot none of `share`, and not the common one? By now it may be a job's: it should be
  /// erased as soon as nobody uses it.
  bool has_anothers_slot(const std::string& id, const SlotShare& share) const;
  /// The same, or it has the common slot and one of `share` is free: for whoever uses it next, who
  /// takes that slot at once. To a reaper all that have the common slot would look so.
  bool is_misplaced(const std::string& id, const SlotShare& share) const;
  /// As `used`, and says the place's slot: the one it has, else the lowest of `share` that no other
  /// has, else 0. It has it until `forget`. Errors: io; timed_out (others are at it for too long).
  Result<int> take_slot(const std::string& id, const SlotShare& share) const;

  /// Erases one unless somebody uses it; says whether it did.
  using Erase = std::function<Result<bool>(const IdlePlace&)>;
  /// Erases those idle longest until there are fewer than `most` beside `wanted`. False where too
  /// many are in use. Errors: io; those of `erase`.
  Result<bool> make_room(const std::string& wanted, std::size_t most, const Erase& erase) const;

private:
  std::optional<int> slot_of(const std::string& id) const;
  std::set<int> slots_of_others(const std::string& id) const;

  std::filesystem::path folder_;
  const Clock& clock_;
};

} // namespace slipway::sandbox
