// SPDX-License-Identifier: Apache-2.0
// The broker: a Docker Engine API subset over a unix socket, served while a `run` runs.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/container_service.hpp"
#include "executor/broker/fetch_service.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/push_statements.hpp"
#include "executor/broker/session_service.hpp"

#include <chrono>
#include <filesystem>
#include <memory>

namespace slipway::broker {

struct ServerLimits {
  std::size_t header_bytes = 64UL << 10;
  std::size_t json_body_bytes = 1UL << 20;
  std::uint64_t stream_body_bytes = 20UL << 30; ///< build contexts, load
  std::size_t connections = 64;
  std::size_t watches = 32; ///< of them: `/events`, and `/stats` without an end
  std::chrono::milliseconds header_deadline{10000};
  std::chrono::milliseconds idle_deadline{60000}; ///< no byte read or written
  std::chrono::milliseconds stream_deadline{
      std::chrono::hours{1}}; ///< for a whole build context, load
};

class RequestHandler; // exchange.hpp

/// Serves from its own threads until destroyed or stop(); stop cancels running builds (Cancelled
/// turns true) and waits for them up to `patience`.
class Server {
public:
  /// Binds SOCKET (mode 0666 inside a folder that only this sandbox sees; a stale file is
  /// replaced). `containers`: none = calls about containers are refused; `sessions`: none = those
  /// about working containers are; `fetches`: none = nothing is fetched for a build. `statements`:
  /// what clients are told that pushes get.
  static Result<std::unique_ptr<Server>>
  start(const std::filesystem::path& socket, ImageService& images, const ServerLimits& limits,
        ContainerService* containers = nullptr, SessionService* sessions = nullptr,
        FetchService* fetches = nullptr, PushStatements statements = {});
  /// The same socket with another's answers; `handler` (lent) outlives the server.
  static Result<std::unique_ptr<Server>> start(const std::filesystem::path& socket,
                                               RequestHandler& handler, const ServerLimits& limits);
  virtual ~Server() = default;
  virtual void stop(std::chrono::milliseconds patience) = 0;
};

} // namespace slipway::broker
