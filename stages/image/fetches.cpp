// SPDX-License-Identifier: Apache-2.0
#include "stages/image/fetches.hpp"

#include "executor/base/file.hpp"
#include "executor/egress/proxy.hpp"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <sstream>
#include <utility>

namespace slipway::image {
namespace {

constexpr std::chrono::minutes kFetchPatience{35}; ///< after the shim's own, so that it has its say
constexpr std::size_t kMaxFetchWords = 4UL << 10;
constexpr std::size_t kMaxRemoteBytes = 8UL << 10;
constexpr std::size_t kFirstPart = 64UL << 10;
constexpr std::size_t kMaxMapBytes = 64UL << 10;
constexpr std::chrono::milliseconds kTurnLook{200};
constexpr std::chrono::minutes kTurnPatience{5}; ///< until another has started the sandbox
constexpr std::chrono::seconds kSweepPatience{20};
constexpr std::chrono::minutes kDrain{1};
constexpr std::chrono::seconds kRemovalPatience{60};
constexpr std::chrono::seconds kLeaverPatience{2}; ///< where nobody waits for the rest
/// What fetches an address needs nothing of the job's: it runs as somebody whom no image knows.
constexpr const char* kNobody = "65533:65533";
/// There root alone makes folders: none of the job's users has one ready. Source: toolbox_tar().
constexpr const char* kRemoteFolder = "/var/cache/slipway-remote-";
/// How the fetcher ends where the host lacks its programs. Source: executor/shim/fetch_context.cpp.
constexpr int kLacksPrograms = 3;
/// The shim, by a name that tells it what to do. Source: executor/shim/main.cpp.
constexpr const char* kFetcher = "/run/slipway/bin/slipway-fetch";
constexpr const char* kInitInside = "/run/slipway/bin/slipway-init";

bool is_lent(const std::string& program) {
  constexpr std::array kLent{"git", "curl", "gzip", "bzip2", "xz", "zstd"};
  return std::find(kLent.begin(), kLent.end(), program) != kLent.end();
}

/// By its words; where its links lead is no matter, for all that the sandbox has is the job's.
bool is_below(const std::string& path, const std::string& workspace) {
  return std::filesystem::path{path}.lexically_normal() == path &&
         path.starts_with(workspace + "/");
}

/// The id inside of one outside. Source: user_namespaces(7), uid_map: inside, outside, count.
std::optional<std::uint64_t> id_inside(std::uint64_t outside, const std::string& map) {
  std::istringstream lines{map};
  for (std::uint64_t inside = 0, first = 0, count = 0; lines >> inside >> first >> count;)
    if (outside >= first && outside - first < count) return inside + (outside - first);
  return std::nullopt;
}

Error lacks(const std::string& program) {
  return Error{ErrorKind::misconfigured,
               "the runner's host has no " + program + " to lend",
               "operator: install " + program + " on the host",
               {}};
}

/// Of what the fetcher says, without its name and the line's end.
std::string plain_words(std::string said) {
  while (said.ends_with('\n'))
    said.pop_back();
  return said;
}

} // namespace

sandbox::SandboxSpec fetch_spec(const FetchParts& parts) {
  sandbox::SandboxSpec spec;
  spec.name = parts.container;
  spec.labels = {{"io.slipway.job", parts.job},
                 {"io.slipway.owner", parts.owner},
                 {"io.slipway.role", "fetch"}};
  spec.entrypoint = {kInitInside};
  spec.user = "0:0";
  spec.ids = parts.ids;
  spec.joins = parts.joins;
  spec.limits = parts.limits;
  spec.hostname = "fetch";
  spec.volumes = {{parts.workspace_volume, parts.workspace, false},
                  {parts.init.string(), kInitInside, true},
                  {parts.shim.string(), kFetcher, true}};
  // The operator's own, which no job has to see.
  std::error_code failed;
  for (const auto* place : {"/usr/local", "/usr/src"})
    if (std::filesystem::is_directory(place, failed))
      spec.tmpfs.emplace_back(place, "ro,size=64k,mode=0755,notmpcopyup");
  return spec;
}

Result<std::string> fetch_user(const broker::Peer& peer, std::int64_t init_pid,
                               const std::string& uid_map, const std::string& gid_map) {
  if (peer.pid <= 0 || peer.pid == init_pid)
    return Error{
        ErrorKind::denied,
        "programs are lent at the broker's socket, not at its ports: who asks there cannot "
        "be told",
        "ask at /var/run/docker.sock",
        {}};
  const auto uid = id_inside(peer.uid, uid_map);
  const auto gid = id_inside(peer.gid, gid_map);
  if (!uid || !gid)
    return Error{ErrorKind::denied, "programs are lent to the job's own users alone", "", {}};
  return std::to_string(*uid) + ":" + std::to_string(*gid);
}

Result<engine_api::ScriptRequest> fetch_request(const broker::FetchOrder& order,
                                                const std::string& workspace,
                                                const std::filesystem::path& programs) {
  if (!is_lent(order.program))
    return Error{ErrorKind::bad_input, "slipway lends a job no program " + order.program, "", {}};
  if (!is_below(order.folder, workspace) ||
      (!order.input.empty() && !is_below(order.input, workspace)))
    return Error{ErrorKind::bad_input,
                 "what is fetched has to lie below " + workspace + ", which the job shares",
                 "let the job's user write there",
                 {}};
  const auto program = (programs / order.program).string();
  if (::access(program.c_str(), X_OK) != 0) return lacks(order.program);
  engine_api::ScriptRequest request;
  // Init would enter the folder as root: the user has to be able to.
  if (order.input.empty())
    request.argv = {"/bin/sh", "-c", R"(cd -- "$0" && exec "$@")", order.folder, program};
  else
    request.argv = {
        "/bin/sh",    "-c",        R"(cd -- "$0" || exit; in=$1; shift; exec "$@" <"$in")",
        order.folder, order.input, program};
  request.argv.insert(request.argv.end(), order.arguments.begin(), order.arguments.end());
  for (const auto& variable : order.env)
    if (variable.first != "PATH") request.env.push_back(variable);
  request.env.emplace_back("PATH", "/usr/bin:/bin");
  request.cwd = "/";
  request.grace = std::chrono::seconds{2};
  request.keep_others = true; // others fetch beside it
  return request;
}

JobFetches::JobFetches(const Tools& tools, const state::JobRecord& record,
                       sandbox::ScriptRunner runner)
    : tools_{tools}, record_{record}, socket_{tools.folders.run_dir(record.key) / "fetch.sock"},
      runner_{std::move(runner)} {
  if (!runner_)
    runner_ = [socket = socket_](const engine_api::ScriptRequest& request,
                                 const sandbox::ScriptIo& io) {
      return sandbox::run_script(socket, request, io);
    };
  std::error_code failed;
  if (std::filesystem::exists(socket_, failed)) take_down();
}

JobFetches::~JobFetches() {
  if (starts_ > 0) take_down();
}

void JobFetches::take_down() {
  is_up_ = false;
  // Best effort: what stays goes with the job. The socket says that something may.
  std::error_code failed;
  if (tools_.podman.remove({container()})) std::filesystem::remove(socket_, failed);
}

bool JobFetches::sweep() const {
  auto nothing = sandbox::program_request({"/usr/bin/true"}, "/");
  nothing.keep_others = false; // all but init end, as after a script
  const sandbox::BuildClock clock{nullptr, kSweepPatience};
  return sandbox::read_program(runner_, nothing, 0, clock, {}, kSweepPatience).ok();
}

std::string JobFetches::container() const {
  return "slipway-" + record_.key + "-fetch";
}

/// One that is in the sandbox.
class JobFetches::Turn {
public:
  explicit Turn(JobFetches& fetches) : fetches_{fetches} {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { fetches_.leave(); }

private:
  JobFetches& fetches_;
};

Status JobFetches::may_lend() const {
  if (tools_.config.sandbox.lend_tools) return {};
  return Error{ErrorKind::denied,
               "the operator lends jobs no programs of the host",
               "use an image with git and curl (operator: lend_tools in [sandbox])",
               {}};
}

Status JobFetches::enter(const broker::Cancelled& cancelled) {
  std::unique_lock turn{opening_, std::defer_lock};
  const auto until = std::chrono::steady_clock::now() + kTurnPatience;
  while (!turn.try_lock_for(kTurnLook)) {
    if (cancelled && cancelled())
      return Error{ErrorKind::unavailable, "the client has gone, or the job ends", "", {}};
    if (std::chrono::steady_clock::now() > until)
      return Error{ErrorKind::timed_out, "the sandbox for fetching does not start", "", {}};
  }
  if (is_up_ && fetching_ == 0 && !sweep()) take_down(); // it may have ended since
  if (!is_up_) {
    if (auto started = start(); !started) return started;
  }
  ++fetching_;
  return {};
}

void JobFetches::leave() {
  const std::lock_guard guard{opening_};
  if (--fetching_ == 0 && !sweep()) take_down();
}

Status JobFetches::start() {
  // A job can end it. What it makes slipway do for that has a limit.
  if (++starts_ > kMostStarts)
    return Error{ErrorKind::unavailable,
                 "the sandbox in which this job's build sources are fetched ended " +
                     std::to_string(kMostStarts) + " times",
                 "look for what ends it; it is not started again in this script",
                 {}};
  if (auto noted =
          tools_.audit.append("fetch_start", {{"job", record_.key}, {"project", record_.project}});
      !noted)
    return std::move(noted).error().in("writing the audit log");
  FetchParts parts;
  parts.job = record_.key;
  parts.owner = tools_.owner;
  parts.container = container();
  parts.joins = "slipway-" + record_.key + "-job";
  parts.ids = slot_of(record_);
  parts.limits = step_limits(tools_);
  parts.limits.file_bytes = tools_.config.sandbox.file_bytes;
  parts.workspace_volume = record_.volume;
  parts.workspace = tools_.config.gitlab.builds_dir;
  parts.init = tools_.config.programs.init;
  parts.shim = tools_.config.programs.shim;
  if (auto removed = tools_.podman.remove({parts.container}); !removed) return removed;
  // What joins its namespaces keeps it from ending: the number stays its own.
  auto job = tools_.podman.inspect(parts.joins);
  if (!job) return std::move(job).error().in("looking for the job's sandbox");
  init_pid_ = job->host_pid;
  auto listener = sandbox::listen_for_scripts(socket_);
  if (!listener) return std::move(listener).error();
  auto spec = fetch_spec(parts);
  spec.script_listener = listener->get();
  if (auto root = sandbox::use_host_tools(tools_.podman, spec); !root) return root;
  auto started = tools_.podman.start(spec);
  if (!started)
    return std::move(started).error().in("starting the sandbox in which sources are fetched");
  is_up_ = true; // from here on there is something to remove
  const auto proc = "/proc/" + std::to_string(started->host_pid);
  auto uids = read_file(proc + "/uid_map", kMaxMapBytes);
  auto gids = read_file(proc + "/gid_map", kMaxMapBytes);
  auto noted = uids && gids ? look_after(tools_, record_.key, "fetch", *started, nullptr)
                            : Status{(uids ? gids : uids).error()};
  if (!noted) {
    take_down();
    return std::move(noted).error().in("starting the sandbox in which sources are fetched");
  }
  uid_map_ = *std::move(uids);
  gid_map_ = *std::move(gids);
  return {};
}

Result<int> JobFetches::run(const broker::FetchOrder& order,
                            const broker::SessionStreams& streams) {
  if (auto may = may_lend(); !may) return std::move(may).error();
  auto request = fetch_request(order, tools_.config.gitlab.builds_dir);
  if (!request) return std::move(request).error();
  if (auto entered = enter(streams.cancelled); !entered) return std::move(entered).error();
  const Turn turn{*this};
  auto user = fetch_user(order.peer, init_pid_, uid_map_, gid_map_);
  if (!user) return std::move(user).error();
  request->user = *std::move(user);
  const sandbox::BuildClock clock{streams.cancelled, kFetchPatience};
  sandbox::ScriptIo io;
  io.stop_fd = clock.stop_fd();
  io.deadline = clock.left();
  io.out = streams.out;
  io.err = streams.err;
  auto ran = runner_(*request, io);
  for (auto& word : request->argv) // both may hold logins
    ::explicit_bzero(word.data(), word.size());
  for (auto& [name, value] : request->env)
    ::explicit_bzero(value.data(), value.size());
  if (!ran) return std::move(ran).error().in(order.program);
  if (ran->stopped) return sandbox::build_cancelled();
  if (!ran->ending.error.empty())
    return Error{
        ErrorKind::unavailable, order.program + " " + sandbox::describe(ran->ending), "", {}};
  constexpr int kBySignal = 128;
  if (ran->ending.signal) return kBySignal + *ran->ending.signal;
  return ran->ending.exit_code.value_or(1);
}

Status JobFetches::context(const broker::RemoteContext& wanted, const Use& use,
                           const broker::Cancelled& cancelled) {
  if (auto may = may_lend(); !may) return may;
  if (wanted.address.size() > kMaxRemoteBytes || wanted.address.find('\n') != std::string::npos ||
      wanted.dockerfile.find('\n') != std::string::npos)
    return Error{ErrorKind::bad_input,
                 "the address of the build context is longer than 8 KiB, or has more than a line",
                 "",
                 {}};
  if (::access("/usr/bin/git", X_OK) != 0 && ::access("/usr/bin/curl", X_OK) != 0)
    return lacks("git and curl");
  if (auto entered = enter(cancelled); !entered) return entered;
  std::optional<Turn> turn{std::in_place, *this};
  const auto folder = kRemoteFolder + std::to_string(++contexts_);
  auto request = sandbox::program_request({kFetcher}, folder);
  request.user = kNobody;
  request.umask = 0022;
  request.cwd = folder;
  request.make_cwd = true;
  request.env.emplace_back("TMPDIR", folder);
  if (record_.network_closed) {
    const auto proxy = "http://127.0.0.1:" + std::to_string(egress::kProxyPort);
    for (const char* name : {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"})
      request.env.emplace_back(name, proxy);
    for (const char* name : {"no_proxy", "NO_PROXY"})
      request.env.emplace_back(name, record_.no_proxy);
  }
  std::once_flag over;
  const auto end = [&] {
    std::call_once(over, [&] {
      remove_folder(folder, cancelled);
      turn.reset();
    });
  };
  auto taken = take_context(
      runner_, request, wanted.address + "\n" + wanted.dockerfile + "\n",
      [&](const auto& tar, const std::string& said) {
        // The build goes on when its tar has ended, and needs nothing of this any more.
        use(
            [&](char* buffer, std::size_t capacity) {
              auto got = tar(buffer, capacity);
              if (!got || *got == 0) end();
              return got;
            },
            said);
      },
      cancelled);
  end();
  return taken;
}

void JobFetches::remove_folder(const std::string& folder,
                               const broker::Cancelled& cancelled) const {
  // Best effort: what stays goes with the sandbox.
  const auto patience = cancelled && cancelled() ? kLeaverPatience : kRemovalPatience;
  const sandbox::BuildClock clock{nullptr, patience};
  (void)sandbox::read_program(runner_,
                              sandbox::program_request({"/usr/bin/rm", "-rf", "--", folder}, "/"),
                              0, clock, {}, patience)
      .ok();
}

Status take_context(const sandbox::ScriptRunner& runner, const engine_api::ScriptRequest& request,
                    const std::string& words, const broker::FetchService::Use& use,
                    const broker::Cancelled& cancelled) {
  std::atomic<bool> is_done = false; // nobody reads on
  const sandbox::BuildClock clock{[&] { return is_done || (cancelled && cancelled()); },
                                  kFetchPatience};
  std::mutex saying;
  std::string said;
  bool came_whole = false; // under saying
  const auto telling = [&](const engine_api::ScriptRequest& asked, const sandbox::ScriptIo& io) {
    auto own = io;
    own.input = words;
    own.drain = kDrain; // a build may wait for its turn before it reads
    own.err = [&](std::string_view bytes) {
      const std::lock_guard lock{saying};
      said += bytes.substr(0, kMaxFetchWords - std::min(kMaxFetchWords, said.size()));
    };
    auto ran = runner(asked, own);
    const std::lock_guard lock{saying};
    came_whole = ran && !ran->stopped && sandbox::succeeded(ran->ending);
    return ran;
  };
  bool has_come = false;
  const auto ended = sandbox::stream_program(telling, request, clock, [&](int fd) -> Status {
    const auto read = [fd](char* buffer, std::size_t capacity) -> Result<std::size_t> {
      for (;;) {
        const ssize_t got = ::read(fd, buffer, capacity);
        if (got >= 0) return static_cast<std::size_t>(got);
        if (errno != EINTR) return io_error("read", errno, "what was fetched");
      }
    };
    // It prints once all is there: without a byte, its ending tells why.
    std::string first(kFirstPart, '\0');
    auto got = read(first.data(), first.size());
    if (!got) return std::move(got).error();
    first.resize(*got);
    if (first.empty()) return {};
    has_come = true;
    const struct Done { // also where `use` throws
      std::atomic<bool>& is_done;
      ~Done() { is_done = true; }
    } done{is_done};
    std::string before;
    {
      const std::lock_guard lock{saying};
      before = said;
    }
    use(
        [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
          if (!first.empty()) {
            const auto count = first.copy(buffer, capacity);
            first.erase(0, count);
            return count;
          }
          auto more = read(buffer, capacity);
          if (!more || *more > 0) return more;
          // The stream ends after the program has: what stops in its midst is no context.
          const std::lock_guard lock{saying};
          if (came_whole) return std::size_t{0};
          return Error{ErrorKind::bad_input,
                       "the build context did not come whole" +
                           (said == before || said.size() < before.size()
                                ? ""
                                : ": " + plain_words(said.substr(before.size()))),
                       "",
                       {}};
        },
        before);
    return {};
  });
  if (has_come) return {};
  if (!ended) return ended.error();
  if (sandbox::succeeded(*ended))
    return Error{ErrorKind::bad_input, "what was fetched is empty", "", {}};
  const bool lacks_programs = ended->exit_code == kLacksPrograms;
  return Error{lacks_programs ? ErrorKind::misconfigured : ErrorKind::bad_input,
               said.empty() ? "fetching the build context " + sandbox::describe(*ended)
                            : plain_words(said),
               lacks_programs ? "operator: install git and curl on the host" : "",
               {}};
}

} // namespace slipway::image
