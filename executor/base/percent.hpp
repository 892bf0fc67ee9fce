// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace slipway {

/// Encodes everything but unreserved characters, "/" too (RFC 3986, 2.3): a path segment or a query
/// value.
std::string percent_encode(std::string_view text);

} // namespace slipway
