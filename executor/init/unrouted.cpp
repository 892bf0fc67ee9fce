// SPDX-License-Identifier: Apache-2.0
#include "executor/init/unrouted.hpp"

#include "executor/base/file.hpp"

#include <charconv>
#include <cstddef>
#include <sstream>
#include <string>
#include <vector>

namespace slipway::init {
namespace {

constexpr std::size_t kMostBytes = 64UL << 10; // of a table of the kernel's

std::vector<std::string> words_of(std::string_view line) {
  std::istringstream words{std::string{line}};
  std::vector<std::string> all;
  for (std::string word; words >> word;)
    all.push_back(word);
  return all;
}

std::uint64_t number_of(std::string_view text) {
  std::uint64_t number = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

} // namespace

std::uint64_t snmp_counter(std::string_view text, std::string_view table, std::string_view name) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto words = words_of(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (words.empty() || words[0] != table) continue;
    if (names.empty()) {
      names = words;
      continue;
    }
    for (std::size_t i = 1; i < names.size() && i < words.size(); ++i)
      if (names[i] == name) return number_of(words[i]);
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
    constexpr std::string_view kName = "Ip6OutNoRoutes";
    if (const auto at = v6->find(kName); at != std::string::npos) {
      const auto words = words_of(std::string_view{*v6}.substr(at, 80));
      if (words.size() > 1) count += number_of(words[1]);
    }
  }
  return count;
}

} // namespace slipway::init
