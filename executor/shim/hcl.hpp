// SPDX-License-Identifier: Apache-2.0
// Bake files in HCL, turned into the JSON that means the same. Understood is what such files use:
// variables, groups, targets, a matrix, templates, conditions, operators and a list of functions.
// Everything else is refused with file, line and column: half understood it would build something
// else. Source: spec.md of HCL's native syntax; docs/bake-reference.md of buildx.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/bake.hpp"
#include "executor/shim/command.hpp"

#include <cstddef>
#include <vector>

namespace slipway::shim {

constexpr std::size_t kMaxHclDepth = 64;      ///< of expressions in each other
constexpr std::size_t kMaxHclSteps = 1000000; ///< of one evaluation of all files

/// Whether bake would read the file as HCL.
bool is_hcl(const BakeFile& file);

/// The files in their order, those in HCL as JSON. Variables of the environment win over defaults.
/// Errors: bad_input.
Result<std::vector<BakeFile>> hcl_to_json(const std::vector<BakeFile>& files,
                                          const Environment& env);

} // namespace slipway::shim
