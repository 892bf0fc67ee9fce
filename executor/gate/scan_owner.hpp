// SPDX-License-Identifier: Apache-2.0
// Whose a scan is. What a scan makes outside of its process carries the process's number: the
// sandbox in a label, the scratch folder in its name. So what a killed process left is told from
// what a living one uses.
#pragma once

#include <string>
#include <string_view>

namespace slipway::gate {

/// "scan-": how the names of scratch folders begin.
inline constexpr std::string_view kScratchBegin = "scan-";

/// "scan-PID-" of this process.
std::string scratch_name_begin();

/// The number in a scratch folder's name; "" where there is none.
std::string_view scratch_owner(std::string_view name);

/// True where no process of that number runs: there is none, or it has ended and nobody waited for
/// it yet. False for what is no number. A number that another process has by now counts as running.
bool is_process_gone(std::string_view pid);

} // namespace slipway::gate
