// SPDX-License-Identifier: Apache-2.0
// Which system calls what belongs to a job's container engine may make. Two filters, one inside the
// other:
//   - the sandbox's is around the daemon and all that it starts, privileged containers and those
//     with seccomp=unconfined too. It refuses, by name, what no container needs and most of what
//     the sandbox of a job may not do either;
//   - the containers' is what each gets that asks for nothing else: the calls that programs use,
//     by name. What is not named there is refused, so also what a newer kernel has.
#pragma once

#include <set>
#include <string>

namespace slipway::backends::dockerd {

/// The profile of containers, for daemon.json's `seccomp-profile`. Pure.
/// Source: Docker's documentation, "Seccomp security profiles" (the format).
std::string container_seccomp();

/// The profile of the sandbox that holds the daemon, for Podman. Pure.
/// Source: containers-common, seccomp.json (the format).
std::string sandbox_seccomp();

/// Calls that container_seccomp leaves out on purpose. Tests hold that, and what it names, against
/// the kernel's own list.
std::set<std::string> refused_calls();

} // namespace slipway::backends::dockerd
