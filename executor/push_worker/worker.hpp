// SPDX-License-Identifier: Apache-2.0
// One push or pull, from request to answer: what slipway-push does after it has locked itself down.
#pragma once

#include "executor/push_worker/world.hpp"

namespace slipway::push_worker {

/// Refuses a push without a permit before anything touches the network or mints. Takes the request:
/// its secrets end with it.
engine_api::WorkerAnswer serve(engine_api::WorkerRequest request, World& world);

} // namespace slipway::push_worker
