// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/platform.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace slipway::oci {

Platform host_platform() {
#if defined(__aarch64__)
  return {"arm64", "linux", ""};
#else
  return {"amd64", "linux", ""};
#endif
}

Result<Platform> parse_platform(std::string_view text) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == '/')
      parts.emplace_back();
    else
      parts.back() += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  constexpr std::array<std::string_view, 12> kArchitectures{"amd64", "x86_64",  "arm64", "aarch64",
                                                            "arm",   "armhf",   "armel", "386",
                                                            "i386",  "ppc64le", "s390x", "riscv64"};
  const bool begins_with_os =
      std::find(kArchitectures.begin(), kArchitectures.end(), parts[0]) == kArchitectures.end();
  if (parts.size() == 1 || !begins_with_os) parts.insert(parts.begin(), "linux");
  const bool plain = std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return !part.empty() && part.size() <= 32 &&
           part.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
  });
  if (!plain || parts.size() > 3)
    return Error{ErrorKind::bad_input,
                 "platform '" + std::string{text.substr(0, 100)} +
                     "' is not OS/ARCHITECTURE[/VARIANT]",
                 "write it as linux/arm64 or linux/arm/v7",
                 {}};
  Platform platform{parts[1], parts[0], parts.size() == 3 ? parts[2] : ""};
  auto& [architecture, os, variant] = platform;
  if (architecture == "x86_64" || architecture == "x86-64") architecture = "amd64";
  if (architecture == "i386") architecture = "386";
  if (architecture == "aarch64") architecture = "arm64";
  if (architecture == "armhf" || architecture == "armel") {
    variant = architecture == "armhf" ? "v7" : "v6";
    architecture = "arm";
  }
  if (architecture == "arm" && variant.empty()) variant = "v7";
  if (architecture == "arm" && variant.size() == 1) variant = "v" + variant;
  if (architecture == "arm64" && (variant == "8" || variant == "v8")) variant.clear();
  if (architecture == "amd64" && variant == "v1") variant.clear();
  return platform;
}

bool is_same_platform(const Platform& has, const Platform& wanted) {
  return has.os == wanted.os && has.architecture == wanted.architecture &&
         (has.variant == wanted.variant || has.variant.empty() || wanted.variant.empty());
}

Result<ImageTree::Image> image_to_show(const ImageTree& tree) {
  auto selected = select_platform(tree, host_platform());
  if (selected) return selected;
  for (const auto& image : tree.images)
    if (image.config) return image;
  return selected;
}

} // namespace slipway::oci
