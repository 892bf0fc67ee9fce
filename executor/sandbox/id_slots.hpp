// SPDX-License-Identifier: Apache-2.0
// Id slots: ranges of 65536 subordinate ids, one per concurrent job where there are enough. Slot 0
// is the common one: it takes every job that finds no slot of its own, so no job that was promised
// a range of its own ever meets another in it. N jobs with ranges of their own need N+1 ranges.
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

/// As take_id_slot, from FILES. `in_use`: slots that live job records name (a lock ends with the
/// process that holds it, a job does not).
Result<HeldSlot> take_id_slot_from(const SubordinateFiles& files,
                                   const std::filesystem::path& lock_dir, const std::string& user,
                                   int most, const std::set<int>& in_use = {});

} // namespace slipway::sandbox
