// SPDX-License-Identifier: Apache-2.0
// flock(2) with a deadline: the system call has none, so it is asked again in short steps.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <sys/file.h>

#include <chrono>
#include <filesystem>
#include <functional>

namespace slipway {

/// Takes the lock on `fd` (lent), LOCK_SH or LOCK_EX, or false once `give_up` says so, which is
/// asked at least once where somebody else has it. `file` is named in errors. Errors: io.
Result<bool> await_lock(int fd, int operation, const std::function<bool()>& give_up,
                        const std::filesystem::path& file);

/// The same on a file (0600) that is made where missing, but not its folder. An empty descriptor
/// where somebody else kept it. Errors: not_found (no such folder); io.
Result<UniqueFd> lock_file(const std::filesystem::path& file, int operation,
                           const std::function<bool()>& give_up);
/// The same; waits at most `patience`.
Result<UniqueFd> lock_file(const std::filesystem::path& file, int operation,
                           std::chrono::milliseconds patience);

/// What gives up after `patience`.
std::function<bool()> give_up_after(std::chrono::milliseconds patience);

} // namespace slipway
