// SPDX-License-Identifier: Apache-2.0
// Files that nobody reads after a crash of the machine.
#pragma once

#include "executor/base/result.hpp"

#include <filesystem>
#include <string_view>

namespace slipway {

/// As replace_file, but a reader sees the old content or the new as long as the machine runs. There
/// is no fsync: on ext4 it waits for everything that others have written since the last commit,
/// such as the layer of a build. For what ends with its job, and for what may be lost. Errors: io.
Status replace_passing_file(const std::filesystem::path& file, std::string_view bytes,
                            unsigned mode = 0600);

} // namespace slipway
