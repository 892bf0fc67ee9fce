// SPDX-License-Identifier: Apache-2.0
// What the kernel enforces on a running process, as it says so itself.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <filesystem>

namespace slipway::sandbox {

/// Reads `PROC_DIR/cgroup` and `PROC_DIR/limits` (a /proc/PID) and the cgroup v2 files under
/// CGROUP_ROOT. A limit counts where it is at most as wide as asked, in the process's group or
/// above. Errors: not_found (the process has ended); io. Source: cgroups(7), proc(5).
Result<LimitsReport> read_limits(const std::filesystem::path& proc_dir,
                                 const std::filesystem::path& cgroup_root, const Limits& asked);

} // namespace slipway::sandbox
