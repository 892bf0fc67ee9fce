// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/egress.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"

#include <nlohmann/json.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <thread>

namespace slipway::sandbox {
namespace {

using nlohmann::json;

constexpr const char* kNft = "/usr/sbin/nft";
constexpr const char* kRemoveTable =
    "table inet slipway_egress\ndelete table inet slipway_egress\n";
constexpr int kMostBridges = 256; // podman0 to podman255: Podman takes the lowest free number
constexpr std::size_t kMostMemoryBytes = 1UL << 20;
constexpr std::size_t kMostAddressesPerHost = 512;
constexpr std::chrono::milliseconds kResolveDeadline{10000};
constexpr std::chrono::seconds kNoted{3600}; // what was refused is known so long

bool is_address(int family, const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  return ::inet_pton(family, text.c_str(), binary.data()) == 1;
}

void add_address(Addresses& addresses, int family, const void* binary) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (::inet_ntop(family, binary, text.data(), text.size()) == nullptr) return;
  (family == AF_INET ? addresses.v4 : addresses.v6).insert(text.data());
}

Addresses look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  Addresses addresses;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET) {
      add_address(addresses, AF_INET,
                  &reinterpret_cast<const sockaddr_in*>(entry->ai_addr)->sin_addr);
    } else if (entry->ai_family == AF_INET6) {
      add_address(addresses, AF_INET6,
                  &reinterpret_cast<const sockaddr_in6*>(entry->ai_addr)->sin6_addr);
    }
  }
  ::freeaddrinfo(found);
  return addresses;
}

std::string set_of(const char* name, const char* type, const std::vector<std::string>& elements) {
  std::string text = std::string{"\tset "} + name + " {\n\t\ttype " + type + "\n";
  for (std::size_t i = 0; i < elements.size(); ++i) {
    text += (i == 0 ? "\t\telements = { " : ",\n\t\t\t     ") + elements[i];
  }
  return text + (elements.empty() ? "" : " }\n") + "\t}\n";
}

const json& member(const json& object, const char* name) {
  static const json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

std::set<std::string> texts_of(const json& array) {
  std::set<std::string> texts;
  if (!array.is_array()) return texts;
  // An element that is no plain address (a range, a comment) makes the comparison fail: "".
  for (const auto& element : array) {
    texts.insert(element.is_string() ? element.get<std::string>() : "");
  }
  return texts;
}

// How many elements there are, all of them one name twice; 0 where one is something else.
std::size_t same_pairs_in(const json& elements) {
  if (!elements.is_array()) return 0;
  for (const auto& element : elements) {
    const auto& pair = member(element, "concat");
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || pair[0] != pair[1])
      return 0;
  }
  return elements.size();
}

bool matches(const json& expression, const char* op, const char* key, const char* value) {
  const auto& match = member(expression, "match");
  return member(match, "op") == op && member(match, "right") == value &&
         member(member(member(match, "left"), "meta"), "key") == key;
}

constexpr std::pair<const char*, const char*> kNotedSets[] = {{"@blocked4", "@refused4"},
                                                              {"@blocked6", "@refused6"}};

const json& both_names() {
  static const json kNames{
      {"concat", {{{"meta", {{"key", "iifname"}}}}, {{"meta", {{"key", "oifname"}}}}}}};
  return kNames;
}

bool leaves_bridge(const json& expression, const char* set) {
  const auto& pair = member(expression, "match");
  return member(pair, "op") == "!=" && member(pair, "left") == both_names() &&
         member(pair, "right") == set;
}

// What a rule says about a closed network: "closed out tcp", "closed out", "closed in", "closed
// router tcp", "closed router"; of any other rule "".
std::string meaning_of_closed(const json& expression) {
  const auto size = expression.size();
  const auto& last = expression.back();
  const bool from = matches(expression[0], "==", "iifname", "swc*");
  if (from && size == 4 && leaves_bridge(expression[1], "@closed") &&
      matches(expression[2], "==", "l4proto", "tcp") && last.contains("reject"))
    return "closed out tcp";
  if (from && size == 3 && leaves_bridge(expression[1], "@closed") && last.contains("reject"))
    return "closed out";
  if (size == 3 && matches(expression[0], "==", "oifname", "swc*") &&
      leaves_bridge(expression[1], "@closed") && last.contains("drop"))
    return "closed in";
  if (from && size == 3 && matches(expression[1], "==", "l4proto", "tcp") &&
      last.contains("reject"))
    return "closed router tcp";
  return from && size == 2 && last.contains("reject") ? "closed router" : "";
}

// What follows the address in a rule that writes it down in a set: it lets nothing pass.
bool notes_refusal(const json& expression, const std::string& set) {
  const auto& note = member(expression.back(), "set");
  return expression.size() == 2 && member(note, "op") == "update" && member(note, "set") == set;
}

// "@set" of a rule that refuses all that goes to the set, "@set tcp" where only TCP, "@set noted"
// of one that writes that down, "isolate", "masquerade"; of any other rule "".
std::string meaning_of(const json& expression) {
  if (expression.size() < 2 || expression.size() > 4) return "";
  if (auto closed = meaning_of_closed(expression); !closed.empty()) return closed;
  if (expression.size() == 2 && matches(expression[0], "==", "oifname", "tap0") &&
      expression[1].contains("masquerade"))
    return "masquerade";
  if (expression.size() == 4) {
    return matches(expression[0], "==", "iifname", "podman*") &&
                   matches(expression[1], "==", "oifname", "podman*") &&
                   leaves_bridge(expression[2], "@same_bridge") && expression[3].contains("drop")
               ? "isolate"
               : "";
  }
  const auto& to = member(expression.front(), "match");
  if (member(to, "op") != "==" || member(member(member(to, "left"), "payload"), "field") != "daddr")
    return "";
  const auto& set = member(to, "right");
  if (!set.is_string()) return "";
  for (const auto& [blocked, refused] : kNotedSets) {
    if (set == blocked && notes_refusal(expression, refused))
      return set.get<std::string>() + " noted";
  }
  if (!expression.back().contains("reject")) return "";
  if (expression.size() == 2) return set.get<std::string>();
  return matches(expression[1], "==", "l4proto", "tcp") ? set.get<std::string>() + " tcp" : "";
}

// Addresses by host; empty where there is none, or none that can be read.
json read_memory(const std::filesystem::path& file) {
  if (const auto text = read_file(file, kMostMemoryBytes); text.ok()) {
    auto document = json::parse(*text, nullptr, false);
    if (document.is_object()) return document;
  }
  return json::object();
}

Result<process::Output> list_table(Podman& podman) {
  return podman.unshare({kNft, "--json", "list", "table", "inet", "slipway_egress"}, "", true);
}

std::filesystem::path memory_of(const Engine& engine) {
  return engine.runtime_dir / "slipway-egress.json";
}

} // namespace

std::string host_of(const std::string& entry) {
  if (entry.starts_with('[')) {
    const auto end = entry.find(']');
    return end == std::string::npos ? "" : entry.substr(1, end - 1);
  }
  if (std::count(entry.begin(), entry.end(), ':') > 1) return entry;
  return entry.substr(0, entry.find(':'));
}

Addresses resolve(const std::string& host, std::chrono::milliseconds deadline) {
  Addresses literal;
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  for (const int family : {AF_INET, AF_INET6}) {
    if (::inet_pton(family, host.c_str(), binary.data()) != 1) continue;
    add_address(literal, family, binary.data());
    return literal;
  }
  // getaddrinfo has no deadline; a thread that outlives the wait ends by the resolver's own.
  auto answer = std::make_shared<std::promise<Addresses>>();
  auto future = answer->get_future();
  std::thread([answer, host] { answer->set_value(look_up(host)); }).detach();
  if (future.wait_for(deadline) != std::future_status::ready) return {};
  return future.get();
}

Result<Addresses> blocked_addresses(const std::vector<std::string>& hosts, const Resolver& resolver,
                                    const std::filesystem::path& memory) {
  json remembered = read_memory(memory);
  Addresses all;
  bool learned = false;
  for (const auto& entry : hosts) {
    const auto host = host_of(entry);
    if (host.empty()) {
      return Error{ErrorKind::misconfigured, "not a registry host: '" + entry + "'", "", {}};
    }
    auto now = resolver(host);
    const auto fresh = now;
    for (const auto& address : texts_of(member(remembered, host.c_str()))) {
      if (is_address(AF_INET, address)) now.v4.insert(address);
      if (is_address(AF_INET6, address)) now.v6.insert(address);
    }
    if (now.empty()) {
      return Error{ErrorKind::unavailable,
                   "registry host " + host + " does not resolve",
                   "without its addresses slipway cannot keep sandboxes away from it; check DNS",
                   {}};
    }
    if (now.v4.size() + now.v6.size() > kMostAddressesPerHost && !fresh.empty()) now = fresh;
    json list = now.v4;
    for (const auto& address : now.v6)
      list.push_back(address);
    if (member(remembered, host.c_str()) != list) {
      remembered[host] = list;
      learned = true;
    }
    all.v4.merge(now.v4);
    all.v6.merge(now.v6);
  }
  if (learned) {
    if (auto kept = replace_file(memory, remembered.dump()); !kept) return std::move(kept).error();
  }
  return all;
}

std::string egress_script(const std::vector<std::string>& addresses4,
                          const std::vector<std::string>& addresses6, bool isolate,
                          const std::vector<NotedRefusal>& noted) {
  // One nft transaction: declaring first makes the deletion good on an empty ruleset too, and no
  // packet meets a moment without rules. Before Podman's own chains, and before connection
  // tracking, so that an open connection ends as well. Refused, not dropped: a job fails at once
  // instead of after the kernel's two minutes of trying. What sandboxes send is forwarded, never
  // output: the output hook would only cut off the name server that serves them.
  const auto pairs_of = [](const std::string& stem, int most) {
    std::vector<std::string> pairs;
    for (int number = 0; number < most; ++number) {
      const auto name = "\"" + stem + std::to_string(number) + "\"";
      pairs.push_back(name + " . " + name);
    }
    return pairs;
  };
  const auto bridges = pairs_of("podman", isolate ? kMostBridges : 0);
  // By address, not by port: no job can fill it. The packet is refused in any case.
  const auto notes = [&noted](const std::string& name, const std::string& type, bool v6) {
    std::vector<std::string> elements;
    for (const auto& one : noted) {
      if ((one.address.find(':') != std::string::npos) == v6)
        elements.push_back("\"" + one.bridge + "\" . " + one.address + " expires " +
                           std::to_string(one.left.count()) + "s");
    }
    return set_of(name.c_str(),
                  ("ifname . " + type + "\n\t\tsize 4096\n\t\tflags dynamic,timeout\n\t\ttimeout " +
                   std::to_string(kNoted.count()) + "s")
                      .c_str(),
                  elements);
  };
  return std::string{kRemoveTable} + "table inet slipway_egress {\n" +
         set_of("blocked4", "ipv4_addr", addresses4) + set_of("blocked6", "ipv6_addr", addresses6) +
         set_of("same_bridge", "ifname . ifname", bridges) +
         set_of("closed", "ifname . ifname", pairs_of("swc", kMostClosed)) +
         notes("refused4", "ipv4_addr", false) + notes("refused6", "ipv6_addr", true) +
         "\tchain forward {\n"
         "\t\ttype filter hook forward priority -300; policy accept;\n"
         "\t\tiifname \"swc*\" iifname . oifname != @closed meta l4proto tcp reject with tcp "
         "reset\n"
         "\t\tiifname \"swc*\" iifname . oifname != @closed reject with icmpx admin-prohibited\n"
         "\t\toifname \"swc*\" iifname . oifname != @closed drop\n" +
         (isolate ? "\t\tiifname \"podman*\" oifname \"podman*\" iifname . oifname != "
                    "@same_bridge drop\n"
                  : "") +
         "\t\tip daddr @blocked4 update @refused4 { iifname . ip daddr }\n"
         "\t\tip6 daddr @blocked6 update @refused6 { iifname . ip6 daddr }\n"
         "\t\tip daddr @blocked4 meta l4proto tcp reject with tcp reset\n"
         "\t\tip6 daddr @blocked6 meta l4proto tcp reject with tcp reset\n"
         "\t\tip daddr @blocked4 reject with icmpx admin-prohibited\n"
         "\t\tip6 daddr @blocked6 reject with icmpx admin-prohibited\n"
         "\t}\n"
         // The router's own addresses: those of other networks' name servers are among them.
         "\tchain input {\n"
         "\t\ttype filter hook input priority -300; policy accept;\n"
         "\t\tiifname \"swc*\" meta l4proto tcp reject with tcp reset\n"
         "\t\tiifname \"swc*\" reject with icmpx admin-prohibited\n"
         "\t}\n"
         "\tchain postrouting {\n"
         "\t\ttype nat hook postrouting priority 100; policy accept;\n"
         "\t\toifname \"tap0\" masquerade\n"
         "\t}\n"
         "}\n";
}

std::vector<NotedRefusal> noted_in(const std::string& listing) {
  std::vector<NotedRefusal> noted;
  const auto document = json::parse(listing, nullptr, false);
  const auto& objects = member(document, "nftables");
  if (!objects.is_array()) return noted;
  for (const auto& object : objects) {
    const auto& set = member(object, "set");
    const auto& elements = member(set, "elem");
    if (!elements.is_array() ||
        (member(set, "name") != "refused4" && member(set, "name") != "refused6"))
      continue;
    for (const auto& entry : elements) {
      const auto& element = member(entry, "elem");
      const auto& key = member(member(element, "val"), "concat");
      const auto& left = member(element, "expires");
      if (!key.is_array() || key.size() != 2 || !key[0].is_string() || !key[1].is_string() ||
          !left.is_number_unsigned() || left.get<std::int64_t>() > kNoted.count())
        continue;
      noted.push_back({key[0].get<std::string>(), key[1].get<std::string>(),
                       std::chrono::seconds{left.get<std::int64_t>()}});
    }
  }
  return noted;
}

bool is_in_force(const std::string& listing, const Addresses& addresses, bool isolate) {
  const auto document = json::parse(listing, nullptr, false);
  Addresses found;
  std::size_t bridges = 0;
  std::size_t closed = 0;
  std::multiset<std::string> rules;
  std::set<std::string> hooks;
  const auto& objects = member(document, "nftables");
  if (!objects.is_array()) return false;
  for (const auto& object : objects) {
    if (const auto& set = member(object, "set"); set.is_object()) {
      const auto& elements = member(set, "elem");
      if (member(set, "name") == "blocked4") found.v4 = texts_of(elements);
      if (member(set, "name") == "blocked6") found.v6 = texts_of(elements);
      if (member(set, "name") == "same_bridge") bridges = same_pairs_in(elements);
      if (member(set, "name") == "closed") closed = same_pairs_in(elements);
    }
    if (const auto& chain = member(object, "chain"); chain.is_object())
      hooks.insert(member(chain, "hook").dump() + member(chain, "prio").dump());
    const auto& expression = member(member(object, "rule"), "expr");
    if (expression.is_array()) rules.insert(meaning_of(expression));
  }
  std::multiset<std::string> wanted{"@blocked4",  "@blocked4 tcp", "@blocked4 noted",
                                    "@blocked6",  "@blocked6 tcp", "@blocked6 noted",
                                    "masquerade", "closed out",    "closed out tcp",
                                    "closed in",  "closed router", "closed router tcp"};
  if (isolate) wanted.insert("isolate");
  // Any other rule, also one that is only in the way, is "".
  return hooks == std::set<std::string>{"\"forward\"-300", "\"input\"-300", "\"postrouting\"100"} &&
         found == addresses && bridges == (isolate ? kMostBridges : 0) && closed == kMostClosed &&
         rules == wanted;
}

namespace {

// Jobs take turns, so that the memory and the table agree, and no address is forgotten.
Result<UniqueFd> lock_egress(const Engine& engine) {
  const auto file = engine.runtime_dir / "slipway-egress.lock";
  auto lock = lock_file(file, LOCK_EX, engine.deadline);
  if (lock && !*lock)
    return Error{ErrorKind::timed_out, "another job holds " + file.string(), "", {}};
  return lock;
}

/// The lock of lock_egress() is held.
Result<Addresses> addresses_of(const Engine& engine, const Egress& egress,
                               std::chrono::milliseconds deadline = kResolveDeadline) {
  return blocked_addresses(
      egress.enabled ? egress.blocked_hosts : std::vector<std::string>{},
      [deadline](const std::string& host) { return resolve(host, deadline); }, memory_of(engine));
}

/// The lock of lock_egress() is held.
Status enforce(Podman& podman, const Addresses& addresses, bool isolate,
               const std::string& fresh_bridge = "") {
  const auto apply = [&podman](const std::string& script) -> Status {
    auto done = podman.unshare({kNft, "-f", "-"}, script, true);
    if (!done) return std::move(done).error();
    if (process::succeeded(done->ending)) return {};
    return Error{ErrorKind::io,
                 "nft: " + process::describe(done->ending) + ": " + done->err,
                 "install nftables; the kernel needs nf_tables",
                 {}};
  };
  std::vector<NotedRefusal> noted; // what is known of jobs stays known
  const auto in_force = [&]() -> Result<bool> {
    auto listing = list_table(podman);
    if (!listing) return std::move(listing).error();
    noted = noted_in(listing->out);
    return process::succeeded(listing->ending) && is_in_force(listing->out, addresses, isolate);
  };
  auto already = in_force();
  if (!already) return std::move(already).error();
  std::string forget;
  std::erase_if(noted, [&](const NotedRefusal& one) {
    if (fresh_bridge.empty() || one.bridge != fresh_bridge) return false;
    const bool v6 = one.address.find(':') != std::string::npos;
    forget += std::string{"delete element inet slipway_egress "} + (v6 ? "refused6" : "refused4") +
              " { \"" + one.bridge + "\" . " + one.address + " }\n";
    return true;
  });
  if (*already) return forget.empty() ? Status{} : apply(forget);
  auto applied = apply(egress_script({addresses.v4.begin(), addresses.v4.end()},
                                     {addresses.v6.begin(), addresses.v6.end()}, isolate, noted));
  if (!applied) return applied;
  auto now = in_force();
  if (!now) return std::move(now).error();
  if (*now) return {};
  return Error{ErrorKind::io, "the egress rule is not what was installed", "", {}};
}

} // namespace

Result<Addresses> registry_addresses(const Engine& engine, const Egress& egress) {
  const auto lock = lock_egress(engine);
  if (!lock) return lock.error();
  return addresses_of(engine, egress);
}

Status enforce_egress(Podman& podman, const Egress& egress, const std::string& fresh_bridge) {
  const auto lock = lock_egress(podman.engine());
  if (!lock) return lock.error();
  const auto addresses = addresses_of(podman.engine(), egress);
  if (!addresses) return Error{addresses.error()}.in("installing the egress rule");
  return enforce(podman, *addresses, egress.isolate, fresh_bridge);
}

Result<std::vector<Refusal>> refusals(Podman& podman, const std::vector<std::string>& blocked_hosts,
                                      const std::map<std::string, std::chrono::seconds>& bridges) {
  std::vector<Refusal> told;
  if (bridges.empty() || !podman.has_network_namespace()) return told;
  auto listing = list_table(podman);
  if (!listing) return std::move(listing).error();
  if (!process::succeeded(listing->ending))
    return Error{
        ErrorKind::io, "nft: " + process::describe(listing->ending) + ": " + listing->err, "", {}};
  const auto names = read_memory(memory_of(podman.engine()));
  for (const auto& one : noted_in(listing->out)) {
    const auto asked = bridges.find(one.bridge);
    if (asked == bridges.end() || kNoted - one.left > asked->second) continue;
    std::string hosts;
    for (const auto& entry : blocked_hosts) {
      const auto host = host_of(entry);
      if (host != one.address && texts_of(member(names, host.c_str())).contains(one.address))
        hosts += (hosts.empty() ? "" : " or ") + host;
    }
    told.push_back({one.bridge, hosts.empty() ? one.address : hosts, one.address});
  }
  return told;
}

Status follow_egress(Podman& podman, const Egress& egress, std::optional<Addresses>& known) {
  constexpr std::chrono::milliseconds kSoon{1000}; // the end of the script waits for it
  const auto lock = lock_egress(podman.engine());
  if (!lock) return lock.error();
  const auto addresses = addresses_of(podman.engine(), egress, kSoon);
  if (!addresses) return addresses.error();
  if (known == *addresses) return {};
  if (auto enforced = enforce(podman, *addresses, egress.isolate); !enforced) return enforced;
  known = *addresses;
  return {};
}

} // namespace slipway::sandbox
