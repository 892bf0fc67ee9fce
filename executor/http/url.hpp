// SPDX-License-Identifier: Apache-2.0
// The URLs that a registry client needs, read strictly: what this reader and libcurl could
// understand differently (userinfo, backslashes, control characters, fragments) is refused, and the
// request is made from the parts, never from the text that a server sent.
#pragma once

#include "executor/base/result.hpp"

#include <string>
#include <string_view>

namespace slipway::http {

/// An absolute http or https URL.
struct Url {
  std::string scheme;    ///< "http" | "https"
  std::string authority; ///< lower case, "host" or "host:port"; the scheme's own port is left out
  std::string target;    ///< path and query, begins with '/'

  /// Errors: bad_input.
  static Result<Url> parse(std::string_view text);
  /// Reads a Location header: absolute, "/absolute/path" or "relative". Errors: bad_input.
  Result<Url> resolve(std::string_view location) const;
  std::string str() const { return scheme + "://" + authority + target; }
  /// Without the query, which may carry signatures and state: for messages.
  std::string display() const;
  bool same_origin(const Url& other) const {
    return scheme == other.scheme && authority == other.authority;
  }
  /// Adds a query parameter, percent-encoding the value.
  Url with_query(std::string_view name, std::string_view value) const;
};

/// "Reg.example:443" under https is "reg.example". "" where the text is no host.
std::string normal_authority(std::string_view scheme, std::string_view authority);

} // namespace slipway::http
