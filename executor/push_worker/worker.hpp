// SPDX-License-Identifier: Apache-2.0
// One push or pull, from request to answer: what slipway-push does after it has locked itself down.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/http/transport.hpp"
#include "executor/registry/registry.hpp"

#include <functional>
#include <string>

namespace slipway::push_worker {

/// Refuses a push without a permit before anything touches the network. Takes the request: its
/// secrets end with it.
engine_api::WorkerAnswer serve(engine_api::WorkerRequest request, http::Transport& transport,
                               const Clock& clock, const registry::Pacing& pacing,
                               const registry::Progress& progress);

} // namespace slipway::push_worker
