// SPDX-License-Identifier: Apache-2.0
// Takes from the calling process what reading bytes does not need, for good: whoever takes it over
// by a flaw of an unpacker has a layout to read and two folders to spoil, and no way to the
// network, to programs, to other processes or to files of the service user.
#pragma once

#include "executor/base/result.hpp"

#include <filesystem>
#include <vector>

namespace slipway::gate_worker {

struct Reach {
  std::vector<std::filesystem::path> read;  ///< folders: files in them can be read
  std::vector<std::filesystem::path> write; ///< folders: files in them can be read, made, removed
};

/// The Landlock ABI of this kernel; 0 where it has none, or was started without.
int landlock_abi();

/// Before there is a second thread. No new privileges, not dumpable, no core, at most 2 GiB of
/// memory; files by Landlock (landlock(7)) where the kernel has it; system calls by an allowlist
/// (seccomp(2)): no socket, no program, no process but threads, no look at other processes. What is
/// refused gives EPERM. Errors: misconfigured (the kernel refuses a filter; a folder is not there).
Status confine(const Reach& reach);

} // namespace slipway::gate_worker
