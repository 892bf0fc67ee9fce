// SPDX-License-Identifier: Apache-2.0
// The Docker TCP endpoints of a job: 127.0.0.1:2375, and 2376 with TLS, both leading to slipway's
// socket. Served by threads of PID 1, which kill(-1) of a script's end does not reach.
#pragma once

#include "executor/base/result.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>

namespace slipway::init {

struct RelayLimits {
  int connections = 64;
  std::chrono::milliseconds handshake{10000};
  std::chrono::milliseconds idle{std::chrono::hours{2}};
};

/// Relays what connects to 127.0.0.1:`port` to the unix socket `upstream`, in threads of its own,
/// until the process ends. Connections above the limit (shared by all relays) are closed at once.
/// `tls_dir` (cert.pem, key.pem, ca.pem) turns TLS on; a client has to show a certificate of that
/// CA, as dind asks for. Errors: io (port taken); misconfigured (certificates).
Status start_relay(std::uint16_t port, const std::filesystem::path& upstream,
                   const std::filesystem::path& tls_dir, const RelayLimits& limits);

} // namespace slipway::init
