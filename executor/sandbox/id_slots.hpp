// SPDX-License-Identifier: Apache-2.0
// Id slots: ranges of 65536 subordinate ids, where there are enough one for each concurrent job,
// each warm builder, each store, and one for scanners. Slot 0 is the common one: it takes whatever
// finds no slot of its own, so nobody who was promised a range of its own ever meets another in it.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

namespace slipway::sandbox {

constexpr std::uint32_t kSlotSize = 65536;

/// How many ids the lines of subuid(5) grant to USER (by name or by number). Malformed lines grant
/// nothing. Rootless Podman lines the ranges up from 1, so the sum is all that matters.
std::uint64_t count_subordinate_ids(std::string_view text, std::string_view user, uid_t uid);

/// Where subordinate ids are written down; other files in tests.
struct SubordinateFiles {
  std::filesystem::path subuid = "/etc/subuid";
  std::filesystem::path subgid = "/etc/subgid";
};

/// Slots first … first + count - 1; none where `count` is 0.
struct SlotShare {
  int first = 0;
  int count = 0;
  bool has(int number) const { return number >= first && number < first + count; }
};

/// How many ranges of their own are wanted.
struct SlotWishes {
  int jobs = 0;
  int builders = 0;
  int stores = 0;
  int ranges() const { return 2 + jobs + builders + stores; } ///< with the common and the scanners'
};

/// Which slots are whose; no two shares have one in common.
struct SlotPlan {
  SlotShare jobs; ///< the lowest: a project's cache is known by its job's slot
  SlotShare scanner;
  SlotShare builders;
  SlotShare stores;
  std::uint32_t common_size = kSlotSize; ///< of slot 0
  /// Slot 0 is shared.
  IdSlot slot(int number) const;
  /// The scanners' own, or the common one.
  IdSlot scanners() const { return slot(scanner.count > 0 ? scanner.first : 0); }
};

/// Divides what IDS subordinate ids have. Where they are too few, half of the ranges and at least
/// one is for jobs. Pure.
SlotPlan plan_slots(std::uint64_t ids, const SlotWishes& wishes);

/// The same for the ids that FILES grant to USER. Errors: misconfigured (no such user); io.
Result<SlotPlan> read_slot_plan(const SubordinateFiles& files, const std::string& user,
                                const SlotWishes& wishes);

/// As take_id_slot, from FILES. `in_use`: slots that live job records name (a lock ends with the
/// process that holds it, a job does not).
Result<HeldSlot> take_id_slot_from(const SubordinateFiles& files,
                                   const std::filesystem::path& lock_dir, const std::string& user,
                                   int most, const std::set<int>& in_use = {});

} // namespace slipway::sandbox
