// SPDX-License-Identifier: Apache-2.0
// Where a job may connect to: names and ports that an operator listed, and what an address has to
// be like before a listed name may lead there.
#pragma once

#include "executor/base/result.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::egress {

/// What a client asks for: a host name in lower case without a final dot, or a literal address as
/// inet_ntop writes it (no brackets), and a port.
struct Target {
  std::string host;
  std::uint16_t port = 0;
  bool literal = false; ///< an IPv4 or IPv6 address

  /// "host:port", "[v6]:port".
  std::string str() const;
  /// "host:port" as in CONNECT. Names have letters, digits, '-', '_' and '.' only; what a resolver
  /// would take for a number ("127.1", "0x7f.1", "2130706433") is no name. Errors: bad_input.
  static Result<Target> parse(std::string_view authority, std::uint16_t default_port = 0);
  bool operator==(const Target&) const = default;
};

/// One entry of `egress_allow`:
///   - "host" is this name (or address) at the ports 80 and 443;
///   - "*.host" is every name below it, and not itself;
///   - "…:port" is that port alone, "…:*" every port.
struct Entry {
  std::string host;
  bool below = false; ///< "*."
  std::vector<std::uint16_t> ports;
  bool any_port = false;

  /// Errors: misconfigured, what is wrong with it.
  static Result<Entry> parse(std::string_view text);
  bool matches(const Target& target) const;
};

enum class Listed {
  no,
  below, ///< by a "*.host"
  exact  ///< by its own name or address
};

class Allowlist {
public:
  Allowlist() = default;
  /// Errors: those of Entry::parse.
  static Result<Allowlist> parse(const std::vector<std::string>& entries);
  Listed find(const Target& target) const;

private:
  std::vector<Entry> entries_;
};

/// The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4); "" where it is its own.
std::string embedded_four(const std::string& address);

/// What an address is, its embedded IPv4 address counting where it has one (mapped, NAT64, 6to4).
enum class Reach {
  everywhere,
  local_net, ///< private use, shared address space, unique local
  this_host, ///< loopback, link-local, metadata services, unspecified, multicast, reserved
};
/// `address` as inet_ntop writes it; what is no address is `this_host`.
Reach reach_of(const std::string& address);

/// The addresses of this machine's interfaces, loopback too, as inet_ntop writes them: what listens
/// at them need not be meant for jobs. Errors: io; whoever cannot know them lets nobody out.
Result<std::set<std::string>> interface_addresses();

} // namespace slipway::egress
