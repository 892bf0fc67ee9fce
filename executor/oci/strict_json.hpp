// SPDX-License-Identifier: Apache-2.0
// JSON that every reader understands in one way: what is refused here is what parsers disagree
// about.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/flaw.hpp"

#include <string>
#include <string_view>

namespace slipway::oci {

/// Nesting above this is refused; no manifest or scan report comes near it.
constexpr int kMaxJsonDepth = 64;

/// Accepts TEXT where it is one JSON value, no object has a key twice and nesting stays below
/// kMaxJsonDepth. `subject` names it in messages; `flaw` (may be null) is told of a key that stands
/// twice. Errors: bad_input.
Status check_json(std::string_view text, const std::string& subject, Flaw* flaw = nullptr);

/// True where a reader that folds case (Go's encoding/json) takes KEY for KNOWN and we do not.
/// Source: Go, encoding/json/fold.go: ASCII case, U+017F for s, U+212A for k.
bool is_case_variant(std::string_view key, std::string_view known);

} // namespace slipway::oci
