// SPDX-License-Identifier: Apache-2.0
// Manifests and indexes as a stranger may write them: any bytes end in a value or an Error.
#include "executor/oci/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)slipway::oci::parse_manifest(text).ok();
  return 0;
}
