// SPDX-License-Identifier: Apache-2.0
// Files of an image that the scanner passes over by their names, as SBOMs, and that are none: what
// they are, nobody else looks at.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace slipway::gate_worker {

constexpr std::size_t kMostFalseSboms = 20;       ///< told; the search ends there
constexpr std::size_t kMostSbomBytes = 32U << 20; ///< what is larger counts as none

/// Names of regular files that oci::is_named_as_sbom(), of every layer, also of what a later one
/// takes away, and whose content is no JSON object with `bomFormat`, `spdxVersion` or the
/// `@context` of SPDX 3, and no tag-value document of SPDX 2. Empty ones hide nothing and are not
/// told. At most kMostFalseSboms, each once, cut to 200 bytes. `max_layer`: bytes that a layer
/// expands to at most. Errors: bad_input (no image; a layer that is no tar); not_found; io.
/// Source: CycloneDX 1.6, SPDX 2.3 (6 and its annex on tag-value), SPDX 3.0.1 (JSON-LD).
Result<std::vector<std::string>>
find_false_sboms(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer);

} // namespace slipway::gate_worker
