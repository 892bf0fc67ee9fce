// SPDX-License-Identifier: Apache-2.0
// The executables of an image: what somebody has to answer for where no scanner knows what an image
// is made of.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/executable.hpp"
#include "executor/oci/layout.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway::gate_worker {

constexpr std::size_t kMostExecutables = 20'000;

/// Files with a mode that lets anybody execute them, ELF and WebAssembly whatever their mode is (a
/// loader asks for none), and what begins with "#!". Of every layer, also what a later one takes
/// away or replaces. `max_layer`: bytes that a layer expands to at most. Errors: bad_input (no
/// image; a layer that is no tar, a name that leads upwards, a hard link to a file that is in none
/// of the layers up to there, more than the limits); not_found; io.
Result<std::vector<oci::Executable>>
find_executables(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer);

} // namespace slipway::gate_worker
