// SPDX-License-Identifier: Apache-2.0
// What a registry says it wants: the WWW-Authenticate header, read as hostile input.
#pragma once

#include "executor/base/result.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::credentials {

/// One challenge; scheme and parameter names in lower case.
struct Challenge {
  std::string scheme; ///< "bearer", "basic", …
  std::map<std::string, std::string> parameters;
  /// "" where there is none.
  std::string parameter(const std::string& name) const;
};

/// Reads one header's challenges (there may be several, separated by commas). A parameter given
/// twice, an open quote, a control character or more than 4 KiB makes the whole header unreadable.
/// Errors: bad_input. Source: RFC 9110, 11.6.1; distribution-spec, token authentication.
Result<std::vector<Challenge>> parse_challenges(std::string_view header);

} // namespace slipway::credentials
