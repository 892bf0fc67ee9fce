// SPDX-License-Identifier: Apache-2.0
// Whoever writes /etc/os-release, or one file more that a scanner takes for it (/etc/lsb-release),
// chooses whose advisories are looked up. The packages say what the system is, too.
#pragma once

#include "executor/gate/report.hpp"

#include <string>

namespace slipway::gate {

/// What of the packages contradicts the family or release that the report names: "its base-files
/// 12.4 is of Debian"; "" where nothing is known to. It knows the kind of package database of each
/// family, Debian's and Ubuntu's base-files, Alpine's alpine-release, and the release packages of
/// the rpm families. Of several layers Trivy takes the lowest one's release, so an image that was
/// upgraded to another one is looked up as what its base was; Debian's and Red Hat's are not. Pure.
/// Source: trivy 0.69.3, pkg/fanal/analyzer/os and pkg/fanal/types, OS.Merge.
std::string contradiction(const ScanReport& report);

} // namespace slipway::gate
