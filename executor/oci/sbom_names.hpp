// SPDX-License-Identifier: Apache-2.0
// Files that scanners take for SBOMs, by their names alone.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace slipway::oci {

/// What the names of SBOMs end with, in this case of the letters alone. Source: trivy 0.69.3,
/// pkg/fanal/analyzer/sbom, requiredSuffixes.
constexpr std::array<std::string_view, 4> kSbomSuffixes{".spdx", ".spdx.json", ".cdx", ".cdx.json"};

inline bool is_named_as_sbom(std::string_view path) {
  return std::any_of(kSbomSuffixes.begin(), kSbomSuffixes.end(),
                     [&](std::string_view suffix) { return path.ends_with(suffix); });
}

} // namespace slipway::oci
