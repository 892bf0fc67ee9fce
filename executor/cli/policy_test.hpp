// SPDX-License-Identifier: Apache-2.0
// `slipway policy test FILE`: a table of what policy has to say, held against the configured
// policy. For operators' own CI.
#pragma once

#include "config/config.hpp"

#include <filesystem>
#include <iosfwd>

namespace slipway::cli {

/// One line for each expectation that does not hold, with file and line, and a line of counts.
/// Returns the exit code: 0 all hold, 1 some do not, 2 the file cannot be read.
int policy_test(const std::filesystem::path& file, const config::Config& config, std::ostream& out,
                std::ostream& err);

} // namespace slipway::cli
