// SPDX-License-Identifier: Apache-2.0
#include "stages/image/containers.hpp"

#include "executor/backends/dockerd/daemon.hpp"
#include "executor/base/file.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace slipway::image {

Result<UniqueFd> connect_to_sandbox(const std::filesystem::path& socket) {
  const auto refused = [&](const std::string& why) {
    return Error{ErrorKind::unavailable, why, "", {socket.string()}};
  };
  // The engine's root owns what lies here. A link could lead to a socket of the service user.
  const UniqueFd file{::open(socket.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0) return refused("there is no socket");
  if (!S_ISSOCK(facts.st_mode) || facts.st_uid == ::geteuid())
    return refused("this is no socket of a sandbox");
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return io_error("socket", errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return refused("nobody listens");
  return fd;
}

JobContainers::JobContainers(const Tools& tools, const state::JobRecord& record,
                             const policy::Effective& effective)
    : tools_{tools}, record_{record},
      effective_{effective}, folder_{tools.folders.run_dir(record.key) / "engine"},
      rules_{tools.config.gitlab.builds_dir, backends::dockerd::kBrokerSocket} {}

bool JobContainers::is_started() {
  return connect_to_sandbox(backends::dockerd::daemon_socket(folder_)).ok();
}

unsigned JobContainers::api() {
  if (!effective_.backends.dind || tools_.config.dind.tools.empty()) return broker::kOldestApi;
  const auto wired = tools_.backends.find("dind");
  if (wired == tools_.backends.end() || !wired->second.dockerd) return broker::kOldestApi;
  return std::max(backends::dockerd::api_of(*wired->second.dockerd), broker::kOldestApi);
}

Status JobContainers::may_run() {
  if (effective_.backends.dind) return {};
  return Error{ErrorKind::denied,
               "this job may not run containers: " +
                   (effective_.rule.empty()
                        ? std::string{"no rule of the policy is about it"}
                        : "the rule " + effective_.rule + " does not say dind = true"),
               "run the command in the job's script, list the image under services:, or ask the "
               "operator for dind = true with a dind_justification in a [[rule]]",
               {}};
}

Result<UniqueFd> JobContainers::connect() {
  if (auto may = may_run(); !may) return std::move(may).error();
  const auto socket = backends::dockerd::daemon_socket(folder_);
  const std::lock_guard guard{starting_};
  if (auto connected = connect_to_sandbox(socket)) return connected;
  // A job can end its engine. What it makes slipway do for that has a limit.
  if (++starts_ > kMostStarts)
    return Error{ErrorKind::unavailable,
                 "the job's container engine ended " + std::to_string(kMostStarts) + " times",
                 "look for what ends it; it is not started again in this script",
                 {}};
  if (auto started = start(); !started)
    return std::move(started).error().in("starting the job's container engine");
  return connect_to_sandbox(socket);
}

Status JobContainers::start() {
  const auto& tools = tools_.config.dind.tools;
  if (!tools.empty() && !tools_.backends.contains("dind"))
    return Error{ErrorKind::misconfigured,
                 "the dockerd in " + tools.string() + " is none that slipway can use",
                 "`slipway backends` says why",
                 {}};
  auto noted = tools_.audit.append("engine_start",
                                   {{"job", record_.key},
                                    {"project", record_.project},
                                    {"rule", effective_.rule},
                                    {"justification", effective_.backends.dind_justification}});
  if (!noted) return std::move(noted).error().in("writing the audit log");
  backends::dockerd::DaemonParts parts;
  parts.job = record_.key;
  parts.owner = tools_.owner;
  parts.container = "slipway-" + record_.key + "-engine";
  parts.joins = "slipway-" + record_.key + "-job";
  parts.ids = slot_of(record_);
  parts.limits = step_limits(tools_);
  parts.images_volume = "slipway-" + record_.key + "-engine";
  parts.workspace_volume = record_.volume;
  parts.workspace = tools_.config.gitlab.builds_dir;
  parts.folder = folder_;
  Status looked_after;
  parts.started = [&](const sandbox::ContainerFacts& sandbox) {
    looked_after = look_after(tools_, record_.key, "engine", sandbox, nullptr);
  };
  parts.tools = tools;
  parts.broker_dir = tools_.folders.run_dir(record_.key) / "sock";
  auto started = backends::dockerd::start_daemon(tools_.podman, parts);
  return started ? std::move(looked_after) : std::move(started);
}

} // namespace slipway::image
