// SPDX-License-Identifier: Apache-2.0
// The egress rule in parts that can be tested without a network: host names, memory of addresses,
// and what nft says about the table afterwards.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway::sandbox {

/// Closed networks at a time: their bridges are "swc0" to "swc255".
inline constexpr int kMostClosed = 256;

struct Addresses {
  std::set<std::string> v4; ///< as inet_ntop writes them
  std::set<std::string> v6;
  bool empty() const { return v4.empty() && v6.empty(); }
  bool operator==(const Addresses&) const = default;
};

/// "host" of "host", "host:port", "[v6]:port" or a bare IPv6 address. "" where there is none.
std::string host_of(const std::string& entry);

/// All addresses of a host name or a literal address; empty where it does not resolve in time.
using Resolver = std::function<Addresses(const std::string& host)>;

/// The system's resolver, given up after `deadline`.
Addresses resolve(const std::string& host, std::chrono::milliseconds deadline);

/// Resolves every host and adds what MEMORY (a JSON file) remembers of it: a name that rotates its
/// addresses stays blocked at all that were ever seen. Errors: unavailable (a host does not resolve
/// and is not remembered); misconfigured (an entry is no host); io.
Result<Addresses> blocked_addresses(const std::vector<std::string>& hosts, const Resolver& resolver,
                                    const std::filesystem::path& memory);

/// The same for what `egress` blocks, with the memory that enforce_egress() keeps beside its table,
/// one caller at a time.
Result<Addresses> registry_addresses(const Engine& engine, const Egress& egress);

/// While a script runs: a registry's name may get an address that it had not when the table was
/// made. Where `known` is not what the names have now, it becomes that, and the table is made anew.
/// A name that is slow to resolve has its remembered addresses. Errors: those of enforce_egress.
Status follow_egress(Podman& podman, const Egress& egress, std::optional<Addresses>& known);

/// A connection to a registry that the table refused.
struct RefusedConnection {
  std::string host; ///< as the configuration has it, without its port; else the address
  std::string address;
  std::string protocol; ///< "tcp" or "udp"
  unsigned port = 0;
  auto operator<=>(const RefusedConnection&) const = default;
};

/// Those of `nft --json list table inet slipway_egress`, by sandboxes on `bridges`, not longer ago
/// than `within` (an hour at most), in order and each once; `host` is the address.
std::vector<RefusedConnection> refused_in(const std::string& listing,
                                          const std::set<std::string>& bridges,
                                          std::chrono::seconds within);

/// The same of the table in force, with the names of those that are `blocked_hosts` (as in Egress).
/// Of what is neither TCP nor UDP nothing is known, and no more than 4096 of all jobs. Errors: io;
/// timed_out.
Result<std::vector<RefusedConnection>>
refused_connections(Podman& podman, const std::vector<std::string>& blocked_hosts,
                    const std::set<std::string>& bridges, std::chrono::seconds within);

/// True where `nft --json list table inet slipway_egress` shows exactly these addresses, noted and
/// refused in the forward hook, the isolation that was asked for, masquerading, and nothing else.
bool is_in_force(const std::string& listing, const Addresses& addresses, bool isolate);

} // namespace slipway::sandbox
