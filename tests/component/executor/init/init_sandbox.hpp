// SPDX-License-Identifier: Apache-2.0
// The real slipway-init as PID 1 of namespaces of its own, without a container engine.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/script_client.hpp"

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>

namespace slipway::init {

/// Where the programs under test were built: SLIPWAY_BIN, else bin/ beside the folder of this test.
std::filesystem::path built_program(const std::string& name);
/// A program of tests/programs.
std::filesystem::path misbehaving_program(const std::string& name);

/// A PID, mount and network namespace with init in it; its end takes everything along.
class InitSandbox {
public:
  struct Options {
    bool docker = false; ///< SLIPWAY_DOCKER=sandbox, with folder() as /run/slipway
    bool tls = false; ///< with docker: certificates in run/tls, for clients in folder()/tls/client
    bool empty_root = false; ///< a root with nothing but init and /proc
    std::function<void(const std::filesystem::path& root)> fill_root{}; ///< with empty_root
  };
  InitSandbox();
  explicit InitSandbox(const Options& options);
  InitSandbox(const InitSandbox&) = delete;
  InitSandbox& operator=(const InitSandbox&) = delete;
  ~InitSandbox();

  /// "" where it started; else why the tests that need it have to be skipped.
  const std::string& problem() const { return problem_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path socket() const { return folder_ / "scripts.sock"; }
  pid_t host_pid() const { return pid_; }
  /// A descriptor made by `make` while inside the sandbox's network namespace.
  UniqueFd in_network(const std::function<int()>& make) const;
  /// Processes of the sandbox besides init.
  int others() const;

private:
  std::filesystem::path folder_;
  pid_t pid_ = -1;
  std::string problem_;
};

/// What a script said and how it ended.
struct Said {
  Result<sandbox::ScriptResult> result;
  std::string out;
  std::string err;
};
Said run(const InitSandbox& sandbox, const engine_api::ScriptRequest& request,
         const std::string& script = "", int stop_fd = -1,
         std::chrono::milliseconds deadline = std::chrono::seconds{30});
/// A request for the shell, with a grace period of 300 ms.
engine_api::ScriptRequest shell_request();

} // namespace slipway::init
