// SPDX-License-Identifier: Apache-2.0
#include "executor/http/transport.hpp"

namespace slipway::http {

std::string Response::header(const std::string& lower_name) const {
  const auto found = headers.find(lower_name);
  return found == headers.end() ? "" : found->second;
}

} // namespace slipway::http
