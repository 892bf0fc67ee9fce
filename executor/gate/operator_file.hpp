// SPDX-License-Identifier: Apache-2.0
// Files that the operator brings for the gate, each of at most so many bytes.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstddef>
#include <filesystem>
#include <string>

namespace slipway::gate {

/// Never waits, also where the file is a pipe. Errors: not_found (missing, empty, no file);
/// bad_input (larger than `limit`); io.
Result<UniqueFd> open_operator_file(const std::filesystem::path& file, std::size_t limit);

/// Reads it whole. Errors: those.
Result<std::string> read_operator_file(const std::filesystem::path& file, std::size_t limit);

} // namespace slipway::gate
