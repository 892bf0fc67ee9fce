// SPDX-License-Identifier: Apache-2.0
// The end of a container without Podman's own wait: it looks every 100 ms only whether a process
// that it killed is gone (libpod, waitPidStop). Once conmon has written how the container ended,
// Podman finds it ended and goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace slipway::sandbox {

/// Kills the first process (`pid`) of container `id` and waits, a second at most, until its conmon
/// has ended. Only where that process is a child of this user's conmon for `id`: a number that was
/// used again kills nothing. False: nothing was done, or it takes longer; removing it by Podman is
/// right after either.
bool quick_kill(const std::string& id, std::int64_t pid);

/// Kills the processes of containers that Podman does not know any more: where it is killed between
/// making and starting one, that one can be removed, and its first process waits on for ever. Only
/// what a Podman with `containers_conf` as its CONTAINERS_CONF began. Returns how many.
int end_orphans(const std::filesystem::path& containers_conf,
                const std::function<bool(const std::string& id)>& is_known);

} // namespace slipway::sandbox
