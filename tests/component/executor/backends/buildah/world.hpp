// SPDX-License-Identifier: Apache-2.0
// One machine's worth for tests that build: a build sandbox with a workspace, stores for Buildah
// and Podman, sandboxes for Kaniko and for Docker's builder, and base images. Made by an
// unprivileged user (tests/lib/as-user USER PROGRAM).
#pragma once

#include "executor/backends/buildah/backend.hpp"
#include "executor/backends/buildah/store.hpp"
#include "executor/backends/buildkit/backend.hpp"
#include "executor/backends/buildkit/builder.hpp"
#include "executor/backends/dockerd/backend.hpp"
#include "executor/backends/dockerd/builder.hpp"
#include "executor/backends/kaniko/backend.hpp"
#include "executor/backends/kaniko/pool.hpp"
#include "executor/base/clock.hpp"
#include "executor/oci/layout.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace slipway::backends::buildah {

class World {
public:
  World();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// Why there is none on this machine; "" where there is.
  static std::string why_not();

  /// Writes a file of the build sandbox, and its folders.
  void write(const std::string& path, const std::string& text);
  /// Unpacks a folder of the host into one of the build sandbox.
  void bring(const std::filesystem::path& from, const std::string& to);
  /// What a shell in the build sandbox prints.
  std::string in_build_sandbox(const std::string& script);

  /// A job on /builds/app, whose Dockerfile this is, with the bases "busybox", "onb:1", "shell:1".
  BuildJob job(const std::string& dockerfile);
  std::unique_ptr<BuildahBackend> backend(Tool tool, const std::string& store = "first",
                                          const std::filesystem::path& program = {});
  Result<Built> build(const BuildJob& job, Tool tool = Tool::buildah);
  /// The Buildah of its Go module, newer than the distribution's.
  static std::filesystem::path newer_buildah();
  Result<Built> build_with_newer(const BuildJob& job);
  /// Kaniko's program; "" where this machine has none.
  static std::string kaniko_executor();
  Result<Built> build_with_kaniko(const BuildJob& job);
  /// Where this machine has dockerd; "" where it has none.
  static std::string dockerd() { return dockerd::find_daemon().string(); }
  /// `folder`: of another daemon, as [dind] has it.
  Result<Built> build_with_dind(const BuildJob& job, const std::filesystem::path& folder = {});
  /// The folder of a dockerd of its Go module, newer than the distribution's; "" = there is none.
  static std::filesystem::path newer_dockerd();
  /// Started by the first call; null where there are no tools of BuildKit.
  BuildBackend* buildkit();
  buildkit::BuilderConfig builder_config() const;
  oci::ImageConfig config_of(const oci::Digest& manifest);

  std::filesystem::path dir;
  process::LocalRunner runner;
  SystemClock clock;
  std::unique_ptr<sandbox::Podman> podman;
  StoreConfig config;
  std::unique_ptr<StorePool> pool;
  std::unique_ptr<StorePool> newer_pool; ///< for a program that is not the distribution's
  std::unique_ptr<kaniko::WorkshopPool> workshops;
  std::unique_ptr<oci::Layout> bases;
  std::unique_ptr<oci::Layout> result;
  std::vector<BaseImage> base_images;
  std::string volume;
  std::string sandbox_name;
  std::string said; ///< by the last build
  std::mutex saying;
  std::string problem;

private:
  std::filesystem::path socket() const { return dir / "init.sock"; }
  void make_bases();
  void start();
  sandbox::ScriptRunner client() const;

  std::unique_ptr<buildkit::BuilderPool> builders_;
  std::unique_ptr<buildkit::Builder> builder_;
  std::unique_ptr<buildkit::BuildkitBackend> buildkit_;
};

} // namespace slipway::backends::buildah
