// SPDX-License-Identifier: Apache-2.0
// What init adds to the image's file system before the first script: the Docker socket where
// clients look for it, and the shim in place of Docker's own clients and of other build tools.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::init {

/// Makes `var/run/docker.sock` and `run/docker.sock` links to `socket` where nothing is there.
/// What the image brings along stays. Failures are left to the job's own error message.
void link_docker_socket(const std::filesystem::path& root, const std::filesystem::path& socket);

/// A registry whose name leads to slipway's endpoint in this sandbox.
struct NamedRegistry {
  bool plain_http = false;
  std::string host;
  std::uint16_t port = 443;
};
/// Reads "tls:registry.example:443 plain:other:5000"; what cannot be read is left out.
std::vector<NamedRegistry> parse_registries(std::string_view text);

/// Lets clients in the sandbox trust the authority in `folder` (ca.pem, and by OpenSSL's name), by
/// links beside what the image trusts: in its folders of certificates, which programs in Go and
/// with OpenSSL read, and in those of Docker and of Podman and Skopeo for each registry. Nothing of
/// the image is changed.
void trust_registries(const std::filesystem::path& root, const std::filesystem::path& folder,
                      const std::vector<NamedRegistry>& registries);

/// What the image says about its programs: its PATH and HOME, as they are in its environment.
struct ImagePrograms {
  std::string_view path;
  std::string_view home;
};

/// Replaces every `docker`, `podman`, `buildah`, `img`, `buildctl` and `buildctl-daemonless.sh` in
/// the usual PATH folders and in those of the image's own PATH, every buildx plug-in (also in a
/// user's `.docker/cli-plugins`) and `/kaniko/executor` by a link to `shim`; adds `docker` where
/// the image has none, and no other name, so that `command -v` does not lie. Other tools stay. The
/// sandbox is thrown away afterwards, so nothing is kept of the originals, but for
/// `docker-compose`: it stays as `.docker-compose.image` beside the link, for what it does with
/// containers; Compose's plug-in stays where it is. The image may name what it wants: relative
/// folders, those of slipway itself and what is more than kMostFolders do not count. Returns the
/// number of links made.
int install_shim(const std::filesystem::path& root, const std::filesystem::path& shim,
                 const ImagePrograms& image = {});

/// As many folders of a PATH, and as many homes of an /etc/passwd.
constexpr std::size_t kMostFolders = 64;

} // namespace slipway::init
