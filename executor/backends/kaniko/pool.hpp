// SPDX-License-Identifier: Apache-2.0
// Makes the sandboxes of Kaniko's builds. Each is a container of Podman's default kind: no
// privileges, the usual capabilities, a root of its own that Kaniko fills with what it builds. In
// it are
//   - the executor, slipway-init and the host's certificates, read-only, one file or folder each;
//   - the inputs of this build, read-only;
//   - no credential, no file of another build, no socket of slipway's.
// Builds of one project and trust domain share a network, and run side by side.
#pragma once

#include "executor/backends/kaniko/command.hpp"
#include "executor/backends/kaniko/workshop.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/idle_places.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::kaniko {

struct PoolConfig {
  std::filesystem::path state_dir; ///< slipway's own, 0700; a folder for each place is made in it
  std::filesystem::path executor;  ///< the host's
  std::filesystem::path init;      ///< slipway-init
  std::string owner;               ///< value of the label io.slipway.owner
  sandbox::Limits limits;
  std::chrono::seconds max_idle{std::chrono::hours{1}}; ///< of a network
};

/// What one build's sandbox is made of.
struct Opening {
  std::filesystem::path socket_dir; ///< where the sandbox's script socket is made; private, short
  std::map<std::string, std::string> labels; ///< more of them, e.g. the job's
  sandbox::IdSlot ids = {};                  ///< the job's: nothing outlives the build
  std::function<void(const sandbox::ContainerFacts&)> started = {}; ///< told of the sandbox
  bool closed = false;                                              ///< the network has no way out
  std::filesystem::path proxies{}; ///< of the job's proxy, where it has one: a folder of sockets
};

/// The sandbox, without its image. `id`: of the place; `build`: of this build. Pure.
sandbox::SandboxSpec builder_spec(const PoolConfig& config, const std::string& id,
                                  const std::string& build, const std::filesystem::path& inputs,
                                  const Opening& opening, const Places& places = {});

/// The version that the host's own program says. Errors: as parse_version; misconfigured (no such
/// program).
Result<Program> probe(process::ProcessRunner& runner, const std::filesystem::path& path);

/// The name of the network that builds of `key` (project and trust domain) share.
std::string network_for(std::string_view key, std::string_view owner);

class WorkshopPool {
public:
  WorkshopPool(PoolConfig config, sandbox::Podman& podman, const Clock& clock);

  /// Starts a sandbox on the network of `key` (project and trust domain). Errors: io; those of
  /// `fill` and of Podman.
  Result<std::unique_ptr<Workshop>> open(std::string_view key, const Opening& opening,
                                         const FillInputs& fill);
  /// Removes what killed builds left, and networks that were idle for too long; names those.
  /// Places in use are left alone. Errors: io; those of Podman.
  Result<std::vector<std::string>> reap();

private:
  /// Has the place been idle for too long? Its sandboxes are removed anyway.
  Result<bool> reap(const sandbox::IdlePlace& one);
  Status make_network(const std::string& id, const std::filesystem::path& dir, bool closed);

  PoolConfig config_;
  sandbox::Podman& podman_;
  const Clock& clock_;
  sandbox::IdlePlaces places_;
};

} // namespace slipway::backends::kaniko
