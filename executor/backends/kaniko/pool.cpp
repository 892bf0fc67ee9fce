// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/pool.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"

#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

namespace slipway::backends::kaniko {

namespace {

using namespace std::chrono_literals;

constexpr const char* kUse = "use.lock";   ///< shared: a build uses the place
constexpr const char* kMake = "make.lock"; ///< while the network is looked for and made
constexpr const char* kInputs = "in-";     ///< a build's folder; more letters follow
constexpr const char* kLabel = "io.slipway.kaniko";
constexpr const char* kBareFolder = "kaniko"; ///< Kaniko moves it to Places::home, and wants it

std::string network_of(const std::string& id) {
  return "slipway-kaniko-" + id;
}

std::string closed_network_of(const std::string& id) {
  return network_of(id) + "-closed";
}

std::string id_for(std::string_view key, std::string_view owner) {
  std::string text{owner};
  text += '\0';
  text += key;
  return oci::Digest::of(text).hex().substr(0, 16);
}

std::map<std::string, std::string> labels_of(const PoolConfig& config, const std::string& id) {
  return {{"io.slipway.role", "kaniko"}, {kLabel, id}, {"io.slipway.owner", config.owner}};
}

/// What has to be undone. Best effort: the reaper does the same once more.
class OpenWorkshopHere final : public Workshop {
public:
  OpenWorkshopHere(sandbox::Podman& podman, UniqueFd lock, std::filesystem::path inputs)
      : podman_{podman}, lock_{std::move(lock)}, inputs_{std::move(inputs)} {}
  ~OpenWorkshopHere() override {
    if (!container_.empty()) (void)podman_.remove({container_}).ok();
    if (!socket_.empty()) (void)::unlink(socket_.c_str());
    std::error_code failed;
    std::filesystem::remove_all(inputs_, failed);
  }
  void runs(std::string container) { container_ = std::move(container); }
  void listens_at(std::filesystem::path socket) {
    socket_ = std::move(socket);
    run_ = [socket = socket_](const engine_api::ScriptRequest& request,
                              const sandbox::ScriptIo& io) {
      return sandbox::run_script(socket, request, io);
    };
  }
  const sandbox::ScriptRunner& run() const override { return run_; }

private:
  sandbox::Podman& podman_;
  UniqueFd lock_;
  std::filesystem::path inputs_;
  std::filesystem::path socket_;
  std::string container_;
  sandbox::ScriptRunner run_;
};

} // namespace

std::string network_for(std::string_view key, std::string_view owner) {
  return network_of(id_for(key, owner));
}

sandbox::SandboxSpec builder_spec(const PoolConfig& config, const std::string& id,
                                  const std::string& build, const std::filesystem::path& inputs,
                                  const Opening& opening, const Places& places) {
  sandbox::SandboxSpec spec;
  spec.name = network_of(id) + "-" + build;
  spec.labels = opening.labels;
  for (const auto& [key, value] : labels_of(config, id))
    spec.labels.insert_or_assign(key, value);
  spec.entrypoint = {places.init()};
  // No user: for one that is named and not in the image Podman 4.3 writes /etc/passwd and
  // /etc/group, which belong to an id that the sandbox lacks. Where the base has none of its own
  // Kaniko cannot read those, ends its look for changes there, and leaves the rest out of the
  // layer without a word. Source: pkg/util/fs_util.go, gowalkDir.
  spec.ids = opening.ids;
  spec.network = opening.closed ? closed_network_of(id) : network_of(id);
  spec.limits = config.limits;
  spec.hostname = "builder";
  spec.volumes = {{config.executor.string(), places.executor(), true},
                  {config.init.string(), places.init(), true},
                  {inputs.string(), places.inputs(), true}};
  if (!opening.proxies.empty()) {
    spec.volumes.push_back({opening.proxies.string(), places.egress(), true});
    spec.env = {{"SLIPWAY_EGRESS", "sandbox"}, {"SLIPWAY_EGRESS_FOLDER", places.egress()}};
  }
  std::error_code failed;
  if (std::filesystem::exists("/etc/ssl/certs", failed))
    spec.allow(sandbox::HostMount{{"/etc/ssl/certs", places.certificates(), true},
                                  "public certificates, for ADD of an https address"});
  spec.allow(sandbox::NewPrivileges{
      "RUN steps may use setuid programs (sudo, su), which belong to the slot's ids"});
  return spec;
}

Result<Program> probe(process::ProcessRunner& runner, const std::filesystem::path& path) {
  process::Command command;
  command.argv = {path.string(), "version"};
  command.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/nonexistent"}};
  command.deadline = 30s;
  auto ran = runner.run(command);
  if (!ran || !process::succeeded(ran->ending))
    return Error{ErrorKind::misconfigured,
                 path.string() + " does not tell its version" +
                     (ran ? "" : ": " + ran.error().what),
                 "`packaging/tools/build kaniko` builds it; name it in [kaniko]",
                 {}};
  auto program = parse_version(ran->out);
  if (!program) return std::move(program).error().in("asking " + path.string());
  return program;
}

WorkshopPool::WorkshopPool(PoolConfig config, sandbox::Podman& podman, const Clock& clock)
    : config_{std::move(config)}, podman_{podman}, clock_{clock}, places_{config_.state_dir,
                                                                          clock} {}

Status WorkshopPool::make_network(const std::string& id, const std::filesystem::path& dir,
                                  bool closed) {
  auto lock = lock_file(dir / kMake, LOCK_EX, 2min);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0)
    return Error{ErrorKind::timed_out, "another build is still making the network", "", {}};
  auto networks = podman_.list_networks(kLabel, id);
  if (!networks) return std::move(networks).error();
  const auto wanted = closed ? closed_network_of(id) : network_of(id);
  if (std::find(networks->begin(), networks->end(), wanted) != networks->end()) return {};
  auto network = closed ? podman_.create_closed_network(wanted, labels_of(config_, id))
                        : podman_.create_network(wanted, labels_of(config_, id), true);
  return network ? Status{} : Status{std::move(network).error()};
}

Result<std::unique_ptr<Workshop>> WorkshopPool::open(std::string_view key, const Opening& opening,
                                                     const FillInputs& fill) {
  const std::string id = id_for(key, config_.owner);
  const auto dir = places_.make(id);
  if (!dir) return Error{dir.error()};
  auto lock = lock_file(*dir / kUse, LOCK_SH, 2min);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0)
    return Error{ErrorKind::timed_out, "the reaper still has the place of this build", "", {}};
  if (Status written = places_.used(id); !written) return std::move(written).error();
  if (Status made = make_network(id, *dir, opening.closed); !made) return std::move(made).error();

  std::string inputs = (*dir / kInputs).string() + "XXXXXX";
  if (::mkdtemp(inputs.data()) == nullptr) return io_error("mkdtemp", errno, inputs);
  const std::string build = inputs.substr(inputs.size() - 6);
  auto workshop = std::make_unique<OpenWorkshopHere>(podman_, *std::move(lock), inputs);
  // The sandbox has other ids; what keeps it from others is the place's folder.
  if (::chmod(inputs.c_str(), 0755) != 0) return io_error("chmod", errno, inputs);
  if (Status filled = fill(inputs); !filled) return std::move(filled).error();

  const auto socket = opening.socket_dir / ("kaniko-" + build + ".sock");
  auto listener = sandbox::listen_for_scripts(socket);
  if (!listener) return std::move(listener).error();
  workshop->listens_at(socket);
  auto spec = builder_spec(config_, id, build, inputs, opening);
  spec.script_listener = listener->get();
  auto image = podman_.bare_image(kBareFolder);
  if (!image) return std::move(image).error();
  spec.image = *std::move(image);
  workshop->runs(spec.name);
  auto started = podman_.start(spec);
  if (!started) return std::move(started).error().in("starting the sandbox of a build");
  if (opening.started) opening.started(*started);
  return std::unique_ptr<Workshop>{std::move(workshop)};
}

Result<bool> WorkshopPool::reap(const sandbox::IdlePlace& one) {
  auto lock = lock_file(one.dir / kUse, LOCK_EX, 0ms);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0) return false;
  auto left = podman_.list(kLabel, one.id);
  if (!left) return std::move(left).error();
  for (const auto& container : *left)
    if (Status ended = podman_.remove({container.name}); !ended) return std::move(ended).error();
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{one.dir, failed})
    if (entry.path().filename().string().starts_with(kInputs))
      std::filesystem::remove_all(entry.path(), failed);
  if (clock_.now() - one.last_used <= config_.max_idle) return false;
  if (Status gone = podman_.remove_networks({network_of(one.id), closed_network_of(one.id)}); !gone)
    return std::move(gone).error().in("removing idle network " + network_of(one.id));
  places_.forget(one.id);
  return true;
}

Result<std::vector<std::string>> WorkshopPool::reap() {
  std::vector<std::string> removed;
  auto all = places_.all();
  if (!all) return std::move(all).error();
  std::optional<Error> failed; // the first; one that cannot be removed does not keep the others
  for (const sandbox::IdlePlace& one : *all) {
    auto gone = reap(one);
    if (!gone && !failed) failed = gone.error();
    if (gone.ok() && *gone) removed.push_back(network_of(one.id));
  }
  if (failed) return *std::move(failed);
  return removed;
}

} // namespace slipway::backends::kaniko
