// SPDX-License-Identifier: Apache-2.0
// The egress rule in parts that can be tested without a network: host names, memory of addresses,
// and what nft says about the table afterwards.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
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

/// Those of `nft --json list table inet slipway_egress`.
std::vector<NotedRefusal> noted_in(const std::string& listing);

/// A registry that somebody was kept from.
struct Refusal {
  std::string bridge;
  std::string
      hosts; ///< as the configuration has them, without port, " or " between; or the address
  std::string address;
};

/// What was refused to sandboxes on these bridges, not longer ago than is said for each (an hour at
/// most); of the names of an address those that are `blocked_hosts` (as in Egress). Errors: io;
/// timed_out.
Result<std::vector<Refusal>> refusals(Podman& podman, const std::vector<std::string>& blocked_hosts,
                                      const std::map<std::string, std::chrono::seconds>& bridges);

/// True where `nft --json list table inet slipway_egress` shows exactly these addresses, noted and
/// refused in the forward hook, the isolation that was asked for, masquerading, and nothing else.
bool is_in_force(const std::string& listing, const Addresses& addresses, bool isolate);

} // namespace slipway::sandbox
