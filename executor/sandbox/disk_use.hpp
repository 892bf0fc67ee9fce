// SPDX-License-Identifier: Apache-2.0
// What sandboxes have written to the disk, read from the files themselves: Podman is not asked, and
// its locks are not waited for. It
//   - enters the user namespace of rootless Podman, so that no mode of a file hides it;
//   - does not see files that were removed while a process still has them open.
#pragma once

#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

namespace slipway::sandbox {

struct DiskUse {
  std::uint64_t bytes = 0; ///< allocated, not the length of files
  std::uint64_t files = 0; ///< of any kind
};

/// What is looked at, in the storage below the service user's home.
struct DiskUseQuery {
  std::vector<std::string> prefixes; ///< sandboxes and volumes whose names begin so
  /// Also what ids of this range have written to volumes that have no name (an image's VOLUME).
  IdSlot ids;
  std::vector<std::filesystem::path> folders; ///< and these
  std::time_t since = 0; ///< only files that were changed after that (by their ctime)
};

/// Counts what was written; a file with several names counts once for all that were found of them.
/// Ended by `deadline`. Errors: not_found (no storage there); bad_input (Podman's list of
/// containers); timed_out; io; those of Podman::unshare. Source: containers-storage's
/// overlay-containers/containers.json.
Result<DiskUse> disk_use(Podman& podman, const DiskUseQuery& query, std::chrono::seconds deadline);

} // namespace slipway::sandbox
