// SPDX-License-Identifier: Apache-2.0
// What buildctl says, for people and as an error.
#pragma once

#include "executor/base/result.hpp"

#include <string>
#include <string_view>

namespace slipway::backends::buildkit {

/// The error of a buildctl that ended with another code than 0, from its last output. Kinds:
/// bad_input (the Dockerfile cannot be read or names what is not there), backend_failed (a step
/// failed), denied (an entitlement), unavailable (the builder went away).
Error explain_failure(std::string_view tail, const std::string& dockerfile_name);

/// True where buildctl did not even get to ask the builder: no step of the build has run.
bool never_began(const Error& error);

} // namespace slipway::backends::buildkit
