// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/limits.hpp"

#include "executor/base/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMostFileBytes = 64UL << 10;
constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// The leading number of TEXT; "max", "unlimited" and anything else are no limit.
double leading_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return read.ec == std::errc{} ? static_cast<double>(number) : kUnlimited;
}

double cgroup_limit(const std::filesystem::path& dir, const char* file) {
  const auto text = read_file(dir / file, kMostFileBytes);
  if (!text) return kUnlimited;
  const double first = leading_number(*text);
  if (std::string_view{file} != "cpu.max") return first;
  const auto space = text->find(' '); // "QUOTA PERIOD"
  if (space == std::string::npos) return kUnlimited;
  const double period = leading_number(std::string_view{*text}.substr(space + 1));
  return period > 0 ? first / period : kUnlimited;
}

// The tightest limit between the sandbox's cgroup and the root.
double tightest(std::filesystem::path dir, const std::filesystem::path& root, const char* file) {
  double limit = kUnlimited;
  for (;;) {
    limit = std::min(limit, cgroup_limit(dir, file));
    if (dir == root || !dir.has_relative_path()) return limit;
    dir = dir.parent_path();
  }
}

// Of the v2 tree, relative to its root. "": a v1 tree, or a path above our own view of the tree
// ("/../…"), which cannot be followed.
std::string group_in(const std::string& groups) {
  const auto at = groups.find("0::/");
  if (at == std::string::npos) return "";
  auto path = groups.substr(at + 4, groups.find('\n', at) - at - 4);
  return path.find("..") == std::string::npos ? path : "";
}

// The hard limit in a line of /proc/PID/limits: "Max processes   500   600   processes".
double hard_limit(const std::string& table, std::string_view name) {
  const auto at = table.find(name);
  if (at == std::string::npos) return kUnlimited;
  std::string_view line{table};
  line = line.substr(at + name.size());
  line = line.substr(0, line.find('\n'));
  const auto next_word = [&line] {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const auto word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size());
    return word;
  };
  (void)next_word();
  return leading_number(next_word());
}

void list(std::string& sentence, const std::string& item) {
  sentence += (sentence.empty() ? "" : ", ") + item;
}

} // namespace

Result<LimitsReport> read_limits(const std::filesystem::path& proc_dir,
                                 const std::filesystem::path& cgroup_root, const Limits& asked) {
  auto groups = read_file(proc_dir / "cgroup", kMostFileBytes);
  if (!groups) return std::move(groups).error();
  auto table = read_file(proc_dir / "limits", kMostFileBytes);
  if (!table) return std::move(table).error();
  auto dir = cgroup_root;
  if (const auto path = group_in(*groups); !path.empty()) dir /= path;

  LimitsReport report;
  const auto miss = [&report](const char* what, const std::string& instead = "") {
    report.missing.push_back({what, instead});
  };
  if (asked.pids > 0) {
    const auto most = static_cast<double>(asked.pids);
    report.pids_enforced = tightest(dir, cgroup_root, "pids.max") <= most;
    if (!report.pids_enforced) {
      const bool per_id = hard_limit(*table, "Max processes") <= most;
      miss("processes", per_id ? "at most " + std::to_string(asked.pids) +
                                     " processes per user id (RLIMIT_NPROC)"
                               : "");
    }
  }
  if (asked.memory_bytes > 0) {
    report.memory_enforced =
        tightest(dir, cgroup_root, "memory.max") <= static_cast<double>(asked.memory_bytes);
    // MemoryWatch
    if (!report.memory_enforced)
      miss("memory", "a sandbox seen with more than " + std::to_string(asked.memory_bytes >> 20) +
                         " MiB of memory has its largest processes killed");
  }
  if (asked.cpus > 0) {
    report.cpu_enforced = tightest(dir, cgroup_root, "cpu.max") <= asked.cpus * 1.001;
    if (!report.cpu_enforced) miss("CPU");
  }
  // No rootless sandbox has a quota, whatever was asked. RLIMIT_FSIZE bounds each file, not their
  // sum, and is never reported as one.
  const bool per_file = asked.file_bytes > 0 && hard_limit(*table, "Max file size") <=
                                                    static_cast<double>(asked.file_bytes);
  miss("disk", (per_file ? "files of at most " + std::to_string(asked.file_bytes) +
                               " bytes (RLIMIT_FSIZE), "
                         : std::string{}) +
                   "scripts end where little space is left (disk_floor)");
  return report;
}

std::string sandboxes_group(const std::filesystem::path& proc_dir,
                            const std::filesystem::path& cgroup_root) {
  const auto groups = read_file(proc_dir / "cgroup", kMostFileBytes);
  const auto own = groups ? group_in(*groups) : "";
  if (own.empty()) return "";
  const auto group = std::filesystem::path{own}.parent_path() / "sandboxes";
  struct ::stat facts {};
  if (::lstat((cgroup_root / group).c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode) ||
      facts.st_uid != ::geteuid())
    return "";
  return "/" + group.string();
}

std::string limits_notice(const std::vector<LimitsReport::Missing>& missing) {
  std::string what;
  std::string instead;
  for (const auto& one : missing) {
    list(what, one.what);
    if (!one.instead.empty()) list(instead, one.instead);
  }
  if (what.empty()) return "";
  return "limits: this host does not enforce: " + what +
         " (cgroup controller not delegated, or no quota); in force instead: " +
         (instead.empty() ? "nothing" : instead);
}

Result<LimitsReport> Podman::read_back_limits(const ContainerFacts& container,
                                              const Limits& asked) {
  if (container.host_pid <= 0) {
    return Error{ErrorKind::unavailable, "sandbox " + container.name + " does not run", "", {}};
  }
  return read_limits("/proc/" + std::to_string(container.host_pid), "/sys/fs/cgroup", asked);
}

} // namespace slipway::sandbox
