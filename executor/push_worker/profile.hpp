// SPDX-License-Identifier: Apache-2.0
// What slipway-push keeps once it has a request: it holds a credential, and a registry's answers
// are the first bytes that it reads of anybody else.
#pragma once

#include "executor/confine/confine.hpp"
#include "executor/engine_api/push_protocol.hpp"

namespace slipway::push_worker {

/// The network; the layout, which only a pull writes to; the files that the request names; what TLS
/// and name resolution read.
confine::Profile profile_of(const engine_api::WorkerRequest& request);

} // namespace slipway::push_worker
