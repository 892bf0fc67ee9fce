// SPDX-License-Identifier: Apache-2.0
// Programs of a sandbox during a build: run through its slipway-init, ended when the job is
// cancelled, read with limits. What they say is hostile input.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/script_client.hpp"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace slipway::sandbox {

/// Runs one program in a sandbox; `run_script` with the sandbox's socket.
using ScriptRunner =
    std::function<Result<ScriptResult>(const engine_api::ScriptRequest&, const ScriptIo&)>;

/// A descriptor that becomes readable when `cancelled` says so (looks ten times a second), and the
/// time that a build has left. Begins when it is made.
class BuildClock {
public:
  BuildClock(std::function<bool()> cancelled, std::chrono::milliseconds deadline);
  BuildClock(const BuildClock&) = delete;
  BuildClock& operator=(const BuildClock&) = delete;
  ~BuildClock();

  /// For ScriptIo::stop_fd; lent. Negative where the system gave none.
  int stop_fd() const noexcept { return fd_.get(); }
  bool is_cancelled() const;
  /// Time left, at least one second so that cleaning up can be tried.
  std::chrono::milliseconds left() const;

private:
  std::function<bool()> cancelled_;
  std::chrono::steady_clock::time_point deadline_;
  UniqueFd fd_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread watcher_;
};

/// What every program of a build runs with: root of its sandbox, no variable of the job and none of
/// slipway, and beside others.
engine_api::ScriptRequest program_request(std::vector<std::string> argv, const std::string& home);

bool succeeded(const engine_api::ScriptEnding& ending);
/// "ended with exit code 3", "was ended by signal 9", "could not start: …".
std::string describe(const engine_api::ScriptEnding& ending);
/// The error of whatever a cancelled build was doing.
Error build_cancelled();

struct ProgramInput {
  std::string_view text;
  int fd = -1; ///< lent; wins over `text`
};

/// Runs it to its end, a minute at most, and gives what it printed. Errors: bad_input (it failed,
/// with its words; it said more than `limit` bytes); backend_failed (cancelled); those of
/// run_script.
Result<std::string> read_program(const ScriptRunner& run, const engine_api::ScriptRequest& request,
                                 std::size_t limit, const BuildClock& clock,
                                 ProgramInput input = {},
                                 std::chrono::milliseconds deadline = std::chrono::minutes{1});

/// Runs it while `consume` reads what it prints from a descriptor (lent); where that stops early,
/// the program gets no reader. How the program ended is the caller's to judge, unless `consume`
/// failed. Errors: those of `consume`; backend_failed (cancelled); those of run_script.
Result<engine_api::ScriptEnding> stream_program(const ScriptRunner& run,
                                                const engine_api::ScriptRequest& request,
                                                const BuildClock& clock,
                                                const std::function<Status(int fd)>& consume);

/// Fills up to `capacity` bytes and says how many; 0: the end.
using ByteSource = std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>;

/// Gives `consume` a descriptor (lent) from which all of `source` can be read, and which it may
/// leave early. Errors: those of `source`; io.
Status feed(const ByteSource& source, const std::function<void(int fd)>& consume);

/// Takes a build tool's output in pieces, hands whole lines on without its own log lines
/// ("time=… level=warning msg=…"), and keeps the end for the error. Lines longer than 64 KiB go on
/// in pieces.
class ProgressLines {
public:
  explicit ProgressLines(std::function<void(std::string_view)> sink) : sink_{std::move(sink)} {}
  void take(std::string_view bytes);
  void finish();
  const std::string& tail() const noexcept { return tail_; }

private:
  void line(std::string_view text);
  std::function<void(std::string_view)> sink_;
  std::string pending_;
  std::string tail_; ///< the last 16 KiB
};

} // namespace slipway::sandbox
