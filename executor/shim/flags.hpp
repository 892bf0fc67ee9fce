// SPDX-License-Identifier: Apache-2.0
// Command line flags as docker's own parser (pflag) reads them: interspersed with arguments, short
// ones bundled, booleans with an optional value. What each flag means to us stands in its table
// row.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::shim {

/// `optional`: a value only behind "="; "true" where there is none (`--pull`, `--pull=never`).
enum class Takes { nothing, value, optional };

/// What the shim does with a flag: `refuse` names the flag and the reason; `ignore` is for what has
/// no effect on the result; `say` ignores too, and tells the user the reason.
enum class Use { keep, ignore, refuse, say };

struct Flag {
  std::string_view name;
  char letter = 0;
  Takes takes = Takes::value;
  Use use = Use::keep;
  std::string_view reason = {};
};

/// The flags that were kept, and the arguments between them.
struct Line {
  std::vector<std::pair<std::string, std::string>> flags;
  std::vector<std::string> arguments;
  std::vector<std::string> notes; ///< of flags that are said to have no effect
  bool help = false;

  bool has(std::string_view name) const; ///< a boolean that is on
  std::string last(std::string_view name) const;
  std::vector<std::string> all(std::string_view name) const;
};

/// Why a line was refused, in docker's words, without the "See …" line.
struct FlagError {
  std::string text;
};

/// As Go's strconv.ParseBool. None where it is neither.
std::optional<bool> parse_bool(std::string_view text);

/// Stops at the first argument where `interspersed` is false (`docker [flags] COMMAND …`).
std::variant<Line, FlagError> read_flags(const std::vector<std::string>& words,
                                         const std::vector<Flag>& known, bool interspersed = true);

} // namespace slipway::shim
