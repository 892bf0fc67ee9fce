// SPDX-License-Identifier: Apache-2.0
// What Docker's builder says while it builds, and about a build that failed.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace slipway::backends::dockerd {

/// The error of a `docker build` that ended with another code than 0. `step`: the last line that
/// begins_instruction, "" = none; `tail`: the end of what it said. `built`: the text that it was
/// given, whose lines are the author's. Kinds: backend_failed (a step failed), bad_input (the
/// Dockerfile names what is not there, or says what the builder does not know), unavailable (the
/// daemon is gone, or says nothing).
Error explain_failure(std::string_view step, std::string_view tail,
                      const dockerfile::Dockerfile& built);

/// True for "Step 3/7 : RUN make". A step can print such a line: what it gains is wrong words about
/// its own build.
bool begins_instruction(std::string_view line);

/// True where a line of its output says that a step's container runs.
bool begins_step(std::string_view line);

} // namespace slipway::backends::dockerd
