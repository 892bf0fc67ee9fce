// SPDX-License-Identifier: Apache-2.0
// The issuer's side of one request: mints a login for the registry, and ends it in every outcome.
// Each step is told to the parent as it happens (LeaseNote), which writes it down.
#pragma once

#include "executor/push_worker/world.hpp"

#include <functional>
#include <optional>

namespace slipway::push_worker {

/// What the mint is for, besides the order itself.
struct Purpose {
  std::string repository;
  std::vector<std::string> actions;
  std::string digest;
  /// Asked before a login that ended is minted again; none = it may be.
  std::function<bool()> may_mint_again = {};
};

using WithLogin = std::function<Result<engine_api::WorkerAnswer>(engine_api::RegistryAccess)>;

/// Calls `work` with the login that `access.lease` orders, or as it is where there is no order. A
/// login that ends while `work` goes on is minted again. Whatever happens, nothing lives afterwards
/// that the issuer lets us end. Errors: those of providers and `work`; denied (what was minted
/// lives longer than it may: it was ended, and nothing was sent).
Result<engine_api::WorkerAnswer> with_login(engine_api::RegistryAccess access, Purpose purpose,
                                            World& world, const WithLogin& work);

/// Ends what a dead process left, or says until when it lives: one LeaseNote, `ended` or `left`.
/// Or says what the issuer can do (WorkerAnswer::facts). Errors: misconfigured.
Result<engine_api::WorkerAnswer> ask_issuer(const engine_api::IssuerRequest& request, World& world);

} // namespace slipway::push_worker
