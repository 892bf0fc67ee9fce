// SPDX-License-Identifier: Apache-2.0
// Which platforms' programs this host runs: its processor's own, and those that the kernel hands to
// an emulator (binfmt_misc).
#pragma once

#include "executor/oci/manifest.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace slipway::sandbox {

struct HostPlatform {
  oci::Platform platform;
  std::string emulator; ///< the entry's name, "qemu-aarch64"; "" = the processor's own
  /// An emulator that the kernel opened when it was registered (flag F) is there in every sandbox;
  /// another one only where the image has its file.
  bool in_sandboxes = true;
};

struct HostPlatforms {
  std::vector<HostPlatform> platforms;
  bool emulators_known = false; ///< false: binfmt_misc is not mounted here, so nobody can tell
};

/// `binfmt`: where binfmt_misc is mounted. Source: the kernel's admin-guide/binfmt-misc.rst.
HostPlatforms host_platforms(const std::filesystem::path& binfmt = "/proc/sys/fs/binfmt_misc");

/// "platforms: linux/amd64, linux/386, linux/arm64 (qemu-aarch64)" in lines for people, with what
/// is to be done where one cannot be used.
std::vector<std::string> platform_lines(const HostPlatforms& platforms);

} // namespace slipway::sandbox
