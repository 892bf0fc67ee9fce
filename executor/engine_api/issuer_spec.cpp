// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/issuer_spec.hpp"

#include <cstdlib>

namespace slipway::engine_api {

std::string IssuerSpec::text(const std::string& key) const {
  const auto found = settings.find(key);
  return found == settings.end() ? "" : found->second;
}

std::chrono::seconds IssuerSpec::duration(const std::string& key) const {
  return std::chrono::seconds{std::strtol(text(key).c_str(), nullptr, 10)};
}

bool IssuerSpec::is_on(const std::string& key) const {
  return text(key) == "true";
}

std::vector<std::string> IssuerSpec::list(const std::string& key) const {
  std::vector<std::string> items;
  const std::string joined = text(key);
  for (std::size_t from = 0; from < joined.size();) {
    const auto end = joined.find('\n', from);
    items.push_back(joined.substr(from, end - from));
    if (end == std::string::npos) break;
    from = end + 1;
  }
  return items;
}

} // namespace slipway::engine_api
