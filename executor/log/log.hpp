// SPDX-License-Identifier: Apache-2.0
// The operator log: structured lines for admins. Only edges (levels 7 and 8) write to it; libraries
// return errors. The job log (developers) and the audit log (auditors) are other sinks.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace slipway::log {

enum class Level { debug, info, warning, error };

/// Opens FILE for appending (0640) as the operator log; without it lines are dropped. Returns false
/// where the file cannot be opened; the caller says so and goes on.
bool open(const std::filesystem::path& file, Level least);

/// Writes one line `message key=value …`; values are quoted where needed. Never pass a secret.
void write(Level level, std::string_view message,
           std::initializer_list<std::pair<std::string_view, std::string>> fields = {});

} // namespace slipway::log
