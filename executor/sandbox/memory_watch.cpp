// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/memory_watch.hpp"

#include "executor/base/file.hpp"
#include "executor/base/process_stat.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <string_view>
#include <utility>

namespace slipway::sandbox {
namespace {

struct Process {
  std::int64_t pid = 0;
  ProcessStat stat;
};

std::optional<Process> read_process(std::int64_t pid) {
  const auto stat = read_process_stat(pid);
  return stat ? std::optional{Process{pid, *stat}} : std::nullopt;
}

/// ROOT and all below it, ROOT first. Orphans of a sandbox are its first process's children.
std::vector<Process> processes_below(std::int64_t root) {
  std::vector<Process> found;
  if (const auto first = read_process(root)) found.push_back(*first);
  if (found.empty()) return found;
  std::multimap<std::int64_t, Process> by_parent;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{"/proc", failed}, end; !failed && it != end;
       it.increment(failed)) {
    const auto name = it->path().filename().string();
    std::int64_t pid = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (read.ec != std::errc{} || read.ptr != name.data() + name.size()) continue;
    if (const auto process = read_process(pid)) by_parent.emplace(process->stat.parent, *process);
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [begin, end] = by_parent.equal_range(found[i].pid);
    for (auto child = begin; child != end; ++child)
      found.push_back(child->second);
    by_parent.erase(begin, end); // a pid that was given anew must not make this a circle
  }
  return found;
}

/// Shared pages by their share; in full where that is not told.
std::uint64_t memory_of(const Process& process) {
  const auto rollup = read_file("/proc/" + std::to_string(process.pid) + "/smaps_rollup", 8192);
  if (!rollup) return process.stat.resident;
  const auto line = rollup->find("\nPss:");
  if (line == std::string::npos) return process.stat.resident;
  const auto digits = rollup->find_first_of("0123456789", line);
  if (digits == std::string::npos) return process.stat.resident;
  std::uint64_t kib = 0;
  std::from_chars(rollup->data() + digits, rollup->data() + rollup->size(), kib);
  return kib << 10;
}

void kill_it(const Process& process) {
  // Held before it is looked at, so that what was looked at is what is meant.
  const UniqueFd held{
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(process.pid), 0))};
  if (!held) return;
  const auto now = read_process_stat(process.pid);
  if (!now || now->start_time != process.stat.start_time) return;
  (void)::syscall(SYS_pidfd_send_signal, held.get(), SIGKILL, nullptr, 0);
}

} // namespace

std::uint64_t memory_below(std::int64_t root) {
  std::uint64_t sum = 0;
  for (const auto& process : processes_below(root))
    sum += memory_of(process);
  return sum;
}

std::optional<std::uint64_t> end_above(std::int64_t root, std::uint64_t most) {
  const auto processes = processes_below(root);
  std::uint64_t at_most = 0;
  for (const auto& process : processes)
    at_most += process.stat.resident;
  if (at_most <= most) return std::nullopt; // the dear way is for those that may have too much
  std::uint64_t sum = 0;
  std::vector<std::pair<std::uint64_t, const Process*>> others;
  for (const auto& process : processes) {
    const auto bytes = memory_of(process);
    sum += bytes;
    if (&process != &processes.front()) others.emplace_back(bytes, &process);
  }
  if (sum <= most) return std::nullopt;
  std::sort(others.begin(), others.end(), std::greater<>{});
  std::uint64_t left = sum;
  for (const auto& [bytes, process] : others) {
    if (left <= most) break;
    kill_it(*process);
    left -= bytes;
  }
  if (left > most) kill_it(processes.front());
  return sum;
}

MemoryWatch::MemoryWatch(std::uint64_t most, Processes processes, Killed killed,
                         std::chrono::milliseconds interval)
    : quit_{::eventfd(0, EFD_CLOEXEC)} {
  if (most == 0) return;
  thread_ = std::thread{
      [this, most, interval, processes = std::move(processes), killed = std::move(killed)] {
        pollfd quit{quit_.get(), POLLIN, 0};
        while (::poll(&quit, 1, static_cast<int>(interval.count())) <= 0) {
          for (const auto& one : processes()) {
            const auto limit = one.most == 0 ? most : one.most;
            if (const auto bytes = end_above(one.root, limit)) killed(one.name, *bytes, limit);
          }
        }
      }};
}

MemoryWatch::~MemoryWatch() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  (void)!::write(quit_.get(), &one, sizeof one);
  thread_.join();
}

} // namespace slipway::sandbox
