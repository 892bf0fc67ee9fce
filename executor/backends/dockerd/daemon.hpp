// SPDX-License-Identifier: Apache-2.0
// The container engine of one job: the host's own dockerd as root of a sandbox. It
//   - has no privilege on the host: it shares the job's user namespace, which does not hold the
//     service user, and ends with the job;
//   - shares the job's network namespace, so published ports are at the job's localhost, and what
//     keeps the job from registries keeps the engine from them;
//   - listens on a unix socket alone, in a folder that no other sandbox sees;
//   - has the host's /usr and the operator's folder of tools read-only, the job's workspace, images
//     of its own, and no credential;
//   - makes no system call, and lets none be made, that the job's own sandbox may not make either,
//     but for mounts, namespaces and networks (executor/sandbox/seccomp.hpp).
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

namespace slipway::backends::dockerd {

struct DaemonParts {
  std::string job; ///< value of the label io.slipway.job
  std::string owner;
  std::string container; ///< its name
  std::string joins;     ///< the job's sandbox
  sandbox::IdSlot ids;   ///< the job's
  sandbox::Limits limits;
  std::string images_volume; ///< made where it is missing; whoever removes the job removes it
  std::string workspace_volume;
  std::string workspace;            ///< where it is, in the job as in the engine
  std::filesystem::path folder;     ///< slipway's own, 0700: settings, socket
  std::filesystem::path tools{};    ///< as Program's
  std::filesystem::path broker_dir; ///< holds docker.sock, for containers that ask for it
  std::function<void(const sandbox::ContainerFacts&)> started = {}; ///< told of the sandbox
  std::chrono::milliseconds deadline{std::chrono::seconds{30}};
};

/// Where the engine sees the job's broker.
inline constexpr const char* kBrokerSocket = "/run/slipway/sock/docker.sock";

/// dockerd's daemon.json. Pure; golden-tested.
std::string daemon_json();

/// The engine's sandbox, without its root (use_host_tools adds that). Pure.
sandbox::SandboxSpec daemon_spec(const DaemonParts& parts);

/// The daemon's socket on the host.
std::filesystem::path daemon_socket(const std::filesystem::path& folder);

/// Starts it and waits for its socket; an earlier one that does not answer is removed first.
/// Errors: misconfigured (no dockerd on this host); unavailable (it does not start; with its last
/// words); io; those of Podman.
Status start_daemon(sandbox::Podman& podman, const DaemonParts& parts);

} // namespace slipway::backends::dockerd
