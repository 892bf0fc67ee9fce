// SPDX-License-Identifier: Apache-2.0
// The files of an image as one tar: its layers applied one over the other. Nobody vouches for a
// layer's bytes, so this is done in slipway-gate; what reads the tar trusts it no more than a
// layer.
// - No name leads upwards or goes through what is no folder.
// - A whiteout takes away what layers below have, and is not in the tar itself.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace slipway::gate_worker {

constexpr std::size_t kMostImageFiles = 500'000;
constexpr std::size_t kMostImageNames = 64UL << 20; ///< bytes of all names together

/// Writes folders first, hard links last. Layers are read twice; nothing is written before all of
/// them have been read once. Errors: bad_input (no image; a layer that is no tar, a name as above,
/// more than the limits or `max_bytes` of content); not_found; io; those of `sink`.
/// Source: OCI image-spec, layer.md.
Status write_image_files(const oci::Layout& layout, const oci::Digest& manifest,
                         std::uint64_t max_bytes,
                         const std::function<Status(std::string_view)>& sink);

} // namespace slipway::gate_worker
