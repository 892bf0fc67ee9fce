// SPDX-License-Identifier: Apache-2.0
// What a BuildKit client (docker build since 23, docker buildx, bake) finds on the job's socket:
// gRPC on POST /grpc, its own services on POST /session. No BuildKit stands behind it. The calls of
// one build are put together to a build of slipway's, which goes the way of every other: the same
// router, policy, gate. See docs/decisions/0017-buildkit-clients.md.
// - Nothing of what a client sends is passed on to a builder as it is.
// - No call here sends anything out of the job.
#pragma once

#include "executor/broker/exchange.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/push_statements.hpp"

#include <memory>
#include <string>
#include <vector>

namespace slipway::broker {

/// Connections that clients may have open at once, and builds whose output is kept for them.
constexpr std::size_t kMaxBuildkitConnections = 48; ///< each target of a bake opens a session
constexpr std::size_t kKeptBuilds = 16;

class BuildkitApi {
public:
  explicit BuildkitApi(ImageService& images, PushStatements statements = {});
  ~BuildkitApi();
  BuildkitApi(const BuildkitApi&) = delete;
  BuildkitApi& operator=(const BuildkitApi&) = delete;

  /// Carries the connection of a POST /grpc until it ends. Errors: bad_input (no upgrade to h2c),
  /// denied (too many connections); nothing was answered then.
  Status serve_calls(const Request& request, Answer& answer);
  /// The same for POST /session.
  Status serve_session(const Request& request, Answer& answer);

private:
  class State;
  std::unique_ptr<State> state_;
};

} // namespace slipway::broker
