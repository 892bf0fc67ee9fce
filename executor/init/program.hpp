// SPDX-License-Identifier: Apache-2.0
// Starting one program of the sandbox: own session, the asked user, environment and folder, and
// nothing of init's own.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/script_protocol.hpp"

#include <sys/types.h>

#include <array>
#include <filesystem>
#include <string>
#include <variant>

namespace slipway::init {

/// The first shell of the image under `root` for "bash" (falls back to sh) or "sh"; "" where there
/// is none. The path does not include `root`.
std::string find_shell(const std::string& shell, const std::filesystem::path& root = "/");

/// Starts what is asked; the leader of its own session, with `stdio` as descriptors 0-2 and no
/// other. Returns its pid, or the ending that says why it could not start.
std::variant<pid_t, engine_api::ScriptEnding>
start_program(const engine_api::ScriptRequest& request, const std::array<int, 3>& stdio);

} // namespace slipway::init
