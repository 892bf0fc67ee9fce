// SPDX-License-Identifier: Apache-2.0
// Image configs, of layouts and of exports, as a stranger may write them: any bytes end in a value
// or an Error.
#include "executor/oci/exported_image.hpp"
#include "executor/oci/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)slipway::oci::parse_image_config(text).ok();
  if (const auto made = slipway::oci::oci_config(text))
    (void)slipway::oci::parse_image_config(*made).ok();
  (void)slipway::oci::convert_exported(text, text, {}).ok();
  return 0;
}
