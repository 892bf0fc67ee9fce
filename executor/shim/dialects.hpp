// SPDX-License-Identifier: Apache-2.0
// The tools besides docker whose command lines are understood, one source file each. All give the
// commands of command.hpp, so that what they do is the same code: they build through the broker,
// and whatever they push goes through the gate.
// - A flag is honoured, or accepted because it cannot change the result, or refused with the
// reason.
// - What the tool itself would do without slipway (run, mount, commit) is refused by name.
#pragma once

#include "executor/shim/command.hpp"

#include <string>
#include <vector>

namespace slipway::shim {

/// Each takes the words behind the program's name.
Invocation read_podman(const std::vector<std::string>& words, const Environment& env);
Invocation read_buildah(const std::vector<std::string>& words, const Environment& env);
Invocation read_img(const std::vector<std::string>& words, const Environment& env);
/// buildctl, and buildctl-daemonless.sh, which takes the same words.
Invocation read_buildctl(const std::vector<std::string>& words, const Environment& env);
/// /kaniko/executor.
Invocation read_kaniko(const std::vector<std::string>& words, const Environment& env);

} // namespace slipway::shim
