// SPDX-License-Identifier: Apache-2.0
// KEV catalogues and EPSS scores: any bytes end in a value or an Error, and in which pieces a file
// of scores comes makes no difference.
#include "executor/gate/threat_files.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

std::string read_in(std::string_view file, std::size_t piece) {
  std::string seen;
  slipway::gate::EpssReader reader{[&](std::string_view cve, double score) {
    if (!(score >= 0 && score <= 1)) std::abort();
    seen.append(cve).append(" ").append(std::to_string(score)).append("\n");
  }};
  for (std::size_t at = 0; at < file.size(); at += piece) {
    if (!reader.feed(file.substr(at, piece))) return "refused";
  }
  return reader.finish() ? seen : "refused";
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto catalogue = slipway::gate::parse_kev(text); catalogue) {
    if (catalogue->entries.empty() || catalogue->released.time_since_epoch().count() <= 0)
      std::abort();
  }
  if (read_in(text, std::max<std::size_t>(size, 1)) != read_in(text, 13)) std::abort();
  return 0;
}
