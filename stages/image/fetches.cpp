// SPDX-License-Identifier: Apache-2.0
#include "stages/image/fetches.hpp"

#include "executor/egress/proxy.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace slipway::image {
namespace {

constexpr std::chrono::minutes kFetchPatience{35}; ///< after the shim's own, so that it has its say
constexpr std::size_t kMaxFetchWords = 4UL << 10;
constexpr std::size_t kMaxRemoteBytes = 8UL << 10;
constexpr std::size_t kFirstPart = 64UL << 10;
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
  return spec;
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
  if (::access(program.c_str(), X_OK) != 0)
    return Error{ErrorKind::misconfigured,
                 "the runner's host has no " + order.program + " to lend",
                 "operator: install " + order.program + " on the host",
                 {}};
  engine_api::ScriptRequest request;
  request.argv = {program};
  request.argv.insert(request.argv.end(), order.arguments.begin(), order.arguments.end());
  if (!order.input.empty())
    request.argv.insert(request.argv.begin(),
                        {"/bin/sh", "-c", "exec \"$@\" <\"$0\"", order.input});
  for (const auto& variable : order.env)
    if (variable.first != "PATH") request.env.push_back(variable);
  request.env.emplace_back("PATH", "/usr/bin:/bin");
  request.user = order.user;
  request.cwd = order.folder;
  request.grace = std::chrono::seconds{2};
  request.keep_others = true; // others fetch beside it
  return request;
}

JobFetches::JobFetches(const Tools& tools, const state::JobRecord& record)
    : tools_{tools}, record_{record}, socket_{tools.folders.run_dir(record.key) / "fetch.sock"},
      runner_{[socket = socket_](const engine_api::ScriptRequest& request,
                                 const sandbox::ScriptIo& io) {
        return sandbox::run_script(socket, request, io);
      }} {}

bool JobFetches::answers() const {
  std::error_code failed;
  if (!std::filesystem::exists(socket_, failed)) return false;
  const sandbox::BuildClock clock{nullptr, std::chrono::minutes{1}};
  return sandbox::read_program(runner_, sandbox::program_request({"/usr/bin/true"}, "/"), 0, clock)
      .ok();
}

Status JobFetches::open() {
  const std::lock_guard guard{opening_};
  if (answers()) return {};
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
  parts.container = "slipway-" + record_.key + "-fetch";
  parts.joins = "slipway-" + record_.key + "-job";
  parts.ids = slot_of(record_);
  parts.limits = step_limits(tools_);
  parts.limits.file_bytes = tools_.config.sandbox.file_bytes;
  parts.workspace_volume = record_.volume;
  parts.workspace = tools_.config.gitlab.builds_dir;
  parts.init = tools_.config.programs.init;
  parts.shim = tools_.config.programs.shim;
  if (auto removed = tools_.podman.remove({parts.container}); !removed) return removed;
  auto listener = sandbox::listen_for_scripts(socket_);
  if (!listener) return std::move(listener).error();
  auto spec = fetch_spec(parts);
  spec.script_listener = listener->get();
  if (auto root = sandbox::use_host_tools(tools_.podman, spec); !root) return root;
  auto started = tools_.podman.start(spec);
  if (!started)
    return std::move(started).error().in("starting the sandbox in which sources are fetched");
  return look_after(tools_, record_.key, "fetch", *started, nullptr);
}

Result<int> JobFetches::run(const broker::FetchOrder& order,
                            const broker::SessionStreams& streams) {
  auto request = fetch_request(order, tools_.config.gitlab.builds_dir);
  if (!request) return std::move(request).error();
  if (auto opened = open(); !opened) return std::move(opened).error();
  const sandbox::BuildClock clock{streams.cancelled, kFetchPatience};
  sandbox::ScriptIo io;
  io.stop_fd = clock.stop_fd();
  io.deadline = clock.left();
  io.out = streams.out;
  io.err = streams.err;
  auto ran = runner_(*request, io);
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
  if (wanted.address.size() > kMaxRemoteBytes || wanted.address.find('\n') != std::string::npos ||
      wanted.dockerfile.find('\n') != std::string::npos)
    return Error{ErrorKind::bad_input,
                 "the address of the build context is longer than 8 KiB, or has more than a line",
                 "",
                 {}};
  if (auto opened = open(); !opened) return opened;
  const sandbox::BuildClock clock{cancelled, kFetchPatience};
  auto request = sandbox::program_request({kFetcher}, "/root");
  request.umask = 0022;
  if (record_.network_closed) {
    const auto proxy = "http://127.0.0.1:" + std::to_string(egress::kProxyPort);
    for (const char* name : {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"})
      request.env.emplace_back(name, proxy);
    for (const char* name : {"no_proxy", "NO_PROXY"})
      request.env.emplace_back(name, record_.no_proxy);
  }
  const std::string words = wanted.address + "\n" + wanted.dockerfile + "\n";
  std::mutex saying;
  std::string said;
  const auto telling = [&](const engine_api::ScriptRequest& asked, const sandbox::ScriptIo& io) {
    auto own = io;
    own.input = words;
    own.err = [&](std::string_view bytes) {
      const std::lock_guard lock{saying};
      said += bytes.substr(0, kMaxFetchWords - std::min(kMaxFetchWords, said.size()));
    };
    return runner_(asked, own);
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
    std::string before;
    {
      const std::lock_guard lock{saying};
      before = said;
    }
    use(
        [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
          if (first.empty()) return read(buffer, capacity);
          const auto count = first.copy(buffer, capacity);
          first.erase(0, count);
          return count;
        },
        before);
    return {};
  });
  if (has_come) return {};
  if (!ended) return ended.error();
  if (sandbox::succeeded(*ended))
    return Error{ErrorKind::bad_input, "what was fetched is empty", "", {}};
  return Error{ErrorKind::bad_input,
               said.empty() ? "fetching the build context " + sandbox::describe(*ended)
                            : plain_words(said),
               "",
               {}};
}

} // namespace slipway::image
