// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/flags.hpp"

#include <algorithm>
#include <array>

namespace slipway::shim {
namespace {

const Flag* find_flag(const std::vector<Flag>& known, std::string_view name) {
  const auto found =
      std::find_if(known.begin(), known.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == known.end() ? nullptr : &*found;
}

const Flag* find_letter(const std::vector<Flag>& known, char letter) {
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const Flag& flag) { return flag.letter == letter; });
  return found == known.end() ? nullptr : &*found;
}

class Reader {
public:
  Reader(const std::vector<std::string>& words, const std::vector<Flag>& known)
      : words_{words}, known_{known} {}

  std::variant<Line, FlagError> read(bool interspersed) {
    for (; at_ < words_.size() && error_.empty(); ++at_) {
      const std::string& word = words_[at_];
      if (word == "--") {
        line_.arguments.insert(line_.arguments.end(),
                               words_.begin() + static_cast<std::ptrdiff_t>(at_) + 1, words_.end());
        break;
      }
      if (word.starts_with("--")) {
        long_flag(word.substr(2));
      } else if (word.size() > 1 && word[0] == '-') {
        letters(word);
      } else if (interspersed) {
        line_.arguments.push_back(word);
      } else {
        line_.arguments.assign(words_.begin() + static_cast<std::ptrdiff_t>(at_), words_.end());
        break;
      }
    }
    if (!error_.empty()) return FlagError{error_};
    return line_;
  }

private:
  void long_flag(const std::string& text) {
    const auto equals = text.find('=');
    const std::string name = text.substr(0, equals);
    if (name == "help") {
      line_.help = true;
      return;
    }
    const Flag* flag = find_flag(known_, name);
    if (flag == nullptr) {
      error_ = "unknown flag: --" + name;
    } else if (equals != std::string::npos) {
      keep(*flag, text.substr(equals + 1));
    } else if (flag->takes != Takes::value) {
      keep(*flag, "true");
    } else if (at_ + 1 < words_.size()) {
      keep(*flag, words_[++at_]);
    } else {
      error_ = "flag needs an argument: --" + name;
    }
  }

  void letters(const std::string& word) {
    for (std::size_t i = 1; i < word.size() && error_.empty(); ++i) {
      const Flag* flag = find_letter(known_, word[i]);
      if (flag == nullptr) {
        if (word[i] == 'h')
          line_.help = true;
        else
          error_ = "unknown shorthand flag: '" + word.substr(i, 1) + "' in " + word;
        continue;
      }
      const bool has_equals = i + 1 < word.size() && word[i + 1] == '=';
      if (flag->takes != Takes::value && !has_equals) {
        keep(*flag, "true");
        continue;
      }
      if (i + 1 < word.size()) {
        keep(*flag, word.substr(i + (has_equals ? 2 : 1)));
      } else if (at_ + 1 < words_.size()) {
        keep(*flag, words_[++at_]);
      } else {
        error_ = "flag needs an argument: '" + word.substr(i, 1) + "' in " + word;
      }
      return;
    }
  }

  void keep(const Flag& flag, const std::string& value) {
    const std::string name{flag.name};
    if (flag.use == Use::say)
      line_.notes.push_back("slipway: --" + name + " has no effect: " + std::string{flag.reason});
    if (flag.takes == Takes::nothing) {
      const auto on = parse_bool(value);
      if (!on) {
        error_ = "invalid argument \"" + value + "\" for \"--" + name +
                 "\" flag: strconv.ParseBool: parsing \"" + value + "\": invalid syntax";
        return;
      }
      if (flag.use == Use::refuse && *on) refuse(flag);
      if (flag.use == Use::keep) line_.flags.emplace_back(name, *on ? "true" : "false");
      return;
    }
    if (flag.use == Use::refuse) refuse(flag);
    if (flag.use == Use::keep) line_.flags.emplace_back(name, value);
  }

  void refuse(const Flag& flag) {
    error_ =
        "slipway does not support --" + std::string{flag.name} + ": " + std::string{flag.reason};
  }

  const std::vector<std::string>& words_;
  const std::vector<Flag>& known_;
  std::size_t at_ = 0;
  Line line_;
  std::string error_;
};

} // namespace

std::optional<bool> parse_bool(std::string_view text) {
  constexpr std::array<std::string_view, 6> kYes{"1", "t", "T", "true", "TRUE", "True"};
  constexpr std::array<std::string_view, 6> kNo{"0", "f", "F", "false", "FALSE", "False"};
  if (std::find(kYes.begin(), kYes.end(), text) != kYes.end()) return true;
  if (std::find(kNo.begin(), kNo.end(), text) != kNo.end()) return false;
  return std::nullopt;
}

bool Line::has(std::string_view name) const {
  return last(name) == "true";
}

std::string Line::last(std::string_view name) const {
  const auto found = std::find_if(flags.rbegin(), flags.rend(),
                                  [&](const auto& one) { return one.first == name; });
  return found == flags.rend() ? "" : found->second;
}

std::vector<std::string> Line::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : flags)
    if (key == name) values.push_back(value);
  return values;
}

std::variant<Line, FlagError> read_flags(const std::vector<std::string>& words,
                                         const std::vector<Flag>& known, bool interspersed) {
  return Reader{words, known}.read(interspersed);
}

} // namespace slipway::shim
