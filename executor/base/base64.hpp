// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace slipway {

/// RFC 4648, 4. Leaves no copy of the bytes but the one it returns.
std::string base64(std::string_view bytes);

/// Either alphabet of RFC 4648 (4 and 5), padded or not; nullopt where it is neither.
std::optional<std::string> base64_decode(std::string_view text);

} // namespace slipway
