// SPDX-License-Identifier: Apache-2.0
// What all of slipway's Podman command lines have in common, and how environment values reach a
// sandbox without standing in anybody's argv.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <string>
#include <utility>
#include <vector>

namespace slipway::sandbox {

/// `podman GLOBALS… TAIL…`. cgroupfs, because the service user has no systemd session; no events,
/// because nobody reads them.
std::vector<std::string> podman_argv(const Engine& engine, std::vector<std::string> tail);

/// The environment of Podman itself: fixed, no session bus, no proxy.
std::vector<std::pair<std::string, std::string>> podman_env(const Engine& engine);

/// A sandbox's environment by the two ways that Podman 4.3 offers besides argv.
struct EnvWays {
  /// For `--env-file`: one NAME=value a line, taken verbatim.
  std::string file;
  /// Values that such a file cannot hold (line breaks; above 32 KiB, Podman's scanner stops at 64):
  /// `--env=NAME`, the value in Podman's own environment.
  std::vector<std::pair<std::string, std::string>> inherited;
};
EnvWays split_env(const std::vector<std::pair<std::string, std::string>>& env);

/// The descriptor number under which Podman finds the environment file: after the preserved ones.
int env_file_fd(const SandboxSpec& spec);

/// Errors: bad_input where a spec cannot be said to Podman without changing its meaning (a colon in
/// a path, a NUL, an unusable variable name, a variable that would steer Podman itself).
Status check_spec(const SandboxSpec& spec);

} // namespace slipway::sandbox
