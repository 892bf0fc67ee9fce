// SPDX-License-Identifier: Apache-2.0
// Licences that a policy denies, among those that a scanner found named.
#pragma once

#include "executor/gate/gate.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

/// Which licence of an SPDX expression nobody may go by: of "A OR B" none where one of them is
/// not denied, of "A AND B" the first denied one, of "A WITH B" also where A is. "" = none. What is
/// no expression ("GPL v2 or later") is one name. `denied`: globs, whatever the case of letters.
/// Source: SPDX 2.3, annex D.
std::string denied_license(std::string_view expression, const std::vector<std::string>& denied);

/// A finding for each package with a denied licence; each of a package's licences holds. `os` names
/// the system: "debian 12".
std::vector<Finding> license_findings(const std::vector<Package>& packages, const std::string& os,
                                      const std::vector<std::string>& denied);

} // namespace slipway::gate
