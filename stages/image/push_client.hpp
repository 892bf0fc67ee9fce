// SPDX-License-Identifier: Apache-2.0
// The parent's side of slipway-push: one process per request, no environment, no arguments, a
// socket as its only way to the world of slipway. Nobody can call push() without the gate's pass.
#pragma once

#include "executor/base/result.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/gate/gate.hpp"
#include "executor/oci/layout.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace slipway::image {

/// What a push of `tree` sends: PushRequest::blobs. Statements about images are not signed as
/// images are.
std::vector<engine_api::PushBlob> blobs_to_push(const oci::ImageTree& tree);

class PushClient {
public:
  using Progress = std::function<void(const std::string& line)>;
  using Cancelled = std::function<bool()>;

  /// Told what becomes of the request's lease, as it happens. An error keeps the worker from
  /// minting again.
  using OnLease = std::function<Status(const engine_api::LeaseNote& note)>;

  /// `program`: absolute path of slipway-push.
  explicit PushClient(std::filesystem::path program, OnLease on_lease = nullptr)
      : program_{std::move(program)}, on_lease_{std::move(on_lease)} {}

  /// Pushes what the pass is for; the pass_* members of `request` are filled from it. Errors: those
  /// of the worker (denied, bad_input, unavailable, timed_out, misconfigured, …); timed_out where
  /// `cancelled` says so or deadline_seconds passed; internal (the worker died).
  Result<engine_api::WorkerAnswer> push(engine_api::PushRequest request, const gate::ScanPass& pass,
                                        const Progress& progress, const Cancelled& cancelled) const;
  /// Errors: as push; not_found.
  Result<engine_api::WorkerAnswer> pull(const engine_api::PullRequest& request,
                                        const Progress& progress, const Cancelled& cancelled) const;
  /// Errors: misconfigured; internal.
  Result<engine_api::WorkerAnswer> ask_issuer(const engine_api::IssuerRequest& request) const;
  /// What the server of a public key set said. Errors: unavailable, timed_out, misconfigured,
  /// bad_input (above the limit); internal.
  Result<std::string> fetch_keys(const engine_api::KeysRequest& request) const;

private:
  /// `request` is overwritten once it is sent.
  Result<engine_api::WorkerAnswer> ask(std::string request, std::chrono::seconds deadline,
                                       const Progress& progress, const Cancelled& cancelled) const;
  std::filesystem::path program_;
  OnLease on_lease_;
};

} // namespace slipway::image
