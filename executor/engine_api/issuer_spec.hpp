// SPDX-License-Identifier: Apache-2.0
// A [[credential]] entry of the operator's configuration on its way to slipway-push: which issuer
// mints, and its settings. No secret is in it: settings name files, which the worker reads itself.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace slipway::engine_api {

/// `settings` is checked and completed with defaults by config: every key of the type and every
/// shared key (config/credential_types.hpp) is there. A duration is its seconds in decimal, a
/// switch "true" or "false", a list its items, each ended by a newline.
struct IssuerSpec {
  std::string name; ///< of the entry, for messages and leases
  std::string type; ///< "vault", "harbor", …; see config/credential_types.hpp
  std::map<std::string, std::string> settings;

  /// "" where it is not there.
  std::string text(const std::string& key) const;
  std::chrono::seconds duration(const std::string& key) const; ///< 0 where it is not there
  bool is_on(const std::string& key) const;
  std::vector<std::string> list(const std::string& key) const;
};

} // namespace slipway::engine_api
