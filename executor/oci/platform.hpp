// SPDX-License-Identifier: Apache-2.0
// Names of platforms, and which image of several is the one for a platform.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"

#include <string_view>

namespace slipway::oci {

/// Of this machine.
Platform host_platform();

/// "linux/arm64", "arm64", "linux/arm/v7", with the names that tools know for one thing made one
/// ("aarch64" and "arm64/v8" are arm64, "x86_64" is amd64, "arm" is arm/v7). A word alone is an
/// architecture of Linux, and "arm64/v8" one with its variant. Errors: bad_input. Source:
/// containerd's platforms, database.go.
Result<Platform> parse_platform(std::string_view text);

/// True where an image for `has` is one for `wanted`: a variant that one of them does not name is
/// no difference.
bool is_same_platform(const Platform& has, const Platform& wanted);

/// What stands for the whole tree where one image is shown: that of this machine's platform, else
/// the first. Errors: not_found (no image at all).
Result<ImageTree::Image> image_to_show(const ImageTree& tree);

} // namespace slipway::oci
