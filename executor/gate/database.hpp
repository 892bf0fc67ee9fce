// SPDX-License-Identifier: Apache-2.0
// The vulnerability DB as a thing with an age. Trivy itself scans with a DB of any age and says
// nothing.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"

#include <filesystem>
#include <string>

namespace slipway::gate {

struct Database {
  WallTime updated_at;
  std::string identity; ///< differs whenever another DB lies there
};

/// Reads DIR/metadata.json and looks at DIR/trivy.db. Errors: not_found (either is missing or
/// empty); bad_input (another schema, no UpdatedAt); io.
Result<Database> read_database(const std::filesystem::path& dir);

} // namespace slipway::gate
