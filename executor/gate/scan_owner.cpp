// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/scan_owner.hpp"

#include "executor/base/process_stat.hpp"

#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace slipway::gate {
namespace {
constexpr std::string_view kDigits = "0123456789";
} // namespace

std::string scratch_name_begin() {
  return std::string{kScratchBegin} + std::to_string(::getpid()) + "-";
}

std::string_view scratch_owner(std::string_view name) {
  if (!name.starts_with(kScratchBegin)) return {};
  name.remove_prefix(kScratchBegin.size());
  const auto end = name.find('-');
  if (end == std::string_view::npos || name.substr(0, end).find_first_not_of(kDigits) != name.npos)
    return {};
  return name.substr(0, end);
}

bool is_process_gone(std::string_view pid) {
  if (pid.empty() || pid.find_first_not_of(kDigits) != std::string_view::npos) return false;
  const auto folder = "/proc/" + std::string{pid};
  std::error_code failed;
  if (!std::filesystem::exists(folder, failed)) return !failed;
  const auto stat = read_process_stat(std::stoll(std::string{pid}));
  return stat && (stat->state == 'Z' || stat->state == 'X');
}

} // namespace slipway::gate
