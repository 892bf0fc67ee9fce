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

/// The control group below which sandboxes get groups of their own, as Podman names it: the folder
/// "sandboxes" beside the group of the process whose `PROC_DIR/cgroup` it reads, if it is there and
/// this user's. "": none; crun leaves a sandbox in its caller's group then, and limits nothing. The
/// service's drop-in makes it, as the kernel hands no controller on below a group that has
/// processes. Source: cgroups(7), "no internal processes"; packaging/setup-runner.
std::string sandboxes_group(const std::filesystem::path& proc_dir = "/proc/self",
                            const std::filesystem::path& cgroup_root = "/sys/fs/cgroup");

} // namespace slipway::sandbox
