// SPDX-License-Identifier: Apache-2.0
// Rootless BuildKit. buildctl runs in the job's build sandbox, buildkitd in a builder sandbox;
// neither is trusted. What comes out is read through pipes, and every digest is computed again
// here:
//   - the Dockerfile that is built is the text that was judged, not a file that the job can change;
//   - the builder asks no registry: base images come from a layout that slipway filled;
//   - no frontend but the built-in one, no entitlement, no credential.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/backends/buildkit/command.hpp"
#include "executor/sandbox/programs.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

namespace slipway::backends::buildkit {

constexpr std::uint64_t kMaxResultBytes = 64ULL << 30;
constexpr std::size_t kMaxMetadataBytes = 1UL << 20;
constexpr std::size_t kMaxManifestBytes = 4UL << 20;
constexpr std::size_t kMaxManifests = 64;

class BuildkitBackend final : public BuildBackend {
public:
  /// `script_socket` is the build sandbox's; builds may run side by side.
  BuildkitBackend(std::filesystem::path script_socket, std::string version, Places places = {});
  BuildkitBackend(sandbox::ScriptRunner runner, std::string version, Places places = {});

  const Descriptor& descriptor() const override { return descriptor_; }
  Result<Built> build(const BuildJob& job, oci::Layout& into) override;

private:
  /// The folder DIR of the sandbox, canonical, where a build may take files from.
  Result<std::string> resolve(const std::string& dir, const std::string& what,
                              const sandbox::BuildClock& stop);
  /// Writes the job's secrets and keys where only this build's client looks for them.
  Status lend(const BuildJob& job, const BuildPaths& paths, const sandbox::BuildClock& stop);
  Result<std::string> prepare(const BuildJob& job, std::string& context,
                              const sandbox::BuildClock& stop);
  Status transfer(const BuildPaths& paths, const oci::Digest& root, oci::Layout& into,
                  const sandbox::BuildClock& stop);
  Result<std::string> read(const std::vector<std::string>& argv, std::size_t limit,
                           const sandbox::BuildClock& stop, std::string_view input = {});

  sandbox::ScriptRunner run_;
  Descriptor descriptor_;
  Places places_;
  std::atomic<std::uint64_t> builds_{0};
};

/// What the build sandbox of one job is made of.
struct BuildSandbox {
  std::string name; ///< "slipway-<key>-build"
  std::map<std::string, std::string> labels;
  sandbox::IdSlot ids;                      ///< the job's
  std::string workspace_volume;             ///< mounted read-only at Places::workspace
  std::filesystem::path builder_socket_dir; ///< Builder::socket_dir()
  std::filesystem::path bases;              ///< folder of slipway's layouts of base images
  std::filesystem::path tools;              ///< folder with bin/buildctl; "": there is none
  std::filesystem::path init_dir;           ///< folder with slipway-init
  int script_listener = -1;                 ///< from listen_for_scripts; lent
  sandbox::Limits limits;
};
/// The spec without its root: call use_host_tools on it, then Podman::start. No network, no
/// privilege.
sandbox::SandboxSpec build_sandbox_spec(const BuildSandbox& parts, const Places& places = {});

} // namespace slipway::backends::buildkit
