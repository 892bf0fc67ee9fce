// SPDX-License-Identifier: Apache-2.0
// What jobs connected to while their rule said `egress_learn`: a file for each project.
#pragma once

#include "executor/base/result.hpp"
#include "executor/egress/allowlist.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace slipway::egress {

constexpr std::size_t kMostLearned = 1000; ///< targets of one project

/// Adds a target to what is known of the project in DIR. More than kMostLearned are left out.
/// Errors: io.
Status learn(const std::filesystem::path& dir, const std::string& project, const Target& target);

/// In the order of their names; none where nothing was learned. Errors: io, bad_input (the file).
Result<std::vector<Target>> learned(const std::filesystem::path& dir, const std::string& project);

/// A ready `egress_allow = [...]`, each target with its port.
std::string as_allowlist(const std::vector<Target>& targets);

} // namespace slipway::egress
