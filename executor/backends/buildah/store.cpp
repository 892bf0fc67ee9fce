// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/store.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"
#include "executor/sandbox/seccomp.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

namespace slipway::backends::buildah {

namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr const char* kUnfinished = "unfinished"; ///< file: there while a build uses the store
constexpr const char* kLock = "use.lock";         ///< held by the one build that has the store
constexpr const char* kSocketName = "store.sock";
constexpr const char* kSeccompName = "seccomp.json";

bool holds(const std::vector<std::string>& names, const std::string& wanted) {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

std::map<std::string, std::string> labels_of(const StoreConfig& config, const StoreNames& names) {
  return {{"io.slipway.role", "store"},
          {"io.slipway.store", names.id},
          {"io.slipway.owner", config.owner}};
}

Result<UniqueFd> lock_now(const std::filesystem::path& dir) {
  return lock_file(dir / kLock, LOCK_EX, 0ms);
}

/// Under its lock.
Status erase(sandbox::Podman& podman, const sandbox::IdlePlaces& places, const StoreNames& names) {
  if (Status removed = podman.remove({names.container()}); !removed) return removed;
  if (Status removed = podman.remove_volumes({names.volume()}); !removed) return removed;
  if (Status removed = podman.remove_networks({names.network(), names.closed_network()}); !removed)
    return removed;
  (void)::unlink((places.dir(names.id) / kUnfinished).c_str());
  places.forget(names.id);
  return {};
}

/// What has to be undone, in the order of the destructor. Best effort everywhere: the next build on
/// this store does the same once more.
class OpenStore final : public Workshop {
public:
  OpenStore(const StoreConfig& config, sandbox::Podman& podman, const sandbox::IdlePlaces& places,
            StoreNames names, sandbox::IdSlot ids, UniqueFd lock, bool cut_short)
      : podman_{podman}, places_{places}, names_{std::move(names)}, ids_{ids},
        max_bytes_{config.max_bytes}, lock_{std::move(lock)}, cut_short_{cut_short} {}
  ~OpenStore() override {
    (void)podman_.remove({names_.container()}).ok();
    if (!socket_.empty()) (void)::unlink(socket_.c_str());
    if (finished_) (void)::unlink((places_.dir(names_.id) / kUnfinished).c_str());
    (void)places_.used(names_.id).ok();
    if (erase_) (void)erase(podman_, places_, names_).ok();
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
  const sandbox::IdSlot& ids() const override { return ids_; }
  bool was_cut_short() const override { return cut_short_; }
  void finished(std::uint64_t bytes) override {
    finished_ = true;
    erase_ = erase_ || bytes > max_bytes_;
  }
  void spoil() override { erase_ = true; }

private:
  sandbox::Podman& podman_;
  sandbox::IdlePlaces places_; // a build's workshop may outlive the pool that opened it
  StoreNames names_;
  sandbox::IdSlot ids_;
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
  spec.ids = opening.ids;
  if (opening.network) spec.network = opening.closed ? names.closed_network() : names.network();
  spec.limits = config.limits;
  spec.hostname = "builder";
  spec.script_listener = opening.script_listener;
  spec.volumes = {
      {names.volume(), places.store, false},
      {opening.bases.string(), places.bases, true},
      {config.init_dir.string(), "/run/slipway/bin", true},
  };
  if (opening.network && !opening.proxies.empty()) {
    spec.volumes.push_back({opening.proxies.string(), "/run/slipway/egress", true});
    spec.env.emplace_back("SLIPWAY_EGRESS", "sandbox");
  }
  if (!config.program_dir.empty())
    spec.volumes.push_back({config.program_dir.string(), kProgramTarget, true});
  spec.seccomp_profile = (config.state_dir / names.id / kSeccompName).string();
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
  // Newer ones read the user's configuration even for this, and want its folder to be there.
  command.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/"}, {"XDG_CONFIG_HOME", "/etc"}};
  command.deadline = 30s;
  auto ran = runner.run(command);
  if (!ran || !process::succeeded(ran->ending))
    return Error{ErrorKind::misconfigured,
                 path.string() + " does not tell its version" +
                     (ran ? "" : ": " + ran.error().what),
                 tool == Tool::podman ? "install podman, or set its path in [buildah]"
                                      : "install buildah, or set its path in [buildah]",
                 {}};
  auto program = parse_version(tool, ran->out);
  if (!program) return std::move(program).error().in("asking " + path.string());
  program->path = path.string().starts_with("/usr/")
                      ? path.string()
                      : std::string{kProgramTarget} + "/" + path.filename().string();
  return program;
}

StorePool::StorePool(StoreConfig config, sandbox::Podman& podman, const Clock& clock)
    : config_{std::move(config)}, podman_{podman}, clock_{clock}, places_{config_.state_dir,
                                                                          clock} {}

/// Erases it unless a build uses it.
Result<bool> StorePool::erase_unused(const sandbox::IdlePlace& place) {
  auto lock = lock_now(place.dir);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0) return false;
  if (Status erased = erase(podman_, places_, {place.id}); !erased)
    return std::move(erased).error();
  return true;
}

/// Removes the stores that were idle longest, until one more may be made.
Status StorePool::make_room(const StoreNames& wanted, const std::function<void()>& none_is_free) {
  auto room = places_.make_room(wanted.id, config_.most, [this](const sandbox::IdlePlace& place) {
    return erase_unused(place);
  });
  if (!room) return std::move(room).error().in("making room for a store");
  if (*room) return {};
  if (none_is_free) none_is_free();
  return Error{ErrorKind::timed_out,
               "all " + std::to_string(config_.most) + " stores are in use",
               "raise `stores` in [buildah], or lower the runner's `concurrent`",
               {}};
}

Status StorePool::prepare(const StoreNames& names, bool closed) {
  const auto labels = labels_of(config_, names);
  auto networks = podman_.list_networks("io.slipway.store", names.id);
  if (!networks) return std::move(networks).error();
  if (closed && !holds(*networks, names.closed_network()))
    if (auto made = podman_.create_closed_network(names.closed_network(), labels); !made)
      return std::move(made).error();
  if (!closed && !holds(*networks, names.network()))
    if (auto made = podman_.create_network(names.network(), labels, true); !made)
      return std::move(made).error();
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
  const auto made = places_.make(names.id);
  if (!made) return Error{made.error()};
  const auto& dir = *made;
  const auto until = Steady::now() + build.left();
  bool told = false;
  auto lock = lock_file(dir / kLock, LOCK_EX, [&] {
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
  if (Status room = make_room(names, opening.none_is_free); !room) return std::move(room).error();
  // What a killed slipway left, with all that may run in it.
  if (Status removed = podman_.remove({names.container()}); !removed)
    return std::move(removed).error();
  if (places_.is_spoilt(names.id) || places_.is_misplaced(names.id, config_.slots.stores))
    if (Status erased = erase(podman_, places_, names); !erased) return std::move(erased).error();
  if (Status ready = prepare(names, opening.closed); !ready) return std::move(ready).error();
  const bool cut_short = ::access((dir / kUnfinished).c_str(), F_OK) == 0;
  if (Status written = replace_file(dir / kUnfinished, ""); !written)
    return std::move(written).error();
  auto slot = places_.take_slot(names.id, config_.slots.stores);
  if (!slot) return std::move(slot).error();
  opening.ids = config_.slots.slot(*slot);

  auto store = std::make_unique<OpenStore>(config_, podman_, places_, names, opening.ids,
                                           *std::move(lock), cut_short);
  const auto socket = opening.socket_dir / kSocketName;
  auto listener = sandbox::listen_for_scripts(socket);
  if (!listener) return std::move(listener).error();
  store->listens_at(socket);
  opening.script_listener = listener->get();
  auto spec = builder_spec(config_, names, opening);
  if (Status written = sandbox::write_builder_seccomp(spec, sandbox::StepsBy::changed_root);
      !written)
    return std::move(written).error();
  if (Status root = sandbox::use_host_tools(podman_, spec); !root) return std::move(root).error();
  auto started = podman_.start(spec);
  if (!started) return std::move(started).error().in("starting the sandbox of a build");
  if (opening.started) opening.started(*started);
  return std::unique_ptr<Workshop>{std::move(store)};
}

Result<std::vector<std::string>> StorePool::reap() {
  std::vector<std::string> removed;
  auto all = places_.all();
  if (!all) return std::move(all).error();
  std::optional<Error> failed; // the first; one that cannot be removed does not keep the others
  for (const sandbox::IdlePlace& one : *all) {
    const StoreNames names{one.id};
    const bool due = clock_.now() - one.last_used > config_.max_idle || places_.is_spoilt(one.id) ||
                     places_.has_anothers_slot(one.id, config_.slots.stores);
    if (due) {
      auto erased = erase_unused(one);
      if (!erased && !failed)
        failed = Error{erased.error()}.in("removing idle store " + names.volume());
      if (erased.ok() && *erased) removed.push_back(names.volume());
      continue;
    }
    if (::access((one.dir / kUnfinished).c_str(), F_OK) != 0) continue;
    auto lock = lock_now(one.dir);
    if (lock && lock->get() < 0) continue;
    Status ended;
    if (!lock)
      ended = std::move(lock).error();
    else
      ended = podman_.remove({names.container()});
    if (!ended && !failed) failed = std::move(ended).error();
  }
  if (failed) return *std::move(failed);
  return removed;
}

Status StorePool::spoil(std::string_view store_key) {
  return places_.spoil(names_for(store_key, config_.owner).id);
}

Status StorePool::discard(std::string_view store_key) {
  const StoreNames names = names_for(store_key, config_.owner);
  const auto dir = places_.dir(names.id);
  std::error_code failed;
  if (!std::filesystem::exists(dir, failed)) return {};
  auto erased = erase_unused({names.id, dir, {}});
  if (!erased) return std::move(erased).error();
  if (!*erased)
    return Error{ErrorKind::timed_out, "store " + names.volume() + " is in use", "", {}};
  return {};
}

} // namespace slipway::backends::buildah
