// SPDX-License-Identifier: Apache-2.0
// The command lines of docker that are about containers, networks and volumes.
#pragma once

#include "executor/shim/parsing.hpp"

#include <optional>
#include <string>

namespace slipway::shim {

/// `verb` is "run", "exec", "network create"; none where this version has no such command. `more`
/// are flags that the tool knows beside docker's.
std::optional<Command> read_container_command(const std::string& verb, const std::string& called,
                                              const Words& words, const Environment& env,
                                              const Manner& manner = {},
                                              const std::vector<Flag>& more = {});

} // namespace slipway::shim
