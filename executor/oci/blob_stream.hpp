// SPDX-License-Identifier: Apache-2.0
// Blobs that come one after the other out of one descriptor, as a program in a sandbox prints them.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <cstddef>
#include <vector>

namespace slipway::oci {

/// Stores blobs[from], …, blobs[to - 1] as they come out of `fd` (lent), each of exactly its size
/// and digest. Those before a wrong one stay. Errors: bad_input (short, other digest); io.
Status store_blobs(Layout& into, const std::vector<Descriptor>& blobs, std::size_t from,
                   std::size_t to, int fd);

} // namespace slipway::oci
