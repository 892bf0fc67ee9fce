// SPDX-License-Identifier: Apache-2.0
// What all of slipway's Podman calls have in common.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::sandbox {

/// `podman GLOBALS… TAIL…`. cgroupfs, because the service user has no systemd session; no events,
/// because nobody reads them.
std::vector<std::string> podman_argv(const Engine& engine, std::vector<std::string> tail);

/// The environment of Podman itself: fixed, no session bus, no proxy.
std::vector<std::pair<std::string, std::string>> podman_env(const Engine& engine);

/// The process that keeps Podman's user and mount namespaces, while it lives; nullopt where there
/// is none, or one that cannot be told for sure. `podman system migrate` ends it.
std::optional<pid_t> pause_process(const Engine& engine);

/// Errors: bad_input where a spec cannot be said to Podman without changing its meaning (an empty
/// path, a NUL, an unusable variable name).
Status check_spec(const SandboxSpec& spec);

} // namespace slipway::sandbox
