// SPDX-License-Identifier: Apache-2.0
#include "executor/base/process_stat.hpp"

#include "executor/base/file.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

namespace slipway {

std::optional<ProcessStat> read_process_stat(std::int64_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  // The name may hold anything: fields count from the last ')'.
  const auto name_end = text ? text->rfind(") ") : std::string::npos;
  if (name_end == std::string::npos || name_end + 2 >= text->size()) return std::nullopt;
  std::string_view rest{*text};
  rest.remove_prefix(name_end + 2);
  ProcessStat stat;
  stat.state = rest.front();
  for (int field = 3; field <= 24 && !rest.empty(); ++field) {
    const auto word = rest.substr(0, rest.find(' '));
    const auto read = [&word](auto& number) {
      std::from_chars(word.data(), word.data() + word.size(), number);
    };
    if (field == 4) read(stat.parent);
    if (field == 22) read(stat.start_time);
    if (field == 24) read(stat.resident);
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  stat.resident *= static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return stat;
}

} // namespace slipway
