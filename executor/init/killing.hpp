// SPDX-License-Identifier: Apache-2.0
// Ending processes of init's PID namespace: all of them, or those of one session.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <vector>

namespace slipway::init {

/// A child that ended, with its wait(2) status.
struct Reaped {
  pid_t pid;
  int status;
};

/// SIGKILL to every process but init itself, again and again until nothing is left or `bound` has
/// passed (a process in an uninterruptible wait). Adds what it reaped. Only for PID 1.
/// A fork bomb does not outrun it: fork fails in a process that has a signal pending, and kill(-1)
/// holds the task list. Source: kernel/fork.c, copy_process.
void kill_everything(std::chrono::milliseconds bound, std::vector<Reaped>& reaped);

/// Sends `signal` to the processes of session `sid` and to their descendants, but not to `sid`'s
/// leader where `spare_leader`. Returns how many it reached; zombies do not count.
int signal_session(pid_t sid, int signal, bool spare_leader);

/// SIGKILL to a session until nothing of it is left or `bound` has passed. A process that made its
/// own session and lost its parent is not found: only kill_everything gets those.
void kill_session(pid_t sid, std::chrono::milliseconds bound);

} // namespace slipway::init
