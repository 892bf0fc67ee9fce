// SPDX-License-Identifier: Apache-2.0
// The loop of PID 1: takes run requests from the script socket, starts programs, reaps every child
// of the sandbox, and ends what a program left behind. It never waits for one client or program
// while another needs it.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <chrono>
#include <cstddef>

namespace slipway::init {

struct ServerLimits {
  std::size_t connections = 64;
  std::chrono::milliseconds request_deadline{10000}; ///< connect to whole request
  std::chrono::milliseconds kill_bound{5000};        ///< for processes that do not die of SIGKILL
  std::chrono::milliseconds shutdown_grace{3000};    ///< SIGTERM to SIGKILL when the sandbox ends
};

/// Serves until SIGTERM or SIGINT comes from outside the sandbox; then ends everything and returns.
/// Precondition: PID 1, every signal blocked in all threads. Errors: io.
Status serve(UniqueFd listener, const ServerLimits& limits);

} // namespace slipway::init
