// SPDX-License-Identifier: Apache-2.0
// What slipway-push works with; a test brings its own.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/credentials/credential_provider.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/http/transport.hpp"
#include "executor/process/process.hpp"
#include "executor/registry/registry.hpp"

#include <chrono>
#include <functional>
#include <memory>

namespace slipway::push_worker {

struct World {
  http::Transport& registry;
  /// To an issuer. It goes on after cancelling: what was minted has to be known and ended.
  std::function<std::unique_ptr<http::Transport>(const engine_api::IssuerSpec&)> to_issuer;
  const Clock& clock;
  process::ProcessRunner& runner;
  registry::Pacing pacing;
  /// Waits, also after cancelling.
  std::function<void(std::chrono::milliseconds)> wait;
  registry::Progress progress;
  std::function<void(const engine_api::LeaseNote&)> note;
  /// True once the parent has written down that the lease is minted again.
  std::function<bool()> may_renew;
  std::function<credentials::MakeProvider> make_provider = credentials::make_provider;
};

} // namespace slipway::push_worker
