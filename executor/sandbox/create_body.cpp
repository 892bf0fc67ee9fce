// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/sandbox.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace slipway::sandbox {
namespace {

using nlohmann::json;

// What an image's own set-up steps need (chown, su, apt-get, binding port 80), and nothing else.
// Spelled out, so that a containers.conf cannot widen it.
constexpr const char* kCapabilities[] = {"CHOWN",   "DAC_OVERRIDE",     "FOWNER",    "FSETID",
                                         "KILL",    "NET_BIND_SERVICE", "SETFCAP",   "SETGID",
                                         "SETPCAP", "SETUID",           "SYS_CHROOT"};
constexpr std::uint64_t kCpuPeriod = 100000; // microseconds; cpu.max, cgroups(7)
constexpr std::int64_t kMostLogBytes = 1000000;

// Asked for by a number that is not root's, or by another's name. Podman makes the capabilities
// that are added ambient for such a user, so a program that needs none would have them all.
bool is_for_no_root(const SandboxSpec& spec) {
  if (!spec.user) return false;
  const auto id = spec.user->substr(0, spec.user->find(':'));
  return id != "root" && id.find_first_not_of('0') != std::string::npos;
}

void add_mount(json& body, const Mount& mount) {
  const json options{mount.read_only ? "ro" : "rw"};
  if (mount.source.starts_with('/')) {
    auto bind = options;
    bind.push_back("rbind");
    body["mounts"].push_back({{"type", "bind"},
                              {"source", mount.source},
                              {"destination", mount.target},
                              {"options", std::move(bind)}});
  } else {
    body["volumes"].push_back(
        {{"Name", mount.source}, {"Dest", mount.target}, {"Options", options}});
  }
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

} // namespace

std::string create_body(const SandboxSpec& spec) {
  const json map =
      json::array({{{"container_id", 0}, {"host_id", spec.ids.first}, {"size", spec.ids.size}}});
  json body{{"name", spec.name},
            {"labels", spec.labels},
            {"image", spec.image},
            {"userns", {{"nsmode", "private"}}},
            {"idmappings", {{"UIDMap", map}, {"GIDMap", map}}},
            // Nothing of the host leaks in by Podman's own kindness.
            {"httpproxy", false},
            {"systemd", "false"},
            {"sdnotifyMode", "ignore"},
            {"restart_policy", "no"},
            {"healthconfig", {{"Test", {"NONE"}}}}};
  if (spec.keep_log) {
    body["log_configuration"] = {{"driver", "k8s-file"}, {"size", kMostLogBytes}};
  } else {
    body["log_configuration"] = {{"driver", "none"}};
  }
  for (const char* kind : {"ipcns", "pidns", "utsns", "cgroupns"})
    body[kind] = {{"nsmode", "private"}};
  if (spec.privileged()) {
    body["privileged"] = true;
  } else {
    body["cap_drop"] = {"all"};
    if (!is_for_no_root(spec)) {
      for (const char* capability : kCapabilities)
        body["cap_add"].push_back(capability);
    }
  }
  if (!spec.seccomp_profile.empty()) body["seccomp_profile_path"] = spec.seccomp_profile;
  if (!spec.new_privileges()) body["no_new_privileges"] = true;

  if (!spec.joins.empty()) {
    // Who owns the user namespace may make bridges and rules in the network namespace.
    body.erase("idmappings");
    body["userns"] = {{"nsmode", "container"}, {"value", spec.joins}};
    body["netns"] = {{"nsmode", "container"}, {"value", spec.joins}};
  } else if (spec.network.empty()) {
    body["netns"] = {{"nsmode", "none"}};
  } else {
    body["netns"] = {{"nsmode", "bridge"}};
    body["Networks"] = {{spec.network, {{"aliases", spec.network_aliases}}}};
    if (!spec.address.empty()) body["Networks"][spec.network]["static_ips"] = {spec.address};
  }
  for (const auto& [name, address] : spec.hosts)
    body["hostadd"].push_back(name + ":" + address);
  if (!spec.hostname.empty()) body["hostname"] = spec.hostname;

  for (const auto& mount : spec.volumes)
    add_mount(body, mount);
  for (const auto& token : spec.host_mounts())
    add_mount(body, token.mount);
  for (const auto& token : spec.devices())
    body["devices"].push_back({{"path", token.path}});
  for (const auto& [target, options] : spec.tmpfs) {
    body["mounts"].push_back({{"type", "tmpfs"},
                              {"source", "tmpfs"},
                              {"destination", target},
                              {"options", split(options, ',')}});
  }
  if (spec.read_only_root) body["read_only_filesystem"] = true;

  const auto& limits = spec.limits;
  const auto ulimit = [&body](const std::string& name, std::uint64_t value) {
    body["r_limits"].push_back({{"type", name}, {"hard", value}, {"soft", value}});
  };
  if (limits.pids > 0) {
    body["resource_limits"]["pids"] = {{"limit", limits.pids}};
    // Counted per user namespace and id: what stops a fork bomb where no pids controller is
    // delegated.
    ulimit("nproc", static_cast<std::uint64_t>(limits.pids));
  }
  if (limits.memory_bytes > 0) {
    body["resource_limits"]["memory"] = {{"limit", limits.memory_bytes},
                                         {"swap", limits.memory_bytes}};
  }
  if (limits.cpus > 0) {
    body["resource_limits"]["cpu"] = {
        {"quota", static_cast<std::int64_t>(limits.cpus * static_cast<double>(kCpuPeriod))},
        {"period", kCpuPeriod}};
  }
  if (limits.file_bytes > 0) ulimit("fsize", limits.file_bytes);
  if (limits.open_files > 0) ulimit("nofile", limits.open_files);
  ulimit("core", 0);

  for (const auto& [name, value] : spec.env)
    body["env"][name] = value;
  if (spec.user) body["user"] = *spec.user;
  if (!spec.working_dir.empty()) body["work_dir"] = spec.working_dir;
  if (!spec.entrypoint.empty()) body["entrypoint"] = spec.entrypoint;
  if (!spec.command.empty()) body["command"] = spec.command;
  return body.dump();
}

} // namespace slipway::sandbox
