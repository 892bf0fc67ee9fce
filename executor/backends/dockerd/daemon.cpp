// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/daemon.hpp"

#include "executor/backends/dockerd/builder.hpp"
#include "executor/base/file.hpp"
#include "executor/sandbox/seccomp.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace slipway::backends::dockerd {
namespace {

constexpr const char* kSettingsDir = "/etc/slipway-engine";
constexpr const char* kSocketDir = "/run/slipway-engine";
constexpr const char* kSocketName = "docker.sock";

// PID 1. Of a cgroup that is the engine's own it makes the root of what dockerd sees; the host's
// tree, which crun leaves below where a user namespace is joined, is under the tmpfs. The socket is
// opened to the service user from in here, where a link can lead to nothing but the engine's own.
constexpr const char* kFirst = R"(until [ -e /run/slipway-engine/go ]; do sleep 0.02; done
exec unshare --cgroup /bin/sh -c 'mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
  mkdir -p /sys/fs/cgroup/daemon && echo $$ >/sys/fs/cgroup/daemon/cgroup.procs || exit
  (cd /run/slipway-engine; until [ -S docker.sock ]; do sleep 0.02; done
   chmod 0666 docker.sock && : >open) &
  exec dockerd --config-file /etc/slipway-engine/daemon.json')";

// One entry into the user namespace: the cgroup, and its name for who removes it. It has the
// service user's rights: nothing here writes where the engine's containers can, once there are any.
constexpr const char* kOpen = R"(set -e
group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")/$2
printf '%s' "$group" >"$4/cgroup"
[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
mkdir "$group"
chown "$3:$3" "$group" "$group/cgroup.procs" "$group/cgroup.threads" "$group/cgroup.subtree_control"
echo "$1" >"$group/cgroup.procs"
: >"$4/socket/go"
tries=$5
while [ ! -e "$4/socket/open" ]; do
  tries=$((tries - 1)); [ "$tries" -gt 0 ] && [ -d "/proc/$1" ] || exit 9
  sleep 0.02
done)";

} // namespace

std::string daemon_json() {
  const nlohmann::json settings{
      {"hosts", {std::string{"unix://"} + kSocketDir + "/" + kSocketName}},
      {"icc", false},
      {"no-new-privileges", true},
      {"seccomp-profile", std::string{kSettingsDir} + "/seccomp.json"},
      {"storage-driver", "overlay2"},
      {"exec-opts", {"native.cgroupdriver=cgroupfs"}},
      {"log-driver", "json-file"},
      {"log-opts", {{"max-size", "10m"}, {"max-file", "2"}}},
      {"default-ulimits", {{"core", {{"Name", "core"}, {"Hard", 0}, {"Soft", 0}}}}},
      {"live-restore", false},
      {"shutdown-timeout", 2}};
  return settings.dump(2) + "\n";
}

std::filesystem::path daemon_socket(const std::filesystem::path& folder) {
  return folder / "socket" / kSocketName;
}

sandbox::SandboxSpec daemon_spec(const DaemonParts& parts) {
  sandbox::SandboxSpec spec;
  spec.name = parts.container;
  spec.labels = {{"io.slipway.job", parts.job},
                 {"io.slipway.owner", parts.owner},
                 {"io.slipway.role", "engine"}};
  spec.entrypoint = {"/bin/sh", "-c", kFirst};
  spec.user = "0:0";
  spec.env = {{"HOME", "/root"}, {"PATH", path_for(parts.tools)}};
  spec.ids = parts.ids;
  spec.joins = parts.joins;
  spec.limits = parts.limits;
  spec.hostname = "engine";
  spec.tmpfs = {{"/sys/fs/cgroup", "rw,size=64k,notmpcopyup"}};
  spec.volumes = {{parts.images_volume, "/var/lib/docker", false},
                  {parts.workspace_volume, parts.workspace, false},
                  {(parts.folder / "socket").string(), kSocketDir, false},
                  {(parts.folder / "config").string(), kSettingsDir, true},
                  {parts.broker_dir.string(),
                   std::filesystem::path{kBrokerSocket}.parent_path().string(), true}};
  if (!parts.tools.empty()) spec.volumes.push_back({parts.tools.string(), kToolsPlace, true});
  spec.seccomp_profile = (parts.folder / "sandbox-seccomp.json").string();
  spec.allow(sandbox::PrivilegedInUserNamespace{
      "dockerd mounts overlays, makes bridges and starts runc; bounded by the job's id slot"});
  spec.allow(sandbox::NewPrivileges{
      "a container that asks for it may have setuid programs, which belong to the slot's ids"});
  return spec;
}

namespace {

/// Of an earlier engine, whose root could leave anything there, and owns it.
Status clear_sockets(sandbox::Podman& podman, const std::filesystem::path& dir) {
  struct stat facts {};
  if (::lstat(dir.c_str(), &facts) != 0) return {};
  auto cleared = podman.unshare({"/bin/rm", "-rf", "--", dir.string()});
  if (!cleared) return std::move(cleared).error();
  if (process::succeeded(cleared->ending)) return {};
  return Error{ErrorKind::io,
               "removing an earlier engine's folder: " + cleared->err.substr(0, 300),
               "",
               {dir.string()}};
}

} // namespace

Status start_daemon(sandbox::Podman& podman, const DaemonParts& parts) {
  if (!parts.tools.empty())
    if (auto usable = check_tools(parts.tools); !usable) return usable;
  if (find_daemon(parts.tools).empty()) {
    return Error{ErrorKind::misconfigured,
                 parts.tools.empty() ? "this host has no dockerd in /usr"
                                     : "there is no dockerd in " + parts.tools.string(),
                 parts.tools.empty()
                     ? "the operator installs Debian's docker.io (packaging/install-deps run)"
                     : "the operator sets `tools` in [dind] to the folder that has it",
                 {}};
  }
  if (Status removed = podman.remove({parts.container}); !removed) return removed;
  if (Status cleared = clear_sockets(podman, parts.folder / "socket"); !cleared) return cleared;
  for (const auto& [dir, mode] : {std::pair{parts.folder, 0700},
                                  {parts.folder / "config", 0755},
                                  {parts.folder / "socket", 0777}}) {
    if (Status made = make_directory(dir, static_cast<mode_t>(mode)); !made) return made;
    if (::chmod(dir.c_str(), static_cast<mode_t>(mode)) != 0)
      return io_error("chmod", errno, dir.string());
  }
  for (const auto& [name, text] : {std::pair{"config/daemon.json", daemon_json()},
                                   {"config/seccomp.json", sandbox::container_seccomp()},
                                   {"sandbox-seccomp.json", sandbox::engine_seccomp()}}) {
    if (Status written = replace_file(parts.folder / name, text, 0644); !written) return written;
  }

  auto spec = daemon_spec(parts);
  if (Status made = podman.create_volume(parts.images_volume, spec.labels); !made) return made;
  if (Status root = sandbox::use_host_tools(podman, spec); !root) return root;
  auto started = podman.start(spec);
  if (!started) return std::move(started).error();
  if (parts.started) parts.started(*started);
  const auto tries = std::to_string(std::max<std::int64_t>(parts.deadline.count() / 20, 1));
  auto opened = podman.unshare({"/bin/sh", "-c", kOpen, "sh", std::to_string(started->host_pid),
                                parts.container, std::to_string(parts.ids.first),
                                parts.folder.string(), tries});
  if (opened && process::succeeded(opened->ending)) return {};
  auto words = podman.logs(parts.container, 2000);
  std::string last = words ? *words : "";
  while (!last.empty() && last.back() == '\n')
    last.pop_back();
  (void)podman.remove({parts.container}); // it is of no use; cleanup looks once more
  return Error{ErrorKind::unavailable,
               "the job's container engine does not answer" +
                   (opened && !opened->err.empty() ? ": " + opened->err.substr(0, 300) : "") +
                   (last.empty() ? "" : "; it said: " + last),
               "see that the service user has subordinate ids and a delegated cgroup",
               {}};
}

} // namespace slipway::backends::dockerd
