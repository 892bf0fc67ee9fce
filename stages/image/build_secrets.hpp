// SPDX-License-Identifier: Apache-2.0
// What a job lends to a build (--secret, --ssh): as the leak scan searches for it, and hidden in
// what the build says.
#pragma once

#include "executor/base/secret.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/leaks/secrets.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace slipway::image {

/// "build secret npm", "SSH key default": the names that people are told and leak_exempt takes. A
/// line of several words is searched for whole, and by each word that looks random.
std::vector<leaks::KnownSecret> known_secrets(const broker::BuildRequest& request);

/// Replaces each line of the secrets by [MASKED]. Lines under 8 bytes are left: they would shred
/// ordinary output. Copies the values and wipes them at its end.
class SecretMask {
public:
  explicit SecretMask(const broker::BuildRequest& request);
  /// TEXT is whole lines.
  std::string hide(std::string_view text) const;
  bool empty() const noexcept { return lines_.empty(); }

private:
  std::vector<Secret> lines_; ///< longest first
};

} // namespace slipway::image
