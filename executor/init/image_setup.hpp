// SPDX-License-Identifier: Apache-2.0
// What init adds to the image's file system before the first script: the Docker socket where
// clients look for it, and the shim in place of Docker's own clients and of other build tools.
#pragma once

#include <filesystem>

namespace slipway::init {

/// Makes `var/run/docker.sock` and `run/docker.sock` links to `socket` where nothing is there.
/// What the image brings along stays. Failures are left to the job's own error message.
void link_docker_socket(const std::filesystem::path& root, const std::filesystem::path& socket);

/// Replaces every `docker`, `podman`, `buildah`, `img`, `buildctl` and `buildctl-daemonless.sh` in
/// the usual PATH folders, every buildx plug-in and `/kaniko/executor` by a link to `shim`; adds
/// `docker` where the image has none, and no other name, so that `command -v` does not lie. Other
/// tools stay. The sandbox is thrown away afterwards, so nothing is kept of the originals. Returns
/// the number of links made.
int install_shim(const std::filesystem::path& root, const std::filesystem::path& shim);

} // namespace slipway::init
