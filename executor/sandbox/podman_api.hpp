// SPDX-License-Identifier: Apache-2.0
// Podman's own REST API on a private unix socket. A Podman process costs 25 to 40 ms before it does
// anything; a job needs a dozen calls. So they go to one `podman system service`, which is started
// when nobody answers and ends by itself when it was idle for a while: nothing has to be installed,
// watched or stopped. It can do what the service user can do with Podman anyway.
// Source: podman-system-service(1); libpod API v4.0.0.
#pragma once

#include "executor/base/result.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <filesystem>
#include <string>

namespace slipway::sandbox {

struct ApiRequest {
  std::string method; ///< "GET", "POST", "DELETE"
  std::string target; ///< below /libpod, with query: "/containers/a/start"
  std::string body;   ///< JSON; "" = none
};

struct ApiAnswer {
  int status = 0;
  std::string body;
  bool ok() const { return status >= 200 && status < 300; }
};

/// The seam to Podman's API.
class PodmanApi {
public:
  virtual ~PodmanApi() = default;
  /// Any status is an answer. Errors: unavailable (the service cannot be started, or ended in the
  /// middle), timed_out, bad_input (an answer above 16 MiB).
  virtual Result<ApiAnswer> ask(const ApiRequest& request) = 0;
};

/// One `podman system service` for each user, Podman and settings, shared by all of slipway's
/// processes.
class PodmanService final : public PodmanApi {
public:
  /// Once `stop_fd` (lent, -1: none) is readable, nothing more is asked: Errors: unavailable.
  explicit PodmanService(Engine engine, int stop_fd = -1);
  Result<ApiAnswer> ask(const ApiRequest& request) override;

  /// Idle time after which the service ends.
  static constexpr std::chrono::seconds kIdle{10};

private:
  Result<UniqueFd> connected();
  Result<process::ChildProcess> start();
  /// True for a service whose namespaces are no longer Podman's, since `podman system migrate`: the
  /// networks and mounts that it makes are in no other Podman's sight.
  bool is_left_behind() const;
  std::string log_file() const { return socket_.string() + ".log"; }
  /// The pause process of the service that listens; none where it could not be told.
  std::string pause_file() const { return socket_.string() + ".pause"; }

  Engine engine_;
  int stop_fd_;
  std::filesystem::path socket_;
};

} // namespace slipway::sandbox
