// SPDX-License-Identifier: Apache-2.0
// What stands in for a memory limit where the host has no such controller: the memory of a sandbox
// is looked at again and again, and the processes of one that has too much are killed. It
//   - counts what processes have in memory, shared pages by their share of them (PSS); what lies in
//     a tmpfs counts as far as it is mapped;
//   - kills the largest until the rest has no more than it may, the sandbox's first process last;
//   - is late by its interval: what is faster meets the host's own limits first.
#pragma once

#include "executor/base/process_stat.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace slipway::sandbox {

struct SeenProcess {
  std::int64_t pid = 0;
  ProcessStat stat;
};

/// All processes of this machine at one moment: one walk through /proc, however many sandboxes are
/// looked at in it.
class ProcessTree {
public:
  static ProcessTree read();
  /// ROOT and all below it, ROOT first; empty where there was none. Orphans of a sandbox are its
  /// first process's children.
  std::vector<SeenProcess> below(std::int64_t root) const;

private:
  std::map<std::int64_t, SeenProcess> by_pid_;
  std::multimap<std::int64_t, std::int64_t> children_;
};

/// Bytes of memory of process ROOT and all below it. 0: there is no such process. Source: proc(5),
/// stat and smaps_rollup.
std::uint64_t memory_below(std::int64_t root);

/// If ROOT and all that TREE has below it have more than MOST bytes, kills the largest until the
/// rest has not, ROOT itself last; returns how many they had then. It waits for the end of those it
/// killed, a second at most, so that who looks again does not count them again.
std::optional<std::uint64_t> end_above(const ProcessTree& tree, std::int64_t root,
                                       std::uint64_t most);

/// The process ROOT, and what it is called.
struct WatchedProcess {
  std::string name;
  std::int64_t root = 0;
  std::uint64_t most = 0; ///< bytes; 0: as all others
};

class MemoryWatch {
public:
  /// Asked each time, from a thread of the watch; those that live.
  using Processes = std::function<std::vector<WatchedProcess>()>;
  /// Told from a thread of the watch.
  using Killed =
      std::function<void(const std::string& name, std::uint64_t bytes, std::uint64_t most)>;
  /// Of each at most `most` bytes; 0: nothing is watched. Neither function is called after the end
  /// of the destructor, which does not wait for a process that does not let itself be looked at.
  MemoryWatch(std::uint64_t most, Processes processes, Killed killed,
              std::chrono::milliseconds interval = std::chrono::milliseconds{500});
  ~MemoryWatch();
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

private:
  struct Shared;
  static void watch(const std::shared_ptr<Shared>& shared, std::uint64_t most,
                    std::chrono::milliseconds interval);
  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

} // namespace slipway::sandbox
