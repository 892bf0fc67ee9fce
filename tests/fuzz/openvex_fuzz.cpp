// SPDX-License-Identifier: Apache-2.0
// OpenVEX documents: any bytes end in a value or an Error, and what is taken says all that the gate
// goes by.
#include "executor/gate/openvex.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto document = slipway::gate::parse_openvex(text);
  if (!document) return 0;
  if (document->author.empty() || document->statements.empty()) std::abort();
  for (const auto& statement : document->statements) {
    if (statement.names.empty() || statement.timestamp.time_since_epoch().count() <= 0)
      std::abort();
    if (statement.status == slipway::gate::VexStatus::not_affected && statement.reason.empty())
      std::abort();
    for (const auto& product : statement.products)
      if (!product.itself.digest.empty() && !product.itself.has_hashes) std::abort();
  }
  return 0;
}
