// SPDX-License-Identifier: Apache-2.0
// The choice of a backend: requirements × what each backend can × what policy allows.
//   - a backend that lacks one requirement is never chosen, also not by a pin;
//   - a backend that policy does not name, or forbids, is never chosen;
//   - the same input gives the same choice, and each backend that was passed over has its reason.
#pragma once

#include "config/config.hpp"
#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/router/requirements.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::router {

enum class Standing {
  chosen,
  capable,     ///< could as well, and comes later
  incapable,   ///< lacks something: `reasons` say what and where
  forbidden,   ///< by policy
  not_set_up,  ///< not on this host
  not_in_order ///< policy's order or pin leaves it out
};
const char* standing_name(Standing standing);

struct Considered {
  std::string backend;
  std::string version; ///< "" where it is not set up
  Standing standing = Standing::not_set_up;
  std::vector<std::string> reasons; ///< empty for chosen and capable
};

struct Decision {
  std::vector<Considered> chain;     ///< every backend once, those of the order first
  std::optional<std::string> chosen; ///< a backend's name
  std::string version;
  std::string because;             ///< one line: why this one, or why not the first
  bool is_first = false;           ///< the chosen is the first of the default order
  std::vector<std::string> others; ///< capable and allowed too, in order
  std::optional<Error> denial;     ///< where none is chosen. denied; misconfigured (nothing that
                                   ///< policy allows is set up, or the pin is not)
};

/// `rule` is where the policy was read ("FILE:LINE"), "" for the default.
Decision choose(const std::vector<Requirement>& requirements,
                const std::vector<backends::Descriptor>& set_up,
                const config::BackendPolicy& policy, const std::string& rule);

/// May policy choose this backend for anything at all? Errors: denied, saying what forbids it.
Status admit_backend(const config::BackendPolicy& policy, const std::string& rule,
                     const std::string& backend);

/// "Dockerfile:12: RUN --mount=type=cache: kaniko 1.24.0 ignores it …".
std::string reason_against(const backends::Descriptor& backend, const Requirement& requirement);

} // namespace slipway::router
