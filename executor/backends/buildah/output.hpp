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

/// True where the step that failed never began: the tool starts each RUN from a sealed copy of
/// itself, and the kernel sealed no copy because something was just reading its pages (EBUSY, gone
/// a moment later). Source: containers/storage, pkg/unshare/unshare.c; fcntl(2), F_ADD_SEALS.
bool step_never_began(std::string_view tail);

/// True where a line of the tool says that a RUN begins ("STEP 2/3: RUN make").
bool begins_run(std::string_view line);
/// True where a line of the tool says that a stage begins ("STEP 1/3: FROM debian").
bool begins_stage(std::string_view line);
/// False for what is printed before any RUN can have started: a FROM, the tool's own error, a
/// line of slipway's.
bool may_be_of_a_step(std::string_view line);

} // namespace slipway::backends::buildah
