// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/challenge.hpp"

#include <cctype>

namespace slipway::credentials {

namespace {

constexpr std::size_t kMaxChallengeBytes = 4096;

bool is_token_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
}

Error unreadable(const std::string& why) {
  return Error{ErrorKind::bad_input, "WWW-Authenticate header cannot be read: " + why, "", {}};
}

/// Walks over the header; every method leaves the position after what it took.
class Cursor {
public:
  explicit Cursor(std::string_view text) : text_{text} {}
  bool at_end() const { return position_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  void skip_space() {
    while (peek() == ' ' || peek() == '\t')
      ++position_;
  }
  bool take(char c) {
    if (peek() != c || at_end()) return false;
    ++position_;
    return true;
  }
  std::string_view token() {
    const std::size_t from = position_;
    while (!at_end() && is_token_char(text_[position_]))
      ++position_;
    return text_.substr(from, position_ - from);
  }
  /// After the opening quote. Errors: bad_input (no closing quote).
  Result<std::string> quoted() {
    std::string value;
    while (!at_end()) {
      char c = text_[position_++];
      if (c == '"') return value;
      if (c == '\\') {
        if (at_end()) break;
        c = text_[position_++];
      }
      value += c;
    }
    return unreadable("a quote is never closed");
  }
  std::size_t position() const { return position_; }
  void rewind(std::size_t position) { position_ = position; }

private:
  std::string_view text_;
  std::size_t position_ = 0;
};

std::string lower(std::string_view text) {
  std::string result;
  for (const char c : text)
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

} // namespace

std::string Challenge::parameter(const std::string& name) const {
  const auto found = parameters.find(name);
  return found == parameters.end() ? "" : found->second;
}

Result<std::vector<Challenge>> parse_challenges(std::string_view header) {
  if (header.size() > kMaxChallengeBytes) return unreadable("longer than 4 KiB");
  for (const char c : header) {
    if ((c < ' ' && c != '\t') || c == '\x7f') return unreadable("it holds a control character");
  }
  std::vector<Challenge> challenges;
  Cursor cursor{header};
  while (true) {
    cursor.skip_space();
    while (cursor.take(','))
      cursor.skip_space();
    if (cursor.at_end()) break;
    const auto name = lower(cursor.token());
    if (name.empty()) return unreadable("a scheme or parameter name is missing");
    const std::size_t after_name = cursor.position();
    cursor.skip_space();
    if (cursor.peek() != '=') { // a scheme
      cursor.rewind(after_name);
      if (!cursor.at_end() && cursor.peek() != ' ' && cursor.peek() != '\t' &&
          cursor.peek() != ',') {
        return unreadable("a scheme is followed by an unexpected character");
      }
      challenges.push_back({name, {}});
      continue;
    }
    if (challenges.empty()) return unreadable("a parameter stands before any scheme");
    cursor.take('=');
    cursor.skip_space();
    std::string value;
    if (cursor.take('"')) {
      auto quoted = cursor.quoted();
      if (!quoted) return std::move(quoted).error();
      value = *std::move(quoted);
    } else {
      value = cursor.token();
      if (value.empty()) return unreadable("parameter " + name + " has no value");
    }
    cursor.skip_space();
    if (!cursor.at_end() && cursor.peek() != ',') {
      return unreadable("parameters must be separated by commas");
    }
    if (!challenges.back().parameters.emplace(name, std::move(value)).second) {
      return unreadable("parameter " + name + " is given twice");
    }
  }
  if (challenges.empty()) return unreadable("it is empty");
  return challenges;
}

} // namespace slipway::credentials
