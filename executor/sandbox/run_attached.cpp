// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

namespace slipway::sandbox {

Result<process::Output> Podman::run_attached(const SandboxSpec& spec,
                                             std::chrono::milliseconds deadline,
                                             std::size_t output_limit) {
  SandboxSpec quiet = spec;
  quiet.keep_log = false; // it is read here; a second copy would only cost disk
  auto made = create(quiet);
  if (!made) return std::move(made).error().in("running " + spec.name);
  process::Command command;
  command.argv = podman_argv(engine_, {"start", "--attach", made->id});
  command.env = podman_env(engine_);
  command.deadline = deadline;
  command.output_limit = output_limit;
  command.no_new_privileges = false; // newuidmap is setuid
  auto output = runner_.run(command);
  (void)remove({spec.name}); // the reaper's work where it fails
  if (!output) return std::move(output).error().in("running " + spec.name);
  return output;
}

} // namespace slipway::sandbox
