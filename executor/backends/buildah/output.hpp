// SPDX-License-Identifier: Apache-2.0
// What Buildah and Podman say about a build that failed, as an error.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <string_view>

namespace slipway::backends::buildah {

/// The error of a build that ended with another code than 0, from its last output. Kinds:
/// backend_failed (a step failed), bad_input (the Dockerfile names what is not there, or says what
/// this version does not know), unavailable (its own store or mounts failed).
Error explain_failure(std::string_view tail, const dockerfile::Dockerfile& file);

} // namespace slipway::backends::buildah
