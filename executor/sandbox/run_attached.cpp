// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <sys/resource.h>

#include <algorithm>

namespace slipway::sandbox {

Result<process::Output> Podman::run_attached(const SandboxSpec& spec,
                                             std::chrono::milliseconds deadline,
                                             std::size_t output_limit) {
  if (auto good = check_spec(spec); !good) return std::move(good).error();
  if (!spec.env.empty() || !spec.preserve_fds.empty()) {
    return Error{
        ErrorKind::internal, "an attached sandbox gets no environment and no descriptors", "", {}};
  }
  SandboxSpec possible = spec;
  rlimit own{};
  if (::getrlimit(RLIMIT_NOFILE, &own) == 0 && own.rlim_max != RLIM_INFINITY) {
    possible.limits.open_files = std::min<std::uint64_t>(possible.limits.open_files, own.rlim_max);
  }

  process::Command command;
  command.argv = argv_for(engine_, possible);
  std::replace(command.argv.begin(), command.argv.end(), std::string{"--detach"},
               std::string{"--rm"});
  // What it says is read here; a second copy in a log would only cost disk.
  std::replace(command.argv.begin(), command.argv.end(), std::string{"--log-driver=k8s-file"},
               std::string{"--log-driver=none"});
  std::erase(command.argv, "--log-opt=max-size=1mb");
  command.env = podman_env(engine_);
  command.deadline = deadline;
  command.output_limit = output_limit;
  command.no_new_privileges = false; // newuidmap is setuid

  auto output = runner_.run(command);
  // Podman ended by the deadline or by the output limit leaves the sandbox running.
  if (!output || !std::holds_alternative<process::Exited>(output->ending))
    (void)remove({spec.name});
  if (!output) return std::move(output).error().in("running " + spec.name);
  return output;
}

} // namespace slipway::sandbox
