// SPDX-License-Identifier: Apache-2.0
// The HTTP proxy through which a closed network reaches what its allowlist names. It
//   - listens on unix sockets, which slipway mounts where the clients are;
//   - takes CONNECT, and requests for plain http in absolute form, one for each connection;
//   - resolves names itself, and connects to the address that it has judged;
//   - never connects to a registry, by its name or by an address of `never`, and to the host itself
//     only where that address was listed;
//   - has a limit or a deadline on all that a client can send, hold open or wait for.
// What comes from clients is hostile. Source: RFC 9110, 9.3.6; RFC 9112, 3.2.
#pragma once

#include "executor/base/result.hpp"
#include "executor/egress/allowlist.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace slipway::egress {

/// The port at which a closed network's clients find the proxy.
inline constexpr std::uint16_t kProxyPort = 3128;

struct ProxyPolicy {
  Allowlist allow;
  bool learn = false; ///< every name is as one that is listed
  /// Names at which nothing is connected to, whatever they resolve to by now; lower case.
  std::set<std::string> never_named;
  std::set<std::string> never; ///< addresses as inet_ntop writes them
  std::set<std::string> own;   ///< the host's, beside loopback: of its interfaces
  Allowlist on_host;           ///< names that may lead to those: the GitLab server for its helper
  /// Why what is not listed is refused; "" = by the name of the list.
  std::string not_listed;
  std::string what_to_change; ///< for the client that is refused: whom to ask for what
};

struct ProxyLimits {
  int connections = 128;
  std::size_t header_bytes = 16384; ///< of a request's head
  std::chrono::milliseconds header{10000};
  std::chrono::milliseconds connect{15000}; ///< resolving and connecting, all addresses together
  std::chrono::milliseconds idle{std::chrono::minutes{15}};
  std::size_t told = 64;     ///< different targets that `refused` is called for
  std::size_t passed = 1000; ///< and `passed`
};

/// All addresses of a name, as inet_ntop writes them; none where it does not resolve in time.
using Resolver =
    std::function<std::vector<std::string>(const std::string& host, std::chrono::milliseconds)>;

struct Refusal {
  Target target;
  std::string why; ///< "it is not in egress_allow"
};

/// Called from threads of the proxy, once for each target, one at a time.
struct ProxyEvents {
  std::function<void(const Refusal&)> refused;
  std::function<void(const Target&)> passed;
};

class Proxy {
public:
  Proxy(ProxyPolicy policy, ProxyLimits limits, Resolver resolver, ProxyEvents events);
  ~Proxy(); ///< ends every connection, and removes its sockets
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  /// Listens at FILE too, which others than its owner may connect to; what is there already goes.
  /// Sockets beside it that nobody listens at are removed. Errors: io.
  Status listen(const std::filesystem::path& file);

private:
  struct World;
  std::shared_ptr<World> world_;
};

} // namespace slipway::egress
