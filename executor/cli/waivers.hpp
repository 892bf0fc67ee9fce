// SPDX-License-Identifier: Apache-2.0
// `slipway waivers`: what the operator has put up with, who answers for it, and what ends soon.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"

#include <iosfwd>
#include <optional>

namespace slipway::cli {

/// Without `soon`, "soon" is this many days.
constexpr int kSoonDays = 14;

/// Writes waivers and allowances, those that end first before the others. With `soon`, only those
/// that are over, count for nothing, or end within so many days.
void print_waivers(const config::Config& config, WallTime now, std::optional<int> soon, bool json,
                   std::ostream& out);

} // namespace slipway::cli
