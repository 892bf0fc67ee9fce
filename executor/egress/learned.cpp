// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/learned.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"
#include "executor/base/percent.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <set>

namespace slipway::egress {
namespace {

constexpr std::size_t kMostFileBytes = 1UL << 20;
constexpr std::size_t kMostNameBytes = 200;
constexpr std::chrono::seconds kLockPatience{2};

/// One target a line. A project's name is in the file's; the end of a long one makes it a name.
std::filesystem::path file_of(const std::filesystem::path& dir, const std::string& project) {
  auto name = percent_encode(project);
  if (name.size() > kMostNameBytes) name.erase(0, name.size() - kMostNameBytes);
  return dir / (name + ".targets");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

Result<std::string> read_known(const std::filesystem::path& file) {
  std::error_code failed;
  if (!std::filesystem::exists(file, failed)) return std::string{};
  return read_file(file, kMostFileBytes);
}

} // namespace

Status learn(const std::filesystem::path& dir, const std::string& project, const Target& target) {
  if (auto made = make_directory(dir, 0700); !made) return made;
  // Held by others for one small file's time.
  const auto lock = lock_file(dir / "lock", LOCK_EX, kLockPatience);
  if (!lock) return Error{lock.error()};
  if (!*lock)
    return Error{ErrorKind::timed_out, "another job holds " + (dir / "lock").string(), "", {}};
  const auto file = file_of(dir, project);
  auto text = read_known(file);
  if (!text) return std::move(text).error();
  const auto lines = lines_of(*text);
  const auto line = target.str();
  if (lines.size() >= kMostLearned || std::find(lines.begin(), lines.end(), line) != lines.end())
    return {};
  return replace_file(file, *text + line + "\n");
}

Result<std::vector<Target>> learned(const std::filesystem::path& dir, const std::string& project) {
  const auto file = file_of(dir, project);
  auto text = read_known(file);
  if (!text) return std::move(text).error();
  auto lines = lines_of(*text);
  std::sort(lines.begin(), lines.end());
  std::vector<Target> targets;
  for (const auto& line : lines) {
    auto target = Target::parse(line);
    if (!target) return std::move(target).error().in("reading " + file.string());
    targets.push_back(*std::move(target));
  }
  return targets;
}

std::string as_allowlist(const std::vector<Target>& targets) {
  std::string text = "egress_allow = [";
  const char* separator = "";
  for (const auto& target : targets) {
    text += std::string{separator} + "\n  \"" + target.str() + "\"";
    separator = ",";
  }
  return text + (targets.empty() ? "]\n" : ",\n]\n");
}

} // namespace slipway::egress
