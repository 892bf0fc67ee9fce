// SPDX-License-Identifier: Apache-2.0
// The context of a build that an API client names by its address (`POST /build?remote=`), fetched
// where this program runs: in the sandbox of the job's that slipway has for that.
#pragma once

#include "executor/shim/run.hpp"

namespace slipway::shim {

/// Reads the address and the name for a file that is no archive, a line each, and prints the
/// context as a tar, or an archive as it came; on stderr what it is, or why there is none. Nothing
/// is printed before all of it was fetched. Returns the exit code.
int print_remote_context(const Surroundings& world);

} // namespace slipway::shim
