// SPDX-License-Identifier: Apache-2.0
// Which line of its Dockerfile made each layer of an image: for people who are told what a layer
// holds. Nothing is decided by it.
#pragma once

#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/manifest.hpp"

#include <vector>

namespace slipway::router {

/// Of each layer, in the order of the config's diff ids, the line of the instruction that made it;
/// 0 for a layer of the base image, and where the image's history doesn't follow the Dockerfile (a
/// backend that makes one layer of several instructions). Empty where the history tells of other
/// layers than the config has, or the scope has no plan.
std::vector<int> layer_lines(const dockerfile::Dockerfile& dockerfile,
                             const dockerfile::Scope& scope, const oci::ImageConfig& config);

} // namespace slipway::router
