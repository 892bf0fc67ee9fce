// SPDX-License-Identifier: Apache-2.0
// Runs programs in a sandbox through its slipway-init, without the container engine.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/script_protocol.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

namespace slipway::sandbox {

/// Makes the listening socket that prepare hands to init (0600, backlog 16).
/// Errors: io; bad_input (path over 107 bytes).
Result<UniqueFd> listen_for_scripts(const std::filesystem::path& socket);

/// What to do with output as it comes; called from `run_script`'s own thread.
using OutputSink = std::function<void(std::string_view bytes)>;

struct ScriptIo {
  /// stdin: bytes given whole (script) or a descriptor that the sandbox reads from itself.
  std::string_view input;
  int input_fd = -1; ///< lent; wins over `input` where >= 0
  OutputSink out;
  OutputSink err;
  /// Readable (eventfd, signalfd) when the run has to end: init is told to terminate.
  int stop_fd = -1;
  std::chrono::milliseconds deadline{std::chrono::hours{24 * 7}};
  /// After init's answer the pipes are drained at most so long: what a script left behind is dead.
  std::chrono::milliseconds drain{2000};
};

/// Connects, sends the request with three pipe ends, forwards output, returns how the program
/// ended. `stopped` in the result says that stop_fd fired. Errors: unavailable (init is gone: the
/// job killed its PID 1, or the sandbox died); timed_out; bad_input (init talks nonsense); io.
struct ScriptResult {
  engine_api::ScriptEnding ending;
  bool stopped = false;
};
Result<ScriptResult> run_script(const std::filesystem::path& socket,
                                const engine_api::ScriptRequest& request, const ScriptIo& io);

} // namespace slipway::sandbox
