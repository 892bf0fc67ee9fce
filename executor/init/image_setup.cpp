// SPDX-License-Identifier: Apache-2.0
#include "executor/init/image_setup.hpp"

#include <array>
#include <system_error>

namespace slipway::init {
namespace fs = std::filesystem;
namespace {

constexpr std::array<const char*, 6> kPathFolders{"usr/local/sbin", "usr/local/bin", "usr/sbin",
                                                  "usr/bin",        "sbin",          "bin"};
constexpr std::array<const char*, 5> kPluginFolders{
    "usr/libexec/docker/cli-plugins", "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins", "usr/local/lib/docker/cli-plugins", "root/.docker/cli-plugins"};

// Tools that the shim speaks for, beside docker. Only where the image has them.
constexpr std::array<const char*, 5> kTools{"podman", "buildah", "img", "buildctl",
                                            "buildctl-daemonless.sh"};
constexpr const char* kKaniko = "kaniko/executor"; // a path of its own, in no PATH folder

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

// A rename puts the link in place of a file in one step, also of a program that runs.
bool replace_by_link(const fs::path& path, const fs::path& target) {
  const fs::path fresh = path.string() + ".slipway-new";
  std::error_code failed;
  fs::remove(fresh, failed);
  fs::create_symlink(target, fresh, failed);
  if (failed) return false;
  fs::rename(fresh, path, failed);
  if (!failed) return true;
  std::error_code ignored;
  fs::remove(fresh, ignored);
  return false;
}

bool is_program(const fs::path& path) {
  std::error_code ignored;
  const auto type = fs::symlink_status(path, ignored).type();
  return type == fs::file_type::regular || type == fs::file_type::symlink;
}

} // namespace

void link_docker_socket(const fs::path& root, const fs::path& socket) {
  std::error_code ignored;
  for (const auto* folder : {"run", "var/run"}) {
    fs::create_directories(root / folder, ignored);
    const fs::path place = root / folder / "docker.sock";
    if (!is_there(place)) fs::create_symlink(socket, place, ignored);
  }
}

int install_shim(const fs::path& root, const fs::path& shim) {
  int links = 0;
  bool has_docker = false;
  for (const auto* folder : kPathFolders) {
    const fs::path docker = root / folder / "docker";
    if (!is_program(docker)) continue;
    if (replace_by_link(docker, shim)) {
      ++links;
      has_docker = true;
    }
  }
  for (const auto* folder : kPluginFolders) {
    const fs::path plugin = root / folder / "docker-buildx";
    if (is_program(plugin) && replace_by_link(plugin, shim)) ++links;
  }
  for (const auto* folder : kPathFolders) {
    for (const auto* tool : kTools) {
      const fs::path path = root / folder / tool;
      if (is_program(path) && replace_by_link(path, shim)) ++links;
    }
  }
  if (is_program(root / kKaniko) && replace_by_link(root / kKaniko, shim)) ++links;
  if (has_docker) return links;
  for (const auto* folder : {"usr/local/bin", "usr/bin", "bin"}) {
    std::error_code ignored;
    if (!fs::is_directory(root / folder, ignored)) continue;
    if (replace_by_link(root / folder / "docker", shim)) return links + 1;
  }
  std::error_code failed;
  fs::create_directories(root / "usr/local/bin", failed);
  return replace_by_link(root / "usr/local/bin/docker", shim) ? links + 1 : links;
}

} // namespace slipway::init
