// SPDX-License-Identifier: Apache-2.0

#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <nlohmann/json.hpp>

#include <charconv>

namespace slipway::sandbox {
namespace {

// What an image's own set-up steps need (chown, su, apt-get, binding port 80), and nothing else.
// Spelled out, so that a containers.conf cannot widen it.
constexpr const char* kCapabilities[] = {"CHOWN",   "DAC_OVERRIDE",     "FOWNER",    "FSETID",
                                         "KILL",    "NET_BIND_SERVICE", "SETFCAP",   "SETGID",
                                         "SETPCAP", "SETUID",           "SYS_CHROOT"};

// The shortest decimal that reads back as the same number, independent of the locale.
std::string decimal(double number) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, number);
  return {digits, end.ptr};
}

std::string volume(const Mount& mount) {
  return "--volume=" + mount.source + ":" + mount.target + (mount.read_only ? ":ro" : ":rw");
}

} // namespace

std::vector<std::string> argv_for(const Engine& engine, const SandboxSpec& spec) {
  auto argv = podman_argv(engine, {"run", "--detach", "--pull=never"});
  const auto add = [&argv](std::string argument) { argv.push_back(std::move(argument)); };
  const std::string map =
      "0:" + std::to_string(spec.ids.first) + ":" + std::to_string(spec.ids.size);

  add("--name=" + spec.name);
  for (const auto& [key, value] : spec.labels)
    add("--label=" + key + "=" + value);
  add("--uidmap=" + map);
  add("--gidmap=" + map);
  for (const char* kind : {"ipc", "pid", "uts", "cgroupns"})
    add(std::string{"--"} + kind + "=private");
  if (spec.privileged()) {
    add("--privileged");
  } else {
    add("--cap-drop=all");
    for (const char* capability : kCapabilities)
      add(std::string{"--cap-add="} + capability);
  }
  if (!spec.new_privileges()) add("--security-opt=no-new-privileges");

  // Nothing of the host leaks in by Podman's own kindness.
  for (const char* flag : {"--http-proxy=false", "--systemd=false", "--sdnotify=ignore",
                           "--no-healthcheck", "--restart=no"}) {
    add(flag);
  }
  // What PID 1 says is kept for `podman logs`, and cannot fill the disk.
  add("--log-driver=k8s-file");
  add("--log-opt=max-size=1mb");

  if (spec.network.empty()) {
    add("--network=none");
  } else {
    add("--network=" + spec.network);
    for (const auto& alias : spec.network_aliases)
      add("--network-alias=" + alias);
  }
  for (const auto& [name, address] : spec.hosts)
    add("--add-host=" + name + ":" + address);
  if (!spec.hostname.empty()) add("--hostname=" + spec.hostname);

  for (const auto& mount : spec.volumes)
    add(volume(mount));
  for (const auto& token : spec.host_mounts())
    add(volume(token.mount));
  for (const auto& token : spec.devices())
    add("--device=" + token.path);
  for (const auto& [target, options] : spec.tmpfs) {
    add("--tmpfs=" + target + (options.empty() ? "" : ":" + options));
  }
  if (spec.read_only_root) add("--read-only");

  const auto& limits = spec.limits;
  const auto ulimit = [&add](const std::string& name, std::uint64_t value) {
    add("--ulimit=" + name + "=" + std::to_string(value) + ":" + std::to_string(value));
  };
  if (limits.pids > 0) {
    add("--pids-limit=" + std::to_string(limits.pids));
    // Counted per user namespace and id: what stops a fork bomb where no pids controller is
    // delegated.
    ulimit("nproc", static_cast<std::uint64_t>(limits.pids));
  }
  if (limits.memory_bytes > 0) {
    add("--memory=" + std::to_string(limits.memory_bytes) + "b");
    add("--memory-swap=" + std::to_string(limits.memory_bytes) + "b");
  }
  if (limits.cpus > 0) add("--cpus=" + decimal(limits.cpus));
  if (limits.file_bytes > 0) ulimit("fsize", limits.file_bytes);
  if (limits.open_files > 0) ulimit("nofile", limits.open_files);
  ulimit("core", 0);

  if (!spec.preserve_fds.empty()) {
    add("--preserve-fds=" + std::to_string(spec.preserve_fds.size()));
  }
  const auto env = split_env(spec.env);
  if (!env.file.empty()) add("--env-file=/proc/self/fd/" + std::to_string(env_file_fd(spec)));
  for (const auto& [name, value] : env.inherited)
    add("--env=" + name);

  if (spec.user) add("--user=" + *spec.user);
  if (!spec.working_dir.empty()) add("--workdir=" + spec.working_dir);
  if (!spec.entrypoint.empty()) add("--entrypoint=" + nlohmann::json(spec.entrypoint).dump());
  add(spec.image);
  for (const auto& argument : spec.command)
    add(argument);
  return argv;
}

} // namespace slipway::sandbox
