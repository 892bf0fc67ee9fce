// SPDX-License-Identifier: Apache-2.0
// Starting programs: everything is denied unless the Command says so. A child gets no environment,
// no descriptors, no terminal, no PATH search and no shell; it dies with its deadline.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::process {

struct Exited {
  int code;
  bool operator==(const Exited&) const = default;
};
struct Signaled {
  int signal;
  bool dumped_core;
  bool operator==(const Signaled&) const = default;
};
struct DeadlinePassed {
  std::chrono::milliseconds after;
  bool operator==(const DeadlinePassed&) const = default;
};
/// How a process ended. 128+n is made at the edge, never stored.
using Ending = std::variant<Exited, Signaled, DeadlinePassed>;

/// True for Exited{0}.
bool succeeded(const Ending& ending);
/// "exit code 3", "signal 9 (Killed)", "did not end within 600 s".
std::string describe(const Ending& ending);

/// What to run. `argv[0]` is absolute. Descriptors in `fds` appear in the child under the second
/// number (lent, the caller keeps its own); 0-2 not named there are /dev/null.
struct Command {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;
  std::filesystem::path cwd = "/";
  std::vector<std::pair<int, int>> fds; ///< {ours, child's}
  std::string input;                    ///< bytes for stdin when 0 is not in `fds` (run only)
  std::chrono::milliseconds deadline{std::chrono::minutes{10}};
  std::chrono::milliseconds grace{std::chrono::seconds{5}}; ///< SIGTERM to SIGKILL, whole group
  std::size_t output_limit = 16UL << 20; ///< per stream, more is an error (run only)
  bool no_new_privileges = true;         ///< false only for podman itself: newuidmap is setuid
  bool ends_with_caller = false;         ///< SIGKILL once the *thread* that starts it has ended
};

/// A finished run: how it ended and what it said.
struct Output {
  Ending ending;
  std::string out;
  std::string err;
};

/// A running child, the leader of its own process group. Ending its life kills the group.
class ChildProcess {
public:
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  pid_t pid() const noexcept { return pid_; }
  /// Readable when the process has ended; for poll(2).
  int pidfd() const noexcept { return pidfd_.get(); }
  /// Waits until the end or the deadline; at the deadline SIGTERM, after `grace` SIGKILL.
  Ending wait(std::chrono::milliseconds deadline, std::chrono::milliseconds grace);
  /// Lets it live on after this object and this process, in its own process group.
  void leave() noexcept { pid_ = -1; }
  /// Sends a signal to the process group; nothing where it has ended.
  void signal(int number) noexcept;

private:
  friend Result<ChildProcess> spawn(const Command& command);
  ChildProcess(pid_t pid, UniqueFd pidfd) : pid_{pid}, pidfd_{std::move(pidfd)} {}
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

/// Starts a child and returns once exec has succeeded. Errors: not_found (no such program);
/// misconfigured (not executable, argv[0] relative); io.
Result<ChildProcess> spawn(const Command& command);

/// The seam for "run this and give me what it said".
class ProcessRunner {
public:
  virtual ~ProcessRunner() = default;
  /// Runs to the end, collecting stdout and stderr (those not redirected by `fds`).
  /// A non-zero exit is not an error here. Errors: as spawn; bad_input (output above the limit).
  virtual Result<Output> run(const Command& command) = 0;
};

/// Runs on this machine; what runs ends with this process, however that ends. When `stop_fd` (lent,
/// -1: none) becomes readable, what runs is ended as at its deadline and nothing more is started:
/// Errors: unavailable ("stopped").
class LocalRunner final : public ProcessRunner {
public:
  explicit LocalRunner(int stop_fd = -1) : stop_fd_{stop_fd} {}
  Result<Output> run(const Command& command) override;

private:
  int stop_fd_;
};

} // namespace slipway::process
