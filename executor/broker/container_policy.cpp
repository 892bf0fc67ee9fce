// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/container_policy.hpp"

#include "executor/broker/request.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <vector>

namespace slipway::broker {
namespace {

using Json = nlohmann::json;
using Names = std::set<std::string_view>;

/// What limits a container, at its creation and later.
const Names kResources{"BlkioWeight", "CpuCount",          "CpuPercent",         "CpuPeriod",
                       "CpuQuota",    "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares",
                       "CpusetCpus",  "CpusetMems",        "KernelMemory",       "KernelMemoryTCP",
                       "Memory",      "MemoryReservation", "MemorySwap",         "MemorySwappiness",
                       "NanoCpus",    "OomKillDisable",    "PidsLimit",          "RestartPolicy",
                       "Ulimits"};
const Names kEndpoint{"IPAMConfig",          "Links",      "Aliases",    "NetworkID",
                      "EndpointID",          "Gateway",    "IPAddress",  "IPPrefixLen",
                      "IPv6Gateway",         "MacAddress", "DriverOpts", "GlobalIPv6Address",
                      "GlobalIPv6PrefixLen", "DNSNames"};

const Names kConfig{
    "Hostname",     "Domainname",   "User",        "AttachStdin",     "AttachStdout",
    "AttachStderr", "ExposedPorts", "Tty",         "OpenStdin",       "StdinOnce",
    "Env",          "Cmd",          "Healthcheck", "ArgsEscaped",     "Image",
    "Volumes",      "WorkingDir",   "Entrypoint",  "NetworkDisabled", "MacAddress",
    "OnBuild",      "Labels",       "StopSignal",  "StopTimeout",     "Shell"};

/// What stays inside the engine, whatever it says.
const Names kHarmless{"AutoRemove",  "CapAdd",          "CapDrop",       "CgroupnsMode",
                      "ConsoleSize", "ContainerIDFile", "Dns",           "DnsOptions",
                      "DnsSearch",   "ExtraHosts",      "GroupAdd",      "Init",
                      "IpcMode",     "Isolation",       "Links",         "MaskedPaths",
                      "NetworkMode", "OomScoreAdj",     "PidMode",       "PortBindings",
                      "Privileged",  "PublishAllPorts", "ReadonlyPaths", "ReadonlyRootfs",
                      "SecurityOpt", "ShmSize",         "StorageOpt",    "Sysctls",
                      "Tmpfs",       "UTSMode",         "UsernsMode",    "VolumesFrom"};
const Names kChecked{"Binds", "Mounts", "Devices", "LogConfig", "VolumeDriver"};

const std::array<std::string_view, 2> kDockerSockets{"/var/run/docker.sock", "/run/docker.sock"};
/// What every engine's containers may have: they belong to no disk and no card.
const Names kDevices{"/dev/fuse", "/dev/net/tun", "/dev/null",   "/dev/zero",
                     "/dev/full", "/dev/random",  "/dev/urandom"};
const Names kLogDrivers{"", "json-file", "local", "none"};
constexpr std::size_t kMostNetworks = 64;

bool is_empty(const Json& value) {
  return value.is_null() || value == Json("") || value == Json(false) || value == Json(0) ||
         (value.is_structured() && value.empty());
}

Error refused(const std::string& what, const std::string& why, const std::string& instead = "") {
  return Error{ErrorKind::denied, what + ": " + why, instead, {}};
}

Error malformed(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

Result<Json> read_object(std::string_view body, const std::string& of) {
  if (is_too_deep(body)) return malformed("the body of " + of + " is nested too deeply");
  auto json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return malformed("the body of " + of + " is no JSON object");
  return json;
}

/// Takes what is empty away and refuses what is not known: the engine reads names of members
/// without regard to case, so none may come through that was not looked at.
Status keep_known(Json& object, const std::string& prefix, const std::vector<const Names*>& known) {
  for (auto it = object.begin(); it != object.end();) {
    const bool is_known = std::any_of(known.begin(), known.end(), [&](const Names* names) {
      return names->contains(std::string_view{it.key()});
    });
    if (is_known) {
      ++it;
    } else if (is_empty(it.value())) {
      it = object.erase(it);
    } else {
      return refused(prefix + it.key().substr(0, 100),
                     "not served by the container engine of a job");
    }
  }
  return {};
}

/// The same for a member that is an object, or not there.
Status keep_known_in(Json& object, const std::string& prefix, const char* member,
                     const Names& known) {
  const auto found = object.find(member);
  if (found == object.end() || found->is_null()) return {};
  if (!found->is_object()) return malformed(prefix + member + " is no object");
  return keep_known(*found, prefix + member + ".", {&known});
}

std::string text_at(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto [end, unused] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

/// What is mounted for a host path. Errors: denied.
Result<std::string> bind_source(const std::string& source, const std::string& member,
                                const ContainerRules& rules) {
  auto path = std::filesystem::path{source}.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const auto found = std::find(kDockerSockets.begin(), kDockerSockets.end(), path.string());
  if (found != kDockerSockets.end() && !rules.broker_socket.empty()) return rules.broker_socket;
  if (path.is_absolute() && is_within(path, rules.workspace)) return path.string();
  return refused(member + " " + source.substr(0, 200),
                 "only folders of the job's workspace can be mounted",
                 "use a path below " + rules.workspace + ", or a named volume");
}

bool is_volume_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && plain(name.front()) && std::all_of(name.begin(), name.end(), [&](char c) {
    return plain(c) || c == '_' || c == '.' || c == '-';
  });
}

Status check_binds(Json& binds, const ContainerRules& rules) {
  if (binds.is_null()) return {};
  if (!binds.is_array()) return malformed("HostConfig.Binds is no list");
  for (auto& bind : binds) {
    if (!bind.is_string()) return malformed("HostConfig.Binds holds something else than text");
    const auto text = bind.get<std::string>();
    const auto colon = text.find(':');
    if (colon == std::string::npos || is_volume_name(text.substr(0, colon))) continue;
    auto source = bind_source(text.substr(0, colon), "HostConfig.Binds", rules);
    if (!source) return std::move(source).error();
    bind = *source + text.substr(colon);
  }
  return {};
}

Status check_driver(const Json& driver, const std::string& member) {
  if (driver.is_null()) return {};
  if (!driver.is_object()) return malformed(member + " is no object");
  Json copy = driver;
  static const Names kKnown{"Name", "Options"};
  if (auto known = keep_known(copy, member + ".", {&kKnown}); !known) return known;
  const auto name = text_at(copy, "Name");
  if ((!name.empty() && name != "local") ||
      (copy.contains("Options") && !is_empty(copy["Options"])))
    return refused(member, "volumes are the engine's own, without options",
                   "leave the driver and its options out");
  return {};
}

/// Names that an API has from a version on.
Names with_newer(Names names, unsigned api,
                 std::initializer_list<std::pair<unsigned, std::string_view>> newer) {
  for (const auto& [since, name] : newer)
    if (api >= since) names.insert(name);
  return names;
}

Names endpoint_names(unsigned api) {
  return with_newer(kEndpoint, api, {{48, "GwPriority"}});
}

/// An older engine would take no notice of what it does not know.
Status check_healthcheck(Json& config, unsigned api) {
  const auto names = with_newer({"Test", "Interval", "Timeout", "Retries", "StartPeriod"}, api,
                                {{44, "StartInterval"}});
  return keep_known_in(config, "", "Healthcheck", names);
}

Status check_mounts(Json& mounts, const ContainerRules& rules, unsigned api) {
  if (mounts.is_null()) return {};
  if (!mounts.is_array()) return malformed("HostConfig.Mounts is no list");
  static const Names kMount{"Type",        "Source",      "Target",        "ReadOnly",
                            "Consistency", "BindOptions", "VolumeOptions", "TmpfsOptions"};
  const auto volume = with_newer({"NoCopy", "Labels", "DriverConfig"}, api, {{45, "Subpath"}});
  const auto bind = with_newer(
      {"Propagation", "NonRecursive"}, api,
      {{42, "CreateMountpoint"}, {44, "ReadOnlyNonRecursive"}, {44, "ReadOnlyForceRecursive"}});
  const auto tmpfs = with_newer({"SizeBytes", "Mode"}, api, {{46, "Options"}});
  for (auto& mount : mounts) {
    if (!mount.is_object()) return malformed("HostConfig.Mounts holds something else than objects");
    if (auto known = keep_known(mount, "HostConfig.Mounts.", {&kMount}); !known) return known;
    const auto type = text_at(mount, "Type");
    const auto name = text_at(mount, "Source");
    if (type == "bind") {
      auto source = bind_source(name, "HostConfig.Mounts", rules);
      if (!source) return std::move(source).error();
      mount["Source"] = *std::move(source);
    } else if (type == "volume") {
      if (!name.empty() && !is_volume_name(name))
        return malformed("HostConfig.Mounts: '" + name.substr(0, 100) + "' is no volume's name");
    } else if (type != "tmpfs") {
      return refused("HostConfig.Mounts of type '" + type.substr(0, 40) + "'",
                     "bind, volume and tmpfs are served");
    }
    for (const auto& [member, known] :
         {std::pair{"BindOptions", &bind}, {"VolumeOptions", &volume}, {"TmpfsOptions", &tmpfs}}) {
      if (auto kept = keep_known_in(mount, "HostConfig.Mounts.", member, *known); !kept)
        return kept;
    }
    if (const auto options = mount.find("VolumeOptions");
        options != mount.end() && options->contains("DriverConfig")) {
      if (auto driver = check_driver((*options)["DriverConfig"],
                                     "HostConfig.Mounts.VolumeOptions.DriverConfig");
          !driver)
        return driver;
    }
  }
  return {};
}

Status check_devices(const Json& devices) {
  if (devices.is_null()) return {};
  if (!devices.is_array()) return malformed("HostConfig.Devices is no list");
  for (const auto& device : devices) {
    if (!device.is_object())
      return malformed("HostConfig.Devices holds something else than objects");
    for (const auto& [key, value] : device.items()) {
      if (key != "PathOnHost" && key != "PathInContainer" && key != "CgroupPermissions")
        return refused("HostConfig.Devices." + key.substr(0, 100), "not served");
    }
    const auto path = text_at(device, "PathOnHost");
    if (!kDevices.contains(path))
      return refused("HostConfig.Devices " + path.substr(0, 200),
                     "a job has no devices of the host", "/dev/fuse and /dev/net/tun can be had");
  }
  return {};
}

Status check_host_config(Json& host, const ContainerRules& rules, unsigned api) {
  const auto newer = with_newer({}, api, {{43, "Annotations"}});
  if (auto known = keep_known(host, "HostConfig.", {&kResources, &kHarmless, &kChecked, &newer});
      !known)
    return known;
  if (host.contains("Binds")) {
    if (auto binds = check_binds(host["Binds"], rules); !binds) return binds;
  }
  if (host.contains("Mounts")) {
    if (auto mounts = check_mounts(host["Mounts"], rules, api); !mounts) return mounts;
  }
  if (host.contains("Devices")) {
    if (auto devices = check_devices(host["Devices"]); !devices) return devices;
  }
  if (const auto driver = text_at(host, "VolumeDriver"); !driver.empty() && driver != "local")
    return refused("HostConfig.VolumeDriver " + driver.substr(0, 100),
                   "volumes are the engine's own");
  if (host.contains("LogConfig") && !host["LogConfig"].is_null()) {
    auto& log = host["LogConfig"];
    static const Names kLog{"Type", "Config"};
    if (!log.is_object()) return malformed("HostConfig.LogConfig is no object");
    if (auto known = keep_known(log, "HostConfig.LogConfig.", {&kLog}); !known) return known;
    if (const auto type = text_at(log, "Type"); !kLogDrivers.contains(type))
      return refused("HostConfig.LogConfig " + type.substr(0, 100), "logs stay in the job's engine",
                     "use json-file, local or none");
  }
  return {};
}

Status check_networking(Json& container, unsigned api) {
  const auto names = endpoint_names(api);
  static const Names kNetworking{"EndpointsConfig"};
  if (auto kept = keep_known_in(container, "", "NetworkingConfig", kNetworking); !kept) return kept;
  const auto found = container.find("NetworkingConfig");
  if (found == container.end() || !found->is_object() || !found->contains("EndpointsConfig"))
    return {};
  auto& endpoints = (*found)["EndpointsConfig"];
  if (endpoints.is_null()) return {};
  if (!endpoints.is_object()) return malformed("NetworkingConfig.EndpointsConfig is no object");
  for (auto& [network, endpoint] : endpoints.items()) {
    if (endpoint.is_null()) continue;
    if (!endpoint.is_object())
      return malformed("NetworkingConfig.EndpointsConfig holds something else than objects");
    if (auto kept = keep_known(endpoint, "NetworkingConfig.EndpointsConfig.", {&names}); !kept)
      return kept;
  }
  return {};
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What clients say of networks from API 1.44 on, in the words of 1.41: one network, and the
/// address of the container, not of the network. Errors: bad_input.
Status speak_older(Json& container, std::vector<LaterNetwork>& later) {
  const auto is_default = [](const std::string& network) {
    return network.empty() || network == "default" || network == "bridge";
  };
  const Json::json_pointer at{"/NetworkingConfig/EndpointsConfig"};
  if (!container.contains(at) || !container[at].is_object()) return {};
  auto& endpoints = container[at];
  const auto mode =
      container.contains("HostConfig") ? text_at(container["HostConfig"], "NetworkMode") : "";
  std::string first;
  for (const auto& [network, endpoint] : endpoints.items()) {
    const bool is_first = network == mode || (is_default(network) && is_default(mode));
    if (is_first || endpoints.size() == 1) first = network;
  }
  if (!endpoints.contains(first)) return {}; // the engine says what it thinks of that
  if (auto& endpoint = endpoints[first]; endpoint.is_object()) {
    const auto address = text_at(endpoint, "MacAddress");
    if (!address.empty() && text_at(container, "MacAddress").empty())
      container["MacAddress"] = address;
    endpoint.erase("MacAddress");
  }
  if (endpoints.size() > kMostNetworks)
    return malformed("NetworkingConfig.EndpointsConfig names too many networks");
  for (const auto& [network, endpoint] : endpoints.items()) {
    if (network == first) continue;
    if (network.empty() || network == "." || network == ".." ||
        network.find('/') != std::string::npos)
      return malformed("NetworkingConfig.EndpointsConfig: '" + network + "' is no network's name");
    later.push_back({network, dump(endpoint.is_null() ? Json::object() : endpoint)});
  }
  for (const auto& network : later)
    endpoints.erase(network.name);
  return {};
}

std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const auto end = std::min(path.find('/', 1), path.size());
    parts.push_back(path.substr(1, end - 1));
    path.remove_prefix(end);
  }
  return parts;
}

ContainerCall of_container(std::string_view method, const std::vector<std::string_view>& parts) {
  static const Names kGet{"json", "logs", "top", "stats", "changes", "export", "archive"};
  static const Names kPost{"start",   "stop", "restart", "kill",  "pause",
                           "unpause", "wait", "rename",  "resize"};
  const auto verb = parts.back();
  if (parts.size() == 2) {
    if (method == "GET" && verb == "json") return ContainerCall::forward;
    if (method == "POST" && verb == "create") return ContainerCall::create_container;
    if (method == "POST" && verb == "prune") return ContainerCall::forward;
    return method == "DELETE" ? ContainerCall::forward : ContainerCall::unserved;
  }
  if (parts.size() != 3) return ContainerCall::unserved;
  if (method == "GET" && kGet.contains(verb)) return ContainerCall::forward;
  if ((method == "HEAD" || method == "PUT") && verb == "archive") return ContainerCall::forward;
  if (method == "DELETE") return ContainerCall::forward; // of a link: its container and its alias
  if (method == "POST" && kPost.contains(verb)) return ContainerCall::forward;
  if (method == "POST" && verb == "exec") return ContainerCall::create_exec;
  if (method == "POST" && verb == "update") return ContainerCall::update_container;
  return method == "POST" && verb == "attach" ? ContainerCall::attach : ContainerCall::unserved;
}

Status check_network(Json& json, unsigned api) {
  const auto names = with_newer({"Name", "CheckDuplicate", "Driver", "Internal", "Attachable",
                                 "IPAM", "Options", "Labels", "EnableIPv6"},
                                api, {{48, "EnableIPv4"}});
  // Every network of an older engine has it.
  if (const auto ipv4 = json.find("EnableIPv4");
      !names.contains("EnableIPv4") && ipv4 != json.end() && *ipv4 == Json(true))
    json.erase(ipv4);
  if (auto known = keep_known(json, "network ", {&names}); !known) return known;
  if (const auto driver = text_at(json, "Driver"); !driver.empty() && driver != "bridge")
    return refused("network driver " + driver.substr(0, 100),
                   "networks of a job's engine are bridges", "leave the driver out");
  if (const auto options = json.find("Options"); options != json.end() && options->is_object()) {
    for (const auto& [name, value] : options->items()) {
      if (!name.starts_with("com.docker.network."))
        return refused("network Options " + name.substr(0, 100), "no option of a bridge");
    }
  }
  static const Names kIpam{"Driver", "Config", "Options"};
  if (auto known = keep_known_in(json, "", "IPAM", kIpam); !known) return known;
  if (const auto ipam = json.find("IPAM"); ipam != json.end() && ipam->is_object()) {
    if (const auto driver = text_at(*ipam, "Driver"); !driver.empty() && driver != "default")
      return refused("IPAM.Driver " + driver.substr(0, 100), "only the default one is served");
  }
  return {};
}

Status check_volume(Json& json) {
  static const Names kKnown{"Name", "Driver", "DriverOpts", "Labels"};
  if (auto known = keep_known(json, "volume ", {&kKnown}); !known) return known;
  const auto driver = text_at(json, "Driver");
  const bool has_options = json.contains("DriverOpts") && !is_empty(json["DriverOpts"]);
  if ((!driver.empty() && driver != "local") || has_options)
    return refused(has_options ? "volume DriverOpts" : "volume driver " + driver.substr(0, 100),
                   "volumes are the engine's own, without options",
                   "leave the driver and its options out");
  return {};
}

} // namespace

Result<ContainerOrder> check_container(std::string_view body, const ContainerRules& rules,
                                       unsigned api) {
  auto json = read_object(body, "/containers/create");
  if (!json) return std::move(json).error();
  static const Names kBeside{"HostConfig", "NetworkingConfig"};
  if (auto known = keep_known(*json, "", {&kConfig, &kBeside}); !known)
    return std::move(known).error();
  ContainerOrder order;
  order.image = text_at(*json, "Image");
  if (order.image.empty()) return malformed("/containers/create names no Image");
  if (const auto host = json->find("HostConfig"); host != json->end() && !host->is_null()) {
    if (!host->is_object()) return malformed("HostConfig is no object");
    if (auto checked = check_host_config(*host, rules, api); !checked)
      return std::move(checked).error();
  }
  if (auto health = check_healthcheck(*json, api); !health) return std::move(health).error();
  if (auto networks = check_networking(*json, api); !networks) return std::move(networks).error();
  if (api < 44) {
    if (auto spoken = speak_older(*json, order.later_networks); !spoken)
      return std::move(spoken).error();
  }
  order.body = dump(*json);
  return order;
}

std::string with_image(const std::string& body, const std::string& image) {
  auto json = Json::parse(body, nullptr, false);
  if (json.is_object()) json["Image"] = image;
  return dump(json);
}

Result<std::string> check_body(ContainerCall call, std::string_view body, unsigned api) {
  static const Names kExec{"User",        "Privileged",   "Tty",          "ConsoleSize",
                           "AttachStdin", "AttachStderr", "AttachStdout", "Detach",
                           "DetachKeys",  "Env",          "WorkingDir",   "Cmd"};
  static const Names kExecStart{"Detach", "Tty", "ConsoleSize"};
  static const Names kJoin{"Container", "EndpointConfig"};
  static const Names kLeave{"Container", "Force"};
  static const Names kNothing{};
  if (body.empty()) return std::string{};
  auto json = read_object(body, "this request");
  if (!json) return std::move(json).error();
  Status kept;
  switch (call) {
  case ContainerCall::create_network:
    kept = check_network(*json, api);
    break;
  case ContainerCall::create_volume:
    kept = check_volume(*json);
    break;
  case ContainerCall::create_exec:
    json->erase("Container"); // docker-py says again what the path says, and that counts
    if (const auto keys = json->find("detachKeys"); keys != json->end()) { // docker-py's spelling
      const Json said = *keys;
      json->erase(keys);
      (*json)["DetachKeys"] = said;
    }
    kept = keep_known(*json, "exec ", {&kExec});
    break;
  case ContainerCall::start_exec:
    kept = keep_known(*json, "exec ", {&kExecStart});
    break;
  case ContainerCall::update_container:
    kept = keep_known(*json, "update ", {&kResources});
    break;
  case ContainerCall::join_network:
    kept = keep_known(*json, "connect ", {&kJoin});
    if (kept) kept = keep_known_in(*json, "", "EndpointConfig", endpoint_names(api));
    break;
  case ContainerCall::commit:
    kept = keep_known(*json, "commit ", {&kConfig});
    if (kept) kept = check_healthcheck(*json, api);
    break;
  case ContainerCall::leave_network:
    kept = keep_known(*json, "disconnect ", {&kLeave});
    break;
  case ContainerCall::forward:
  case ContainerCall::attach:
    if (kept = keep_known(*json, "", {&kNothing}); kept) return std::string{};
    break;
  case ContainerCall::none:
  case ContainerCall::unserved:
  case ContainerCall::create_container:
    return Error{ErrorKind::internal, "a body that check_body is not for", "", {}};
  }
  if (!kept) return std::move(kept).error();
  return dump(*json);
}

ContainerCall container_call(std::string_view method, std::string_view path) {
  const auto parts = parts_of(path);
  if (parts.empty()) return ContainerCall::none;
  const auto first = parts.front();
  // An empty or odd part would be another path for the engine, which cleans paths.
  const bool odd = std::any_of(parts.begin(), parts.end(), [](std::string_view part) {
    return part.empty() || part == "." || part == "..";
  });
  if (first == "events") {
    return method == "GET" && parts.size() == 1 ? ContainerCall::forward : ContainerCall::unserved;
  }
  if (first == "commit") {
    return method == "POST" && parts.size() == 1 ? ContainerCall::commit : ContainerCall::unserved;
  }
  if (first != "containers" && first != "exec" && first != "networks" && first != "volumes")
    return ContainerCall::none;
  if (odd) return ContainerCall::unserved;
  if (first == "containers") {
    return parts.size() < 2 ? ContainerCall::unserved : of_container(method, parts);
  }
  if (first == "exec") {
    if (parts.size() != 3) return ContainerCall::unserved;
    if (method == "GET" && parts[2] == "json") return ContainerCall::forward;
    if (method == "POST" && parts[2] == "resize") return ContainerCall::forward;
    return method == "POST" && parts[2] == "start" ? ContainerCall::start_exec
                                                   : ContainerCall::unserved;
  }
  const bool networks = first == "networks";
  if (method == "GET") return parts.size() <= 2 ? ContainerCall::forward : ContainerCall::unserved;
  if (method == "DELETE" && parts.size() == 2) return ContainerCall::forward;
  if (method != "POST" || parts.size() < 2) return ContainerCall::unserved;
  if (parts.size() == 2 && parts[1] == "create")
    return networks ? ContainerCall::create_network : ContainerCall::create_volume;
  if (parts.size() == 2 && parts[1] == "prune") return ContainerCall::forward;
  if (networks && parts.size() == 3 && parts[2] == "connect") return ContainerCall::join_network;
  if (networks && parts.size() == 3 && parts[2] == "disconnect")
    return ContainerCall::leave_network;
  return ContainerCall::unserved;
}

} // namespace slipway::broker
