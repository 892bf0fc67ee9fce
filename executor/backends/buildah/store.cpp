// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/store.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

namespace slipway::backends::buildah {

namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr const char* kLastUsed = "last-used";
constexpr const char* kUnfinished = "unfinished"; ///< file: there while a build uses the store
constexpr const char* kLock = "use.lock";
constexpr const char* kSocketName = "store.sock";
constexpr const char* kProgramTarget = "/tools";

/// flock(2) on a file that is made where missing, asked again until `give_up` says so. An empty
/// descriptor where somebody else kept it.
Result<UniqueFd> lock_file(const std::filesystem::path& file,
                           const std::function<bool()>& give_up) {
  UniqueFd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (fd.get() < 0) return io_error("open", errno, file.string());
  for (;;) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK && errno != EINTR) return io_error("flock", errno, file.string());
    if (give_up()) return UniqueFd{};
    std::this_thread::sleep_for(50ms);
  }
}

Result<UniqueFd> lock_now(const std::filesystem::path& dir) {
  return lock_file(dir / kLock, [] { return true; });
}

bool is_id(const std::string& text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool holds(const std::vector<std::string>& names, const std::string& wanted) {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

std::map<std::string, std::string> labels_of(const StoreConfig& config, const StoreNames& names) {
  return {{"io.slipway.role", "store"},
          {"io.slipway.store", names.id},
          {"io.slipway.owner", config.owner}};
}

/// Under its lock. The lock file stays: a process may be waiting on it. It is empty.
Status erase(sandbox::Podman& podman, const StoreNames& names, const std::filesystem::path& dir) {
  if (Status removed = podman.remove({names.container()}); !removed) return removed;
  if (Status removed = podman.remove_volumes({names.volume()}); !removed) return removed;
  if (Status removed = podman.remove_networks({names.network()}); !removed) return removed;
  (void)::unlink((dir / kUnfinished).c_str());
  (void)::unlink((dir / kLastUsed).c_str());
  return {};
}

/// What has to be undone, in the order of the destructor. Best effort everywhere: the next build on
/// this store does the same once more.
class OpenStore final : public Workshop {
public:
  OpenStore(const StoreConfig& config, sandbox::Podman& podman, const Clock& clock,
            StoreNames names, std::filesystem::path dir, UniqueFd lock, bool cut_short)
      : podman_{podman}, clock_{clock}, names_{std::move(names)}, dir_{std::move(dir)},
        max_bytes_{config.max_bytes}, lock_{std::move(lock)}, cut_short_{cut_short} {}
  ~OpenStore() override {
    (void)podman_.remove({names_.container()}).ok();
    if (!socket_.empty()) (void)::unlink(socket_.c_str());
    if (finished_) (void)::unlink((dir_ / kUnfinished).c_str());
    (void)replace_file(dir_ / kLastUsed, rfc3339(clock_.now())).ok();
    if (erase_) (void)erase(podman_, names_, dir_).ok();
  }

  /// Its programs are run through the init that listens at `socket`.
  void listens_at(std::filesystem::path socket) {
    socket_ = std::move(socket);
    run_ = [socket = socket_](const engine_api::ScriptRequest& request,
                              const sandbox::ScriptIo& io) {
      return sandbox::run_script(socket, request, io);
    };
  }

  const sandbox::ScriptRunner& run() const override { return run_; }
  bool was_cut_short() const override { return cut_short_; }
  void finished(std::uint64_t bytes) override {
    finished_ = true;
    erase_ = erase_ || bytes > max_bytes_;
  }
  void spoil() override { erase_ = true; }

private:
  sandbox::Podman& podman_;
  const Clock& clock_;
  StoreNames names_;
  std::filesystem::path dir_;
  std::uint64_t max_bytes_;
  UniqueFd lock_;
  bool cut_short_;
  std::filesystem::path socket_;
  sandbox::ScriptRunner run_;
  bool finished_ = false;
  bool erase_ = false;
};

} // namespace

StoreNames names_for(std::string_view store_key, std::string_view owner) {
  std::string text{owner};
  text += '\0';
  text += store_key;
  return StoreNames{oci::Digest::of(text).hex().substr(0, 16)};
}

sandbox::SandboxSpec builder_spec(const StoreConfig& config, const StoreNames& names,
                                  const Opening& opening, const Places& places) {
  sandbox::SandboxSpec spec;
  spec.name = names.container();
  spec.labels = opening.labels;
  for (const auto& [key, value] : labels_of(config, names))
    spec.labels.insert_or_assign(key, value);
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  spec.user = "0:0";
  spec.ids = config.ids;
  if (opening.network) spec.network = names.network();
  spec.limits = config.limits;
  spec.hostname = "builder";
  spec.script_listener = opening.script_listener;
  spec.volumes = {
      {names.volume(), places.store, false},
      {opening.bases.string(), places.bases, true},
      {config.init_dir.string(), "/run/slipway/bin", true},
  };
  if (!config.program_dir.empty())
    spec.volumes.push_back({config.program_dir.string(), kProgramTarget, true});
  spec.allow(sandbox::PrivilegedInUserNamespace{
      "Buildah mounts overlays and changes its root for each step; bounded by its id slot"});
  spec.allow(sandbox::NewPrivileges{
      "RUN steps may use setuid programs (sudo, su), which belong to the slot's ids"});
  return spec;
}

Result<Program> probe(process::ProcessRunner& runner, Tool tool,
                      const std::filesystem::path& path) {
  process::Command command;
  command.argv = {path.string(), "--version"};
  command.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/"}};
  command.deadline = 30s;
  auto ran = runner.run(command);
  if (!ran || !process::succeeded(ran->ending))
    return Error{ErrorKind::misconfigured,
                 path.string() + " does not tell its version" +
                     (ran ? "" : ": " + ran.error().what),
                 tool == Tool::podman ? "install podman, or set its path in [build]"
                                      : "install buildah, or set its path in [build]",
                 {}};
  auto program = parse_version(tool, ran->out);
  if (!program) return std::move(program).error().in("asking " + path.string());
  program->path = path.string().starts_with("/usr/")
                      ? path.string()
                      : std::string{kProgramTarget} + "/" + path.filename().string();
  return program;
}

StorePool::StorePool(StoreConfig config, sandbox::Podman& podman, const Clock& clock)
    : config_{std::move(config)}, podman_{podman}, clock_{clock} {}

Result<std::vector<StorePool::Found>> StorePool::stores() const {
  std::vector<Found> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{config_.state_dir, failed}, end; !failed && it != end;
       it.increment(failed)) {
    const std::string id = it->path().filename().string();
    if (!is_id(id)) continue;
    Found one;
    one.names.id = id;
    one.dir = it->path();
    struct stat facts {};
    if (::stat((one.dir / kLastUsed).c_str(), &facts) != 0) continue; // erased
    if (const auto text = read_file(one.dir / kLastUsed, 64);
        !text || !parse_rfc3339(*text, one.last_used))
      one.last_used = WallTime{std::chrono::seconds{facts.st_mtim.tv_sec}};
    found.push_back(std::move(one));
  }
  if (failed && failed != std::errc::no_such_file_or_directory)
    return Error{
        ErrorKind::io, "reading " + config_.state_dir.string() + ": " + failed.message(), "", {}};
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.last_used < b.last_used; });
  return found;
}

/// Removes the stores that were idle longest, until one more may be made.
Status StorePool::make_room(const StoreNames& wanted) {
  auto all = stores();
  if (!all) return std::move(all).error();
  auto others = static_cast<std::size_t>(std::count_if(
      all->begin(), all->end(), [&](const Found& one) { return one.names.id != wanted.id; }));
  for (const Found& one : *all) {
    if (others < config_.most) return {};
    if (one.names.id == wanted.id) continue;
    auto lock = lock_now(one.dir);
    if (!lock) return std::move(lock).error();
    if (lock->get() < 0) continue;
    if (Status erased = erase(podman_, one.names, one.dir); !erased)
      return std::move(erased).error().in("making room for a store");
    --others;
  }
  if (others < config_.most) return {};
  return Error{ErrorKind::timed_out,
               "all " + std::to_string(config_.most) + " stores are in use",
               "raise the number of warm builders, or lower the runner's `concurrent`",
               {}};
}

Status StorePool::prepare(const StoreNames& names) {
  const auto labels = labels_of(config_, names);
  auto networks = podman_.list_networks("io.slipway.store", names.id);
  if (!networks) return std::move(networks).error();
  if (!holds(*networks, names.network()))
    if (Status made = podman_.create_network(names.network(), labels, true); !made) return made;
  auto volumes = podman_.list_volumes("io.slipway.store", names.id);
  if (!volumes) return std::move(volumes).error();
  if (!holds(*volumes, names.volume()))
    if (Status made = podman_.create_volume(names.volume(), labels); !made) return made;
  return {};
}

Result<std::unique_ptr<Workshop>> StorePool::open(std::string_view store_key, Opening opening,
                                                  const sandbox::BuildClock& build,
                                                  const std::function<void()>& waiting) {
  const StoreNames names = names_for(store_key, config_.owner);
  const auto dir = config_.state_dir / names.id;
  if (Status made = make_directory(config_.state_dir, 0700); !made) return std::move(made).error();
  if (Status made = make_directory(dir, 0700); !made) return std::move(made).error();
  const auto until = Steady::now() + build.left();
  bool told = false;
  auto lock = lock_file(dir / kLock, [&] {
    if (!told && waiting) waiting();
    told = true;
    return build.is_cancelled() || Steady::now() >= until;
  });
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0) {
    if (build.is_cancelled()) return sandbox::build_cancelled();
    return Error{ErrorKind::timed_out,
                 "another build of this project had the store " + names.volume() +
                     " for all the time that this build has",
                 "have fewer builds of one project at a time, or let BuildKit build",
                 {}};
  }
  if (Status room = make_room(names); !room) return std::move(room).error();
  // What a killed slipway left, with all that may run in it.
  if (Status removed = podman_.remove({names.container()}); !removed)
    return std::move(removed).error();
  if (Status ready = prepare(names); !ready) return std::move(ready).error();
  const bool cut_short = ::access((dir / kUnfinished).c_str(), F_OK) == 0;
  if (Status written = replace_file(dir / kUnfinished, ""); !written)
    return std::move(written).error();
  if (Status written = replace_file(dir / kLastUsed, rfc3339(clock_.now())); !written)
    return std::move(written).error();

  auto store = std::make_unique<OpenStore>(config_, podman_, clock_, names, dir, *std::move(lock),
                                           cut_short);
  const auto socket = opening.socket_dir / kSocketName;
  auto listener = sandbox::listen_for_scripts(socket);
  if (!listener) return std::move(listener).error();
  store->listens_at(socket);
  opening.script_listener = listener->get();
  auto spec = builder_spec(config_, names, opening);
  if (Status root = sandbox::use_host_tools(podman_, spec); !root) return std::move(root).error();
  auto started = podman_.start(spec);
  if (!started) return std::move(started).error().in("starting the sandbox of a build");
  return std::unique_ptr<Workshop>{std::move(store)};
}

Result<std::vector<std::string>> StorePool::reap() {
  std::vector<std::string> removed;
  auto all = stores();
  if (!all) return std::move(all).error();
  for (const Found& one : *all) {
    if (clock_.now() - one.last_used <= config_.max_idle) continue;
    auto lock = lock_now(one.dir);
    if (!lock) return std::move(lock).error();
    if (lock->get() < 0) continue;
    if (Status erased = erase(podman_, one.names, one.dir); !erased)
      return std::move(erased).error().in("removing idle store " + one.names.volume());
    removed.push_back(one.names.volume());
  }
  return removed;
}

Status StorePool::discard(std::string_view store_key) {
  const StoreNames names = names_for(store_key, config_.owner);
  const auto dir = config_.state_dir / names.id;
  std::error_code failed;
  if (!std::filesystem::exists(dir, failed)) return {};
  auto lock = lock_now(dir);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0)
    return Error{ErrorKind::timed_out, "store " + names.volume() + " is in use", "", {}};
  return erase(podman_, names, dir);
}

} // namespace slipway::backends::buildah
