// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/variables.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

Error bad(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

std::size_t name_end(std::string_view text, std::size_t at) {
  if (at >= text.size() || !begins_name(text[at])) return at;
  while (at < text.size() && (begins_name(text[at]) || (text[at] >= '0' && text[at] <= '9')))
    ++at;
  return at;
}

/// The "}" that closes the "${" before `at`; inner ones have their own.
std::size_t closing_brace(std::string_view text, std::size_t at) {
  int open = 1;
  for (; at < text.size(); ++at) {
    if (text.compare(at, 2, "${") == 0) {
      ++open;
      ++at;
    } else if (text[at] == '}' && --open == 0) {
      return at;
    }
  }
  return std::string_view::npos;
}

class Filler {
public:
  Filler(const Environment& env, std::set<std::string>& unset) : env_{env}, unset_{unset} {}

  Result<std::string> fill(std::string_view text, int depth = 0) {
    if (depth > kMaxVariableDepth) return bad("variables are nested too deeply");
    std::string filled;
    for (std::size_t at = 0; at < text.size();) {
      if (text[at] != '$') {
        filled += text[at++];
        continue;
      }
      Result<std::string> value{std::string{}};
      if (text.compare(at, 2, "$$") == 0) {
        value = std::string{"$"};
        at += 2;
      } else if (text.compare(at, 2, "${") == 0) {
        const auto end = closing_brace(text, at + 2);
        if (end == std::string_view::npos) return invalid(text);
        value = braced(text.substr(at + 2, end - at - 2), text, depth);
        at = end + 1;
      } else {
        const auto end = name_end(text, at + 1);
        if (end == at + 1) return invalid(text);
        value = of(std::string{text.substr(at + 1, end - at - 1)});
        at = end;
      }
      if (!value) return value;
      filled += *value;
      if (filled.size() > kMaxFilledBytes) return bad("a text becomes too long");
    }
    return filled;
  }

private:
  static Error invalid(std::string_view text) {
    constexpr std::size_t kShown = 80;
    return Error{ErrorKind::bad_input,
                 "invalid interpolation format: \"" + std::string{text.substr(0, kShown)} + "\"",
                 "a `$` that is meant is written `$$`",
                 {}};
  }

  std::string of(const std::string& name) {
    const auto found = env_.find(name);
    if (found != env_.end()) return found->second;
    unset_.insert(name);
    return "";
  }

  Result<std::string> braced(std::string_view inner, std::string_view whole, int depth) {
    const auto end = name_end(inner, 0);
    if (end == 0) return invalid(whole);
    const std::string name{inner.substr(0, end)};
    auto rest = inner.substr(end);
    if (rest.empty()) return of(name);
    const bool also_empty = rest[0] == ':';
    if (also_empty) rest.remove_prefix(1);
    if (rest.empty() || std::string_view{"-?+"}.find(rest[0]) == std::string_view::npos)
      return invalid(whole);
    const auto found = env_.find(name);
    const bool is_set = found != env_.end() && !(also_empty && found->second.empty());
    const auto word = rest.substr(1);
    switch (rest[0]) {
    case '-':
      return is_set ? Result<std::string>{found->second} : fill(word, depth + 1);
    case '+':
      return is_set ? fill(word, depth + 1) : Result<std::string>{std::string{}};
    default:
      if (is_set) return found->second;
      auto message = fill(word, depth + 1);
      if (!message) return message;
      return bad("required variable " + name + " is missing a value" +
                 (message->empty() ? "" : ": " + *message));
    }
  }

  const Environment& env_;
  std::set<std::string>& unset_;
};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

class EnvFile {
public:
  EnvFile(const std::string& name, const std::string& text, const Environment& outer)
      : name_{name}, text_{text}, outer_{outer} {}

  Result<Environment> read() {
    while (at_ < text_.size()) {
      ++line_;
      const auto begin = at_;
      auto end = text_.find('\n', at_);
      if (end == std::string::npos) end = text_.size();
      const auto line = trimmed(std::string_view{text_}.substr(at_, end - at_));
      at_ = end + 1;
      if (line.empty() || line[0] == '#') continue;
      if (auto taken = take(begin, end, line); !taken) return std::move(taken).error();
    }
    return std::move(values_);
  }

private:
  Error wrong(const std::string& what) const {
    return bad(name_ + ":" + std::to_string(line_) + ": " + what);
  }

  Environment known() const {
    Environment all = outer_;
    all.insert(values_.begin(), values_.end());
    return all;
  }

  Status take(std::size_t begin, std::size_t end, std::string_view line) {
    constexpr std::string_view kExport = "export ";
    std::size_t at = text_.find_first_not_of(" \t", begin);
    if (line.starts_with(kExport)) at = text_.find_first_not_of(" \t", at + kExport.size());
    auto cut = text_.find_first_of("=:", at);
    if (cut == std::string::npos || cut >= end) {
      const std::string key{trimmed(std::string_view{text_}.substr(at, end - at))};
      if (auto good = check(key); !good) return good;
      if (const auto found = outer_.find(key); found != outer_.end()) values_[key] = found->second;
      return {};
    }
    const std::string key{trimmed(std::string_view{text_}.substr(at, cut - at))};
    if (auto good = check(key); !good) return good;
    const auto value = text_.find_first_not_of(" \t\r", cut + 1);
    if (value == std::string::npos || value >= end) {
      values_[key] = "";
      return {};
    }
    if (text_[value] == '\'' || text_[value] == '"') return take_quoted(key, value);
    return take_plain(key, std::string_view{text_}.substr(value, end - value));
  }

  Status check(const std::string& key) const {
    const bool good = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
      return begins_name(c) || (c >= '0' && c <= '9') || c == '.' || c == '-';
    });
    return good ? Status{} : wrong("unexpected character in variable name \"" + key + "\"");
  }

  Status take_plain(const std::string& key, std::string_view value) {
    if (value[0] == '#') value = {};
    for (const std::string_view mark : {" #", "\t#"})
      value = value.substr(0, value.find(mark));
    return expand(key, std::string{trimmed(value)});
  }

  /// A quoted value may go over several lines.
  Status take_quoted(const std::string& key, std::size_t at) {
    const char quote = text_[at];
    std::string value;
    const auto first_line = line_;
    for (++at; at < text_.size() && text_[at] != quote; ++at) {
      const char c = text_[at];
      if (c == '\n') ++line_;
      if (c != '\\' || at + 1 == text_.size()) {
        value += c;
        continue;
      }
      const char next = text_[++at];
      if (quote == '\'') {
        if (next != '\'') value += c;
        value += next;
      } else if (next == '$') {
        value += "$$"; // fill_variables() makes one of it
      } else if (next == '"' || next == '\\') {
        value += next;
      } else if (next == 'n' || next == 't' || next == 'r') {
        value += next == 'n' ? '\n' : next == 't' ? '\t' : '\r';
      } else {
        value += c;
        value += next;
      }
    }
    if (at >= text_.size()) {
      line_ = first_line;
      return wrong("unterminated quoted value of " + key);
    }
    auto end = text_.find('\n', at);
    if (end == std::string::npos) end = text_.size();
    const auto rest = trimmed(std::string_view{text_}.substr(at + 1, end - at - 1));
    if (!rest.empty() && rest[0] != '#')
      return wrong("unexpected text behind the quoted value of " + key);
    at_ = end + 1;
    if (quote == '\'') {
      values_[key] = std::move(value);
      return {};
    }
    return expand(key, value);
  }

  Status expand(const std::string& key, const std::string& value) {
    if (value.find('$') == std::string::npos) {
      values_[key] = value;
      return {};
    }
    std::set<std::string> unset;
    auto filled = fill_variables(value, known(), unset);
    if (!filled) return wrong(filled.error().what);
    values_[key] = *std::move(filled);
    return {};
  }

  const std::string& name_;
  const std::string& text_;
  const Environment& outer_;
  Environment values_;
  std::size_t at_ = 0;
  std::size_t line_ = 0;
};

} // namespace

Result<std::string> fill_variables(const std::string& text, const Environment& env,
                                   std::set<std::string>& unset) {
  return Filler{env, unset}.fill(text);
}

Result<Environment> read_env_file(const std::string& name, const std::string& text,
                                  const Environment& outer) {
  return EnvFile{name, text, outer}.read();
}

} // namespace slipway::shim
