// SPDX-License-Identifier: Apache-2.0
// Words, quotes and ${variables} of a Dockerfile. Source: BuildKit,
// frontend/dockerfile/shell/lex.go.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::dockerfile {

struct LexOptions {
  char escape = '\\';
  bool raw_quotes = false;  ///< keep quotes
  bool raw_escapes = false; ///< keep escape characters
  bool skip_unset = false;  ///< leave variables without a value as they are written
};

struct Lexed {
  std::string text;
  std::vector<std::string> words;
  std::vector<std::string> unset;
};

/// Errors: bad_input.
Result<Lexed> lex(std::string_view source, const std::map<std::string, std::string>& variables,
                  const LexOptions& options);

/// `text` split at white space as ENV, LABEL and ARG are: quotes and escapes alone hold a word
/// together, not ${…}, and both stay. Source: BuildKit, frontend/dockerfile/parser/line_parsers.go,
/// parseWords.
std::vector<std::string> pair_words(std::string_view text, char escape);

} // namespace slipway::dockerfile
