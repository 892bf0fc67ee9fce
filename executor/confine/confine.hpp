// SPDX-License-Identifier: Apache-2.0
// Takes from the calling process what its work does not need, for good: whoever takes it over by a
// flaw of what it reads has the files that it was given, and no way to programs, to other processes
// or to other files of the service user.
#pragma once

#include "executor/base/result.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace slipway::confine {

enum class Network {
  none,
  outgoing, ///< TCP and UDP to others, and what name resolution asks the kernel; no local sockets
};

/// What the process keeps. A folder stands for all files in it.
struct Profile {
  std::string program;                      ///< for messages
  std::vector<std::filesystem::path> read;  ///< can be read
  std::vector<std::filesystem::path> write; ///< folders: can be read, made, removed
  /// Can be read too, and may be missing: then they stay unreadable.
  std::vector<std::filesystem::path> read_if_there = {};
  Network network = Network::none;
  std::uint64_t most_memory = 2UL << 30; ///< bytes, of addresses
};

/// The Landlock ABI of this kernel; 0 where it has none, or was started without.
int landlock_abi();

/// Before there is a second thread. No new privileges, not dumpable, no core, memory as far
/// as the profile says; files by Landlock (landlock(7)) where the kernel has it; system calls by an
/// allowlist (seccomp(2)): no program, no process but threads, no look at other processes, sockets
/// as the profile says. What is refused gives EPERM, files give EACCES. Errors: misconfigured (the
/// kernel refuses a filter; a folder is not there).
Status confine(const Profile& profile);

} // namespace slipway::confine
