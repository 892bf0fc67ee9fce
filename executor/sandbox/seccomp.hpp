// SPDX-License-Identifier: Apache-2.0
// Which system calls sandboxes that hold root of a user namespace may make; the others have
// Podman's own filter.
//   - A builder's is around the builder and all its steps: the calls that programs and builders
//     use, by name. What it refuses by name gives EPERM, but for the kernel's keys; what is not
//     named there, so also what a newer kernel has, gives ENOSYS.
//   - An engine's is around the daemon and all that it starts, privileged containers and those
//     with seccomp=unconfined too. It refuses, by name, what no container needs and most of what
//     the sandbox of a job may not do either: a job's containers may be anything.
//   - Inside of that, the containers' is what each gets that asks for nothing else: the calls that
//     programs use, by name. What is not named there is refused.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <set>
#include <string>

namespace slipway::sandbox {

/// How a builder runs its steps.
enum class StepsBy {
  runc,         ///< in containers, each with a session keyring and a filter of its own
  changed_root, ///< beside it, with a changed root (Buildah's chroot isolation)
};

/// The profile of a builder's sandbox, for Podman. Pure.
/// Source: containers-common, seccomp.json (the format).
std::string builder_seccomp(StepsBy steps);

/// Writes it to where `spec` says that its profile is. Errors: io.
Status write_builder_seccomp(const SandboxSpec& spec, StepsBy steps);

/// The profile of the sandbox that holds a container engine, for Podman. Pure.
/// Source: containers-common, seccomp.json (the format).
std::string engine_seccomp();

/// The profile of containers, for daemon.json's `seccomp-profile`. Pure.
/// Source: Docker's documentation, "Seccomp security profiles" (the format).
std::string container_seccomp();

/// Calls that container_seccomp leaves out on purpose. Tests hold that, and what it names, against
/// the kernel's own list.
std::set<std::string> refused_calls();
/// The same of builder_seccomp.
std::set<std::string> calls_refused_to_builders(StepsBy steps);

} // namespace slipway::sandbox
