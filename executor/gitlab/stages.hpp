// SPDX-License-Identifier: Apache-2.0
// The four stages of GitLab Runner's custom executor: how a process of ours starts, talks and
// exits. Exit codes: 0 done; BUILD_FAILURE_EXIT_CODE (1) the job's fault, its own code in
// BUILD_EXIT_CODE_FILE; SYSTEM_FAILURE_EXIT_CODE (2) ours. Nothing else, and never 0 after SIGTERM.
// Source: GitLab Runner 19.4, executors/custom.
#pragma once

#include "config/config.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/gitlab/job_response.hpp"
#include "executor/identity/id_token.hpp"
#include "stages/image/images.hpp"
#include "stages/job/job.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace slipway::gitlab {

/// Turns SIGTERM, SIGINT, SIGHUP and the death of the parent into a readable descriptor. Make it
/// before any thread; it blocks the signals for the whole process.
class StopSignal {
public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  /// Readable for ever once the process has to end, or end_work() was called.
  int fd() const noexcept { return event_.get(); }
  bool raised() const;
  /// Raises it from within ("no disk space left").
  void raise();
  /// The process is nearly done: what waits on fd() works for nobody any more. raised() says
  /// nothing of it.
  void end_work();

private:
  struct Watcher;
  UniqueFd event_;
  std::atomic<bool> raised_{false};
  std::unique_ptr<Watcher> watcher_;
};

/// Was this process left to an init of another session, because the runner that started it has died
/// already? StopSignal watches the init then.
bool runner_has_gone();

/// Has the file system of one of `places` less than `floor` bytes left, or room for fewer than
/// 10,000 files? 0: nobody asks.
bool is_short_of_space(const std::vector<std::filesystem::path>& places, std::uint64_t floor);

/// Raises `stop` when the file system of one of `places` has less than `floor` bytes left: rootless
/// Podman has no quota that would end a job that fills the disk of all others.
class DiskWatchdog {
public:
  /// `before_stop` is called once, by a thread of the watchdog, before `stop` is raised: what a
  /// script or a build has written may be gone with it. `stop` does not wait for its end where half
  /// of the floor is gone, too; fired() does.
  DiskWatchdog(std::vector<std::filesystem::path> places, std::uint64_t floor, StopSignal& stop,
               std::function<void()> before_stop = {});
  ~DiskWatchdog();
  DiskWatchdog(const DiskWatchdog&) = delete;
  DiskWatchdog& operator=(const DiskWatchdog&) = delete;
  bool fired() const;

private:
  struct Watch;
  std::unique_ptr<Watch> watch_;
};

/// How long a look that is to come `every` so often has to wait when the last one was `ago`: not at
/// all where there was none, or the clock was set back since.
std::chrono::milliseconds until_next(std::chrono::milliseconds every,
                                     std::optional<std::chrono::milliseconds> ago);

/// Does `work` again and again, `every` so often and first after `first`, until it is gone; an
/// error is `failed`'s, told once for all of the same words.
class Repeated {
public:
  Repeated(std::chrono::milliseconds first, std::chrono::milliseconds every,
           std::function<Status()> work, std::function<void(const Error&)> failed);
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;
  /// Waits for what is being done.
  ~Repeated();

private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;
};

/// What the runner's process environment says. Source: executors/custom/command.go.
struct StageEnvironment {
  int build_failure = 1;
  int system_failure = 2;
  std::filesystem::path exit_code_file;
  std::filesystem::path job_response_file;
  static StageEnvironment read();
};

/// The code of a stage's process: what `stage` returns, but never 0 where it was to stop, however
/// near its end that came.
int code_at_end(const StageEnvironment& environment, const StopSignal& stop,
                const std::function<int()>& stage);

/// Everything a stage works with, made by executor/cli.
struct StageTools {
  const config::Config& config;
  job::Jobs& jobs;
  state::JobFolders& folders;
  std::filesystem::path storage;                   ///< where Podman keeps its containers
  std::function<Status(image::Leftovers)> collect; ///< see image::collect_leftovers
  std::function<Result<identity::Claims>(const JobResponse&)>
      check_identity; ///< the job's ID token
  /// Revokes what was minted for this job and is still out; "": for jobs that died.
  std::function<Status(const std::string& job)> end_leases;
  /// `proxy`: where the job's builds get out, lent; null: nowhere, or they need none.
  std::function<std::unique_ptr<image::Images>(const JobResponse&, const state::JobRecord&,
                                               egress::Proxy* proxy)>
      make_images;
};

int run_config(const StageTools& tools, const StageEnvironment& environment);
int run_prepare(const StageTools& tools, const StageEnvironment& environment, StopSignal& stop);
int run_run(const StageTools& tools, const StageEnvironment& environment, StopSignal& stop,
            const std::filesystem::path& script, const std::string& sub_stage);
int run_cleanup(const StageTools& tools, const StageEnvironment& environment);

/// Errors for a stage's stderr: what, why, what next; of a job that is not known yet, so nothing is
/// masked. Returns the exit code by whose fault it is.
int report(const StageEnvironment& environment, const Error& error);

/// Where a sub-stage runs: `build_script`, `step_*` and `after_script` in the job's image,
/// everything else, unknown names too, in the helper. Source: common/build.go, getPredefinedEnv.
job::Where where_for(std::string_view sub_stage);

/// What goes before a script of the job: a word about the escapes in it, where the image's shell
/// would only say "Syntax error". "" where the script has none. Source: docs of
/// FF_POSIXLY_CORRECT_ESCAPES.
std::string shell_check(std::string_view script);

/// One line for each service that is not started because slipway's broker takes its place
/// (is_docker_in_docker): which of its options have no effect, and what there is instead.
std::vector<std::string> words_on_replaced_services(const JobResponse& response);

/// The job in the core's words. Errors: bad_input.
Result<job::JobSpec> job_spec_from(const JobResponse& response, const config::Config& config);

} // namespace slipway::gitlab
