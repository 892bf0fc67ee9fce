// SPDX-License-Identifier: Apache-2.0
#include "executor/init/unrouted.hpp"

#include "executor/base/file.hpp"

#include <charconv>
#include <cstddef>
#include <sstream>
#include <string>

namespace slipway::init {
namespace {

constexpr std::size_t kMostBytes = 64UL << 10; // of a table of the kernel's

std::uint64_t number_of(std::string_view text) {
  std::uint64_t number = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

} // namespace

std::uint64_t snmp_counter(const std::string& text, std::string_view table, std::string_view name) {
  std::istringstream lines{text};
  std::string names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(table)) continue;
    if (names.empty()) {
      names = line;
      continue;
    }
    std::istringstream columns{names};
    std::istringstream numbers{line};
    for (std::string column, number; columns >> column && numbers >> number;)
      if (column == name) return number_of(number);
    return 0;
  }
  return 0;
}

std::uint64_t unrouted() {
  std::uint64_t count = 0;
  if (const auto v4 = read_file("/proc/self/net/snmp", kMostBytes))
    count += snmp_counter(*v4, "Ip:", "OutNoRoutes");
  if (const auto v6 = read_file("/proc/self/net/snmp6", kMostBytes)) {
    // One name and its number in each line.
    std::istringstream words{*v6};
    for (std::string name, number; words >> name >> number;)
      if (name == "Ip6OutNoRoutes") count += number_of(number);
  }
  return count;
}

} // namespace slipway::init
