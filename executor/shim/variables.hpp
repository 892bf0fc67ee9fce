// SPDX-License-Identifier: Apache-2.0
// The variables of Compose files: `${NAME}` and kin in a text, and the files that say what they
// are. Source: spec.md of the Compose specification, "Interpolation"; template.go and dotenv of
// compose-go.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"

#include <cstddef>
#include <set>
#include <string>

namespace slipway::shim {

constexpr int kMaxVariableDepth = 16; ///< of `${A:-${B:-…}}`
constexpr std::size_t kMaxFilledBytes = 1UL << 20;

/// $NAME, ${NAME}, with :- - :? ? :+ +, and $$. Names that are used and not set are added to
/// `unset`. Errors: bad_input (no such form, a variable that has to be set).
Result<std::string> fill_variables(const std::string& text, const Environment& env,
                                   std::set<std::string>& unset);

/// A `.env` file. Values may use variables that stand before them, or those of `outer`; a name
/// alone takes its value from there. Errors: bad_input, with file and line.
Result<Environment> read_env_file(const std::string& name, const std::string& text,
                                  const Environment& outer);

} // namespace slipway::shim
