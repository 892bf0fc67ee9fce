// SPDX-License-Identifier: Apache-2.0
// The end of a container without Podman's own wait: it looks every 100 ms only whether a process
// that it killed is gone (libpod, waitPidStop). Once conmon has written how the container ended,
// Podman finds it ended and goes on.
#pragma once

#include <cstdint>
#include <string>

namespace slipway::sandbox {

/// Kills the first process (`pid`) of container `id` and waits, a second at most, until its conmon
/// has ended. Only where that process is a child of this user's conmon for `id`: a number that was
/// used again kills nothing. False: nothing was done, or it takes longer; removing it by Podman is
/// right after either.
bool quick_kill(const std::string& id, std::int64_t pid);

} // namespace slipway::sandbox
