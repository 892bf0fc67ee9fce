// SPDX-License-Identifier: Apache-2.0
// Remembered verdicts: one file (0600) per key in a folder of slipway's own. What cannot be read,
// does not fit its key or is over its time is as good as absent: then the image is scanned again.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"

#include <filesystem>
#include <optional>

namespace slipway::gate {

/// The remembered verdict under `key`, if it is whole, of this image, passed and still live.
std::optional<Verdict> load_verdict(const std::filesystem::path& dir, const oci::Digest& key,
                                    const oci::Digest& image, WallTime now);
/// Errors: io. The caller goes on without: the next judgement scans again.
Status save_verdict(const std::filesystem::path& dir, const oci::Digest& key,
                    const Verdict& verdict);

} // namespace slipway::gate
