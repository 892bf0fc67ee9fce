// SPDX-License-Identifier: Apache-2.0
// Base images as Kaniko takes them without a registry: one tar of Docker's kind for each, named by
// digest.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <filesystem>

namespace slipway::backends::kaniko {

/// Writes the image of this platform below `root` to DIR/sha256:…, readable for all. Layers stay
/// packed as they are. Errors: those of the layout; bad_input (a layer above 8 GiB, which such a
/// tar cannot hold); io.
Status write_base(const oci::Layout& bases, const oci::Digest& root, const oci::Platform& platform,
                  const std::filesystem::path& dir);

} // namespace slipway::backends::kaniko
