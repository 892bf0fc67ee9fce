// SPDX-License-Identifier: Apache-2.0
#include "stages/image/build_place.hpp"

#include "executor/backends/buildah/backend.hpp"
#include "executor/backends/buildah/output.hpp"
#include "executor/backends/buildah/store.hpp"
#include "executor/backends/buildkit/output.hpp"
#include "executor/backends/dockerd/backend.hpp"
#include "executor/backends/dockerd/builder.hpp"
#include "executor/backends/dockerd/output.hpp"
#include "executor/backends/kaniko/backend.hpp"
#include "executor/backends/kaniko/output.hpp"
#include "executor/backends/kaniko/pool.hpp"
#include "executor/base/file.hpp"
#include "executor/broker/folder_receiver.hpp"
#include "executor/gate/scan_owner.hpp"
#include "executor/leaks/searched_blobs.hpp"
#include "executor/oci/digest.hpp"
#include "executor/sandbox/script_client.hpp"
#include "stages/image/leak_scanner.hpp"
#include "stages/image/reports.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <random>
#include <utility>

namespace slipway::image {
namespace {

constexpr std::size_t kMaxDockerfileBytes = 1UL << 20;
constexpr std::chrono::seconds kSmallTask{60};
constexpr std::chrono::minutes kUnpack{30};

/// BYTES as a stream.
sandbox::ByteSource one_piece(std::string bytes) {
  return [bytes = std::move(bytes),
          at = std::size_t{0}](char* buffer, std::size_t capacity) mutable -> Result<std::size_t> {
    const auto count = bytes.copy(buffer, capacity, at);
    at += count;
    return count;
  };
}

backends::buildkit::BuilderConfig builder_config(const Tools& tools) {
  const auto& section = tools.config.buildkit;
  backends::buildkit::BuilderConfig config;
  config.state_dir = tools.config.slipway.state_dir / "builders";
  config.tools_dir = section.buildkitd.parent_path().parent_path();
  config.runc = section.runc;
  config.owner = tools.owner;
  config.slots = tools.slots;
  config.limits = step_limits(tools);
  config.max_cache_bytes = section.disk_bytes;
  config.most = static_cast<std::size_t>(section.warm_builders);
  config.max_idle = section.idle;
  return config;
}

backends::buildah::StoreConfig store_config(const Tools& tools) {
  const auto& section = tools.config.buildah;
  backends::buildah::StoreConfig config;
  config.state_dir = tools.config.slipway.state_dir / "stores";
  config.init_dir = tools.config.programs.init.parent_path();
  config.owner = tools.owner;
  config.slots = tools.slots;
  config.limits = step_limits(tools);
  config.max_bytes = section.disk_bytes;
  config.most = static_cast<std::size_t>(section.stores);
  config.max_idle = section.idle;
  return config;
}

backends::kaniko::PoolConfig kaniko_config(const Tools& tools) {
  backends::kaniko::PoolConfig config;
  config.state_dir = tools.config.slipway.state_dir / "kaniko";
  config.executor = tools.config.kaniko.executor;
  config.init = tools.config.programs.init;
  config.owner = tools.owner;
  config.limits = step_limits(tools);
  return config;
}

constexpr std::size_t kLongestMagic = 6;

/// The option with which tar reads an archive that begins so; null: it is none of those that Docker
/// takes, or not packed.
const char* packer_of(std::string_view begin) {
  using namespace std::literals;
  if (begin.starts_with("\x1f\x8b"sv)) return "--gzip";
  if (begin.starts_with("BZh"sv)) return "--bzip2";
  if (begin.starts_with("\xfd"
                        "7zXZ\0"sv))
    return "--xz";
  if (begin.starts_with("\x28\xb5\x2f\xfd"sv)) return "--zstd";
  return nullptr;
}

/// Has one of them ONBUILD triggers? Those run as part of a FROM. True where that cannot be told.
bool have_triggers(const std::vector<backends::BaseImage>& bases, const oci::Layout& layout) {
  return std::any_of(bases.begin(), bases.end(), [&](const backends::BaseImage& base) {
    const auto tree = oci::read_tree(layout, base.digest);
    return !tree || std::any_of(tree->images.begin(), tree->images.end(), [](const auto& image) {
      return image.config && !image.config->on_build.empty();
    });
  });
}

constexpr std::chrono::hours kBasesIdle{24 * 14};
constexpr std::chrono::hours kScratchAge{24};
constexpr std::chrono::hours kReportsAge{24 * 90};
constexpr std::uintmax_t kReportsOfProject = 256UL << 20;
constexpr std::chrono::hours kLeakMarksAge{24 * 90};

std::filesystem::file_time_type::duration age_of(const std::filesystem::path& file) {
  std::error_code failed;
  const auto written = std::filesystem::last_write_time(file, failed);
  return failed ? std::filesystem::file_time_type::duration{0}
                : std::filesystem::file_time_type::clock::now() - written;
}

// What a scan that was killed left behind, and verdicts that no longer count.
Status collect_scans(const Tools& tools) {
  Status removed;
  const auto gate = tools.config.slipway.state_dir / "gate";
  std::error_code failed;
  std::vector<std::filesystem::path> old;
  bool any_scan = false; // each has its scratch; Podman is not asked where there is none
  for (const auto& dir : {gate, gate / "verdicts", gate / "layers"}) {
    for (const auto& entry : std::filesystem::directory_iterator{dir, failed}) {
      const auto name = entry.path().filename().string();
      const bool scan = name.starts_with(gate::kScratchBegin);
      any_scan = any_scan || scan;
      const bool scratch = scan || dir != gate;
      if (gate::is_process_gone(gate::scratch_owner(name)) ||
          (scratch && age_of(entry.path()) > kScratchAge))
        old.push_back(entry.path());
    }
  }
  // The folders say that there is something to remove: they go after it.
  if (any_scan) removed = gate::SandboxedTrivy::remove_orphans(tools.podman, tools.owner);
  for (const auto& path : old)
    if (removed || !path.filename().string().starts_with(gate::kScratchBegin))
      std::filesystem::remove_all(path, failed);
  leaks::SearchedBlobs::prune(searched_blobs_dir(tools.config), tools.clock.now());
  leaks::LeakMarks::prune(leak_marks_dir(tools.config), tools.clock.now(), kLeakMarksAge);
  return removed;
}

} // namespace

Status collect_leftovers(const Tools& tools, Leftovers which) {
  const bool all = which == Leftovers::unused;
  collect_base_images(tools.config.slipway.state_dir / "bases", tools.config.buildkit.bases_bytes,
                      kBasesIdle, all);
  auto scans = collect_scans(tools);
  Reports{tools.config.slipway.state_dir}.collect(tools.clock.now(), kReportsAge,
                                                  kReportsOfProject);
  auto builders = builder_config(tools);
  auto stores = store_config(tools);
  auto workshops = kaniko_config(tools);
  if (all) {
    workshops.max_idle = std::chrono::seconds{-1};
    builders.max_idle = std::chrono::seconds{-1};
    builders.max_cache_age = std::chrono::seconds{-1};
    stores.max_idle = std::chrono::seconds{-1};
  }
  // One that cannot be removed does not keep the others.
  auto reaped = backends::buildkit::BuilderPool{builders, tools.podman, tools.clock}.reap_idle();
  auto emptied = backends::buildah::StorePool{stores, tools.podman, tools.clock}.reap();
  auto closed = backends::kaniko::WorkshopPool{workshops, tools.podman, tools.clock}.reap();
  if (!reaped) return std::move(reaped).error();
  if (!closed) return std::move(closed).error();
  if (!emptied) return std::move(emptied).error();
  return scans;
}

sandbox::Limits step_limits(const Tools& tools) {
  sandbox::Limits limits;
  limits.pids = tools.config.sandbox.pids;
  limits.memory_bytes = tools.config.sandbox.memory_bytes;
  limits.cpus = tools.config.sandbox.cpus;
  return limits;
}

sandbox::IdSlot slot_of(const state::JobRecord& record) {
  sandbox::IdSlot slot;
  slot.first = record.slot_first;
  slot.size = record.slot_size;
  slot.number = record.slot_number;
  slot.shared = record.slot_shared;
  return slot;
}

Status look_after(const Tools& tools, const std::string& job, const std::string& name,
                  const sandbox::ContainerFacts& sandbox,
                  const std::function<void(std::string_view)>& say) {
  if (!sandbox.limits) return {}; // it has ended
  std::vector<sandbox::LimitsReport::Missing> news;
  bool is_watched = false;
  for (const auto& one : sandbox.limits->missing) {
    if (say && tools.folders.is_first(job, "limit-" + one.what)) news.push_back(one);
    is_watched = is_watched || one.what == "memory";
  }
  if (!news.empty()) say("slipway: " + sandbox::limits_notice(news) + "\n");
  return is_watched ? tools.folders.watch(job, name, sandbox.host_pid) : Status{};
}

std::string memory_notice(const std::string& name, std::uint64_t bytes, std::uint64_t most) {
  return "WARNING: the sandbox " + name + " had " + std::to_string(bytes >> 20) +
         " MiB of memory, more than the limit of " + std::to_string(most >> 20) +
         " MiB: its largest processes were killed";
}

std::unique_ptr<sandbox::MemoryWatch> watch_memory(const config::Config& config,
                                                   const state::JobFolders& folders,
                                                   const std::string& job,
                                                   std::function<void(std::string_view)> say) {
  return std::make_unique<sandbox::MemoryWatch>(
      config.sandbox.memory_bytes,
      [&config, &folders, job] {
        std::vector<sandbox::WatchedProcess> processes;
        for (auto& one : folders.watched(job)) {
          const auto own = one.name == "scanner" ? scanner_memory(config) : 0;
          processes.push_back({std::move(one.name), one.first.pid, own});
        }
        return processes;
      },
      [say = std::move(say)](const std::string& name, std::uint64_t bytes, std::uint64_t most) {
        say(memory_notice(name, bytes, most));
      });
}

BuildPlace::BuildPlace(const Tools& tools, const state::JobRecord& record, std::string trust_domain,
                       std::string builder_domain)
    : tools_{tools}, record_{record}, trust_domain_{std::move(trust_domain)},
      builder_domain_{std::move(builder_domain)}, socket_{tools_.folders.run_dir(record.key) /
                                                          "build.sock"} {}

Status BuildPlace::open(Builder builder) {
  const std::lock_guard guard{opening_};
  if (is_open_) {
    if (builder == Builder::beside) start_builder();
    // It may have ended since, for its memory; no other build is in it then.
    if (uses_ > 1 || sandbox_answers()) return {};
    return start_sandbox_here();
  }
  if (auto opened = open_bases_here(); !opened) return opened;
  if (builder == Builder::beside) start_builder();
  // One that an earlier script of this job left is as good as new: what a builder restarts with is
  // below the same folder.
  if (!sandbox_answers())
    if (auto started = start_sandbox_here(); !started) return started;
  is_open_ = true;
  return {};
}

Status BuildPlace::open_bases() {
  const std::lock_guard guard{opening_};
  return open_bases_here();
}

std::vector<std::string> BuildPlace::networks() const {
  if (!has_built_) return {}; // without the lock, which is held while a builder starts
  namespace buildkit = backends::buildkit;
  return {buildkit::names_for(builder_domain_, tools_.owner, buildkit::NetworkKind::open).network(),
          backends::buildah::names_for(trust_domain_, tools_.owner).network(),
          backends::kaniko::network_for(trust_domain_, tools_.owner)};
}

std::vector<std::string> BuildPlace::builders() const {
  if (!has_built_) return {}; // as above
  namespace buildkit = backends::buildkit;
  std::vector<std::string> names{backends::buildah::names_for(trust_domain_, tools_.owner).volume(),
                                 backends::kaniko::network_for(trust_domain_, tools_.owner)};
  for (const auto network : buildkit::kNetworkKinds)
    names.push_back(buildkit::names_for(builder_domain_, tools_.owner, network).volume());
  return names;
}

Status BuildPlace::open_bases_here() {
  if (bases_) return {};
  auto bases = BaseImages::open(tools_.config.slipway.state_dir / "bases", trust_domain_,
                                tools_.config.buildkit.bases_bytes);
  if (!bases) return std::move(bases).error().in("opening the base images");
  bases_ = *std::move(bases);
  return {};
}

Status BuildPlace::start_sandbox_here() {
  const auto dir = backends::buildkit::BuilderPool::socket_dir(builder_config(), builder_domain_);
  if (!dir) return Error{dir.error()}.in("starting the builder");
  if (auto started = start_sandbox(*dir); !started)
    return std::move(started).error().in("starting the build sandbox");
  return {};
}

backends::buildkit::BuilderConfig BuildPlace::builder_config() const {
  auto config = image::builder_config(tools_);
  config.closed = record_.network_closed;
  if (record_.network_closed) config.init_dir = tools_.config.programs.init.parent_path();
  return config;
}

backends::BuildJob BuildPlace::with_proxy(const backends::BuildJob& job) const {
  auto lent = job;
  if (!record_.network_closed || job.network == "none") return lent;
  lent.proxy = "http://127.0.0.1:" + std::to_string(egress::kProxyPort);
  lent.no_proxy = "localhost,127.0.0.1,::1";
  return lent;
}

Result<backends::BuildJob> BuildPlace::with_proxy_at_builder(const backends::BuildJob& job) {
  auto lent = with_proxy(job);
  if (lent.proxy.empty() || tools_.proxy == nullptr) return lent;
  const std::lock_guard guard{opening_};
  if (proxy_address_.empty()) {
    const auto dir = backends::buildkit::BuilderPool::egress_dir(builder_config(), builder_domain_);
    if (!dir) return Error{dir.error()};
    // Whatever a step sees it may use: all jobs of a builder's domain have one policy.
    std::random_device random;
    std::uniform_int_distribution<int> number{1, 254};
    auto address = "127." + std::to_string(number(random)) + "." + std::to_string(number(random)) +
                   "." + std::to_string(number(random));
    if (auto listening = tools_.proxy->listen(*dir / address); !listening)
      return std::move(listening).error().in("opening the proxy for the builder");
    proxy_address_ = std::move(address);
  }
  lent.proxy = "http://" + proxy_address_ + ":" + std::to_string(egress::kProxyPort);
  return lent;
}

void BuildPlace::start_builder() {
  if (builder_ || starting_.valid()) return;
  none_is_free_ = false;
  starting_ = std::async(std::launch::async, [this, config = builder_config()]() -> Status {
    backends::buildkit::BuilderPool pool{config, tools_.podman, tools_.clock};
    auto builder = pool.acquire(builder_domain_, [this] { none_is_free_ = true; });
    if (!builder) return std::move(builder).error();
    const std::lock_guard guard{handing_over_};
    if (uses_ > 0) fresh_ = *std::move(builder);
    return {};
  });
}

void BuildPlace::end_use() {
  const std::lock_guard guard{opening_};
  {
    // One that still starts either sees that nobody wants it, or lies here already.
    const std::lock_guard handing{handing_over_};
    if (--uses_ > 0) return;
    fresh_.reset();
  }
  builder_.reset();
  if (starting_.valid() && starting_.wait_for(std::chrono::seconds{0}) == std::future_status::ready)
    starting_ = {};
}

Attempt BuildPlace::build_with_buildkit(const std::string& version, const backends::BuildJob& job,
                                        oci::Layout& into) {
  bool is_busy = false;
  if (auto ready = await_builder(is_busy); !ready)
    return {std::move(ready).error(), false, is_busy};
  if (auto ready = begin_on_builder(job.progress); !ready) return {std::move(ready).error(), false};
  auto& backend = buildkit(version);
  const auto lent = with_proxy_at_builder(job);
  if (!lent) return {Error{lent.error()}, false};
  const auto attempt = [&]() -> Attempt {
    auto mark = begin_build();
    if (!mark) return {std::move(mark).error(), false};
    auto result = backend.build(*lent, into);
    // Of a build that was cut short a step may still run.
    if (result || (!job.cancelled() && is_the_jobs_fault(result.error().kind))) mark->finished();
    const bool began = result || !backends::buildkit::never_began(result.error());
    return {std::move(result), began};
  };
  auto tried = attempt();
  if (tried.built || tried.began || job.cancelled()) return tried;
  // It ended after it was looked at. No step has run.
  if (auto ready = renew_builder(); !ready) return {std::move(ready).error(), false};
  if (auto ready = begin_on_builder(job.progress); !ready) return {std::move(ready).error(), false};
  return attempt();
}

template <typename Opening>
void BuildPlace::describe_job(Opening& opening, const backends::BuildJob& job,
                              Status& looked_after) const {
  opening.socket_dir = tools_.folders.run_dir(record_.key);
  opening.labels = {{"io.slipway.job", record_.key}};
  opening.closed = record_.network_closed;
  if (record_.network_closed) opening.proxies = tools_.folders.run_dir(record_.key) / "egress";
  opening.started = [this, &job, &looked_after](const sandbox::ContainerFacts& sandbox) {
    looked_after = look_after(tools_, record_.key, "builder", sandbox, job.progress);
  };
}

Attempt BuildPlace::build_with_buildah(const backends::buildah::Program& program,
                                       const backends::BuildJob& job, oci::Layout& into) {
  namespace buildah = backends::buildah;
  auto config = store_config(tools_);
  const auto& section = tools_.config.buildah;
  const auto& path = program.tool == buildah::Tool::podman ? section.podman : section.buildah;
  if (!path.string().starts_with("/usr/")) config.program_dir = path.parent_path();
  buildah::StorePool pool{config, tools_.podman, tools_.clock};
  bool is_busy = false;
  const auto bases = bases_->layout().path();
  const buildah::OpenWorkshop open = [&](bool network, const sandbox::BuildClock& clock,
                                         const std::function<void()>& waiting) {
    buildah::Opening opening;
    Status looked_after;
    opening.bases = bases;
    opening.network = network;
    opening.none_is_free = [&is_busy] { is_busy = true; };
    describe_job(opening, job, looked_after);
    auto workshop = pool.open(trust_domain_, opening, clock, waiting);
    if (!looked_after) workshop = std::move(looked_after).error();
    if (workshop) tell_of_sharing((*workshop)->ids(), "store", job.progress);
    return workshop;
  };
  buildah::Places places;
  places.workspace = tools_.config.gitlab.builds_dir;
  buildah::BuildahBackend backend{program, client(), open, bases, places};
  bool is_at_from = false;
  bool began = false;
  backends::BuildJob watched = with_proxy(job);
  watched.progress = [&](std::string_view text) {
    is_at_from = is_at_from || buildah::begins_stage(text);
    began = began || buildah::may_be_of_a_step(text);
    if (job.progress) job.progress(text);
  };
  auto built = backend.build(watched, into);
  began = built || began || (is_at_from && have_triggers(job.bases, bases_->layout()));
  return {std::move(built), began, is_busy && !began};
}

Result<BuildPlace::Turn> BuildPlace::await_turn(const backends::BuildJob& job) {
  const auto end = std::chrono::steady_clock::now() + job.deadline;
  if (!turns_.try_acquire()) {
    if (job.progress)
      job.progress("slipway: waiting for other builds of this script: each takes a sandbox\n");
    while (!turns_.try_acquire_for(std::chrono::milliseconds{200})) {
      if (job.cancelled && job.cancelled())
        return Error{ErrorKind::unavailable, "the build was cancelled", "", {}};
      if (std::chrono::steady_clock::now() >= end)
        return Error{ErrorKind::timed_out,
                     "other builds of this script took too long",
                     "build less at a time",
                     {}};
    }
  }
  return Turn{turns_};
}

Attempt BuildPlace::build_with_kaniko(const backends::kaniko::Program& program,
                                      const backends::BuildJob& job, oci::Layout& into) {
  namespace kaniko = backends::kaniko;
  const auto turn = await_turn(job);
  if (!turn) return {Error{turn.error()}, false};
  kaniko::WorkshopPool pool{kaniko_config(tools_), tools_.podman, tools_.clock};
  const kaniko::OpenWorkshop open = [&](const kaniko::FillInputs& fill) {
    kaniko::Opening opening;
    Status looked_after;
    opening.ids = slot_of(record_);
    describe_job(opening, job, looked_after);
    auto workshop = pool.open(trust_domain_, opening, fill);
    if (!looked_after) workshop = std::move(looked_after).error();
    return workshop;
  };
  kaniko::Places places;
  places.workspace = tools_.config.gitlab.builds_dir;
  kaniko::KanikoBackend backend{program, client(), open, bases_->layout().path(), places};
  bool began = false;
  backends::BuildJob watched = with_proxy(job);
  watched.progress = [&](std::string_view text) {
    began = began || kaniko::begins_run(text);
    if (job.progress) job.progress(text);
  };
  auto built = backend.build(watched, into);
  began = began || built;
  return {std::move(built), began};
}

Attempt BuildPlace::build_with_dockerd(const backends::dockerd::Program& program,
                                       const backends::BuildJob& job, oci::Layout& into) {
  namespace dockerd = backends::dockerd;
  const auto turn = await_turn(job);
  if (!turn) return {Error{turn.error()}, false};
  const dockerd::OpenWorkshop open = [&](bool network) {
    dockerd::BuilderParts parts;
    Status looked_after;
    parts.job = record_.key;
    parts.owner = tools_.owner;
    parts.name = "slipway-" + record_.key + "-dind";
    parts.ids = slot_of(record_);
    parts.limits = step_limits(tools_);
    parts.folder = tools_.folders.run_dir(record_.key) / "dind";
    parts.init_dir = tools_.config.programs.init.parent_path();
    parts.bases = bases_->layout().path();
    parts.tools = program.tools;
    parts.network = network;
    parts.socket_dir = tools_.folders.run_dir(record_.key);
    parts.closed = record_.network_closed;
    if (record_.network_closed) parts.proxies = tools_.folders.run_dir(record_.key) / "egress";
    parts.started = [&](const sandbox::ContainerFacts& sandbox) {
      looked_after = look_after(tools_, record_.key, "builder", sandbox, job.progress);
    };
    auto workshop = dockerd::open_builder(tools_.podman, parts);
    if (!looked_after) workshop = std::move(looked_after).error();
    return workshop;
  };
  dockerd::Places places;
  places.workspace = tools_.config.gitlab.builds_dir;
  dockerd::DockerdBackend backend{program, client(), open, bases_->layout().path(), places};
  bool began = false;
  backends::BuildJob watched = with_proxy(job);
  watched.progress = [&](std::string_view text) {
    began = began || dockerd::begins_step(text);
    if (job.progress) job.progress(text);
  };
  auto built = backend.build(watched, into);
  began = began || built;
  return {std::move(built), began};
}

Status BuildPlace::begin_on_builder(const std::function<void(std::string_view)>& say) {
  const std::lock_guard guard{opening_};
  tell_of_sharing(builder_->ids(), "builder", say);
  return look_after(tools_, record_.key, "builder", builder_->facts(), say);
}

void BuildPlace::tell_of_sharing(const sandbox::IdSlot& ids, const std::string& what,
                                 const std::function<void(std::string_view)>& say) {
  if (!ids.shared || !say || !tools_.folders.is_first(record_.key, "shared-" + what)) return;
  say("slipway: NOTE: too few subordinate ids: the " + what +
      " of this project shares an id range with others (operator: packaging/setup-runner "
      "--concurrent N)\n");
}

sandbox::ScriptRunner BuildPlace::client() const {
  return [socket = socket_](const engine_api::ScriptRequest& request, const sandbox::ScriptIo& io) {
    return sandbox::run_script(socket, request, io);
  };
}

Status BuildPlace::spoil_caches() {
  const auto builders = builder_config();
  const auto stores = store_config(tools_);
  if (auto spoilt = backends::buildkit::BuilderPool{builders, tools_.podman, tools_.clock}.spoil(
          builder_domain_);
      !spoilt)
    return spoilt;
  return backends::buildah::StorePool{stores, tools_.podman, tools_.clock}.spoil(trust_domain_);
}

backends::buildkit::BuildkitBackend& BuildPlace::buildkit(const std::string& version) {
  const std::lock_guard guard{opening_};
  if (!buildkit_) {
    backends::buildkit::Places places;
    places.workspace = tools_.config.gitlab.builds_dir;
    places.bases += "/" + bases_->name();
    buildkit_ = std::make_unique<backends::buildkit::BuildkitBackend>(socket_, version, places);
  }
  return *buildkit_;
}

WiredBackend wire_buildkit(const std::string& version) {
  WiredBackend wired;
  wired.descriptor.name = "buildkit";
  wired.descriptor.version = version;
  wired.make = [version](BuildPlace& place) -> TryBuild {
    return [&place, version](const backends::BuildJob& job, oci::Layout& into) {
      return place.build_with_buildkit(version, job, into);
    };
  };
  return wired;
}

WiredBackend wire_buildah(const backends::buildah::Program& program) {
  WiredBackend wired;
  wired.descriptor = backends::buildah::descriptor_of(program);
  if (program.tool == backends::buildah::Tool::buildah) wired.buildah = program;
  wired.make = [program](BuildPlace& place) -> TryBuild {
    return [&place, program](const backends::BuildJob& job, oci::Layout& into) {
      return place.build_with_buildah(program, job, into);
    };
  };
  return wired;
}

WiredBackend wire_kaniko(const backends::kaniko::Program& program) {
  WiredBackend wired;
  wired.descriptor = backends::kaniko::descriptor_of(program);
  wired.make = [program](BuildPlace& place) -> TryBuild {
    return [&place, program](const backends::BuildJob& job, oci::Layout& into) {
      return place.build_with_kaniko(program, job, into);
    };
  };
  return wired;
}

WiredBackend wire_dockerd(const backends::dockerd::Program& program) {
  WiredBackend wired;
  wired.descriptor = backends::dockerd::descriptor_of(program);
  wired.dockerd = program;
  wired.make = [program](BuildPlace& place) -> TryBuild {
    return [&place, program](const backends::BuildJob& job, oci::Layout& into) {
      return place.build_with_dockerd(program, job, into);
    };
  };
  return wired;
}

Status BuildPlace::await_builder(bool& is_busy) {
  const std::lock_guard guard{opening_};
  while (!builder_) {
    start_builder();
    auto started = starting_.get();
    is_busy = none_is_free_;
    if (!started) return std::move(started).error().in("starting the builder");
    const std::lock_guard handing{handing_over_};
    builder_ = std::exchange(fresh_, std::nullopt); // none where its build has ended since
  }
  return {};
}

Status BuildPlace::renew_builder() {
  const std::lock_guard guard{opening_};
  backends::buildkit::BuilderPool pool{builder_config(), tools_.podman, tools_.clock};
  auto builder = pool.acquire(builder_domain_);
  if (!builder) return std::move(builder).error().in("starting the builder anew");
  builder_ = *std::move(builder);
  return {};
}

Result<backends::buildkit::BuildMark> BuildPlace::begin_build() {
  const std::lock_guard guard{opening_};
  return builder_->begin_build();
}

bool BuildPlace::sandbox_answers() {
  std::error_code failed;
  return std::filesystem::exists(socket_, failed) && ask({"/usr/bin/true"}, 0).ok();
}

Status BuildPlace::start_sandbox(const std::filesystem::path& builder_socket_dir) {
  backends::buildkit::BuildSandbox parts;
  parts.name = "slipway-" + record_.key + "-build";
  // One that does not answer.
  if (auto removed = tools_.podman.remove({parts.name}); !removed) return removed;
  auto listener = sandbox::listen_for_scripts(socket_);
  if (!listener) return std::move(listener).error();
  parts.labels = {{"io.slipway.job", record_.key},
                  {"io.slipway.owner", tools_.owner},
                  {"io.slipway.role", "build"}};
  parts.ids = slot_of(record_);
  parts.workspace_volume = record_.volume;
  parts.builder_socket_dir = builder_socket_dir;
  parts.bases = bases_->folder();
  parts.tools = tools_.config.buildkit.buildctl.parent_path().parent_path();
  if (std::error_code failed; !std::filesystem::exists(parts.tools, failed)) parts.tools.clear();
  parts.init_dir = tools_.config.programs.init.parent_path();
  parts.script_listener = listener->get();
  backends::buildkit::Places places;
  places.workspace = tools_.config.gitlab.builds_dir;
  auto spec = backends::buildkit::build_sandbox_spec(parts, places);
  spec.limits = step_limits(tools_);
  if (auto host = sandbox::use_host_tools(tools_.podman, spec); !host) return host;
  auto container = tools_.podman.start(spec);
  if (!container) return std::move(container).error();
  return look_after(tools_, record_.key, "build", *container, nullptr);
}

Result<std::string> BuildPlace::ask(std::vector<std::string> argv, std::size_t limit,
                                    int input_fd) {
  engine_api::ScriptRequest request;
  request.argv = std::move(argv);
  request.env = {{"PATH", "/usr/bin:/bin"}, {"LC_ALL", "C.UTF-8"}};
  request.keep_others = true;
  std::string out;
  std::string err;
  bool too_large = false;
  sandbox::ScriptIo io;
  io.input_fd = input_fd;
  io.out = [&](std::string_view bytes) {
    too_large = too_large || out.size() + bytes.size() > limit;
    if (!too_large) out += bytes;
  };
  io.err = [&](std::string_view bytes) {
    err += bytes.substr(0, 4096 - std::min<std::size_t>(err.size(), 4096));
  };
  io.deadline =
      input_fd >= 0 ? std::chrono::milliseconds{kUnpack} : std::chrono::milliseconds{kSmallTask};
  auto ran = sandbox::run_script(socket_, request, io);
  if (!ran) return std::move(ran).error();
  if (too_large)
    return Error{ErrorKind::bad_input, "larger than " + std::to_string(limit) + " bytes", "", {}};
  if (ran->ending.exit_code != 0) {
    while (!err.empty() && err.back() == '\n')
      err.pop_back();
    return Error{ErrorKind::bad_input, err.empty() ? "it failed without a word" : err, "", {}};
  }
  return out;
}

Result<std::string> BuildPlace::unpack(const sandbox::ByteSource& tar) {
  const std::string dir = "/out/context-" + std::to_string(++contexts_);
  if (auto made = ask({"/usr/bin/mkdir", "-p", "--", dir}, 0); !made)
    return std::move(made).error();
  std::array<char, 65536> first{};
  std::size_t begun = 0;
  while (begun < kLongestMagic) { // parts may be as small as a byte
    auto got = tar(first.data() + begun, first.size() - begun);
    if (!got) return std::move(got).error();
    if (*got == 0) break;
    begun += *got;
  }
  if (begun == 0) return Error{ErrorKind::bad_input, "the build context is empty", "", {}};
  // In the build sandbox, with the job's ids: what a hostile tar can reach there is this folder.
  std::vector<std::string> argv{"/usr/bin/tar"};
  if (const char* packer = packer_of({first.data(), begun})) argv.emplace_back(packer);
  argv.insert(argv.end(), {"-xf", "-", "-C", dir, "--no-same-owner", "--delay-directory-restore"});
  std::string_view rest{first.data(), begun};
  const auto source = [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
    if (rest.empty()) return tar(buffer, capacity);
    const auto count = rest.copy(buffer, capacity);
    rest.remove_prefix(count);
    return count;
  };
  Result<std::string> unpacked{std::string{}};
  const auto fed =
      sandbox::feed(source, [&](int fd) { unpacked = ask(std::move(argv), 1UL << 20, fd); });
  if (!fed) return fed.error();
  if (!unpacked) return std::move(unpacked).error().in("unpacking the build context");
  return dir;
}

void BuildPlace::give_back(const Context& context) {
  // Best effort: what stays goes with the sandbox.
  for (const auto& dir : context.unpacked)
    (void)ask({"/usr/bin/rm", "-rf", "--", dir}, 4096).ok();
}

Result<BuildPlace::Context> BuildPlace::bring_context(broker::BuildRequest& request) {
  Context context;
  auto brought = bring_context_into(context, request);
  if (brought) return context;
  give_back(context);
  return std::move(brought).error();
}

Status BuildPlace::bring_context_into(Context& context, broker::BuildRequest& request) {
  const auto keep = [&](Result<std::string> dir) {
    if (dir) context.unpacked.push_back(*dir);
    return dir;
  };
  for (const auto& [name, tar] : request.named_tars) {
    auto dir = keep(unpack(tar));
    if (!dir) return std::move(dir).error().in("taking the context " + name);
    request.named_contexts.emplace_back(name, *dir);
  }
  if (request.context_tar) {
    auto dir = keep(unpack(request.context_tar));
    if (!dir) return std::move(dir).error();
    context.dir = *std::move(dir);
  } else {
    context.dir = request.context_path;
  }
  const std::filesystem::path named =
      request.dockerfile.empty() ? "Dockerfile" : request.dockerfile;
  const auto full = named.is_absolute() ? named : std::filesystem::path{context.dir} / named;
  context.dockerfile_name = full.filename().string();
  context.dockerfile_dir = full.parent_path().string();
  if (request.dockerfile_text) {
    context.dockerfile_text = *request.dockerfile_text;
    context.dockerfile_dir.clear();
    context.dockerfile_name = "Dockerfile";
    if (!request.ignore_text) return {};
    auto dir = keep(
        unpack(one_piece(broker::tar_of({{"Dockerfile", *request.dockerfile_text},
                                         {"Dockerfile.dockerignore", *request.ignore_text}}))));
    if (!dir) return std::move(dir).error();
    context.dockerfile_dir = *std::move(dir);
    return {};
  }
  // Not cat: a FIFO must not block, and a device must end.
  auto text = ask({"/usr/bin/dd", "if=" + full.string(), "iflag=nonblock,fullblock", "bs=1M",
                   "count=2", "status=none"},
                  kMaxDockerfileBytes);
  if (!text) {
    auto error = std::move(text).error();
    if (error.kind != ErrorKind::bad_input) return error;
    return Error{ErrorKind::bad_input,
                 "failed to read dockerfile: " + error.what,
                 "check the path given with -f, or the context's folder",
                 {}};
  }
  context.dockerfile_text = *std::move(text);
  return {};
}

Result<router::Context> BuildPlace::look_at(const Context& context,
                                            const std::vector<std::string>& sources) {
  // -name takes a pattern: what is not plain is taken to be there.
  const auto own = context.dockerfile_name + ".dockerignore";
  const bool is_plain = own.find_first_of("*?[\\") == std::string::npos;
  const bool is_text = context.dockerfile_dir.empty(); // no file, so none of its own beside it
  const auto dockerfile_dir = is_text ? context.dir : context.dockerfile_dir;
  auto said =
      ask({"/usr/bin/find", context.dir + "/", dockerfile_dir + "/", "-mindepth", "1", "-maxdepth",
           "1", "(", "-name", ".dockerignore", "-o", "-name", ".containerignore", "-o", "-name",
           is_plain ? own : ".dockerignore", ")", "-printf", "%H%f\\0"},
          64UL << 10);
  // A context that cannot be looked at is the backend's to complain of: it may hold anything.
  if (!said && said.error().kind == ErrorKind::bad_input) {
    router::Context anything;
    anything.ignore_file = anything.dockerfile_ignore_file = anything.container_ignore_file =
        anything.dockerfile_outside = true;
    return anything;
  }
  if (!said) return std::move(said).error().in("looking for ignore files");
  const auto has = [&](const std::string& dir, const std::string& name) {
    return ('\0' + *said).find('\0' + dir + "/" + name + '\0') != std::string::npos;
  };
  router::Context found;
  found.ignore_file = has(context.dir, ".dockerignore");
  found.container_ignore_file = has(context.dir, ".containerignore");
  found.dockerfile_ignore_file = !is_text && (!is_plain || has(dockerfile_dir, own));
  found.dockerfile_outside =
      is_text || !(context.dockerfile_dir + "/").starts_with(context.dir + "/");
  if (sources.empty()) return found;
  // One answer for each, in their order; what is not there is the backend's to complain of.
  std::vector<std::string> argv{"/bin/sh", "-c",
                                R"(cd -- "$1" || exit; shift
for source do
  if [ -h "$source" ]; then echo l; elif [ -d "$source" ]; then echo d; else echo f; fi
done)",
                                "sh", context.dir};
  for (const auto& source : sources)
    argv.push_back("./" + source);
  auto kinds = ask(argv, 64UL << 10);
  if (!kinds && kinds.error().kind == ErrorKind::bad_input) return found;
  if (!kinds) return std::move(kinds).error().in("looking at what the Dockerfile copies");
  for (std::size_t i = 0; i < sources.size() && 2 * i < kinds->size(); ++i)
    found.sources[sources[i]] = (*kinds)[2 * i] == 'l'   ? router::SourceKind::link
                                : (*kinds)[2 * i] == 'd' ? router::SourceKind::folder
                                                         : router::SourceKind::file;
  return found;
}

} // namespace slipway::image
