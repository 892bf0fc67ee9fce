// SPDX-License-Identifier: Apache-2.0
// Manifests, indexes and references as a stranger may write them: any bytes end in a value or an
// Error.
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)slipway::oci::parse_manifest(text).ok();
  // What is printed is read again as the same.
  if (const auto reference = slipway::oci::Reference::parse(text)) {
    const auto again = slipway::oci::Reference::parse(reference->str());
    if (!again || again->str() != reference->str()) std::abort();
  }
  return 0;
}
