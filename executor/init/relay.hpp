// SPDX-License-Identifier: Apache-2.0
// TCP ports of a sandbox that lead to unix sockets of slipway's: the Docker endpoints of a job
// (2375, and 2376 with TLS), and the way to the proxy of a closed network. Served by
// threads of PID 1, which kill(-1) of a script's end does not reach.
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

enum class From {
  this_sandbox, ///< 127.0.0.1
  its_network   ///< every address of the sandbox
};

/// Relays what connects to `port` to the unix socket `upstream`, in threads of its own, until the
/// process ends. Connections above the relay's limit are closed at once.
/// `tls_dir` (cert.pem, key.pem, ca.pem) turns TLS on; a client has to show a certificate of that
/// CA, as dind asks for. Errors: io (port taken); misconfigured (certificates).
Status start_relay(std::uint16_t port, const std::filesystem::path& upstream,
                   const std::filesystem::path& tls_dir, From from, const RelayLimits& limits);

/// Relays what connects to `port` of 127.0.82.1, where the job's hosts file has the names of the
/// brokered registries, to the unix socket `upstream`. `tls_dir` (cert.pem, key.pem) turns TLS on;
/// clients show no certificate. Errors: as start_relay.
Status start_registry_relay(std::uint16_t port, const std::filesystem::path& upstream,
                            const std::filesystem::path& tls_dir);

/// Relays what connects to `port` to the proxy of a closed network, a socket in `dir`: the one that
/// is named as the address that was connected to ("127.3.4.5"), else the first that answers. Where
/// there is none it waits for one, between two scripts nobody listens. Errors: io (port taken).
Status start_proxy_relay(std::uint16_t port, const std::filesystem::path& dir, From from);

} // namespace slipway::init
