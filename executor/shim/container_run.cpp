// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_run.hpp"

#include "executor/base/clock.hpp"
#include "executor/base/file.hpp"
#include "executor/base/percent.hpp"
#include "executor/shim/container_copy.hpp"
#include "executor/shim/container_watch.hpp"
#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/output.hpp"
#include "executor/shim/parsing.hpp"

#include <nlohmann/json.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>
#include <tuple>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kJsonType = "application/json";
constexpr std::size_t kMaxEnvFile = 1UL << 20;
constexpr std::size_t kFrameHeader = 8;
constexpr std::size_t kShortId = 12;
constexpr std::size_t kShownCommand = 20;
// docker's own codes. Source: its documentation, "Exit status".
constexpr int kDockerFailed = 125;
constexpr int kCannotInvoke = 126;
constexpr int kNotFound = 127;
constexpr int kNotServed = 501; ///< the broker's, where the policy allows no containers

std::string dumped(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string text_at(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string()
             ? found->get<std::string>()
             : "";
}

std::int64_t number_at(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number()
             ? found->get<std::int64_t>()
             : 0;
}

std::string message_of(const Answer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  const auto message = text_at(json, "message");
  return message.empty() ? "the broker answered with status " + std::to_string(answer.status)
                         : message;
}

Line line_of(const ContainerCommand& command) {
  return Line{command.flags, command.arguments, {}, false};
}

Error bad(const std::string& text) {
  return Error{ErrorKind::bad_input, text, "", {}};
}

/// "1h30m", "-1.5s". None where it is no duration of Go's.
std::optional<std::chrono::nanoseconds> duration_of(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[]{
      {"ns", 1e-9}, {"us", 1e-6}, {"\u00b5s", 1e-6}, {"\u03bcs", 1e-6},
      {"ms", 1e-3}, {"s", 1},     {"m", 60},         {"h", 3600}};
  constexpr std::string_view kDigits = "0123456789.";
  constexpr double kMost = 9.2e9; // 64 bits of nanoseconds
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double number = 0;
    const auto length = std::min(text.find_first_not_of(kDigits), text.size());
    const auto [end, cause] =
        std::from_chars(text.data(), text.data() + length, number, std::chars_format::fixed);
    if (cause != std::errc{} || end != text.data() + length) return std::nullopt;
    text.remove_prefix(length);
    const auto unit = text.substr(0, text.find_first_of(kDigits));
    const auto found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                    [&](const auto& one) { return one.first == unit; });
    if (found == std::end(kUnits)) return std::nullopt;
    total += number * found->second;
    text.remove_prefix(unit.size());
  }
  if (total > kMost) return std::nullopt;
  return std::chrono::nanoseconds{std::llround((negative ? -total : total) * 1e9)};
}

/// "2026-11-24", "2026-11-24T16:00Z": as the engine takes it. None where it is no time.
std::optional<std::string> moment_of(const std::string& text) {
  constexpr std::size_t kDay = 10;
  constexpr std::string_view kMidnight = "T00:00:00";
  if (text.size() < kDay || text[4] != '-' || text[7] != '-') return std::nullopt;
  const auto zone_at = std::min(text.find_first_of("Z+-", kDay), text.size());
  const std::string zone = text.substr(zone_at);
  if (zone.size() > 1 && zone.size() != std::string_view{"+00:00"}.size()) return std::nullopt;
  std::string clock = text.substr(kDay, zone_at - kDay);
  std::string nanos;
  if (const auto dot = clock.find('.'); dot != std::string::npos) {
    nanos = clock.substr(dot + 1);
    clock.resize(dot);
    if (nanos.empty() || clock.size() != kMidnight.size() ||
        nanos.find_first_not_of("0123456789") != std::string::npos)
      return std::nullopt;
  }
  if (clock.size() % 3 != 0) return std::nullopt; // "", "T16", "T16:00", "T16:00:00"
  if (clock.size() < kMidnight.size()) clock += kMidnight.substr(clock.size());
  WallTime time{};
  if (!parse_rfc3339(text.substr(0, kDay) + clock + (zone.empty() ? "Z" : zone), time))
    return std::nullopt;
  std::int64_t seconds = time.time_since_epoch().count();
  if (zone.empty()) {
    const time_t as_utc = seconds;
    std::tm parts{};
    ::gmtime_r(&as_utc, &parts);
    parts.tm_isdst = -1;
    seconds = ::mktime(&parts);
  }
  nanos.resize(9, '0');
  return std::to_string(seconds) + "." + nanos;
}

/// "64m", "1.5g", "2 GiB": bytes, units of 1024. None where it is no size. Source: RAMInBytes of
/// docker/go-units 0.5.
std::optional<std::int64_t> size_of(const std::string& text) {
  const auto last = text.find_last_of("0123456789. ");
  if (last == std::string::npos) return std::nullopt;
  const auto number = text.substr(0, text[last] == ' ' ? last : last + 1);
  std::string unit = text.substr(last + 1);
  for (char& letter : unit)
    letter = static_cast<char>(letter | 0x20);
  double value = 0;
  const auto* const end = number.data() + number.size();
  if (const auto read = std::from_chars(number.data(), end, value);
      read.ec != std::errc{} || read.ptr != end)
    return std::nullopt;
  constexpr std::string_view kUnits = "kmgtp";
  const auto power = unit.empty() ? std::string_view::npos : kUnits.find(unit.front());
  if (power != std::string_view::npos) {
    if (unit.size() > 1 && unit.substr(1) != "b" && unit.substr(1) != "ib") return std::nullopt;
    value *= static_cast<double>(std::int64_t{1} << (10 * (power + 1)));
  } else if (!unit.empty() && unit != "b") {
    return std::nullopt;
  }
  if (!(value >= 0 && value < 0x1p63)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

void add_env(const std::string& text, const Environment& env, Json& list) {
  if (text.find('=') != std::string::npos) {
    list.push_back(text);
  } else if (const auto found = env.find(text); found != env.end()) {
    list.push_back(text + "=" + found->second);
  }
}

Status add_env_files(const Line& line, const Environment& env, const std::string& cwd, Json& list) {
  for (const auto& name : line.all("env-file")) {
    const auto path = std::filesystem::path{cwd} / name;
    auto text = read_file(path, kMaxEnvFile);
    if (!text) return bad("open " + name + ": " + text.error().what);
    for (std::size_t at = 0; at < text->size();) {
      const auto end = std::min(text->find('\n', at), text->size());
      std::string entry = text->substr(at, end - at);
      at = end + 1;
      entry.erase(0, std::min(entry.find_first_not_of(" \t"), entry.size()));
      if (!entry.empty() && entry.back() == '\r') entry.pop_back();
      if (!entry.empty() && entry.front() != '#') add_env(entry, env, list);
    }
  }
  return {};
}

Result<Json> environment_of(const Line& line, const Environment& env, const std::string& cwd) {
  Json list = Json::array();
  if (auto files = add_env_files(line, env, cwd, list); !files) return std::move(files).error();
  for (const auto& one : line.all("env"))
    add_env(one, env, list);
  return list;
}

/// What a --mount says beside its type and its places, each in the member of its type. Nothing
/// where it is no such key. Errors: bad_input.
std::optional<Status> add_mount_option(const std::string& key, const std::string& value,
                                       Json& mount) {
  const auto invalid = [&] { return bad("invalid value for " + key + ": " + value); };
  if (key == "tmpfs-size") {
    const auto size = size_of(value);
    if (!size) return invalid();
    mount["TmpfsOptions"]["SizeBytes"] = *size;
  } else if (key == "tmpfs-mode") {
    std::uint32_t mode = 0;
    const auto* const end = value.data() + value.size();
    constexpr int kOctal = 8;
    if (const auto read = std::from_chars(value.data(), end, mode, kOctal);
        read.ec != std::errc{} || read.ptr != end)
      return invalid();
    mount["TmpfsOptions"]["Mode"] = mode;
  } else if (key == "bind-propagation") {
    mount["BindOptions"]["Propagation"] = value;
  } else if (key == "volume-nocopy") {
    const auto on = parse_bool(value);
    if (!on) return invalid();
    mount["VolumeOptions"]["NoCopy"] = *on;
  } else {
    return std::nullopt;
  }
  return Status{};
}

/// An option is of one type of mount.
Status check_mount_options(const Json& mount) {
  const auto type = text_at(mount, "Type");
  for (const auto& [member, own] :
       {std::pair{"TmpfsOptions", "tmpfs"}, {"BindOptions", "bind"}, {"VolumeOptions", "volume"}})
    if (mount.contains(member) && type != own)
      return bad("cannot mix '" + std::string{own} + "-*' options with mount type '" + type + "'");
  return {};
}

/// "-v SRC:DST[:OPTIONS]": a path that begins with a dot is meant from the working folder.
Result<std::string> bind_of(const std::string& text, const std::string& cwd) {
  const auto colon = text.find(':');
  std::string source = text.substr(0, colon);
  if (source == "." || source == ".." || source.starts_with("./") || source.starts_with("../"))
    source = (std::filesystem::path{cwd} / source).lexically_normal().string();
  if (source.size() > 1 && source.back() == '/') source.pop_back();
  if (source.empty() || colon + 1 >= text.size())
    return bad("invalid volume specification: '" + text + "'");
  return source + text.substr(colon);
}

Status add_volumes(const Line& line, const std::string& cwd, Json& body, Json& host) {
  for (const auto& volume : line.all("volume")) {
    if (volume.find(':') == std::string::npos) {
      body["Volumes"][volume] = Json::object();
      continue;
    }
    auto bind = bind_of(volume, cwd);
    if (!bind) return std::move(bind).error();
    host["Binds"].push_back(*std::move(bind));
  }
  for (const auto& text : line.all("mount")) {
    Json mount{{"Type", "volume"}};
    for (const auto& part : comma_parts(text)) {
      const auto equals = part.find('=');
      const auto key = part.substr(0, equals);
      const auto value = equals == std::string::npos ? "true" : part.substr(equals + 1);
      if (key == "type") {
        mount["Type"] = value;
      } else if (key == "source" || key == "src") {
        const bool relative = value == "." || value.starts_with("./") || value.starts_with("../");
        mount["Source"] =
            relative ? (std::filesystem::path{cwd} / value).lexically_normal().string() : value;
      } else if (key == "target" || key == "dst" || key == "destination") {
        mount["Target"] = value;
      } else if (key == "readonly" || key == "ro") {
        mount["ReadOnly"] = value == "true" || value == "1";
      } else if (key == "consistency") {
        continue; // means nothing on Linux
      } else if (auto added = add_mount_option(key, value, mount); !added) {
        return bad(unsupported("--mount " + key, std::string{kNotYet}));
      } else if (!*added) {
        return *added;
      }
    }
    if (auto checked = check_mount_options(mount); !checked) return checked;
    host["Mounts"].push_back(std::move(mount));
  }
  for (const auto& text : line.all("tmpfs")) {
    const auto colon = text.find(':');
    host["Tmpfs"][text.substr(0, colon)] = colon == std::string::npos ? "" : text.substr(colon + 1);
  }
  return {};
}

/// "[[IP:]HOST:]CONTAINER[/PROTO]", one port each.
Status add_ports(const Line& line, Json& body, Json& host) {
  for (const auto& text : line.all("publish")) {
    std::string rest = text;
    std::string protocol = "tcp";
    if (const auto slash = rest.rfind('/'); slash != std::string::npos) {
      protocol = rest.substr(slash + 1);
      rest.erase(slash);
    }
    std::string address;
    std::string outside;
    if (const auto last = rest.rfind(':'); last != std::string::npos) {
      outside = rest.substr(0, last);
      rest.erase(0, last + 1);
      if (const auto before = outside.rfind(':'); before != std::string::npos) {
        address = outside.substr(0, before);
        outside.erase(0, before + 1);
      }
    }
    const auto is_number = [](const std::string& port) {
      return !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
    };
    if (!is_number(rest) || (!outside.empty() && !is_number(outside)))
      return bad(unsupported("--publish " + text,
                             "a number for each port; ranges are " + std::string{kNotYet}));
    const auto key = rest + "/" + protocol;
    body["ExposedPorts"][key] = Json::object();
    host["PortBindings"][key].push_back({{"HostIp", address}, {"HostPort", outside}});
  }
  for (const auto& text : line.all("expose"))
    body["ExposedPorts"][text.find('/') == std::string::npos ? text + "/tcp" : text] =
        Json::object();
  return {};
}

void add_labels_to(const Line& line, Json& body) {
  for (const auto& label : line.all("label")) {
    const auto equals = label.find('=');
    body["Labels"][label.substr(0, equals)] =
        equals == std::string::npos ? "" : label.substr(equals + 1);
  }
}

/// None where it is no number, or one of more than nine digits.
std::optional<std::int64_t> number_of(const std::string& text) {
  const bool negative = text.starts_with('-');
  const auto digits = text.substr(negative ? 1 : 0);
  if (digits.empty() || digits.size() > 9 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  std::int64_t value = 0;
  for (const char digit : digits)
    value = value * 10 + (digit - '0');
  return negative ? -value : value;
}

/// "1.5": billionths. None where it is no such number.
std::optional<std::int64_t> nano_of(const std::string& text) {
  const auto point = text.find('.');
  auto fraction = point == std::string::npos ? "" : text.substr(point + 1);
  if (fraction.size() > 9) return std::nullopt;
  fraction.resize(9, '0');
  const auto whole = number_of(point == 0 ? "0" : text.substr(0, point));
  const auto part = number_of(fraction);
  if (!whole || !part || *whole < 0 || *part < 0) return std::nullopt;
  return *whole * 1'000'000'000 + *part;
}

/// What the engine can hold a container to is the engine's to say: it refuses, or warns.
Status add_limits(const Line& line, Json& host) {
  constexpr std::pair<const char*, const char*> kNumbers[] = {
      {"cpu-shares", "CpuShares"},
      {"cpu-period", "CpuPeriod"},
      {"cpu-quota", "CpuQuota"},
      {"cpu-rt-period", "CpuRealtimePeriod"},
      {"cpu-rt-runtime", "CpuRealtimeRuntime"},
      {"pids-limit", "PidsLimit"},
      {"blkio-weight", "BlkioWeight"},
      {"memory-swappiness", "MemorySwappiness"},
      {"oom-score-adj", "OomScoreAdj"}};
  const auto invalid = [](const std::string& text, const std::string& flag) {
    return bad("invalid argument \"" + text + "\" for \"--" + flag + "\"");
  };
  for (const auto& [flag, member] : kNumbers) {
    const auto text = line.last(flag);
    if (text.empty()) continue;
    const auto number = number_of(text);
    if (!number) return invalid(text, flag);
    host[member] = *number;
  }
  if (const auto text = line.last("cpus"); !text.empty()) {
    const auto cpus = nano_of(text);
    if (!cpus) return invalid(text, "cpus");
    host["NanoCpus"] = *cpus;
  }
  if (const auto text = line.last("memory-swap"); !text.empty()) {
    const auto size = text == "-1" ? std::optional<std::int64_t>{-1} : size_of(text);
    if (!size) return invalid(text, "memory-swap");
    host["MemorySwap"] = *size;
  }
  for (const auto& text : line.all("ulimit")) {
    const auto equals = text.find('=');
    if (equals == std::string::npos) return invalid(text, "ulimit");
    const auto colon = text.find(':', equals);
    const auto soft = number_of(text.substr(equals + 1, colon - equals - 1));
    const auto hard = colon == std::string::npos ? soft : number_of(text.substr(colon + 1));
    if (!soft || !hard) return invalid(text, "ulimit");
    host["Ulimits"].push_back({{"Name", text.substr(0, equals)}, {"Soft", *soft}, {"Hard", *hard}});
  }
  return {};
}

/// --add-host NAME=ADDRESS or NAME:ADDRESS, the address in brackets or not; the engine knows the
/// colon alone. Errors: bad_input.
Status add_extra_hosts(const Line& line, Json& host) {
  for (const auto& text : line.all("add-host")) {
    const auto equals = text.find('=');
    const auto cut = equals == std::string::npos ? text.find(':') : equals;
    if (cut == 0 || cut == std::string::npos)
      return bad("invalid argument \"" + text +
                 "\" for \"--add-host\" flag: bad format for add-host: \"" + text + "\"");
    auto address = text.substr(cut + 1);
    if (address.size() > 2 && address.front() == '[' && address.back() == ']')
      address = address.substr(1, address.size() - 2);
    host["ExtraHosts"].push_back(text.substr(0, cut) + ":" + address);
  }
  return {};
}

Status add_host_settings(const Line& line, Json& host) {
  constexpr std::pair<const char*, const char*> kTexts[] = {
      {"ipc", "IpcMode"},           {"pid", "PidMode"},           {"uts", "UTSMode"},
      {"userns", "UsernsMode"},     {"cgroupns", "CgroupnsMode"}, {"cpuset-cpus", "CpusetCpus"},
      {"cpuset-mems", "CpusetMems"}};
  constexpr std::pair<const char*, const char*> kLists[] = {
      {"cap-add", "CapAdd"},           {"cap-drop", "CapDrop"},
      {"security-opt", "SecurityOpt"}, {"dns", "Dns"},
      {"dns-search", "DnsSearch"},     {"dns-option", "DnsOptions"},
      {"dns-opt", "DnsOptions"},       {"group-add", "GroupAdd"},
      {"volumes-from", "VolumesFrom"}, {"link", "Links"}};
  constexpr std::pair<const char*, const char*> kSwitches[] = {
      {"privileged", "Privileged"},
      {"read-only", "ReadonlyRootfs"},
      {"init", "Init"},
      {"oom-kill-disable", "OomKillDisable"},
      {"publish-all", "PublishAllPorts"}};
  constexpr std::pair<const char*, const char*> kSizes[] = {
      {"memory", "Memory"}, {"memory-reservation", "MemoryReservation"}, {"shm-size", "ShmSize"}};
  for (const auto& [flag, member] : kTexts)
    if (const auto value = line.last(flag); !value.empty()) host[member] = value;
  for (const auto& [flag, member] : kLists)
    for (const auto& value : line.all(flag))
      host[member].push_back(value);
  for (const auto& [flag, member] : kSwitches)
    if (line.has(flag)) host[member] = true;
  for (const auto& [flag, member] : kSizes) {
    const auto text = line.last(flag);
    if (text.empty()) continue;
    const auto size = size_of(text);
    if (!size) return bad("invalid argument \"" + text + "\" for \"--" + flag + "\": invalid size");
    host[member] = *size;
  }
  for (const auto& text : line.all("device")) {
    const auto first = text.find(':');
    const auto source = text.substr(0, first);
    const auto rest = first == std::string::npos ? source : text.substr(first + 1);
    const auto second = rest.find(':');
    host["Devices"].push_back(
        {{"PathOnHost", source},
         {"PathInContainer", rest.substr(0, second)},
         {"CgroupPermissions", second == std::string::npos ? "rwm" : rest.substr(second + 1)}});
  }
  for (const auto& [flag, member] :
       {std::pair{"sysctl", "Sysctls"}, {"storage-opt", "StorageOpt"}}) {
    for (const auto& text : line.all(flag)) {
      const auto equals = text.find('=');
      if (equals == std::string::npos)
        return bad("invalid argument \"" + text + "\" for \"--" + flag + "\"");
      host[member][text.substr(0, equals)] = text.substr(equals + 1);
    }
  }
  if (const auto restart = line.last("restart"); !restart.empty()) {
    const auto colon = restart.find(':');
    host["RestartPolicy"] = {{"Name", restart.substr(0, colon)}, {"MaximumRetryCount", 0}};
    if (colon != std::string::npos) {
      const auto count = number_of(restart.substr(colon + 1));
      if (!count) return bad("maximum retry count must be an integer");
      host["RestartPolicy"]["MaximumRetryCount"] = *count;
    }
  }
  if (const auto driver = line.last("log-driver"); !driver.empty())
    host["LogConfig"]["Type"] = driver;
  for (const auto& text : line.all("log-opt")) {
    const auto equals = text.find('=');
    host["LogConfig"]["Config"][text.substr(0, equals)] =
        equals == std::string::npos ? "" : text.substr(equals + 1);
  }
  return {};
}

/// The address's bytes, of 4 or 16. None where it is no address.
std::optional<std::string> address_bytes(const std::string& text) {
  in6_addr bytes{};
  for (const auto& [family, size] : {std::pair{AF_INET, sizeof(in_addr)}, {AF_INET6, sizeof bytes}})
    if (::inet_pton(family, text.c_str(), &bytes) == 1)
      return std::string{reinterpret_cast<const char*>(&bytes), size};
  return std::nullopt;
}

/// Whether a subnet, ADDRESS/BITS, has the address.
bool has_address(const std::string& subnet, const std::string& address) {
  const auto slash = std::min(subnet.find('/'), subnet.size());
  const auto bits = number_of(subnet.substr(std::min(slash + 1, subnet.size()))).value_or(-1);
  const auto network = address_bytes(subnet.substr(0, slash));
  const auto host = address_bytes(address);
  if (!network || !host || network->size() != host->size()) return false;
  if (bits < 0 || static_cast<std::size_t>(bits) > 8 * host->size()) return false;
  for (std::size_t bit = 0; bit < static_cast<std::size_t>(bits); ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if ((((*network)[bit / 8] ^ (*host)[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

/// --subnet, and what belongs to the subnet that has its address. Errors: bad_input.
Result<Json> subnets_of(const Line& line) {
  Json subnets = Json::array();
  for (const auto& subnet : line.all("subnet"))
    subnets.push_back({{"Subnet", subnet}});
  const auto of = [&](const std::string& address) {
    return std::find_if(subnets.begin(), subnets.end(), [&](const Json& one) {
      return has_address(text_at(one, "Subnet"), address);
    });
  };
  for (const auto& [flag, member, word] :
       {std::tuple{"ip-range", "IPRange", "range"}, {"gateway", "Gateway", "gateway"}}) {
    for (const auto& text : line.all(flag)) {
      const auto found = of(text.substr(0, text.find('/')));
      if (found == subnets.end())
        return bad("no matching subnet for " + std::string{word} + " " + text);
      if (found->contains(member))
        return bad("cannot configure multiple " + std::string{word} + "s (" + text + ", " +
                   text_at(*found, member) + ") on the same subnet (" + text_at(*found, "Subnet") +
                   ")");
      (*found)[member] = text;
    }
  }
  for (const auto& text : line.all("aux-address")) {
    const auto equals = text.find('=');
    if (equals == std::string::npos)
      return bad("invalid argument \"" + text + "\" for \"--aux-address\"");
    const auto address = text.substr(equals + 1);
    const auto found = of(address);
    if (found == subnets.end()) return bad("no matching subnet for aux-address " + address);
    (*found)["AuxiliaryAddresses"][text.substr(0, equals)] = address;
  }
  return subnets;
}

/// NAME=VALUE of each; a bare name has an empty value.
void add_options(const std::vector<std::string>& values, Json& options) {
  for (const auto& text : values) {
    const auto equals = text.find('=');
    options[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  }
}

/// A network that the container joins, and as what.
struct Joined {
  std::string network;
  Json endpoint = Json::object();
};

/// What is no network of its own, but a mode.
bool is_mode(const std::string& network) {
  return network == "default" || network == "bridge" || network == "host" || network == "none" ||
         network.starts_with("container:");
}

/// --network NAME or name=NAME,alias=ALIAS. Errors: bad_input.
Result<Joined> joined_of(const std::string& text) {
  Joined joined{text};
  if (text.find('=') == std::string::npos) return joined;
  joined.network.clear();
  for (const auto& part : comma_parts(text)) {
    const auto equals = part.find('=');
    const auto key = part.substr(0, equals);
    if (equals == std::string::npos) return bad("invalid field " + part);
    if (key == "name")
      joined.network = part.substr(equals + 1);
    else if (key == "alias")
      joined.endpoint["Aliases"].push_back(part.substr(equals + 1));
    else
      return bad(unsupported("--network " + text, key + " is " + std::string{kNotYet}));
  }
  if (joined.network.empty()) return bad("network name/id is not specified");
  return joined;
}

/// What --ip, --ip6 and --link-local-ip say. Null where they say nothing.
Json addresses_of(const Line& line) {
  Json addresses;
  if (const auto address = line.last("ip"); !address.empty()) addresses["IPv4Address"] = address;
  if (const auto address = line.last("ip6"); !address.empty()) addresses["IPv6Address"] = address;
  for (const auto& address : line.all("link-local-ip"))
    addresses["LinkLocalIPs"].push_back(address);
  return addresses;
}

/// In the order they were named; what other flags say of a network is about the first. Errors:
/// bad_input.
Result<std::vector<Joined>> networks_of(const Line& line) {
  std::vector<Joined> all;
  for (const auto& [flag, value] : line.flags) {
    if ((flag != "network" && flag != "net") || value.empty()) continue;
    auto joined = joined_of(value);
    if (!joined) return std::move(joined).error();
    for (const auto& other : all) {
      if (other.network == joined->network)
        return bad("network \"" + other.network + "\" is specified multiple times");
      if (is_mode(other.network) || is_mode(joined->network))
        return bad("conflicting options: cannot attach both user-defined and non-user-defined "
                   "network-modes");
    }
    all.push_back(*std::move(joined));
  }
  auto aliases = line.all("network-alias");
  for (auto& alias : line.all("net-alias"))
    aliases.push_back(std::move(alias));
  auto addresses = addresses_of(line);
  if (aliases.empty() && addresses.is_null()) return all;
  if (all.empty() || is_mode(all.front().network))
    return bad(aliases.empty()
                   ? "user specified IP address is supported on user defined networks only"
                   : "network-scoped aliases are only supported for user-defined networks");
  auto& first = all.front().endpoint;
  if (!aliases.empty() && first.contains("Aliases"))
    return bad("conflicting options: cannot specify both --network-alias and per-network alias");
  if (!aliases.empty()) first["Aliases"] = aliases;
  if (!addresses.is_null()) first["IPAMConfig"] = std::move(addresses);
  return all;
}

} // namespace

Result<std::string> create_network_body(const ContainerCommand& command) {
  const Line line = line_of(command);
  Json body{{"Name", command.arguments.front()}, {"CheckDuplicate", true}};
  add_labels_to(line, body);
  if (const auto driver = line.last("driver"); !driver.empty()) body["Driver"] = driver;
  if (const auto driver = line.last("ipam-driver"); !driver.empty())
    body["IPAM"]["Driver"] = driver;
  for (const auto& [flag, member] :
       {std::pair{"internal", "Internal"}, {"attachable", "Attachable"}, {"ipv6", "EnableIPv6"}})
    if (line.has(flag)) body[member] = true;
  if (const auto options = line.all("opt"); !options.empty()) add_options(options, body["Options"]);
  if (const auto options = line.all("ipam-opt"); !options.empty())
    add_options(options, body["IPAM"]["Options"]);
  auto subnets = subnets_of(line);
  if (!subnets) return std::move(subnets).error();
  if (!subnets->empty()) body["IPAM"]["Config"] = *std::move(subnets);
  return dumped(body);
}

namespace {

/// A key of KEY!=VALUE ends with "!"; the reader of the flags has refused what has no "=".
Json filters_of(const Line& line) {
  Json filters = Json::object();
  for (const auto& filter : line.all("filter")) {
    const auto equals = filter.find('=');
    if (!filter.empty()) filters[filter.substr(0, equals)][filter.substr(equals + 1)] = true;
  }
  return filters;
}

/// Source: docker/cli cli/command/container/opts.go.
Status add_healthcheck(const Line& line, Json& body) {
  Json check = Json::object();
  if (const auto words = line.last("health-cmd"); !words.empty())
    check["Test"] = Json::array({"CMD-SHELL", words});
  for (const auto& [flag, member] : {std::pair{"health-interval", "Interval"},
                                     {"health-timeout", "Timeout"},
                                     {"health-start-period", "StartPeriod"}}) {
    const auto text = line.last(flag);
    if (text.empty()) continue;
    const auto time = duration_of(text);
    if (!time)
      return bad("invalid argument \"" + text + "\" for \"--" + flag +
                 "\" flag: time: invalid duration \"" + text + "\"");
    if (time->count() < 0) return bad("--" + std::string{flag} + " cannot be negative");
    check[member] = time->count();
  }
  if (const auto text = line.last("health-retries"); !text.empty()) {
    const auto tries = number_of(text);
    if (!tries) return bad("invalid argument \"" + text + "\" for \"--health-retries\" flag");
    check["Retries"] = *tries;
  }
  if (line.has("no-healthcheck")) {
    if (!check.empty()) return bad("--no-healthcheck conflicts with --health-* options");
    check["Test"] = Json::array({"NONE"});
  }
  if (!check.empty()) body["Healthcheck"] = std::move(check);
  return {};
}

} // namespace

Result<std::string> log_time(const std::string& text, std::int64_t now) {
  if (const auto before = duration_of(text))
    return std::to_string(now - std::chrono::ceil<std::chrono::seconds>(*before).count());
  if (auto moment = moment_of(text)) return *std::move(moment);
  const auto dot = std::min(text.find('.'), text.size());
  const auto is_number = [](const std::string& digits) {
    return !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
  };
  if (is_number(text.substr(0, dot)) && (dot == text.size() || is_number(text.substr(dot + 1))))
    return text;
  return bad("failed to parse value as time or duration: \"" + text + "\"");
}

Result<std::string> create_container_body(const ContainerCommand& command, const std::string& cwd) {
  const Line line = line_of(command);
  const bool detached = line.has("detach"); // what is made only may be attached to at its start
  const bool interactive = line.has("interactive");
  Json host = Json::object();
  Json body{{"Image", command.arguments.front()},
            {"AttachStdin", interactive && !detached},
            {"AttachStdout", !detached},
            {"AttachStderr", !detached},
            {"Tty", line.has("tty")},
            {"OpenStdin", interactive},
            {"StdinOnce", interactive && !detached}};
  auto env = environment_of(line, command.env, cwd);
  if (!env) return std::move(env).error();
  if (!env->empty()) body["Env"] = *std::move(env);
  if (command.arguments.size() > 1)
    body["Cmd"] = std::vector<std::string>{command.arguments.begin() + 1, command.arguments.end()};
  if (!line.all("entrypoint").empty()) {
    // "" takes the image's entrypoint away, as with docker.
    const auto entrypoint = line.last("entrypoint");
    body["Entrypoint"] = Json::array({entrypoint});
  }
  constexpr std::pair<const char*, const char*> kTexts[] = {
      {"workdir", "WorkingDir"},     {"user", "User"},
      {"hostname", "Hostname"},      {"domainname", "Domainname"},
      {"mac-address", "MacAddress"}, {"stop-signal", "StopSignal"}};
  for (const auto& [flag, member] : kTexts)
    if (const auto value = line.last(flag); !value.empty()) body[member] = value;
  if (const auto text = line.last("stop-timeout"); !text.empty()) {
    const auto seconds = number_of(text);
    if (!seconds) return bad("invalid argument \"" + text + "\" for \"--stop-timeout\"");
    body["StopTimeout"] = *seconds;
  }
  if (auto added = add_healthcheck(line, body); !added) return std::move(added).error();
  add_labels_to(line, body);
  if (auto added = add_volumes(line, cwd, body, host); !added) return std::move(added).error();
  if (auto added = add_ports(line, body, host); !added) return std::move(added).error();
  if (auto added = add_limits(line, host); !added) return std::move(added).error();
  if (auto added = add_extra_hosts(line, host); !added) return std::move(added).error();
  if (auto added = add_host_settings(line, host); !added) return std::move(added).error();
  const auto networks = networks_of(line);
  if (!networks) return networks.error();
  if (!networks->empty()) {
    const auto& first = networks->front();
    host["NetworkMode"] = first.network;
    if (!first.endpoint.empty())
      body["NetworkingConfig"]["EndpointsConfig"][first.network] = first.endpoint;
  }
  // Of one in the foreground the exit code is asked for before it is removed.
  if (line.has("rm") && (detached || command.verb == "create")) host["AutoRemove"] = true;
  body["HostConfig"] = std::move(host);
  return dumped(body);
}

std::string filter_query(const Line& line) {
  const auto filters = filters_of(line);
  return filters.empty() ? "" : "filters=" + percent_encode(dumped(filters));
}

void OutputFrames::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const auto part = bytes.substr(0, left_);
      (to_err_ ? err_ : out_)(part);
      left_ -= part.size();
      bytes.remove_prefix(part.size());
      continue;
    }
    const auto wanted = std::min(kFrameHeader - header_.size(), bytes.size());
    header_ += bytes.substr(0, wanted);
    bytes.remove_prefix(wanted);
    if (header_.size() < kFrameHeader) return;
    to_err_ = header_[0] == 2;
    for (std::size_t i = 4; i < kFrameHeader; ++i)
      left_ = left_ << 8 | static_cast<unsigned char>(header_[i]);
    header_.clear();
  }
}

namespace {

class ContainerRunner {
public:
  ContainerRunner(const ContainerCommand& command, const Surroundings& world,
                  const BrokerClient& client, const PrintRows& print_rows)
      : command_{command}, line_{line_of(command)}, world_{world}, client_{client},
        print_rows_{print_rows} {}

  int run() const {
    for (const auto& note : line_.all("note"))
      world_.err(note + "\n");
    const auto& verb = command_.verb;
    if (verb == "run" || verb == "create") return run_or_create();
    if (verb == "exec") return exec();
    if (verb == "logs") return logs();
    if (verb == "ps") return ps();
    if (verb == "wait") return wait();
    if (verb == "port") return port();
    if (verb == "diff") return diff();
    if (verb == "top") return top();
    if (verb == "attach") return attach();
    if (verb == "update") return update();
    if (verb == "stats") return show_stats(command_, world_, client_, print_rows_);
    if (verb == "events") return show_events(command_, world_, client_);
    if (verb == "commit") return commit();
    if (verb == "cp") return copy_files(command_, world_, client_);
    if (verb == "start" && (line_.has("attach") || line_.has("interactive")))
      return start_attached();
    if (verb == "rename")
      return each({command_.arguments[0]}, "POST", "/containers/",
                  "/rename?name=" + percent_encode(command_.arguments[1]), false);
    if (verb == "rm")
      return each(command_.arguments, "DELETE", "/containers/",
                  std::string{"?force="} + (line_.has("force") ? "1" : "0") +
                      "&v=" + (line_.has("volumes") ? "1" : "0"),
                  true, line_.has("force") ? Missing::is_said : Missing::fails);
    if (verb == "network" || verb.starts_with("network ") || verb.starts_with("volume "))
      return network_or_volume();
    std::string query;
    const auto say = [&](const std::string& key, const std::string& value) {
      if (!value.empty()) query += (query.empty() ? "?" : "&") + key + "=" + percent_encode(value);
    };
    say("signal", line_.last("signal"));
    say("t", line_.last("time").empty() ? line_.last("timeout") : line_.last("time"));
    return each(command_.arguments, "POST", "/containers/", "/" + verb + query);
  }

private:
  /// Not of a container that is there already.
  bool is_run() const { return command_.verb == "run" || command_.verb == "create"; }
  bool is_podman() const { return command_.style == Style::podman; }

  int daemon_error(const std::string& message, int code = 1) const {
    world_.err((is_podman() ? "Error: " : "Error response from daemon: ") + message + "\n");
    return is_podman() && code == 1 ? kDockerFailed : code;
  }
  int trouble(const Error& error, int code = 1) const {
    world_.err(error.text() + "\n");
    return code;
  }

  /// What the tool itself finds wrong.
  int refuse(const std::string& text) const {
    world_.err((is_podman() ? "Error: " : "") + text + "\n");
    return is_podman() ? kDockerFailed : 1;
  }

  /// What a name means that is not there.
  enum class Missing { fails, is_said, is_nothing };

  /// One call for each name; prints the names, goes on after a failure, as docker does.
  int each(const std::vector<std::string>& names, const std::string& method,
           const std::string& before, const std::string& after, bool print = true,
           Missing missing = Missing::fails) const {
    int code = 0;
    for (const auto& name : names) {
      auto answer = client_.ask({.method = method,
                                 .target = before + percent_encode(name) + after,
                                 .long_running = true});
      if (!answer) return trouble(answer.error());
      if (answer->status == 404 && missing != Missing::fails) {
        if (missing == Missing::is_said) daemon_error(message_of(*answer));
      } else if (answer->status >= 400) {
        code = daemon_error(message_of(*answer));
      } else if (print) {
        world_.out(name + "\n");
      }
    }
    return code;
  }

  Result<Answer> post(const std::string& target, const std::string& body) const {
    return client_.ask({.method = "POST",
                        .target = target,
                        .content_type = std::string{kJsonType},
                        .body = body,
                        .long_running = true});
  }

  // ---- run -------------------------------------------------------------------------------------

  int run_failed(const std::string& message, int code = kDockerFailed) const {
    if (!is_run()) return daemon_error(message);
    if (is_podman()) return daemon_error(message, code);
    world_.err("docker: Error response from daemon: " + message + ".\nSee '" + command_.called +
               " --help'.\n");
    return code;
  }

  std::string wanted_platform() const {
    const auto set = command_.env.find("DOCKER_DEFAULT_PLATFORM");
    const auto platform = line_.last("platform");
    return platform.empty() && set != command_.env.end() ? set->second : platform;
  }

  /// Pulls through the broker, which has the policy and the credentials.
  bool pull(const std::string& image) const {
    auto name = parse_image_name(image);
    if (!name) return false;
    if (name->tag.empty() && name->digest.empty()) name->tag = "latest";
    std::string target = "/images/create?fromImage=" + percent_encode(name->familiar()) +
                         "&tag=" + percent_encode(name->digest.empty() ? name->tag : name->digest);
    if (const auto platform = wanted_platform(); !platform.empty())
      target += "&platform=" + percent_encode(platform);
    MessageStream messages{line_.has("quiet") ? Write{[](std::string_view) {}} : world_.err};
    Answer refused;
    auto status = client_.call({.method = "POST", .target = target, .long_running = true},
                               [&](int code, std::string_view bytes) -> Status {
                                 if (code < 400) return messages.feed(bytes);
                                 refused.body += bytes;
                                 return {};
                               });
    if (!status) return trouble(status.error()), false;
    refused.status = *status;
    if (*status >= 400) return run_failed(message_of(refused)), false;
    auto end = messages.finish();
    if (!end) return trouble(end.error()), false;
    if (end->failed) return run_failed(end->error), false;
    return true;
  }

  /// The new container's ID, or the exit code.
  std::variant<std::string, int> create() const {
    auto body = create_container_body(command_, world_.cwd);
    if (!body) {
      if (is_podman()) return daemon_error(body.error().text(), kDockerFailed);
      world_.err("docker: " + body.error().text() + ".\nSee '" + command_.called + " --help'.\n");
      return kDockerFailed;
    }
    if (line_.has("replace")) remove(line_.last("name"));
    const auto& image = command_.arguments.front();
    const auto when = line_.last("pull");
    if (when == "always" && !pull(image)) return kDockerFailed;
    std::string target = "/containers/create";
    if (const auto name = line_.last("name"); !name.empty())
      target += "?name=" + percent_encode(name);
    if (const auto platform = wanted_platform(); !platform.empty())
      target += (target.find('?') == std::string::npos ? "?platform=" : "&platform=") +
                percent_encode(platform);
    auto answer = post(target, *body);
    if (answer && answer->status == 404 && when != "never" &&
        message_of(*answer).starts_with("No such image")) {
      world_.err("Unable to find image '" + image + "' locally\n");
      if (!pull(image)) return kDockerFailed;
      answer = post(target, *body);
    }
    if (!answer) return trouble(answer.error(), kDockerFailed);
    if (answer->status >= 400) return run_failed(message_of(*answer));
    const Json json = Json::parse(answer->body, nullptr, false);
    if (json.is_object() && json.contains("Warnings") && json["Warnings"].is_array())
      for (const auto& warning : json["Warnings"])
        if (warning.is_string()) world_.err("WARNING: " + warning.get<std::string>() + "\n");
    const auto id = text_at(json, "Id");
    if (const auto failed = join_further(id)) {
      remove(id);
      return *failed;
    }
    if (const auto file = line_.last("cidfile"); !file.empty())
      if (auto written = replace_file(std::filesystem::path{world_.cwd} / file, id, 0644); !written)
        return trouble(written.error(), kDockerFailed);
    return id;
  }

  /// The engine's API has one network at a creation. The exit code where one is not joined.
  std::optional<int> join_further(const std::string& id) const {
    const auto networks = networks_of(line_);
    for (std::size_t i = 1; networks && i < networks->size(); ++i) {
      const auto& [network, endpoint] = (*networks)[i];
      auto joined = post("/networks/" + percent_encode(network) + "/connect",
                         dumped(Json{{"Container", id}, {"EndpointConfig", endpoint}}));
      if (!joined) return trouble(joined.error(), kDockerFailed);
      if (joined->status >= 400) return run_failed(message_of(*joined));
    }
    return std::nullopt;
  }

  int run_or_create() const {
    if (line_.has("tty") && line_.has("interactive") && !line_.has("detach") &&
        command_.verb == "run" && !world_.input_is_terminal) {
      world_.err("the input device is not a TTY\n");
      return 1;
    }
    auto made = create();
    if (const auto* code = std::get_if<int>(&made)) return *code;
    const auto& id = std::get<std::string>(made);
    if (command_.verb == "create") {
      world_.out(id + "\n");
      return 0;
    }
    if (line_.has("detach")) {
      if (auto failed = start(id)) return *failed;
      world_.out(id + "\n");
      return 0;
    }
    const int code = run_attached(id, line_.has("tty"), line_.has("interactive"),
                                  [&] { return exit_code_of(id); });
    if (line_.has("rm")) remove(id);
    return code;
  }

  /// `docker start --attach` and `--interactive`.
  int start_attached() const {
    if (command_.arguments.size() > 1) {
      world_.err("you cannot start and attach multiple containers at once\n");
      return 1;
    }
    const auto name = percent_encode(command_.arguments.front());
    auto facts = client_.ask({.target = "/containers/" + name + "/json"});
    if (!facts) return trouble(facts.error());
    if (facts->status >= 400) return daemon_error(message_of(*facts));
    const Json json = Json::parse(facts->body, nullptr, false);
    const auto is = [&](const char* pointer) { return is_true(json, pointer); };
    const bool interactive = line_.has("interactive") && is("/Config/OpenStdin");
    if (!is("/HostConfig/AutoRemove"))
      return run_attached(name, is("/Config/Tty"), interactive,
                          [&] { return exit_code_of(command_.arguments.front()); });
    // One that goes by itself is asked for its code before it runs: afterwards it is not there.
    return code_beside(name, "removed", [&] {
      return run_attached(name, is("/Config/Tty"), interactive, [] { return 0; });
    });
  }

  /// Waits for the container's end from before `run` begins: the exit code that it had. `run`
  /// returns what is not 0 where there is none to be had.
  int code_beside(const std::string& name, const std::string& condition,
                  const std::function<int()>& run) const {
    std::optional<int> ran;
    std::string said;
    auto waited = client_.attach(
        {.method = "POST", .target = "/containers/" + name + "/wait?condition=" + condition}, -1,
        [&]() -> Status {
          ran = run();
          if (*ran != 0) return Error{ErrorKind::unavailable, "it did not start", "", {}};
          return {};
        },
        [&](std::string_view bytes) -> Status {
          said += bytes;
          return {};
        });
    if (ran && *ran != 0) return *ran;
    if (!waited) return trouble(waited.error());
    if (waited->status >= 400) return daemon_error(message_of(*waited));
    const auto begin = std::min(said.find('{'), said.size()); // it comes in a chunk
    const Json code = Json::parse(said.substr(begin, said.rfind('}') + 1 - begin), nullptr, false);
    if (!code.is_object()) return trouble(bad("the engine did not say how the container ended"));
    if (const Json::json_pointer error{"/Error/Message"};
        code.contains(error) && code[error].is_string() && !code[error].get<std::string>().empty())
      return trouble(bad(code[error].get<std::string>()));
    return static_cast<int>(number_at(code, "StatusCode"));
  }

  static bool is_true(const Json& json, const char* pointer) {
    const Json::json_pointer path{pointer};
    return json.is_object() && json.contains(path) && json[path] == Json(true);
  }

  /// What the engine says of a container that runs; the exit code where it cannot be attached to.
  std::variant<Json, int> attachable(const std::string& name) const {
    auto facts = client_.ask({.target = "/containers/" + name + "/json"});
    if (!facts) return trouble(facts.error());
    if (facts->status >= 400) return daemon_error(message_of(*facts));
    Json json = Json::parse(facts->body, nullptr, false);
    if (!is_true(json, "/State/Running"))
      return refuse("cannot attach to a stopped container, start it first");
    if (is_true(json, "/State/Paused"))
      return refuse("cannot attach to a paused container, unpause it first");
    if (is_true(json, "/State/Restarting"))
      return refuse("cannot attach to a restarting container, wait until it is running");
    return json;
  }

  /// Source: docker/cli cli/command/container/attach.go.
  int attach() const {
    const auto name = percent_encode(command_.arguments.front());
    const auto state = attachable(name);
    if (const auto* code = std::get_if<int>(&state)) return *code;
    const auto is = [&](const char* pointer) { return is_true(std::get<Json>(state), pointer); };
    const bool takes_input = !line_.has("no-stdin");
    if (takes_input && is("/Config/Tty") && !world_.input_is_terminal)
      return refuse("the input device is not a TTY");
    // Another may end and remove it meanwhile: its code is waited for from now on.
    return code_beside(name, "not-running", [&] {
      const bool tty = is("/Config/Tty");
      const int code =
          run_attached(name, tty, takes_input && is("/Config/OpenStdin"), [] { return 0; });
      if (code != 0 || !tty) return code;
      // Its keys to detach, perhaps.
      auto facts = client_.ask({.target = "/containers/" + name + "/json"});
      if (!facts || facts->status >= 400 ||
          !is_true(Json::parse(facts->body, nullptr, false), "/State/Running"))
        return 0;
      world_.err("read escape sequence\n");
      return 1;
    });
  }

  int update() const {
    Json limits = Json::object();
    if (auto added = add_limits(line_, limits); !added) return refuse(added.error().text());
    if (auto added = add_host_settings(line_, limits); !added) return refuse(added.error().text());
    if (command_.flags.empty())
      return refuse("you must provide one or more flags when using this command");
    if (limits.contains("PidsLimit") && limits["PidsLimit"] == Json(0))
      limits.erase("PidsLimit"); // as it is, to docker
    int code = 0;
    std::string warnings;
    for (const auto& name : command_.arguments) {
      auto answer = post("/containers/" + percent_encode(name) + "/update", dumped(limits));
      if (!answer) return trouble(answer.error());
      if (answer->status >= 400) {
        code = daemon_error(message_of(*answer));
        continue;
      }
      world_.out(name + "\n");
      warnings += names_in(Json::parse(answer->body, nullptr, false), "Warnings");
    }
    world_.out(warnings);
    return code;
  }

  /// None where it runs now; else docker's exit code.
  std::optional<int> start(const std::string& id) const {
    auto answer = post("/containers/" + id + "/start", "");
    if (!answer) return trouble(answer.error(), kDockerFailed);
    if (answer->status < 400) return std::nullopt;
    const auto message = message_of(*answer);
    const auto says = [&](std::string_view words) {
      return message.find(words) != std::string::npos;
    };
    int code = kDockerFailed;
    if (says("executable file not found") || says("no such file or directory")) {
      code = kNotFound;
    } else if (says("permission denied") || says("is a directory")) {
      code = kCannotInvoke;
    }
    return run_failed(message, code);
  }

  void remove(const std::string& id) const {
    // What stays goes with the job's engine.
    (void)client_.ask({.method = "DELETE", .target = "/containers/" + id + "?force=1&v=1"});
  }

  /// Attaches, starts what does not run yet, and goes on with the streams to their end; `exit_code`
  /// is asked for then.
  int run_attached(const std::string& id, bool tty, bool interactive,
                   const std::function<std::optional<int>()>& exit_code) const {
    OutputFrames frames{world_.out, world_.err};
    std::optional<int> failed;
    auto ended = client_.attach(
        {.method = "POST",
         .target = "/containers/" + id + "/attach?stream=1&stdout=1&stderr=1" +
                   (interactive ? "&stdin=1" : ""),
         .upgrades = true},
        interactive ? world_.input : -1,
        [&]() -> Status {
          if (command_.verb != "attach") {
            failed = start(id);
          } else {
            // An engine leaves whoever attaches to one that has ended without an end.
            const auto state = attachable(id);
            if (const auto* code = std::get_if<int>(&state)) failed = *code;
          }
          if (failed) return Error{ErrorKind::unavailable, "it did not start", "", {}};
          return {};
        },
        [&](std::string_view bytes) -> Status {
          if (tty)
            world_.out(bytes);
          else
            frames.feed(bytes);
          return {};
        });
    const int unknown = is_run() || command_.style == Style::podman ? kDockerFailed : 1;
    int code = failed.value_or(unknown);
    if (!failed) {
      if (!ended) {
        trouble(ended.error());
      } else if (ended->status >= 400) {
        run_failed(message_of(*ended));
      } else {
        code = exit_code().value_or(unknown);
      }
    }
    return code;
  }

  std::optional<int> exit_code_of(const std::string& name) const {
    auto answer = post("/containers/" + percent_encode(name) + "/wait", "");
    if (!answer) return trouble(answer.error()), std::nullopt;
    if (answer->status >= 400) return daemon_error(message_of(*answer)), std::nullopt;
    const Json json = Json::parse(answer->body, nullptr, false);
    return static_cast<int>(number_at(json, "StatusCode"));
  }

  int wait() const {
    int code = 0;
    for (const auto& name : command_.arguments) {
      if (const auto ended = exit_code_of(name))
        world_.out(std::to_string(*ended) + "\n");
      else
        code = 1;
    }
    return code;
  }

  // ---- exec, logs ------------------------------------------------------------------------------

  int exec() const {
    const bool tty = line_.has("tty");
    const bool detached = line_.has("detach");
    const bool interactive = line_.has("interactive") && !detached;
    if (tty && interactive && !world_.input_is_terminal) {
      world_.err("the input device is not a TTY\n");
      return 1;
    }
    auto env = environment_of(line_, command_.env, world_.cwd);
    if (!env) return trouble(env.error(), kDockerFailed);
    Json body{{"AttachStdin", interactive},
              {"AttachStdout", !detached},
              {"AttachStderr", !detached},
              {"Tty", tty},
              {"Detach", detached},
              {"Env", *env},
              {"User", line_.last("user")},
              {"WorkingDir", line_.last("workdir")},
              {"Privileged", line_.has("privileged")},
              {"Cmd",
               std::vector<std::string>{command_.arguments.begin() + 1, command_.arguments.end()}}};
    auto made =
        post("/containers/" + percent_encode(command_.arguments.front()) + "/exec", dumped(body));
    if (!made) return trouble(made.error());
    if (made->status >= 400) return daemon_error(message_of(*made));
    const auto id = text_at(Json::parse(made->body, nullptr, false), "Id");
    const auto how = dumped(Json{{"Detach", detached}, {"Tty", tty}});
    const auto target = "/exec/" + id + "/start";
    if (detached) {
      auto started = post(target, how);
      if (!started) return trouble(started.error());
      return started->status >= 400 ? daemon_error(message_of(*started)) : 0;
    }
    OutputFrames frames{world_.out, world_.err};
    auto ended = client_.attach(
        {.method = "POST",
         .target = target,
         .content_type = std::string{kJsonType},
         .body = how,
         .upgrades = true},
        interactive ? world_.input : -1, []() -> Status { return {}; },
        [&](std::string_view bytes) -> Status {
          if (tty)
            world_.out(bytes);
          else
            frames.feed(bytes);
          return {};
        });
    if (!ended) return trouble(ended.error());
    if (ended->status >= 400) return daemon_error(message_of(*ended), kCannotInvoke);
    auto facts = client_.ask({.target = "/exec/" + id + "/json"});
    if (!facts) return trouble(facts.error());
    return static_cast<int>(number_at(Json::parse(facts->body, nullptr, false), "ExitCode"));
  }

  int logs() const {
    const auto name = percent_encode(command_.arguments.front());
    auto facts = client_.ask({.target = "/containers/" + name + "/json"});
    if (!facts) return trouble(facts.error());
    if (facts->status >= 400) return daemon_error(message_of(*facts));
    const Json json = Json::parse(facts->body, nullptr, false);
    const bool tty = json.is_object() && json.contains("Config") && json["Config"].is_object() &&
                     json["Config"].value("Tty", false);
    std::string target = "/containers/" + name + "/logs?stdout=1&stderr=1";
    if (line_.has("follow")) target += "&follow=1";
    if (line_.has("timestamps")) target += "&timestamps=1";
    if (line_.has("details")) target += "&details=1";
    if (const auto tail = line_.last("tail"); !tail.empty())
      target += "&tail=" + percent_encode(tail);
    for (const std::string key : {"since", "until"}) {
      const auto value = line_.last(key);
      if (value.empty()) continue;
      const auto time = log_time(value, world_.now);
      if (!time) return trouble(bad("invalid value for \"" + key + "\": " + time.error().what));
      target += "&" + key + "=" + *time;
    }
    OutputFrames frames{world_.out, world_.err};
    auto status = client_.call({.target = target, .long_running = true},
                               [&](int code, std::string_view bytes) -> Status {
                                 if (code >= 400)
                                   world_.err(bytes);
                                 else if (tty)
                                   world_.out(bytes);
                                 else
                                   frames.feed(bytes);
                                 return {};
                               });
    if (!status) return trouble(status.error());
    return *status >= 400 ? 1 : 0;
  }

  // ---- lists -----------------------------------------------------------------------------------

  static std::string query_of(const Json& filters) {
    return filters.empty() ? "" : "?filters=" + percent_encode(dumped(filters));
  }

  static std::string ports_of(const Json& container) {
    std::string text;
    if (!container.contains("Ports") || !container["Ports"].is_array()) return text;
    for (const auto& port : container["Ports"]) {
      const auto inside =
          std::to_string(number_at(port, "PrivatePort")) + "/" + text_at(port, "Type");
      const auto outside = number_at(port, "PublicPort");
      text += (text.empty() ? "" : ", ") +
              (outside == 0 ? inside
                            : text_at(port, "IP") + ":" + std::to_string(outside) + "->" + inside);
    }
    return text;
  }

  int ps() const {
    std::string target =
        "/containers/json?all=" + std::string{line_.has("all") || line_.has("latest") ? "1" : "0"};
    if (line_.has("latest")) target += "&limit=1";
    if (const auto last = line_.last("last"); !last.empty())
      target += "&limit=" + percent_encode(last);
    if (const auto asked = filter_query(line_); !asked.empty()) target += "&" + asked;
    auto answer = client_.ask({.target = target});
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    const Json list = Json::parse(answer->body, nullptr, false);
    Json rows = Json::array();
    if (list.is_array()) {
      for (const auto& one : list)
        rows.push_back(ps_row(one));
    }
    if (line_.has("quiet")) {
      for (const auto& row : rows)
        world_.out(text_at(row, "ID") + "\n");
      return 0;
    }
    const Json headings{
        {"ID", "CONTAINER ID"},    {"Image", "IMAGE"},          {"Command", "COMMAND"},
        {"RunningFor", "CREATED"}, {"CreatedAt", "CREATED AT"}, {"Status", "STATUS"},
        {"State", "STATE"},        {"Ports", "PORTS"},          {"Names", "NAMES"},
        {"Labels", "LABELS"},      {"Networks", "NETWORKS"},    {"Mounts", "MOUNTS"},
        {kLabelsOfRow, true}};
    return print_rows_(dumped(headings), dumped(rows),
                       "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t"
                       "{{.Ports}}\t{{.Names}}",
                       line_.last("format"));
  }

  static Json labels_of(const Json& one) {
    const auto found = one.is_object() ? one.find("Labels") : one.end();
    return one.is_object() && found != one.end() && found->is_object() ? *found : Json::object();
  }

  static std::string joined_labels(const Json& labels) {
    std::string joined;
    for (const auto& [key, value] : labels.items())
      joined += (joined.empty() ? "" : ",") + key + "=" +
                (value.is_string() ? value.get<std::string>() : "");
    return joined;
  }

  Json ps_row(const Json& one) const {
    const bool whole = line_.has("no-trunc");
    const auto created = number_at(one, "Created");
    std::string names;
    if (one.contains("Names") && one["Names"].is_array()) {
      for (const auto& name : one["Names"]) {
        const auto text = name.is_string() ? name.get<std::string>() : "";
        names += (names.empty() ? "" : ",") + text.substr(text.starts_with('/') ? 1 : 0);
      }
    }
    std::string networks;
    if (one.contains("NetworkSettings") && one["NetworkSettings"].is_object() &&
        one["NetworkSettings"].contains("Networks") &&
        one["NetworkSettings"]["Networks"].is_object()) {
      for (const auto& [key, value] : one["NetworkSettings"]["Networks"].items())
        networks += (networks.empty() ? "" : ",") + key;
    }
    std::string command = text_at(one, "Command");
    if (!whole && command.size() > kShownCommand)
      command = command.substr(0, kShownCommand - 1) + "…";
    return Json{{"ID", text_at(one, "Id").substr(0, whole ? std::string::npos : kShortId)},
                {"Image", text_at(one, "Image")},
                {"Command", "\"" + command + "\""},
                {"CreatedAt", created_at(created)},
                {"RunningFor", human_duration(world_.now - created) + " ago"},
                {"Status", text_at(one, "Status")},
                {"State", text_at(one, "State")},
                {"Ports", ports_of(one)},
                {"Names", names},
                {"Labels", joined_labels(labels_of(one))},
                {kLabelsOfRow, labels_of(one)},
                {"Networks", networks},
                {"Mounts", ""},
                {"LocalVolumes", "0"},
                {"Size", "0B"}};
  }

  int port() const {
    auto answer = client_.ask(
        {.target = "/containers/" + percent_encode(command_.arguments.front()) + "/json"});
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    const Json json = Json::parse(answer->body, nullptr, false);
    std::string wanted = command_.arguments.size() > 1 ? command_.arguments[1] : "";
    if (!wanted.empty() && wanted.find('/') == std::string::npos) wanted += "/tcp";
    bool found = wanted.empty();
    const Json ports = json.value(Json::json_pointer{"/NetworkSettings/Ports"}, Json::object());
    for (const auto& [inside, bindings] : ports.items()) {
      if ((!wanted.empty() && inside != wanted) || !bindings.is_array()) continue;
      for (const auto& binding : bindings) {
        const auto outside = text_at(binding, "HostIp") + ":" + text_at(binding, "HostPort");
        world_.out((wanted.empty() ? inside + " -> " : "") + outside + "\n");
        found = true;
      }
    }
    if (found) return 0;
    world_.err("Error: No public port '" + wanted + "' published for " +
               command_.arguments.front() + "\n");
    return 1;
  }

  /// Of the one container: the engine's answer, printed by `print`.
  int look(const std::string& what, const std::function<void(const Json&)>& print) const {
    auto answer =
        client_.ask({.target = "/containers/" + percent_encode(command_.arguments.front()) + what});
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    print(Json::parse(answer->body, nullptr, false));
    return 0;
  }

  int diff() const {
    return look("/changes", [this](const Json& changes) {
      if (!changes.is_array()) return; // null: nothing changed
      for (const auto& change : changes) {
        const auto kind = number_at(change, "Kind");
        world_.out(std::string{kind == 0   ? "C"
                               : kind == 1 ? "A"
                                           : "D"} +
                   " " + text_at(change, "Path") + "\n");
      }
    });
  }

  int top() const {
    std::string options;
    for (std::size_t i = 1; i < command_.arguments.size(); ++i)
      options += (i == 1 ? "" : " ") + command_.arguments[i];
    return look("/top" + (options.empty() ? "" : "?ps_args=" + percent_encode(options)),
                [this](const Json& processes) { print_processes(processes); });
  }

  void print_processes(const Json& processes) const {
    constexpr std::size_t kLeast = 20; // of a column; with the gap after it
    constexpr std::size_t kGap = 3;
    std::vector<std::vector<std::string>> rows;
    const auto add = [&rows](const Json& row) {
      auto& cells = rows.emplace_back();
      for (const auto& cell : row)
        cells.push_back(cell.is_string() ? cell.get<std::string>() : "");
    };
    if (!processes.is_object() || !processes.contains("Titles")) return;
    add(processes["Titles"]);
    if (const auto list = processes.find("Processes"); list != processes.end())
      for (const auto& process : *list)
        add(process);
    std::vector<std::size_t> widths(rows.front().size(), kLeast);
    for (const auto& row : rows)
      for (std::size_t i = 0; i < std::min(row.size(), widths.size()); ++i)
        widths[i] = std::max(widths[i], row[i].size() + kGap);
    for (const auto& row : rows) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i) {
        line += row[i];
        if (i + 1 < row.size() && i < widths.size() && row[i].size() < widths[i])
          line.append(widths[i] - row[i].size(), ' ');
      }
      world_.out(line + "\n");
    }
  }

  int commit() const {
    std::string target = "/commit?container=" + percent_encode(command_.arguments.front());
    if (command_.arguments.size() > 1) {
      const auto name = parse_image_name(command_.arguments[1]);
      if (!name) return trouble(bad("invalid reference format"));
      if (!name->digest.empty())
        return trouble(bad("refusing to create a tag with a digest reference"));
      target += "&repo=" + percent_encode(name->familiar()) +
                "&tag=" + percent_encode(name->tag.empty() ? "latest" : name->tag);
    }
    for (const auto& [flag, key] : {std::pair{"author", "author"}, {"message", "comment"}})
      if (const auto value = line_.last(flag); !value.empty())
        target += std::string{"&"} + key + "=" + percent_encode(value);
    for (const auto& change : line_.all("change"))
      target += "&changes=" + percent_encode(change);
    // docker's own default is to pause.
    const bool runs_on = line_.last("pause") == "false";
    auto answer = post(target + (runs_on ? "&pause=0" : "&pause=1"), "");
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    world_.out(text_at(Json::parse(answer->body, nullptr, false), "Id") + "\n");
    return 0;
  }

  // ---- networks and volumes --------------------------------------------------------------------

  int network_or_volume() const {
    const bool network = command_.verb.starts_with("network ");
    const std::string place = network ? "/networks" : "/volumes";
    const auto verb = command_.verb.substr(command_.verb.find(' ') + 1);
    if (verb == "create") return make_one(network, place);
    if (verb == "rm") {
      // Of a volume the engine itself forgives what is not there.
      const bool force = line_.has("force");
      return each(command_.arguments, "DELETE", place + "/", !network && force ? "?force=1" : "",
                  true, network && force ? Missing::is_nothing : Missing::fails);
    }
    if (verb == "ls") return list(network, place);
    if (verb == "prune") return network ? prune_networks() : prune_volumes();
    Json body{{"Container", command_.arguments[1]}};
    if (verb == "disconnect") body["Force"] = line_.has("force");
    if (const auto aliases = line_.all("alias"); !aliases.empty())
      body["EndpointConfig"]["Aliases"] = aliases;
    if (auto addresses = addresses_of(line_); !addresses.is_null())
      body["EndpointConfig"]["IPAMConfig"] = std::move(addresses);
    auto answer =
        post("/networks/" + percent_encode(command_.arguments[0]) + "/" + verb, dumped(body));
    if (!answer) return trouble(answer.error());
    return answer->status >= 400 ? daemon_error(message_of(*answer)) : 0;
  }

  int prune_networks() const {
    const auto asked = filter_query(line_);
    auto answer = post("/networks/prune" + (asked.empty() ? "" : "?" + asked), "");
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    const auto gone = names_in(Json::parse(answer->body, nullptr, false), "NetworksDeleted");
    if (!gone.empty()) world_.out("Deleted Networks:\n" + gone + "\n");
    return 0;
  }

  /// Without --all only volumes without a name of their own go, as since Docker 23. The engine, an
  /// older one, would take all, so that they are removed here one by one; of what they held it
  /// says nothing then.
  int prune_volumes() const {
    const auto all = line_.all("filter");
    const bool whole = line_.has("all") || std::any_of(all.begin(), all.end(), [](const auto& one) {
                         return one == "all=1" || one == "all=true";
                       });
    Json asked = filters_of(line_);
    asked.erase("all");
    std::string gone;
    std::int64_t freed = 0;
    if (whole) {
      auto answer = post("/volumes/prune" + query_of(asked), "");
      if (!answer) return trouble(answer.error());
      if (answer->status >= 400) return daemon_error(message_of(*answer));
      const Json json = Json::parse(answer->body, nullptr, false);
      gone = names_in(json, "VolumesDeleted");
      freed = number_at(json, "SpaceReclaimed");
    } else if (const auto failed = remove_anonymous(std::move(asked), gone)) {
      return *failed;
    }
    if (!gone.empty()) world_.out("Deleted Volumes:\n" + gone + "\n");
    world_.out("Total reclaimed space: " + human_size(static_cast<std::uint64_t>(freed)) + "\n");
    return 0;
  }

  /// The exit code where that fails.
  std::optional<int> remove_anonymous(Json asked, std::string& gone) const {
    const Json without = asked.value("label!", Json::object());
    asked.erase("label!"); // a list is not asked so
    asked["dangling"]["true"] = true;
    auto answer = client_.ask({.target = "/volumes" + query_of(asked)});
    if (!answer) return trouble(answer.error());
    if (answer->status == kNotServed) return std::nullopt; // of a job without containers
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    const Json list = Json::parse(answer->body, nullptr, false);
    if (!list.is_object() || !list.contains("Volumes") || !list["Volumes"].is_array())
      return std::nullopt;
    for (const auto& volume : list["Volumes"]) {
      const auto name = text_at(volume, "Name");
      if (!is_anonymous(name) || has_any_label(volume, without)) continue;
      auto removed = client_.ask({.method = "DELETE", .target = "/volumes/" + name});
      if (!removed) return trouble(removed.error());
      if (removed->status < 400) gone += name + "\n"; // else something uses it by now
    }
    return std::nullopt;
  }

  /// A name that the engine gave.
  static bool is_anonymous(const std::string& name) {
    return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  }

  /// Whether an object has one of the labels, KEY or KEY=VALUE each.
  static bool has_any_label(const Json& object, const Json& wanted) {
    const Json labels = object.value("Labels", Json::object());
    return std::any_of(wanted.items().begin(), wanted.items().end(), [&](const auto& one) {
      const auto equals = one.key().find('=');
      const auto key = one.key().substr(0, equals);
      return labels.is_object() && labels.contains(key) &&
             (equals == std::string::npos ||
              text_at(labels, key.c_str()) == one.key().substr(equals + 1));
    });
  }

  static std::string names_in(const Json& answer, const char* member) {
    std::string lines;
    if (!answer.is_object() || !answer.contains(member) || !answer[member].is_array()) return lines;
    for (const auto& name : answer[member])
      if (name.is_string()) lines += name.get<std::string>() + "\n";
    return lines;
  }

  int make_one(bool network, const std::string& place) const {
    const auto name = line_.last("name"); // an older spelling, of volumes alone
    if (!name.empty() && !command_.arguments.empty())
      return trouble(bad("conflicting options: cannot specify a volume-name through both --name "
                         "and as a positional arg"));
    Json volume{{"Name", command_.arguments.empty() ? name : command_.arguments.front()}};
    add_labels_to(line_, volume);
    if (const auto driver = line_.last("driver"); !driver.empty()) volume["Driver"] = driver;
    auto body = network ? create_network_body(command_) : Result<std::string>{dumped(volume)};
    if (!body) return trouble(body.error());
    auto answer = post(place + "/create", *body);
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    const Json json = Json::parse(answer->body, nullptr, false);
    world_.out(text_at(json, network ? "Id" : "Name") + "\n");
    return 0;
  }

  int list(bool network, const std::string& place) const {
    const auto asked = filter_query(line_);
    auto answer = client_.ask({.target = place + (asked.empty() ? "" : "?" + asked)});
    if (!answer) return trouble(answer.error());
    if (answer->status >= 400) return daemon_error(message_of(*answer));
    Json json = Json::parse(answer->body, nullptr, false);
    if (!network && json.is_object()) json = json.value("Volumes", Json::array());
    Json rows = Json::array();
    for (const auto& one : json.is_array() ? json : Json::array()) {
      const auto id = text_at(one, "Id");
      rows.push_back({{"ID", line_.has("no-trunc") ? id : id.substr(0, kShortId)},
                      {"Name", text_at(one, "Name")},
                      {"Driver", text_at(one, "Driver")},
                      {"Labels", joined_labels(labels_of(one))},
                      {kLabelsOfRow, labels_of(one)},
                      {"Scope", text_at(one, "Scope")}});
    }
    if (line_.has("quiet")) {
      for (const auto& row : rows)
        world_.out(text_at(row, network ? "ID" : "Name") + "\n");
      return 0;
    }
    const Json headings{{"ID", "NETWORK ID"}, {"Name", network ? "NAME" : "VOLUME NAME"},
                        {"Driver", "DRIVER"}, {"Labels", "LABELS"},
                        {kLabelsOfRow, true}, {"Scope", "SCOPE"}};
    return print_rows_(dumped(headings), dumped(rows),
                       network ? "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
                               : "table {{.Driver}}\t{{.Name}}",
                       line_.last("format"));
  }

  const ContainerCommand& command_;
  Line line_;
  const Surroundings& world_;
  const BrokerClient& client_;
  const PrintRows& print_rows_;
};

} // namespace

int run_container_command(const ContainerCommand& command, const Surroundings& world,
                          const BrokerClient& client, const PrintRows& print_rows) {
  return ContainerRunner{command, world, client, print_rows}.run();
}

} // namespace slipway::shim
