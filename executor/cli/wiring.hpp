// SPDX-License-Identifier: Apache-2.0
// The one place that makes real objects and joins them.
#pragma once

#include "config/config.hpp"
#include "executor/audit/audit.hpp"
#include "executor/base/clock.hpp"
#include "executor/cli/explain.hpp"
#include "executor/gitlab/stages.hpp"
#include "executor/policy/policy.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/state/job_record.hpp"
#include "executor/vulndb/kind.hpp"
#include "stages/image/images.hpp"
#include "stages/job/job.hpp"

#include <memory>
#include <optional>
#include <string>

namespace slipway::cli {

/// The backends that this host is set up for, in the versions that they say themselves: more are
/// added here. What is not there, or too old, is left out; `slipway backends` says why.
image::WiredBackends wired_backends(const config::Config& config, process::ProcessRunner& runner);

/// Where the audit log is, by the configuration or by default.
std::filesystem::path audit_file_of(const config::Config& config);

class Wiring {
public:
  /// Fills in the defaults that depend on where slipway runs (runtime folder, programs beside this
  /// one) and opens the operator log. `stop_fd`: see process::LocalRunner. Errors: misconfigured.
  static Result<std::unique_ptr<Wiring>> make(config::Config config, int stop_fd);

  /// What stands between an operator and his log; "": it is written.
  const std::string& log_problem() const { return log_problem_; }

  const config::Config& config() const { return config_; }
  gitlab::StageTools stage_tools();
  image::Leases leases();
  /// See cli::doctor. Asks the issuers' providers, which are slipway-push's.
  int doctor();
  /// Cleans up after dead jobs and idle builders; `all`: after every job and builder, running or
  /// not.
  Result<int> collect_garbage(bool all);
  int gate_check(const std::string& layout, const policy::Subject& subject, const std::string& db,
                 bool json, const std::string& format);
  /// See image::Images::promote; judged and pushed as a job of `subject` would be (without a
  /// project: of the target's repository). Exit codes: 0; 1 denied; 2 it could not be done.
  int promote(const std::string& source, const std::string& target, const policy::Subject& subject);
  /// cli::explain with base images that are asked for at their registries. Returns the exit code.
  int explain(ExplainOptions question);
  int db_update(const std::vector<std::string>& accepted_losses);
  int db_rollback(const vulndb::Kind& kind);

private:
  Wiring(config::Config config, int stop_fd, sandbox::Engine engine, std::string user,
         std::string owner);
  image::Tools image_tools();
  /// Asks the tools once, and not again while they are the same files.
  const image::WiredBackends& backends();
  Result<identity::Claims> check_identity(const gitlab::JobResponse& response);
  /// A job of its own for a command, so that the reaper finds what a killed one leaves. Errors:
  /// timed_out; io.
  Result<state::JobRecord> begin_command(const std::string& name, const policy::Subject& subject);
  Status end_command(const state::JobRecord& record);
  config::Config config_;
  SystemClock clock_;
  process::LocalRunner runner_;
  int stop_fd_;
  sandbox::Engine engine_;
  std::string user_;
  std::string owner_;
  sandbox::Podman podman_;
  state::JobFolders folders_;
  audit::FileAuditLog audit_;
  sandbox::SlotPlan slots_;
  job::Jobs jobs_;
  std::optional<image::WiredBackends> backends_;
  std::string log_problem_;
};

} // namespace slipway::cli
