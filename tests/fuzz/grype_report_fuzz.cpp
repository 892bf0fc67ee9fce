// SPDX-License-Identifier: Apache-2.0
// The second scanner's reports and its log as a stranger may write them: any bytes end in a value
// or an Error.
#include "executor/gate/grype_report.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)slipway::gate::parse_grype_report(text).ok();
  (void)slipway::gate::read_grype_log(text);
  return 0;
}
