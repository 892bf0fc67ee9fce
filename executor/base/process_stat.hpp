// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of one process in /proc/PID/stat.
#pragma once

#include <cstdint>
#include <optional>

namespace slipway {

struct ProcessStat {
  char state = '?'; ///< 'Z' and 'X': it has ended
  std::int64_t parent = 0;
  std::uint64_t start_time = 0; ///< clock ticks after boot
  std::uint64_t resident = 0;   ///< bytes, shared ones in full
};

/// None where there is no such process, or it cannot be read. Source: proc(5).
std::optional<ProcessStat> read_process_stat(std::int64_t pid);

} // namespace slipway
