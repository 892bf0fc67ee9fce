// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/quick_kill.hpp"

#include "executor/base/file.hpp"
#include "executor/base/process_stat.hpp"
#include "executor/base/unique_fd.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <string_view>
#include <utility>
#include <vector>

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

/// The container of a conmon of this user; "" of any other process.
std::string container_of_conmon(std::int64_t pid) {
  struct stat facts {};
  if (::stat(proc_of(pid).c_str(), &facts) != 0 || facts.st_uid != ::geteuid()) return "";
  const auto name = read_file(proc_of(pid) + "/comm", 32);
  const auto words = read_file(proc_of(pid) + "/cmdline", 64UL << 10);
  constexpr std::string_view kBefore{"\0-c\0", 4};
  const auto at = words ? words->find(kBefore) : std::string::npos;
  if (!name || *name != "conmon\n" || at == std::string::npos) return "";
  const auto from = at + kBefore.size();
  return words->substr(from, words->find('\0', from) - from);
}

bool has_variable(std::int64_t pid, const std::string& variable) {
  const auto all = read_file(proc_of(pid) + "/environ", 1UL << 20);
  return all && ('\0' + *all).find('\0' + variable + '\0') != std::string::npos;
}

} // namespace

bool quick_kill(const std::string& id, std::int64_t pid) {
  if (id.empty() || pid <= 1) return false;
  // Held before they are looked at, so that what was looked at is what is meant.
  const auto first = process_of(pid);
  const auto parent = parent_of(pid);
  if (!first || parent <= 1) return false;
  const auto conmon = process_of(parent);
  if (!conmon || container_of_conmon(parent) != id || parent_of(pid) != parent) return false;
  if (::syscall(SYS_pidfd_send_signal, first.get(), SIGKILL, nullptr, 0) != 0) return false;
  pollfd end{conmon.get(), POLLIN, 0};
  return ::poll(&end, 1, kPatienceMs) > 0;
}

int end_orphans(const std::filesystem::path& containers_conf,
                const std::function<bool(const std::string& id)>& is_known) {
  // All of them first: what is made meanwhile is known by then.
  std::vector<std::pair<std::int64_t, std::string>> conmons;
  std::vector<std::pair<std::int64_t, std::int64_t>> children; // each with its parent
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc", failed}) {
    const auto name = entry.path().filename().string();
    std::int64_t pid = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (read.ec != std::errc{} || read.ptr != name.data() + name.size()) continue;
    children.emplace_back(pid, parent_of(pid));
    auto id = container_of_conmon(pid);
    if (!id.empty() && has_variable(pid, "CONTAINERS_CONF=" + containers_conf.string()))
      conmons.emplace_back(pid, std::move(id));
  }
  int ended = 0;
  for (const auto& [conmon, id] : conmons) {
    if (is_known(id)) continue;
    for (const auto& [pid, parent] : children)
      if (parent == conmon && quick_kill(id, pid)) ++ended;
  }
  return ended;
}

} // namespace slipway::sandbox
