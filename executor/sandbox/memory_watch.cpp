// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/memory_watch.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <utility>

namespace slipway::sandbox {
namespace {

constexpr std::chrono::seconds kPatience{2};
constexpr std::chrono::seconds kPatienceWithKilled{1};

/// Shared pages by their share; in full where that is not told.
std::uint64_t memory_of(const SeenProcess& process) {
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

using Clock = std::chrono::steady_clock;

/// Kills PROCESS and waits until UNTIL for its memory to be free again.
void kill_it(const SeenProcess& process, Clock::time_point until) {
  // Held before it is looked at, so that what was looked at is what is meant.
  const UniqueFd held{
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(process.pid), 0))};
  if (!held) return;
  const auto now = read_process_stat(process.pid);
  if (!now || now->start_time != process.stat.start_time) return;
  if (::syscall(SYS_pidfd_send_signal, held.get(), SIGKILL, nullptr, 0) != 0) return;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
  pollfd ended{held.get(), POLLIN, 0};
  (void)::poll(&ended, 1, std::max(0, static_cast<int>(left.count())));
}

} // namespace

ProcessTree ProcessTree::read() {
  ProcessTree tree;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{"/proc", failed}, end; !failed && it != end;
       it.increment(failed)) {
    const auto name = it->path().filename().string();
    std::int64_t pid = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (read.ec != std::errc{} || read.ptr != name.data() + name.size()) continue;
    const auto stat = read_process_stat(pid);
    if (!stat) continue;
    tree.by_pid_[pid] = {pid, *stat};
    tree.children_.emplace(stat->parent, pid);
  }
  return tree;
}

std::vector<SeenProcess> ProcessTree::below(std::int64_t root) const {
  std::vector<SeenProcess> found;
  std::set<std::int64_t> seen; // a pid that was given anew must not make this a circle
  const auto take = [&](std::int64_t pid) {
    const auto process = by_pid_.find(pid);
    if (process != by_pid_.end() && seen.insert(pid).second) found.push_back(process->second);
  };
  take(root);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [begin, end] = children_.equal_range(found[i].pid);
    for (auto child = begin; child != end; ++child)
      take(child->second);
  }
  return found;
}

std::uint64_t memory_below(std::int64_t root) {
  std::uint64_t sum = 0;
  for (const auto& process : ProcessTree::read().below(root))
    sum += memory_of(process);
  return sum;
}

std::optional<std::uint64_t> end_above(const ProcessTree& tree, std::int64_t root,
                                       std::uint64_t most) {
  const auto processes = tree.below(root);
  std::uint64_t at_most = 0;
  for (const auto& process : processes)
    at_most += process.stat.resident;
  if (at_most <= most) return std::nullopt; // the dear way is for those that may have too much
  std::uint64_t sum = 0;
  std::vector<std::pair<std::uint64_t, const SeenProcess*>> others;
  for (const auto& process : processes) {
    const auto bytes = memory_of(process);
    sum += bytes;
    if (&process != &processes.front()) others.emplace_back(bytes, &process);
  }
  if (sum <= most) return std::nullopt;
  std::sort(others.begin(), others.end(), std::greater<>{});
  const auto until = Clock::now() + kPatienceWithKilled;
  std::uint64_t left = sum;
  for (const auto& [bytes, process] : others) {
    if (left <= most) break;
    kill_it(*process, until);
    left -= bytes;
  }
  if (left > most) kill_it(processes.front(), until);
  return sum;
}

struct MemoryWatch::Shared {
  Processes processes;
  Killed killed;
  std::mutex mutex; ///< held while one of them is called
  std::condition_variable changed;
  bool quit = false;
  bool ended = false;
  bool abandoned = false; ///< nobody waits for the thread any more, and nobody is there to be told
};

void MemoryWatch::watch(const std::shared_ptr<Shared>& shared, std::uint64_t most,
                        std::chrono::milliseconds interval) {
  std::unique_lock lock{shared->mutex};
  while (!shared->changed.wait_for(lock, interval, [&] { return shared->quit; })) {
    const auto watched = shared->processes();
    if (watched.empty()) continue;
    lock.unlock(); // what is looked at below may be slow to answer
    const auto tree = ProcessTree::read();
    for (const auto& one : watched) {
      const auto limit = one.most == 0 ? most : one.most;
      const auto bytes = end_above(tree, one.root, limit);
      if (!bytes) continue;
      const std::lock_guard guard{shared->mutex};
      if (!shared->abandoned) shared->killed(one.name, *bytes, limit);
    }
    lock.lock();
  }
  shared->ended = true;
  shared->changed.notify_all();
}

MemoryWatch::MemoryWatch(std::uint64_t most, Processes processes, Killed killed,
                         std::chrono::milliseconds interval)
    : shared_{std::make_shared<Shared>()} {
  if (most == 0) return;
  shared_->processes = std::move(processes);
  shared_->killed = std::move(killed);
  thread_ = std::thread{[shared = shared_, most, interval] { watch(shared, most, interval); }};
}

MemoryWatch::~MemoryWatch() {
  if (!thread_.joinable()) return;
  std::unique_lock lock{shared_->mutex};
  shared_->quit = true;
  shared_->changed.notify_all();
  // smaps_rollup waits for a lock of the process that is looked at, who may hold it for long.
  const bool ended = shared_->changed.wait_for(lock, kPatience, [&] { return shared_->ended; });
  shared_->abandoned = !ended;
  lock.unlock();
  if (ended)
    thread_.join();
  else
    thread_.detach();
}

} // namespace slipway::sandbox
