// SPDX-License-Identifier: Apache-2.0
// Buildah's commands about working containers. Source: buildah(1) and its subcommands, versions
// 1.28 to 1.41.
#pragma once

#include "executor/shim/parsing.hpp"

#include <optional>
#include <string>

namespace slipway::shim {

/// `from`, `run`, `copy`, `add`, `config`, `commit`, `rm`, `rename`, `containers` and their other
/// names; nothing where VERB is about something else.
std::optional<Command> read_session_command(Tool& tool, const std::string& verb, const Words& words,
                                            const Environment& env);

} // namespace slipway::shim
