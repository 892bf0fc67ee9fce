// SPDX-License-Identifier: Apache-2.0
// A database of rpm of any bytes, one header of it, and a list of rpms: packages or an Error, of no
// more text than there are bytes.
#include "executor/gate_worker/rpm_database.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway::gate_worker;
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  const auto check = [&](const std::vector<InstalledPackage>& packages) {
    std::size_t names = 0;
    for (const auto& package : packages) {
      names += package.name.size();
      if (std::max({package.name.size(), package.version.size(), package.maintainer.size()}) >
          kMostFieldBytes)
        std::abort();
    }
    if (names > size) std::abort();
  };
  if (const auto packages = read_rpm_database(std::string{bytes}); packages && *packages)
    check(**packages);
  std::size_t names_left = 1UL << 20;
  if (const auto package = read_rpm_header(bytes, names_left)) check({*package});
  if (const auto packages = read_rpm_manifest(bytes)) check(*packages);
  return 0;
}
