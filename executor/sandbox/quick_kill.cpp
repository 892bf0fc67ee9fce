// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/quick_kill.hpp"

#include "executor/base/file.hpp"
#include "executor/base/process_stat.hpp"
#include "executor/base/unique_fd.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace slipway::sandbox {
namespace {

constexpr int kPatienceMs = 1000;

UniqueFd process_of(std::int64_t pid) {
  return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0))};
}

std::string proc_of(std::int64_t pid) {
  return "/proc/" + std::to_string(pid);
}

/// 0: none.
std::int64_t parent_of(std::int64_t pid) {
  const auto stat = read_process_stat(pid);
  return stat ? stat->parent : 0;
}

bool is_conmon_of(const std::string& id, std::int64_t pid) {
  struct stat facts {};
  if (::stat(proc_of(pid).c_str(), &facts) != 0 || facts.st_uid != ::geteuid()) return false;
  const auto name = read_file(proc_of(pid) + "/comm", 32);
  const auto words = read_file(proc_of(pid) + "/cmdline", 64UL << 10);
  using namespace std::string_literals;
  return name && *name == "conmon\n" && words &&
         words->find("\0-c\0"s + id + "\0"s) != std::string::npos;
}

} // namespace

bool quick_kill(const std::string& id, std::int64_t pid) {
  if (id.empty() || pid <= 1) return false;
  // Held before they are looked at, so that what was looked at is what is meant.
  const auto first = process_of(pid);
  const auto parent = parent_of(pid);
  if (!first || parent <= 1) return false;
  const auto conmon = process_of(parent);
  if (!conmon || !is_conmon_of(id, parent) || parent_of(pid) != parent) return false;
  if (::syscall(SYS_pidfd_send_signal, first.get(), SIGKILL, nullptr, 0) != 0) return false;
  pollfd end{conmon.get(), POLLIN, 0};
  return ::poll(&end, 1, kPatienceMs) > 0;
}

} // namespace slipway::sandbox
