// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/builder.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/seccomp.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

namespace slipway::backends::dockerd {

namespace {

constexpr const char* kClient = "/usr/bin/docker";
constexpr const char* kSeccompName = "dind-seccomp.json";

/// Removes it; best effort, since the mark stays until all is gone: cleanup does the same again.
class OpenBuilder final : public Workshop {
public:
  OpenBuilder(sandbox::Podman& podman, std::filesystem::path mark)
      : podman_{podman}, mark_{std::move(mark)}, name_{mark_.filename().string()} {}
  ~OpenBuilder() override {
    const bool gone = podman_.remove({name_}).ok() && podman_.remove_networks({name_}).ok() &&
                      podman_.remove_volumes({name_}).ok() && remove_cgroup();
    if (!socket_.empty()) (void)::unlink(socket_.c_str());
    if (gone) (void)::unlink(mark_.c_str());
  }
  void listens_at(std::filesystem::path socket) {
    socket_ = std::move(socket);
    run_ = [socket = socket_](const engine_api::ScriptRequest& request,
                              const sandbox::ScriptIo& io) {
      return sandbox::run_script(socket, request, io);
    };
  }
  const std::string& name() const { return name_; }
  const sandbox::ScriptRunner& run() const override { return run_; }

private:
  bool remove_cgroup() {
    auto removed = podman_.unshare({"/bin/sh", "-c",
                                    R"(group=$(cat "$1")
case $group in /sys/fs/cgroup/?*) ;; *) exit 0 ;; esac
tries=100
while [ -d "$group" ] && [ "$tries" -gt 0 ]; do
  find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
  tries=$((tries - 1)); sleep 0.02
done
[ ! -d "$group" ])",
                                    "sh", mark_.string()});
    return removed && process::succeeded(removed->ending);
  }

  sandbox::Podman& podman_;
  std::filesystem::path mark_;
  std::string name_;
  std::filesystem::path socket_;
  sandbox::ScriptRunner run_;
};

/// A control group of the sandbox's own, below which runc makes one for each step. Its place is
/// written into the mark. All programs are in another one below it: runc turns controllers on above
/// its own (cgroups(7), no processes in inner groups).
Status give_cgroup(sandbox::Podman& podman, const sandbox::ContainerFacts& sandbox,
                   const sandbox::IdSlot& ids, const std::filesystem::path& mark) {
  auto given = podman.unshare({"/bin/sh", "-c",
                               R"(set -e
group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")/$2
printf '%s' "$group" >"$4"
mkdir "$group" "$group/programs"
for one in "$group" "$group/programs"; do
  chown "$3:$3" "$one" "$one/cgroup.procs" "$one/cgroup.threads" "$one/cgroup.subtree_control"
done
echo "$1" >"$group/programs/cgroup.procs")",
                               "sh", std::to_string(sandbox.host_pid), mark.filename().string(),
                               std::to_string(ids.first), mark.string()});
  if (!given) return std::move(given).error();
  if (process::succeeded(given->ending)) return {};
  return Error{ErrorKind::unavailable,
               "the builder got no control group of its own: " + given->err.substr(0, 300),
               "see that the service user has a delegated cgroup",
               {}};
}

} // namespace

sandbox::SandboxSpec builder_spec(const BuilderParts& parts, const std::string& name,
                                  const Places& places) {
  sandbox::SandboxSpec spec;
  spec.name = name;
  spec.labels = {{"io.slipway.job", parts.job},
                 {"io.slipway.owner", parts.owner},
                 {"io.slipway.role", "dind"}};
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  spec.user = "0:0";
  spec.ids = parts.ids;
  if (parts.network) spec.network = name;
  spec.limits = parts.limits;
  spec.hostname = "builder";
  spec.volumes = {{name, places.data, false},
                  {parts.bases.string(), places.bases, true},
                  {parts.init_dir.string(), "/run/slipway/bin", true}};
  if (!parts.tools.empty()) spec.volumes.push_back({parts.tools.string(), kToolsPlace, true});
  spec.seccomp_profile = (parts.socket_dir / kSeccompName).string();
  if (parts.network && !parts.proxies.empty()) {
    spec.volumes.push_back({parts.proxies.string(), "/run/slipway/egress", true});
    spec.env.emplace_back("SLIPWAY_EGRESS", "sandbox");
  }
  spec.allow(sandbox::PrivilegedInUserNamespace{
      "dockerd mounts overlays and starts runc for each step; bounded by the job's id slot"});
  spec.allow(sandbox::NewPrivileges{
      "RUN steps may use setuid programs (sudo, su), which belong to the slot's ids"});
  return spec;
}

std::filesystem::path find_daemon(const std::filesystem::path& tools) {
  if (!tools.empty())
    return ::access((tools / "dockerd").c_str(), X_OK) == 0 ? tools / "dockerd"
                                                            : std::filesystem::path{};
  for (const char* path : {"/usr/sbin/dockerd", "/usr/bin/dockerd"})
    if (::access(path, X_OK) == 0) return path;
  return {};
}

Status check_tools(const std::filesystem::path& tools) {
  for (const auto& path : {tools, tools / "dockerd", tools / "docker-proxy"}) {
    struct stat facts {};
    const auto wrong = [&path](const std::string& what, const char* hint) {
      return Error{ErrorKind::misconfigured, path.string() + " " + what, hint, {}};
    };
    if (::stat(path.c_str(), &facts) != 0)
      return wrong("is not there",
                   "`tools` in [dind] names a folder with dockerd and its docker-proxy");
    if ((facts.st_uid != 0 && facts.st_uid != ::geteuid()) || (facts.st_mode & 022U) != 0)
      return wrong("can be changed by others than root", "chown root, chmod go-w");
    if ((facts.st_mode & 05U) != 05U)
      return wrong("cannot be executed in a sandbox, whose ids are not the service user's",
                   "chmod o+rx");
  }
  return {};
}

Result<Program> probe(process::ProcessRunner& runner, const std::filesystem::path& daemon,
                      const std::filesystem::path& tools) {
  if (!tools.empty())
    if (auto usable = check_tools(tools); !usable) return std::move(usable).error();
  process::Command command;
  command.argv = {daemon.string(), "--version"};
  command.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/nonexistent"}};
  command.deadline = std::chrono::seconds{30};
  auto ran = runner.run(command);
  if (!ran || !process::succeeded(ran->ending))
    return Error{ErrorKind::misconfigured,
                 daemon.string() + " does not tell its version" +
                     (ran ? "" : ": " + ran.error().what),
                 "install Debian's docker.io",
                 {}};
  auto program = parse_version(ran->out);
  if (!program) return std::move(program).error().in("asking " + daemon.string());
  program->tools = tools;
  program->has_client = !tools.empty() && ::access((tools / "docker").c_str(), X_OK) == 0;
  if (!program->has_client && ::access(kClient, X_OK) != 0)
    return Error{ErrorKind::misconfigured,
                 std::string{"there is no "} + kClient + ", which tells dockerd what to build",
                 "install docker-cli",
                 {}};
  return program;
}

Result<std::unique_ptr<Workshop>> open_builder(sandbox::Podman& podman, const BuilderParts& parts) {
  if (Status made = make_directory(parts.folder, 0700); !made) return std::move(made).error();
  std::string mark = (parts.folder / parts.name).string() + "-XXXXXX";
  if (const UniqueFd made{::mkostemp(mark.data(), O_CLOEXEC)}; !made)
    return io_error("mkostemp", errno, mark);
  auto workshop = std::make_unique<OpenBuilder>(podman, mark);
  const std::string& name = workshop->name();

  auto spec = builder_spec(parts, name);
  if (Status written = replace_file(spec.seccomp_profile, sandbox::engine_seccomp(), 0600);
      !written)
    return std::move(written).error();
  if (Status volume = podman.create_volume(name, spec.labels); !volume)
    return std::move(volume).error();
  if (parts.network) {
    auto network = parts.closed ? podman.create_closed_network(name, spec.labels)
                                : podman.create_network(name, spec.labels, true);
    if (!network) return std::move(network).error();
  }
  const auto socket = parts.socket_dir / ("dind" + name.substr(name.size() - 7) + ".sock");
  auto listener = sandbox::listen_for_scripts(socket);
  if (!listener) return std::move(listener).error();
  workshop->listens_at(socket);
  spec.script_listener = listener->get();
  if (Status root = sandbox::use_host_tools(podman, spec); !root) return std::move(root).error();
  auto started = podman.start(spec);
  if (!started) return std::move(started).error().in("starting the sandbox of a build");
  if (parts.started) parts.started(*started);
  if (Status given = give_cgroup(podman, *started, parts.ids, mark); !given)
    return std::move(given).error();
  return std::unique_ptr<Workshop>{std::move(workshop)};
}

} // namespace slipway::backends::dockerd
