// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/allowlist.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

namespace slipway::egress {
namespace {

constexpr std::size_t kMostNameBytes = 253; // RFC 1035, 2.3.4
constexpr std::size_t kMostLabelBytes = 63;

std::string lower(std::string_view text) {
  std::string made{text};
  for (char& c : made)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return made;
}

std::optional<std::uint16_t> port_in(std::string_view text) {
  std::uint16_t port = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || read.ec != std::errc{} || read.ptr != text.data() + text.size() || port == 0)
    return std::nullopt;
  return port;
}

/// The canonical form of a literal address; "" where it is none.
std::string literal_form(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  std::array<char, INET6_ADDRSTRLEN> form{};
  for (const int family : {AF_INET, AF_INET6}) {
    if (::inet_pton(family, text.c_str(), binary.data()) == 1 &&
        ::inet_ntop(family, binary.data(), form.data(), form.size()) != nullptr)
      return form.data();
  }
  return "";
}

/// A name that no resolver takes for an address: its last label is no number.
bool is_name(std::string_view host) {
  if (host.empty() || host.size() > kMostNameBytes) return false;
  std::string_view last;
  while (true) {
    const auto end = std::min(host.find('.'), host.size());
    last = host.substr(0, end);
    const bool plain = std::all_of(last.begin(), last.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (last.empty() || last.size() > kMostLabelBytes || !plain) return false;
    if (end == host.size()) break;
    host.remove_prefix(end + 1);
  }
  return last.find_first_not_of("0123456789") != std::string_view::npos && !last.starts_with("0x");
}

struct Split {
  std::string_view host;
  std::string_view port; ///< without the colon
  bool has_port = false;
  bool bracketed = false;
};

/// "host:port", "[v6]:port", "host", "[v6]", "v6".
std::optional<Split> split(std::string_view text) {
  Split parts;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    parts.bracketed = true;
    parts.host = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    if (text.empty()) return parts;
    if (text[0] != ':') return std::nullopt;
    parts.has_port = true;
    parts.port = text.substr(1);
    return parts;
  }
  const auto colons = std::count(text.begin(), text.end(), ':');
  const auto colon = text.find(':');
  parts.host = text.substr(0, colons == 1 ? colon : text.size());
  if (colons == 1) {
    parts.has_port = true;
    parts.port = text.substr(colon + 1);
  }
  return parts;
}

std::optional<in6_addr> six_of(const std::string& address) {
  in6_addr six{};
  if (::inet_pton(AF_INET6, address.c_str(), &six) != 1) return std::nullopt;
  return six;
}

Reach reach_of_four(std::uint32_t a) {
  const auto in = [a](std::uint32_t net, int bits) {
    return (a >> (32 - bits)) == (net >> (32 - bits));
  };
  // Source: IANA's IPv4 special-purpose address registry.
  for (const auto& [net, bits] : {std::pair{0x0a000000U, 8},
                                  {0xac100000U, 12},
                                  {0xc0a80000U, 16},
                                  {0x64400000U, 10},
                                  {0xc6120000U, 15}})
    if (in(net, bits)) return a == 0x646464c8U ? Reach::this_host : Reach::local_net;
  for (const auto& [net, bits] : {std::pair{0x00000000U, 8},
                                  {0x7f000000U, 8},
                                  {0xa9fe0000U, 16},
                                  {0xc0000000U, 24},
                                  {0xe0000000U, 3}})
    if (in(net, bits)) return Reach::this_host;
  return a == 0xa83f8110U ? Reach::this_host : Reach::everywhere; // 168.63.129.16: Azure's host
}

} // namespace

std::string Target::str() const {
  const bool six = literal && host.find(':') != std::string::npos;
  return (six ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Target> Target::parse(std::string_view authority, std::uint16_t default_port) {
  const auto bad = [](const std::string& why) { return Error{ErrorKind::bad_input, why, "", {}}; };
  const auto parts = split(authority);
  if (!parts) return bad("not HOST:PORT");
  Target target;
  target.port = default_port;
  if (parts->has_port) {
    const auto port = port_in(parts->port);
    if (!port) return bad("not a port");
    target.port = *port;
  }
  if (target.port == 0) return bad("a port is missing");
  auto host = lower(parts->host);
  if (const auto literal = literal_form(host); !literal.empty()) {
    if (parts->bracketed != (literal.find(':') != std::string::npos)) return bad("not HOST:PORT");
    target.host = literal;
    target.literal = true;
    return target;
  }
  if (parts->bracketed) return bad("not an IPv6 address");
  if (host.ends_with('.')) host.pop_back();
  if (!is_name(host)) return bad("not a host name");
  target.host = std::move(host);
  return target;
}

Result<Entry> Entry::parse(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return Error{ErrorKind::misconfigured, "'" + std::string{text} + "': " + why, "", {}};
  };
  if (text.find("://") != std::string_view::npos || text.find('/') != std::string_view::npos)
    return wrong("a host without scheme and path is meant, such as \"host.example:443\"");
  const auto parts = split(text);
  if (!parts) return wrong("not HOST, *.HOST or HOST:PORT");
  Entry entry;
  if (!parts->has_port) {
    entry.ports = {80, 443};
  } else if (parts->port == "*") {
    entry.any_port = true;
  } else {
    const auto port = port_in(parts->port);
    if (!port) return wrong("the port is a number from 1 to 65535, or *");
    entry.ports = {*port};
  }
  auto host = lower(parts->host);
  if (const auto literal = literal_form(host); !literal.empty()) {
    entry.host = literal;
    return entry;
  }
  if (host.starts_with("*.")) {
    entry.below = true;
    host.erase(0, 2);
  }
  if (host.ends_with('.')) host.pop_back();
  if (parts->bracketed || !is_name(host))
    return wrong("not a host name; a * stands at the beginning alone, as in \"*.host.example\"");
  entry.host = std::move(host);
  return entry;
}

bool Entry::matches(const Target& target) const {
  if (!any_port && std::find(ports.begin(), ports.end(), target.port) == ports.end()) return false;
  if (!below) return target.host == host;
  return !target.literal && target.host.size() > host.size() + 1 && target.host.ends_with(host) &&
         target.host[target.host.size() - host.size() - 1] == '.';
}

Result<Allowlist> Allowlist::parse(const std::vector<std::string>& entries) {
  Allowlist list;
  for (const auto& text : entries) {
    auto entry = Entry::parse(text);
    if (!entry) return std::move(entry).error();
    list.entries_.push_back(*std::move(entry));
  }
  return list;
}

Listed Allowlist::find(const Target& target) const {
  Listed found = Listed::no;
  for (const auto& entry : entries_) {
    if (!entry.matches(target)) continue;
    if (!entry.below) return Listed::exact;
    found = Listed::below;
  }
  return found;
}

std::string embedded_four(const std::string& address) {
  const auto six = six_of(address);
  if (!six) return "";
  const auto* b = six->s6_addr;
  constexpr std::array<unsigned char, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  constexpr std::array<unsigned char, 12> kNat64{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0};
  const bool at_end = std::memcmp(b, kMapped.data(), kMapped.size()) == 0 ||
                      std::memcmp(b, kNat64.data(), kNat64.size()) == 0;
  if (!at_end && !(b[0] == 0x20 && b[1] == 0x02)) return ""; // 2002::/16 is 6to4
  std::array<char, INET_ADDRSTRLEN> form{};
  if (::inet_ntop(AF_INET, b + (at_end ? 12 : 2), form.data(), form.size()) == nullptr) return "";
  return form.data();
}

Reach reach_of(const std::string& address) {
  in_addr four{};
  if (::inet_pton(AF_INET, address.c_str(), &four) == 1) return reach_of_four(ntohl(four.s_addr));
  const auto six = six_of(address);
  if (!six) return Reach::this_host;
  if (const auto inner = embedded_four(address); !inner.empty()) return reach_of(inner);
  const auto* b = six->s6_addr;
  if ((b[0] & 0xfe) == 0xfc) {
    // fd00:ec2::254, EC2's metadata service
    return b[0] == 0xfd && b[1] == 0 && b[2] == 0x0e && b[3] == 0xc2 ? Reach::this_host
                                                                     : Reach::local_net;
  }
  return (b[0] & 0xe0) == 0x20 ? Reach::everywhere : Reach::this_host; // global unicast is 2000::/3
}

Result<std::set<std::string>> interface_addresses() {
  std::set<std::string> all;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return io_error("getifaddrs", errno);
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owned{first, ::freeifaddrs};
  for (const auto* one = first; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    const void* binary = family == AF_INET
                             ? static_cast<const void*>(
                                   &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr)
                             : &reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
    if (::inet_ntop(family, binary, text.data(), text.size()) != nullptr) all.insert(text.data());
  }
  return all;
}

} // namespace slipway::egress
