// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway::init {

/// How many connections and packets found no route in this process's network namespace since it was
/// made, of IPv4 and IPv6. 0 where the kernel does not say. Source: proc(5), /proc/net/snmp.
std::uint64_t unrouted();

/// The counter of that name in the table of /proc/net/snmp whose lines begin with TABLE: a line of
/// names, and one of numbers. 0 where it is not there.
std::uint64_t snmp_counter(const std::string& text, std::string_view table, std::string_view name);

} // namespace slipway::init
