// SPDX-License-Identifier: Apache-2.0
// Policy files, waivers among them, and package URLs: any bytes end in a value or an Error, and no
// package URL covers more than it names.
#include "config/config.hpp"
#include "config/package_url.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text{reinterpret_cast<const char*>(data), size};
  slipway::config::Config config;
  if (slipway::config::parse_policy(text, "p.toml", config)) {
    for (const auto& waiver : config.waivers) {
      const bool scoped =
          !waiver.repositories.empty() || !waiver.digest.empty() || !waiver.purl.empty();
      if (!scoped || waiver.owner.empty() || waiver.expires.time_since_epoch().count() == 0)
        std::abort();
    }
  }
  if (const auto url = slipway::config::PackageUrl::parse(text)) {
    if (!url->covers(*url) || url->name.empty()) std::abort();
    auto other = *url;
    other.name += "x";
    if (url->covers(other)) std::abort();
  }
  return 0;
}
