// SPDX-License-Identifier: Apache-2.0
#include "executor/dockerfile/lex.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace slipway::dockerfile {

namespace {

constexpr int kEnd = -1;
constexpr int kMaxNesting = 64; // of ${a:-${b:-…}}
constexpr std::size_t kMaxExpanded = 1UL << 20;
constexpr std::size_t kMaxPatternValue = 4096; // ${x#pattern} tries every prefix

bool is_space(int c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(int c) {
  return c >= '0' && c <= '9';
}
bool is_name(int c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}

class Lexer {
public:
  Lexer(std::string_view source, const std::map<std::string, std::string>& variables,
        const LexOptions& options)
      : source_{source}, variables_{variables}, options_{options}, raw_escapes_{
                                                                       options.raw_escapes} {}

  Result<Lexed> run() {
    auto text = until(kEnd);
    if (!text) return std::move(text).error();
    end_word();
    return Lexed{*std::move(text), std::move(words_), std::move(unset_)};
  }

private:
  int peek() const {
    return at_ < source_.size() ? static_cast<unsigned char>(source_[at_]) : kEnd;
  }
  int next() { return at_ < source_.size() ? static_cast<unsigned char>(source_[at_++]) : kEnd; }

  void end_word() {
    if (depth_ == 0 && !word_.empty()) words_.push_back(std::move(word_));
    if (depth_ == 0) word_.clear();
  }
  void add_raw(std::string_view bytes) {
    if (depth_ == 0) word_ += bytes;
  }
  void add(std::string_view bytes) {
    if (depth_ != 0) return;
    for (const char c : bytes) {
      if (is_space(static_cast<unsigned char>(c)))
        end_word();
      else
        word_ += c;
    }
  }

  Result<std::string> until(int stop) {
    std::string result;
    while (peek() != kEnd) {
      if (result.size() > kMaxExpanded) return bad("variables expand to more than 1 MiB");
      const int c = peek();
      if (stop != kEnd && c == stop) {
        next();
        return result;
      }
      if (c == '\'' || c == '"') {
        auto quoted = c == '"' ? double_quoted() : single_quoted();
        if (!quoted) return quoted;
        result += *quoted;
        add_raw(*quoted);
      } else if (c == '$') {
        auto value = dollar();
        if (!value) return value;
        result += *value;
        add(*value);
      } else if (c == '<') {
        const std::string text = possible_heredoc();
        result += text;
        add_raw(text);
      } else if (c == options_.escape) {
        next();
        if (raw_escapes_) {
          result += options_.escape;
          add_raw(std::string(1, options_.escape));
        }
        const int escaped = next();
        if (escaped == kEnd) break;
        result += static_cast<char>(escaped);
        add_raw(std::string(1, static_cast<char>(escaped)));
      } else {
        next();
        result += static_cast<char>(c);
        add(std::string(1, static_cast<char>(c)));
      }
    }
    if (stop != kEnd)
      return bad("syntax error: missing '" + std::string(1, static_cast<char>(stop)) + "'");
    return result;
  }

  Result<std::string> single_quoted() {
    std::string result;
    next();
    if (options_.raw_quotes) result += '\'';
    for (;;) {
      const int c = next();
      if (c == kEnd)
        return bad("unexpected end of statement while looking for matching single-quote");
      if (c == '\'') {
        if (options_.raw_quotes) result += '\'';
        return result;
      }
      result += static_cast<char>(c);
    }
  }

  Result<std::string> double_quoted() {
    std::string result;
    next();
    if (options_.raw_quotes) result += '"';
    for (;;) {
      const int c = peek();
      if (c == kEnd)
        return bad("unexpected end of statement while looking for matching double-quote");
      if (c == '"') {
        next();
        if (options_.raw_quotes) result += '"';
        return result;
      }
      if (c == '$') {
        auto value = dollar();
        if (!value) return value;
        result += *value;
        if (result.size() > kMaxExpanded) return bad("variables expand to more than 1 MiB");
        continue;
      }
      next();
      if (c != options_.escape) {
        result += static_cast<char>(c);
        continue;
      }
      const int escaped = peek();
      if (escaped == kEnd) continue;
      if (escaped == '"' || escaped == '$' || escaped == options_.escape) {
        if (raw_escapes_) result += options_.escape;
        result += static_cast<char>(next());
      } else {
        result += options_.escape;
      }
    }
  }

  std::string possible_heredoc() {
    next();
    if (peek() != '<') return "<";
    next();
    std::string result = "<<";
    while (peek() == ' ' || peek() == '\t')
      result += static_cast<char>(next());
    return result;
  }

  std::string name() {
    std::string result;
    const int first = peek();
    if (is_digit(first)) {
      while (is_digit(peek()))
        result += static_cast<char>(next());
      return result;
    }
    if (first != kEnd &&
        std::string_view{"@*#?-$!"}.find(static_cast<char>(first)) != std::string_view::npos)
      return std::string(1, static_cast<char>(next()));
    while (peek() != kEnd && is_name(peek()))
      result += static_cast<char>(next());
    return result;
  }

  std::optional<std::string> value_of(const std::string& variable) {
    const auto found = variables_.find(variable);
    if (found != variables_.end()) return found->second;
    if (std::find(unset_.begin(), unset_.end(), variable) == unset_.end())
      unset_.push_back(variable);
    return std::nullopt;
  }

  /// A word inside ${…}: it makes no words of its own, and pattern operands keep their escapes.
  Result<std::string> operand(int stop, bool keep_escapes) {
    if (++depth_ > kMaxNesting) return bad("variables are nested too deeply");
    const bool before = std::exchange(raw_escapes_, keep_escapes);
    auto word = until(stop);
    raw_escapes_ = before;
    --depth_;
    return word;
  }

  Result<std::string> dollar() {
    next();
    if (peek() != '{') {
      const std::string variable = name();
      if (variable.empty()) return std::string{"$"};
      const auto value = value_of(variable);
      if (!value && options_.skip_unset) return "$" + variable;
      return value.value_or("");
    }
    next();
    if (peek() == kEnd) return bad("syntax error: missing '}'");
    if (peek() == '{' || peek() == '}' || peek() == ':')
      return bad("syntax error: bad substitution");
    const std::string variable = name();
    int modifier = next();
    if (modifier == '}') {
      const auto value = value_of(variable);
      if (!value && options_.skip_unset) return "${" + variable + "}";
      return value.value_or("");
    }
    bool null_is_unset = false;
    std::string spelled(1, static_cast<char>(modifier));
    if (modifier == ':') {
      null_is_unset = true;
      modifier = next();
      spelled += static_cast<char>(modifier);
    }
    switch (modifier) {
    case '-':
    case '+':
    case '?':
      return conditional(variable, spelled, modifier, null_is_unset);
    case '#':
    case '%':
      if (null_is_unset) break;
      return trimmed(variable, modifier);
    case '/':
      if (null_is_unset) break;
      return replaced(variable);
    case kEnd:
      return bad("syntax error: missing '}'");
    default:
      break;
    }
    return bad("unsupported modifier (" + spelled + ") in substitution");
  }

  Result<std::string> conditional(const std::string& variable, const std::string& spelled,
                                  int modifier, bool null_is_unset) {
    auto word = operand('}', false);
    if (!word) return word;
    // A default makes the variable optional: it does not count as missing.
    const auto missing_before = unset_.size();
    const auto value = value_of(variable);
    if (!value && options_.skip_unset) return "${" + variable + spelled + *word + "}";
    if (!value && modifier != '?') unset_.resize(std::min(missing_before, unset_.size()));
    const bool counts_as_unset = !value || (null_is_unset && value->empty());
    switch (modifier) {
    case '-':
      return counts_as_unset ? *word : *value;
    case '+':
      return counts_as_unset ? std::string{} : *word;
    default:
      if (!counts_as_unset) return *value;
      return bad(variable + ": " +
                 (word->empty()
                      ? (value ? "is not allowed to be empty" : "is not allowed to be unset")
                      : *word));
    }
  }

  /// Each star multiplies what fnmatch may try; a Dockerfile has no use for many.
  static bool is_costly(const std::string& pattern) {
    return pattern.size() > 256 || std::count(pattern.begin(), pattern.end(), '*') > 3;
  }
  static bool matches(const std::string& pattern, const std::string& text) {
    return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
  }

  Result<std::string> trimmed(const std::string& variable, int modifier) {
    auto pattern = operand('}', true);
    if (!pattern) return pattern;
    bool longest = false;
    std::string glob = *pattern;
    if (!glob.empty() && glob.front() == static_cast<char>(modifier)) {
      longest = true;
      glob.erase(0, 1);
    }
    const auto held = value_of(variable);
    if (!held && options_.skip_unset)
      return "${" + variable + static_cast<char>(modifier) + *pattern + "}";
    const std::string value = held.value_or("");
    if (value.size() > kMaxPatternValue || is_costly(glob))
      return bad("the value of " + variable + " or its pattern is too long");
    for (std::size_t i = 0; i <= value.size(); ++i) {
      const std::size_t length = longest ? value.size() - i : i;
      const bool prefix = modifier == '#';
      const std::string part =
          prefix ? value.substr(0, length) : value.substr(value.size() - length);
      if (!matches(glob, part)) continue;
      return prefix ? value.substr(length) : value.substr(0, value.size() - length);
    }
    return value;
  }

  Result<std::string> replaced(const std::string& variable) {
    const bool all = peek() == '/';
    if (all) next();
    auto pattern = operand('/', true);
    if (!pattern) return pattern;
    auto replacement = operand('}', true);
    if (!replacement) return replacement;
    const auto held = value_of(variable);
    if (!held && options_.skip_unset)
      return "${" + variable + (all ? "//" : "/") + *pattern + "/" + *replacement + "}";
    const std::string value = held.value_or("");
    if (value.size() > 512 || is_costly(*pattern))
      return bad("the value of " + variable + " or its pattern is too long");
    std::string result;
    std::size_t from = 0;
    bool done = pattern->empty();
    while (from < value.size()) {
      std::size_t taken = 0;
      if (!done) {
        for (std::size_t length = value.size() - from; length > 0; --length) {
          if (!matches(*pattern, value.substr(from, length))) continue;
          taken = length;
          break;
        }
      }
      if (taken == 0) {
        result += value[from++];
        continue;
      }
      result += *replacement;
      from += taken;
      if (!all) done = true;
    }
    return result;
  }

  std::string_view source_;
  const std::map<std::string, std::string>& variables_;
  const LexOptions& options_;
  bool raw_escapes_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::string word_;
  std::vector<std::string> words_;
  std::vector<std::string> unset_;
};

} // namespace

Result<Lexed> lex(std::string_view source, const std::map<std::string, std::string>& variables,
                  const LexOptions& options) {
  return Lexer{source, variables, options}.run();
}

std::vector<std::string> pair_words(std::string_view text, char escape) {
  std::vector<std::string> words;
  std::string word;
  char quote = '\0';
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quote == '\0' && is_space(static_cast<unsigned char>(c))) {
      if (!word.empty()) words.push_back(std::exchange(word, ""));
    } else if (c == escape && quote != '\'') {
      if (at + 1 == text.size()) break;
      word += c;
      word += text[++at];
    } else {
      if (quote == '\0' && (c == '\'' || c == '"'))
        quote = c;
      else if (c == quote)
        quote = '\0';
      word += c;
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

} // namespace slipway::dockerfile
