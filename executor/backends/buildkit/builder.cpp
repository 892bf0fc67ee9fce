// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/builder.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/digest.hpp"
#include "executor/sandbox/seccomp.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace slipway::backends::buildkit {

namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr const char* kSocketDir = "/run/slipway-builder";
constexpr const char* kSocketName = "buildkitd.sock";
constexpr const char* kSeccompName = "seccomp.json";
constexpr const char* kDaemonMark = "daemon"; ///< file: fingerprint of the daemon that was started
constexpr const char* kBuilds = "builds"; ///< folder: a file for each build that is not finished

bool has_unfinished_builds(const std::filesystem::path& dir) {
  std::error_code failed;
  return std::filesystem::directory_iterator{dir / kBuilds, failed} !=
         std::filesystem::directory_iterator{};
}

/// Connects through the folder's descriptor: the path may be longer than a socket address.
UniqueFd connect_to(const std::filesystem::path& socket) {
  const UniqueFd dir{::open(socket.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (dir.get() < 0) return UniqueFd{};
  const std::string path =
      "/proc/self/fd/" + std::to_string(dir.get()) + "/" + socket.filename().string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return UniqueFd{};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (fd.get() < 0) return UniqueFd{};
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return UniqueFd{};
  return fd;
}

/// Who listens there: of a warm daemon nobody else has to be asked. 0: nobody. Source: unix(7).
std::int64_t listener_of(const std::filesystem::path& socket) {
  const UniqueFd fd = connect_to(socket);
  ucred peer{};
  socklen_t size = sizeof peer;
  if (fd.get() < 0 || ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.pid;
}

} // namespace

bool answers(const std::filesystem::path& socket, std::chrono::milliseconds deadline) {
  const UniqueFd fd = connect_to(socket);
  if (fd.get() < 0) return false;
  // The client's preface and an empty SETTINGS frame; a server has to send its own SETTINGS first.
  constexpr char kHello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
  constexpr std::size_t kHelloSize = sizeof kHello - 1;
  if (::send(fd.get(), kHello, kHelloSize, MSG_NOSIGNAL) != static_cast<ssize_t>(kHelloSize))
    return false;
  char header[9];
  std::size_t got = 0;
  const auto end = Steady::now() + deadline;
  while (got < sizeof header) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - Steady::now()).count();
    if (left <= 0) return false;
    pollfd waiting{fd.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(left)) <= 0) {
      if (errno == EINTR) continue;
      return false;
    }
    const ssize_t read = ::read(fd.get(), header + got, sizeof header - got);
    if (read <= 0) return false;
    got += static_cast<std::size_t>(read);
  }
  constexpr char kSettings = 4;
  return header[3] == kSettings;
}

Result<std::string> buildkit_version(process::ProcessRunner& runner,
                                     const std::filesystem::path& tools_dir) {
  const std::string program = (tools_dir / "bin/buildctl").string();
  process::Command command;
  command.argv = {program, "--version"};
  command.deadline = 10s;
  auto ran = runner.run(command);
  // "buildctl github.com/moby/buildkit v0.34.2 REVISION"
  constexpr std::string_view kName = "github.com/moby/buildkit ";
  const std::size_t at = ran ? ran->out.find(kName) : std::string::npos;
  if (!ran || !process::succeeded(ran->ending) || at == std::string::npos) {
    return Error{ErrorKind::misconfigured,
                 program + " is not BuildKit's buildctl" + (ran ? "" : ": " + ran.error().what),
                 "install the tools with packaging/tools, or set their folder in the configuration",
                 {}};
  }
  const std::string rest = ran->out.substr(at + kName.size());
  return rest.substr(0, rest.find_first_of(" \n"));
}

BuilderNames names_for(std::string_view builder_key, std::string_view owner) {
  std::string text{owner};
  text += '\0';
  text += builder_key;
  return BuilderNames{oci::Digest::of(text).hex().substr(0, 16)};
}

NetworkKind network_kind(const BuilderConfig& config) {
  if (!config.closed) return NetworkKind::open;
  return config.init_dir.empty() ? NetworkKind::closed : NetworkKind::with_proxy;
}

BuilderNames names_for(std::string_view builder_key, std::string_view owner, NetworkKind network) {
  std::string key{builder_key};
  key += '\0'; // is in no key
  switch (network) {
  case NetworkKind::open:
    return names_for(builder_key, owner);
  case NetworkKind::closed:
    return names_for(key + "closed", owner);
  case NetworkKind::with_proxy:
    return names_for(key + "proxy", owner);
  }
  return names_for(builder_key, owner); // unreachable: every enumerator returns above
}

std::string buildkitd_toml(const BuilderConfig& config) {
  std::string text;
  text += "root = \"/var/lib/buildkit\"\n";
  text += "insecure-entitlements = []\n\n";
  text += "[log]\n  format = \"text\"\n\n";
  text +=
      "[grpc]\n  address = [\"unix://" + std::string{kSocketDir} + "/" + kSocketName + "\"]\n\n";
  // No `# syntax=` image is ever run: the built-in Dockerfile frontend is the only one.
  text += "[frontend.\"dockerfile.v0\"]\n  enabled = true\n[frontend.\"gateway.v0\"]\n  enabled = "
          "false\n\n";
  text += "[cdi]\n  disabled = true\n\n";
  text += "[history]\n  maxAge = 3600\n  maxEntries = 20\n\n";
  text += "[worker.containerd]\n  enabled = false\n\n";
  text += "[worker.oci]\n  enabled = true\n  snapshotter = \"overlayfs\"\n";
  text += "  binary = \"" + config.runc.string() + "\"\n";
  // RUN steps have a PID namespace of their own: they cannot see or signal buildkitd.
  text += "  noProcessSandbox = false\n";
  text += "  gc = true\n";
  if (config.max_parallel_steps > 0)
    text += "  max-parallelism = " + std::to_string(config.max_parallel_steps) + "\n";
  // A copy of a context serves one build, and what is built from it does not need it.
  text += "\n[[worker.oci.gcpolicy]]\n  filters = [\"type==source.local\"]\n"
          "  keepDuration = \"1m\"\n";
  // Then as BuildKit does by itself: first what nobody used for long, internal things last.
  const std::string space = "  reservedSpace = " + std::to_string(config.max_cache_bytes / 4) +
                            "\n  maxUsedSpace = " + std::to_string(config.max_cache_bytes) + "\n";
  for (const char* which : {"  keepDuration = \"1440h\"\n", "", "  all = true\n"})
    text += "\n[[worker.oci.gcpolicy]]\n" + std::string{which} + space;
  return text;
}

sandbox::SandboxSpec builder_spec(const BuilderConfig& config, const BuilderNames& names,
                                  const sandbox::IdSlot& ids) {
  sandbox::SandboxSpec spec;
  spec.name = names.container();
  spec.labels = {{"io.slipway.role", "builder"},
                 {"io.slipway.builder", names.id},
                 {"io.slipway.owner", config.owner}};
  spec.entrypoint = {"/tools/bin/buildkitd", "--config", "/etc/buildkit/buildkitd.toml"};
  spec.user = "0:0";
  spec.env = {{"HOME", "/root"}, {"PATH", "/usr/bin:/bin:/usr/sbin:/sbin"}};
  spec.ids = ids;
  spec.network = config.closed ? names.closed_network() : names.network();
  spec.limits = config.limits;
  spec.hostname = "builder";
  const std::string dir = (config.state_dir / names.id).string();
  spec.volumes = {
      {names.volume(), "/var/lib/buildkit", false},
      {dir + "/socket", kSocketDir, false},
      {dir + "/config", "/etc/buildkit", true},
      {config.tools_dir.string(), "/tools", true},
  };
  if (config.closed && !config.init_dir.empty()) {
    spec.entrypoint.insert(spec.entrypoint.begin(),
                           {"/run/slipway/bin/slipway-init", "with-proxy"});
    spec.volumes.push_back({config.init_dir.string(), "/run/slipway/bin", true});
    spec.volumes.push_back({dir + "/egress", "/run/slipway/egress", true});
    // Of ADD, which buildkitd does itself, for whichever job. Steps do not inherit it.
    for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY"})
      spec.env.emplace_back(name, "http://127.0.0.1:3128");
  }
  spec.seccomp_profile = dir + "/" + kSeccompName;
  spec.allow(sandbox::PrivilegedInUserNamespace{
      "buildkitd mounts overlays and starts runc; bounded by its id slot"});
  spec.allow(sandbox::NewPrivileges{
      "RUN steps may use setuid programs (sudo, su), which belong to the slot's ids"});
  return spec;
}

BuilderPool::BuilderPool(BuilderConfig config, sandbox::Podman& podman, const Clock& clock)
    : config_{std::move(config)}, podman_{podman}, clock_{clock}, places_{config_.state_dir,
                                                                          clock} {}

/// Everything that a running daemon depends on: another slipway version or configuration does not
/// go on with it.
std::string BuilderPool::fingerprint(const BuilderNames& names, const sandbox::IdSlot& ids) const {
  struct stat facts {};
  const std::string binary = (config_.tools_dir / "bin/buildkitd").string();
  (void)!::stat(binary.c_str(), &facts);
  const std::string text =
      "1\n" + buildkitd_toml(config_) + sandbox::builder_seccomp(sandbox::StepsBy::runc) +
      std::filesystem::weakly_canonical(binary).string() + "\n" + std::to_string(facts.st_size) +
      "." + std::to_string(facts.st_mtim.tv_sec) + "\n" + std::to_string(ids.first) + "+" +
      std::to_string(ids.size) + "\n" + std::to_string(config_.limits.pids) + " " +
      std::to_string(config_.limits.memory_bytes) + " " + std::to_string(config_.limits.cpus) +
      "\n" + (config_.closed ? "closed " : "open ") + config_.init_dir.string() + "\n" + names.id;
  return oci::Digest::of(text).hex();
}

Status BuilderPool::start(const BuilderNames& names, const sandbox::IdSlot& ids,
                          const std::filesystem::path& dir) {
  if (Status made = make_directory(dir / "config", 0755); !made) return made;
  if (::chmod((dir / "config").c_str(), 0755) != 0)
    return io_error("chmod", errno, (dir / "config").string());
  if (Status written = replace_file(dir / "config/buildkitd.toml", buildkitd_toml(config_), 0644);
      !written)
    return written;

  const std::map<std::string, std::string> labels{{"io.slipway.role", "builder"},
                                                  {"io.slipway.builder", names.id},
                                                  {"io.slipway.owner", config_.owner}};
  auto networks = podman_.list_networks("io.slipway.builder", names.id);
  if (!networks) return std::move(networks).error();
  const auto wanted = config_.closed ? names.closed_network() : names.network();
  if (std::find(networks->begin(), networks->end(), wanted) == networks->end()) {
    auto made = config_.closed ? podman_.create_closed_network(wanted, labels)
                               : podman_.create_network(wanted, labels, true);
    if (!made) return std::move(made).error();
  }
  auto volumes = podman_.list_volumes("io.slipway.builder", names.id);
  if (!volumes) return std::move(volumes).error();
  if (volumes->empty())
    if (Status made = podman_.create_volume(names.volume(), labels); !made) return made;

  auto spec = builder_spec(config_, names, ids);
  if (Status written = sandbox::write_builder_seccomp(spec, sandbox::StepsBy::runc); !written)
    return written;
  if (Status root = sandbox::use_host_tools(podman_, spec); !root) return root;
  // Without a fingerprint it is nobody's to use, and reap_idle() finds it also where this process
  // dies before it is ready.
  if (Status marked = replace_file(dir / kDaemonMark, ""); !marked) return marked;
  auto started = podman_.start(spec);
  if (!started) return std::move(started).error().in("starting builder " + names.container());

  // One entry into the user namespace: waits for the socket, opens it for clients of other id
  // slots, and gives buildkitd its own cgroup, below which runc makes one for each step.
  const std::string socket = (dir / "socket" / kSocketName).string();
  const std::string owner = std::to_string(ids.first);
  const auto tries = std::to_string(std::max<std::int64_t>(config_.start_deadline.count() / 20, 1));
  auto opened = podman_.unshare({"/bin/sh", "-c",
                                 R"(group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")
for file in "$group" "$group/cgroup.procs" "$group/cgroup.threads" "$group/cgroup.subtree_control"; do
  case $group in *libpod*|*slipway*|*container*) chown "$2:$2" "$file" 2>/dev/null ;; esac
done
tries=$4
while [ ! -S "$3" ]; do
  tries=$((tries - 1)); [ "$tries" -gt 0 ] && [ -d "/proc/$1" ] || { echo "it made none" >&2; exit 9; }
  sleep 0.02
done
exec chmod 0666 "$3")",
                                 "sh", std::to_string(started->host_pid), owner, socket, tries});
  const bool is_open = opened && process::succeeded(opened->ending);
  // One that has just begun may be busy with that, on a loaded machine for more seconds than a
  // warm one gets.
  if (!is_open || !answers(socket, std::max(config_.start_deadline, config_.probe_deadline))) {
    const auto why = why_silent(names.container(), opened);
    (void)stop(names, dir); // best effort: the next acquire tries again
    return Error{ErrorKind::unavailable,
                 "builder " + names.container() + " does not answer: " + why,
                 "see that the service user has subordinate ids, a delegated cgroup, and that runc "
                 "is installed",
                 {}};
  }
  return replace_file(dir / kDaemonMark, fingerprint(names, ids));
}

// `opened`: what came of waiting for its socket.
std::string BuilderPool::why_silent(const std::string& container,
                                    const Result<process::Output>& opened) {
  const auto trimmed = [](std::string text) {
    while (!text.empty() && text.back() == '\n')
      text.pop_back();
    return text;
  };
  auto facts = podman_.inspect(container);
  std::string why = "its socket is open, and nothing comes from it";
  if (!facts)
    why = facts.error().text();
  else if (!facts->running)
    why = "it has ended with " + std::to_string(facts->exit_code);
  else if (!opened)
    why = opened.error().text();
  else if (!process::succeeded(opened->ending))
    why = "waiting for its socket ended with " + process::describe(opened->ending) +
          (opened->err.empty() ? "" : " (" + trimmed(opened->err) + ")");
  auto words = podman_.logs(container, 2000);
  if (words && !words->empty()) why += "; it said: " + trimmed(*words);
  return why;
}

Status BuilderPool::stop(const BuilderNames& names, const std::filesystem::path& dir) {
  if (Status removed = podman_.remove({names.container()}); !removed) return removed;
  (void)::unlink((dir / "socket" / kSocketName).c_str()); // 0777 folder of ours: its owner may
  (void)::unlink((dir / kDaemonMark).c_str());
  std::error_code ignored; // what stays ends the next daemon once more
  std::filesystem::remove_all(dir / kBuilds, ignored);
  return {};
}

Status BuilderPool::erase(const BuilderNames& names, const std::filesystem::path& dir) {
  if (Status stopped = stop(names, dir); !stopped) return stopped;
  if (Status removed = podman_.remove_volumes({names.volume()}); !removed) return removed;
  if (Status removed = podman_.remove_networks({names.network(), names.closed_network()}); !removed)
    return removed;
  places_.forget(names.id);
  return {};
}

Result<std::optional<BuilderPool::Locks>>
BuilderPool::lock_unused(const std::filesystem::path& dir) {
  auto start = lock_file(dir / "start.lock", LOCK_EX, 0ms);
  if (!start) return std::move(start).error();
  if (!*start) return std::optional<Locks>{};
  auto use = lock_file(dir / "use.lock", LOCK_EX, 0ms);
  if (!use) return std::move(use).error();
  if (!*use) return std::optional<Locks>{};
  return std::optional{Locks{*std::move(start), *std::move(use)}};
}

/// Erases it unless somebody starts or uses it.
Result<bool> BuilderPool::erase_unused(const sandbox::IdlePlace& place) {
  auto locks = lock_unused(place.dir);
  if (!locks) return std::move(locks).error();
  if (!*locks) return false;
  if (Status erased = erase({place.id}, place.dir); !erased) return std::move(erased).error();
  return true;
}

/// Removes the builders that were idle longest, until one more may start.
Status BuilderPool::make_room(const BuilderNames& wanted,
                              const std::function<void()>& none_is_free) {
  auto room = places_.make_room(wanted.id, config_.most, [this](const sandbox::IdlePlace& place) {
    return erase_unused(place);
  });
  if (!room) return std::move(room).error().in("making room for a builder");
  if (*room) return {};
  if (none_is_free) none_is_free();
  return Error{ErrorKind::timed_out,
               "all " + std::to_string(config_.most) + " builders are in use",
               "raise `warm_builders` in [buildkit], or lower the runner's `concurrent`",
               {}};
}

Result<std::filesystem::path> BuilderPool::socket_dir(const BuilderConfig& config,
                                                      std::string_view builder_key) {
  auto dir = config.state_dir / names_for(builder_key, config.owner, network_kind(config)).id;
  if (Status made = make_directory(config.state_dir, 0700); !made) return std::move(made).error();
  if (Status made = make_directory(dir, 0700); !made) return std::move(made).error();
  dir /= "socket";
  if (Status made = make_directory(dir, 0777); !made) return std::move(made).error();
  // buildkitd's root is a subordinate id: it has to make its socket here. The folder above is
  // private.
  if (::chmod(dir.c_str(), 0777) != 0) return io_error("chmod", errno, dir.string());
  return dir;
}

Result<std::filesystem::path> BuilderPool::egress_dir(const BuilderConfig& config,
                                                      std::string_view builder_key) {
  auto sockets = socket_dir(config, builder_key);
  if (!sockets) return std::move(sockets).error();
  auto dir = sockets->parent_path() / "egress";
  if (Status made = make_directory(dir, 0755); !made) return std::move(made).error();
  if (::chmod(dir.c_str(), 0755) != 0) return io_error("chmod", errno, dir.string());
  return dir;
}

Result<Builder> BuilderPool::acquire(std::string_view builder_key,
                                     const std::function<void()>& none_is_free) {
  const BuilderNames names = names_for(builder_key, config_.owner, network_kind(config_));
  auto sockets = socket_dir(config_, builder_key);
  if (!sockets) return std::move(sockets).error();
  const std::filesystem::path dir = sockets->parent_path();
  if (auto egress = egress_dir(config_, builder_key); !egress) return std::move(egress).error();

  auto starting = lock_file(dir / "start.lock", LOCK_EX, config_.start_deadline * 2);
  if (!starting) return std::move(starting).error();
  if (!*starting)
    return Error{ErrorKind::timed_out,
                 "builder " + names.container() + " is being started or removed for too long",
                 "",
                 {}};
  // A reaper takes `use` only while it holds `start`: nobody can be in the way now but other users.
  auto use = lock_file(dir / "use.lock", LOCK_SH, 5s);
  if (!use) return std::move(use).error();
  if (!*use)
    return Error{ErrorKind::timed_out, "builder " + names.container() + " is locked", "", {}};

  const auto mark = read_file(dir / kDaemonMark, 256);
  bool warm = mark && answers(dir / "socket" / kSocketName, config_.probe_deadline);
  const bool is_spoilt = places_.is_spoilt(names.id);
  if (is_spoilt || places_.is_misplaced(names.id, config_.slots.builders)) {
    const bool alone = ::flock(use->get(), LOCK_EX | LOCK_NB) == 0;
    if (!alone && is_spoilt) {
      // What others build on it now they began before; nobody else begins on this cache.
      if (none_is_free) none_is_free();
      return Error{ErrorKind::timed_out,
                   "builder " + names.container() +
                       " is in use, and its cache, which holds a secret, is to be erased before "
                       "others use it",
                   "",
                   {}};
    }
    if (alone) {
      if (Status erased = erase(names, dir); !erased) return std::move(erased).error();
      warm = false;
    }
    if (::flock(use->get(), LOCK_SH) != 0)
      return io_error("flock", errno, (dir / "use.lock").string());
  }
  const bool is_running = warm;
  if (!is_running)
    if (Status room = make_room(names, none_is_free); !room) return std::move(room).error();
  auto slot = places_.take_slot(names.id, config_.slots.builders);
  if (!slot) return std::move(slot).error();
  const auto ids = config_.slots.slot(*slot);
  if (warm && (*mark != fingerprint(names, ids) || has_unfinished_builds(dir))) {
    // Another version or configuration, or steps that nobody waits for may run on it: it is
    // replaced, but not under the builds of others.
    warm = ::flock(use->get(), LOCK_EX | LOCK_NB) != 0;
    if (::flock(use->get(), LOCK_SH) != 0)
      return io_error("flock", errno, (dir / "use.lock").string());
  }
  if (!warm) {
    if (is_running)
      if (Status room = make_room(names, none_is_free); !room) return std::move(room).error();
    // Whoever still builds on a daemon that does not answer loses it here: that build hangs anyway.
    if (Status stopped = stop(names, dir); !stopped) return std::move(stopped).error();
    if (Status started = start(names, ids, dir); !started) return std::move(started).error();
  }
  sandbox::ContainerFacts facts;
  facts.name = names.container();
  facts.host_pid = listener_of(dir / "socket" / kSocketName);
  if (auto report = podman_.read_back_limits(facts, config_.limits))
    facts.limits = *std::move(report); // else it has just ended, as the build will notice
  return Builder{names, ids, std::move(facts), *std::move(sockets), *std::move(use), !warm};
}

Result<BuildMark> Builder::begin_build() const {
  const auto dir = socket_dir_.parent_path() / kBuilds;
  if (Status made = make_directory(dir, 0700); !made) return std::move(made).error();
  std::string file = (dir / "XXXXXX").string();
  const UniqueFd fd{::mkostemp(file.data(), O_CLOEXEC)};
  if (fd.get() < 0) return io_error("create", errno, file);
  return BuildMark{std::move(file)};
}

void BuildMark::finished() const noexcept {
  (void)::unlink(file_.c_str());
}

Result<BuilderPool::Reaped> BuilderPool::reap_idle() {
  Reaped reaped;
  auto all = places_.all();
  if (!all) return std::move(all).error();
  std::optional<Error> failed; // the first; one that cannot be removed does not keep the others
  for (const sandbox::IdlePlace& one : *all) {
    const BuilderNames names{one.id};
    const auto idle = clock_.now() - one.last_used;
    const bool cache_too = idle > config_.max_cache_age || places_.is_spoilt(one.id) ||
                           places_.has_anothers_slot(one.id, config_.slots.builders);
    const bool has_daemon = ::access((one.dir / kDaemonMark).c_str(), F_OK) == 0;
    const bool daemon_too =
        has_daemon && (idle > config_.max_idle || has_unfinished_builds(one.dir));
    if (!cache_too && !daemon_too) continue;
    auto locks = lock_unused(one.dir);
    if (locks && !*locks) continue;
    Status done;
    if (!locks)
      done = std::move(locks).error();
    else
      done = cache_too ? erase(names, one.dir) : stop(names, one.dir);
    if (done)
      (cache_too ? reaped.removed : reaped.stopped).push_back(names.container());
    else if (!failed)
      failed = std::move(done).error().in("removing idle builder " + names.container());
  }
  if (failed) return *std::move(failed);
  return reaped;
}

Status BuilderPool::spoil(std::string_view builder_key) {
  for (const auto network : kNetworkKinds)
    if (Status spoilt = places_.spoil(names_for(builder_key, config_.owner, network).id); !spoilt)
      return spoilt;
  return {};
}

Status BuilderPool::discard(std::string_view builder_key) {
  const BuilderNames names = names_for(builder_key, config_.owner, network_kind(config_));
  const std::filesystem::path dir = places_.dir(names.id);
  if (!std::filesystem::exists(dir)) return {};
  auto starting = lock_file(dir / "start.lock", LOCK_EX, config_.start_deadline * 2);
  if (!starting) return std::move(starting).error();
  if (!*starting)
    return Error{ErrorKind::timed_out,
                 "builder " + names.container() + " is being started for too long",
                 "",
                 {}};
  return erase(names, dir);
}

} // namespace slipway::backends::buildkit
