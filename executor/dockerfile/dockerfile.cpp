// SPDX-License-Identifier: Apache-2.0
#include "executor/dockerfile/dockerfile.hpp"

#include "executor/dockerfile/lex.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

namespace slipway::dockerfile {

namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::string_view trim_left(std::string_view text) {
  while (!text.empty() && is_space(text.front()))
    text.remove_prefix(1);
  return text;
}
std::string_view trim_right(std::string_view text) {
  while (!text.empty() && is_space(text.back()))
    text.remove_suffix(1);
  return text;
}
std::string_view trim(std::string_view text) {
  return trim_left(trim_right(text));
}
std::string_view trim_newline(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

std::string upper(std::string_view text) {
  std::string result{text};
  for (char& c : result)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return result;
}
std::string lower(std::string_view text) {
  std::string result{text};
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

/// Text of an untrusted file in a message: short, one line, no control characters.
std::string quoted(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 60))
    result += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  return text.size() > 60 ? result + "…" : result;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

template <typename Names> std::string nearest(std::string_view word, const Names& names) {
  std::string best;
  std::size_t least = 3;
  if (word.size() > 40) return best;
  for (const auto& name : names) {
    const std::size_t distance = edit_distance(word, name);
    if (distance < least && distance < name.size()) {
      least = distance;
      best = std::string{name};
    }
  }
  return best;
}

struct Grammar {
  std::string_view name;
  std::vector<std::string_view> flags;
};

const std::vector<Grammar>& grammar() {
  static const std::vector<Grammar> all = {
      {"ADD", {"chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"}},
      {"ARG", {}},
      {"CMD", {}},
      {"COPY", {"chown", "chmod", "from", "link", "exclude", "parents"}},
      {"ENTRYPOINT", {}},
      {"ENV", {}},
      {"EXPOSE", {}},
      {"FROM", {"platform"}},
      {"HEALTHCHECK", {"interval", "timeout", "start-period", "start-interval", "retries"}},
      {"LABEL", {}},
      {"MAINTAINER", {}},
      {"ONBUILD", {}},
      {"RUN", {"mount", "network", "security", "device"}},
      {"SHELL", {}},
      {"STOPSIGNAL", {}},
      {"USER", {}},
      {"VOLUME", {}},
      {"WORKDIR", {}},
  };
  return all;
}

const Grammar* find_grammar(std::string_view name) {
  for (const Grammar& entry : grammar())
    if (entry.name == name) return &entry;
  return nullptr;
}

/// JSON form: a list of strings, or something that only looks like one. Source: parseJSON.
struct JsonForm {
  bool valid = false;
  bool goes_on = false; ///< valid but for what follows it
  bool strings_only = true;
  std::vector<std::string> items;
};

class JsonReader {
public:
  explicit JsonReader(std::string_view text) : text_{text} {}

  JsonForm list() {
    JsonForm form;
    space();
    if (!take('[')) return form;
    space();
    if (!take(']')) {
      for (;;) {
        space();
        if (peek() == '"') {
          auto item = string();
          if (!item) return form;
          form.items.push_back(*std::move(item));
        } else if (scalar()) {
          form.strings_only = false;
        } else {
          return form;
        }
        space();
        if (take(',')) continue;
        if (take(']')) break;
        return form;
      }
    }
    space();
    form.valid = at_ == text_.size();
    form.goes_on = !form.valid;
    return form;
  }

private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || (text_[at_] >= '\t' && text_[at_] <= '\r')))
      ++at_;
  }
  bool scalar() {
    const std::size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                  text_[at_] == '.' || text_[at_] == '-' || text_[at_] == '+'))
      ++at_;
    const std::string_view word = text_.substr(start, at_ - start);
    if (word == "true" || word == "false" || word == "null") return true;
    if (word.empty() || word.find_first_not_of("0123456789.eE+-") != std::string_view::npos)
      return false;
    return word.find_first_of("0123456789") != std::string_view::npos &&
           (word.front() == '-' ? word.size() > 1 : word.front() >= '0' && word.front() <= '9');
  }
  static void utf8(std::string& out, std::uint32_t point) {
    const auto byte = [&out](std::uint32_t value) { out += static_cast<char>(value); };
    if (point < 0x80) {
      byte(point);
    } else if (point < 0x800) {
      byte(0xc0 | (point >> 6));
      byte(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
      byte(0xe0 | (point >> 12));
      byte(0x80 | ((point >> 6) & 0x3f));
      byte(0x80 | (point & 0x3f));
    } else {
      byte(0xf0 | (point >> 18));
      byte(0x80 | ((point >> 12) & 0x3f));
      byte(0x80 | ((point >> 6) & 0x3f));
      byte(0x80 | (point & 0x3f));
    }
  }
  std::optional<std::uint32_t> hex4() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      std::uint32_t digit = 0;
      if (c >= '0' && c <= '9')
        digit = static_cast<std::uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        digit = static_cast<std::uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        digit = static_cast<std::uint32_t>(c - 'A' + 10);
      else
        return std::nullopt;
      value = value * 16 + digit;
      ++at_;
    }
    return value;
  }
  std::optional<std::string> string() {
    std::string result;
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return result;
      if (static_cast<unsigned char>(c) < 0x20) return std::nullopt;
      if (c != '\\') {
        result += c;
        continue;
      }
      if (at_ >= text_.size()) return std::nullopt;
      switch (text_[at_++]) {
      case '"':
        result += '"';
        break;
      case '\\':
        result += '\\';
        break;
      case '/':
        result += '/';
        break;
      case 'b':
        result += '\b';
        break;
      case 'f':
        result += '\f';
        break;
      case 'n':
        result += '\n';
        break;
      case 'r':
        result += '\r';
        break;
      case 't':
        result += '\t';
        break;
      case 'u': {
        const auto first = hex4();
        if (!first) return std::nullopt;
        std::uint32_t point = *first;
        if (point >= 0xd800 && point < 0xdc00 && text_.substr(at_, 2) == "\\u") {
          at_ += 2;
          const auto second = hex4();
          if (!second) return std::nullopt;
          point = *second >= 0xdc00 && *second < 0xe000
                      ? 0x10000 + ((point - 0xd800) << 10) + (*second - 0xdc00)
                      : 0xfffd;
        } else if (point >= 0xd800 && point < 0xe000) {
          point = 0xfffd;
        }
        utf8(result, point);
        break;
      }
      default:
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  text = trim(text);
  while (!text.empty()) {
    std::size_t end = 0;
    while (end < text.size() && !is_space(text[end]))
      ++end;
    words.emplace_back(text.substr(0, end));
    text = trim_left(text.substr(end));
  }
  return words;
}

/// Flags before the arguments. Source: extractBuilderFlags.
std::vector<std::string> take_flags(std::string_view& rest, char escape) {
  std::vector<std::string> flags;
  for (;;) {
    rest = trim_left(rest);
    if (rest.substr(0, 2) != "--") return flags;
    std::string word;
    char quote = '\0';
    std::size_t at = 0;
    for (; at < rest.size(); ++at) {
      const char c = rest[at];
      if (quote == '\0' && is_space(c)) break;
      if (quote == '\0' && (c == '\'' || c == '"')) {
        quote = c;
      } else if (quote != '\0' && c == quote) {
        quote = '\0';
      } else if (c == escape) {
        if (at + 1 == rest.size()) continue;
        word += rest[++at];
      } else {
        word += c;
      }
    }
    rest = rest.substr(at);
    if (word == "--") return flags;
    flags.push_back(std::move(word));
  }
}

class Parser {
public:
  Parser(std::string_view text, const std::string& file) : rest_{text} { result_.file = file; }

  Result<Dockerfile> run() {
    if (rest_.size() > kMaxDockerfileBytes) return fail(0, "is larger than 1 MiB");
    if (rest_.substr(0, 2) == "\xff\xfe" || rest_.substr(0, 2) == "\xfe\xff")
      return fail(1, "is UTF-16; save it as UTF-8");
    if (rest_.substr(0, 3) == "\xef\xbb\xbf") rest_.remove_prefix(3);
    if (rest_.find('\0') != std::string_view::npos)
      return fail(0, "is a binary file, not a Dockerfile");
    find_other_syntax();
    while (auto line = next_line()) {
      if (Status taken = take(*line); !taken) return std::move(taken).error();
    }
    if (too_long_)
      return fail(line_, "line is longer than " + std::to_string(kMaxLineBytes) + " bytes");
    if (line_ > static_cast<int>(kMaxLines))
      return fail(0, "has more than " + std::to_string(kMaxLines) + " lines");
    if (!any_) return fail(0, "has no instructions");
    if (result_.stages.empty()) return fail(0, "has no FROM: there is nothing to build");
    return std::move(result_);
  }

  /// One instruction without a file around it: an ONBUILD trigger.
  Result<Instruction> single() {
    auto line = next_line();
    if (!line) return fail(0, "empty trigger");
    const std::string joined{trim_newline(*line)};
    auto read = instruction(joined, 1, 1, false);
    if (!read) return read;
    if (Status bodies = take_heredocs(joined, *read); !bodies) return std::move(bodies).error();
    return read;
  }

private:
  Error fail(int line, const std::string& what) const {
    const std::string where = line > 0 ? result_.at(line) + ": " : result_.file + " ";
    return Error{ErrorKind::bad_input, where + what, "", {}};
  }

  std::optional<std::string_view> next_line() {
    if (rest_.empty() || line_ > static_cast<int>(kMaxLines) || too_long_) return std::nullopt;
    const std::size_t end = rest_.find('\n');
    const std::string_view line =
        rest_.substr(0, end == std::string_view::npos ? rest_.size() : end + 1);
    rest_.remove_prefix(line.size());
    ++line_;
    if (line.size() > kMaxLineBytes) {
      too_long_ = true;
      return std::nullopt;
    }
    return line;
  }

  /// The forms that BuildKit looks for apart from comments: a shebang is skipped, then `// syntax=`
  /// or a JSON document. Source: parser.DetectSyntax.
  void find_other_syntax() {
    std::string_view text = rest_;
    int line = 1;
    const auto skip_line = [&text, &line] {
      const std::size_t end = text.find('\n');
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      ++line;
    };
    if (text.substr(0, 2) == "#!") skip_line();
    for (const std::string_view mark : {std::string_view{"#"}, std::string_view{"//"}}) {
      std::string_view saved = text;
      const int saved_line = line;
      while (text.substr(0, mark.size()) == mark) {
        const auto directive = parse_directive(text.substr(0, text.find('\n')), mark.size());
        if (!directive) break;
        if (directive->first == "syntax") {
          set_syntax(directive->second, line);
          return;
        }
        skip_line();
      }
      text = saved;
      line = saved_line;
    }
  }

  void set_syntax(const std::string& value, int line) {
    if (!result_.syntax) result_.syntax = Syntax{value.substr(0, value.find(' ')), line};
  }

  static std::optional<std::pair<std::string, std::string>> parse_directive(std::string_view line,
                                                                            std::size_t mark) {
    line = trim(line.substr(mark));
    std::size_t end = 0;
    while (end < line.size() && std::isalnum(static_cast<unsigned char>(line[end])) != 0)
      ++end;
    if (end == 0 || std::isalpha(static_cast<unsigned char>(line[0])) == 0) return std::nullopt;
    const std::string key = lower(line.substr(0, end));
    std::string_view value = trim_left(line.substr(end));
    if (value.empty() || value.front() != '=') return std::nullopt;
    value = trim(value.substr(1));
    if (value.empty() || (key != "syntax" && key != "escape" && key != "check"))
      return std::nullopt;
    return std::pair{key, std::string{value}};
  }

  Status directive(std::string_view line) {
    if (!directives_) return {};
    if (line.empty() || line.front() != '#') {
      directives_ = false;
      return {};
    }
    const auto found = parse_directive(line, 1);
    if (!found) {
      directives_ = false;
      return {};
    }
    if (!seen_.insert(found->first).second)
      return fail(line_, "only one '" + found->first + "' parser directive can be used");
    if (found->first == "syntax") set_syntax(found->second, line_);
    if (found->first == "escape") {
      if (found->second != "\\" && found->second != "`")
        return fail(line_,
                    "invalid escape '" + quoted(found->second) + "': only ` and \\ are possible");
      result_.escape = found->second[0];
    }
    return {};
  }

  /// Cuts the continuation character; true where the line goes on. Two escapes are none.
  bool continues(std::string_view& line) const {
    std::string_view end = line;
    while (!end.empty() && (end.back() == ' ' || end.back() == '\t'))
      end.remove_suffix(1);
    if (end.empty() || end.back() != result_.escape) return false;
    if (end.size() > 1 && end[end.size() - 2] == result_.escape) return false;
    line = end.substr(0, end.size() - 1);
    return true;
  }

  Status take(std::string_view raw) {
    std::string_view line = trim_left(trim_newline(raw));
    if (Status read = directive(line); !read) return read;
    if (!line.empty() && line.front() == '#') return {};
    const int start = line_;
    bool more = continues(line);
    if (!more && line.empty()) return {};
    std::string joined{line};
    while (more) {
      const auto next = next_line();
      if (!next) break;
      std::string_view part = trim_newline(*next);
      const std::string_view content = trim_left(part);
      if (content.empty() || content.front() == '#') continue;
      more = continues(part);
      joined += part;
    }
    if (trim(joined).empty()) return {};
    any_ = true;
    auto read = instruction(joined, start, line_, false);
    if (!read) return std::move(read).error();
    if (Status bodies = take_heredocs(joined, *read); !bodies) return bodies;
    read->end_line = line_;
    return place(*std::move(read));
  }

  Status take_heredocs(const std::string& joined, Instruction& outer) {
    const Instruction& holder = outer.trigger.empty() ? outer : outer.trigger.front();
    if (holder.name != "RUN" && holder.name != "COPY" && holder.name != "ADD") return {};
    if (holder.json || joined.find("<<") == std::string::npos) return {};
    const auto words = lex(
        joined, {}, {.escape = '\\', .raw_quotes = true, .raw_escapes = true, .skip_unset = true});
    if (!words) return {}; // BuildKit ignores it too: then there is no heredoc
    std::vector<Heredoc> found;
    for (const std::string& word : words->words) {
      auto heredoc = read_delimiter(word, outer.line);
      if (!heredoc) return std::move(heredoc).error();
      if (*heredoc) found.push_back(**std::move(heredoc));
    }
    for (Heredoc& heredoc : found) {
      heredoc.line = line_ + 1;
      bool ended = false;
      while (const auto raw = next_line()) {
        std::string_view line = trim_newline(*raw);
        if (heredoc.chomp)
          while (!line.empty() && line.front() == '\t')
            line.remove_prefix(1);
        if (line == heredoc.name) {
          ended = true;
          break;
        }
        heredoc.content += *raw;
      }
      if (!ended)
        return fail(outer.line,
                    "heredoc is not ended: there is no line '" + quoted(heredoc.name) + "'");
      (outer.trigger.empty() ? outer : outer.trigger.front()).heredocs.push_back(heredoc);
    }
    return {};
  }

  Result<std::optional<Heredoc>> read_delimiter(const std::string& word, int line) const {
    std::string_view text = word;
    Heredoc heredoc;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      heredoc.descriptor =
          (heredoc.descriptor * 10 + static_cast<unsigned>(text.front() - '0')) % 100000U;
      text.remove_prefix(1);
    }
    if (text.substr(0, 2) != "<<") return std::optional<Heredoc>{};
    text.remove_prefix(2);
    if (!text.empty() && text.front() == '-') {
      heredoc.chomp = true;
      text.remove_prefix(1);
    }
    text = trim_left(text);
    if (text.empty() || text.find('<') != std::string_view::npos) return std::optional<Heredoc>{};
    const auto bare = lex(text, {}, {.skip_unset = true});
    const auto raw = lex(text, {}, {.raw_quotes = true, .skip_unset = true});
    if (!bare || !raw)
      return fail(line, "heredoc delimiter '" + quoted(text) + "' has an open quote");
    if (bare->words.size() != 1 || raw->words.size() != 1) return std::optional<Heredoc>{};
    const auto quotes = [](const std::string& s) {
      return std::count_if(s.begin(), s.end(), [](char c) { return c == '\'' || c == '"'; });
    };
    heredoc.name = bare->words[0];
    heredoc.expand = quotes(bare->words[0]) == quotes(raw->words[0]);
    return std::optional<Heredoc>{std::move(heredoc)};
  }

  Result<Instruction> instruction(std::string_view joined, int line, int end_line,
                                  bool in_onbuild) const {
    joined = trim(joined);
    std::size_t end = 0;
    while (end < joined.size() && !is_space(joined[end]))
      ++end;
    Instruction read;
    read.name = upper(joined.substr(0, end));
    read.line = line;
    read.end_line = end_line;
    const Grammar* known = find_grammar(read.name);
    if (known == nullptr) {
      std::vector<std::string_view> names;
      for (const Grammar& entry : grammar())
        names.push_back(entry.name);
      const std::string near = nearest(read.name, names);
      return fail(line, "unknown instruction: " + quoted(read.name) +
                            (near.empty() ? "" : " (did you mean " + near + "?)"));
    }
    std::string_view rest = joined.substr(end);
    for (const std::string& word : take_flags(rest, result_.escape)) {
      const std::size_t equals = word.find('=');
      Flag flag{word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2),
                equals == std::string::npos ? "" : word.substr(equals + 1),
                equals != std::string::npos};
      if (std::find(known->flags.begin(), known->flags.end(), flag.name) == known->flags.end()) {
        const std::string near = nearest(flag.name, known->flags);
        return fail(line, read.name + " has no flag --" + quoted(flag.name) +
                              (near.empty() ? "" : " (did you mean --" + near + "?)"));
      }
      const bool repeats = flag.name == "mount" || flag.name == "exclude" || flag.name == "device";
      if (!repeats && read.flag(flag.name) != nullptr)
        return fail(line, read.name + " has the flag --" + flag.name + " twice");
      read.flags.push_back(std::move(flag));
    }
    read.text = std::string{trim(rest)};
    if (Status words = arguments(read); !words) return std::move(words).error();
    if (read.name == "ONBUILD") {
      if (in_onbuild) return fail(line, "ONBUILD ONBUILD is not possible");
      auto trigger = instruction(read.text, line, end_line, true);
      if (!trigger) return trigger;
      if (trigger->name == "FROM" || trigger->name == "MAINTAINER")
        return fail(line, trigger->name + " is not possible in ONBUILD");
      read.trigger.push_back(*std::move(trigger));
    }
    return read;
  }

  Status arguments(Instruction& read) const {
    const bool may_be_json = read.name == "RUN" || read.name == "CMD" ||
                             read.name == "ENTRYPOINT" || read.name == "SHELL" ||
                             read.name == "COPY" || read.name == "ADD" || read.name == "VOLUME" ||
                             read.name == "HEALTHCHECK";
    std::string_view text = read.text;
    if (read.name == "HEALTHCHECK") { // its first word is NONE or CMD
      std::size_t end = 0;
      while (end < text.size() && !is_space(text[end]))
        ++end;
      const std::string kind = upper(text.substr(0, end));
      if (kind != "NONE" && kind != "CMD")
        return fail(read.line,
                    "HEALTHCHECK needs NONE or CMD, not '" + quoted(text.substr(0, end)) + "'");
      text = trim_left(text.substr(end));
      if (kind == "CMD" && text.empty()) return fail(read.line, "HEALTHCHECK CMD needs a command");
    }
    if (may_be_json && !text.empty() && text.front() == '[') {
      JsonForm form = JsonReader{text}.list();
      read.goes_on_after_json = form.goes_on;
      if (form.valid && !form.strings_only)
        return fail(read.line, read.name + ": the JSON form takes strings only");
      if (form.valid) {
        read.json = true;
        read.words = std::move(form.items);
      }
    }
    if (!read.json) read.words = split_words(text);
    if (read.name == "SHELL" && (!read.json || read.words.empty()))
      return fail(read.line, R"(SHELL needs the JSON form: SHELL ["/bin/bash", "-c"])");
    const bool may_be_empty =
        read.name == "CMD" || read.name == "ENTRYPOINT" || read.name == "HEALTHCHECK" || read.json;
    if (read.words.empty() && !may_be_empty)
      return fail(read.line, read.name + " needs an argument");
    if ((read.name == "COPY" || read.name == "ADD") && read.words.size() < 2)
      return fail(read.line, read.name + " needs at least one source and a destination");
    return {};
  }

  Status place(Instruction read) {
    if (read.name == "FROM") return open_stage(read);
    if (result_.stages.empty()) {
      if (read.name != "ARG")
        return fail(read.line, read.name + " stands before the first FROM; only ARG may");
      result_.global_args.push_back(std::move(read));
      return {};
    }
    Stage& stage = result_.stages.back();
    stage.has_heredoc = stage.has_heredoc || !read.heredocs.empty() ||
                        (!read.trigger.empty() && !read.trigger[0].heredocs.empty());
    if (read.name == "HEALTHCHECK") stage.has_healthcheck = upper(read.text.substr(0, 4)) != "NONE";
    if (read.name == "SHELL") stage.has_shell = true;
    if (read.name == "ONBUILD") stage.has_onbuild = true;
    if (read.name == "USER") stage.user = read.text;
    if (read.name == "CMD")
      stage.cmd = read.json ? read.words : std::vector<std::string>{read.text};
    if (read.name == "ENTRYPOINT")
      stage.entrypoint = read.json ? read.words : std::vector<std::string>{read.text};
    stage.instructions.push_back(std::move(read));
    return {};
  }

  Status open_stage(const Instruction& read) {
    if (result_.stages.size() >= kMaxStages)
      return fail(read.line, "more than " + std::to_string(kMaxStages) + " stages");
    Stage stage;
    stage.line = read.line;
    stage.end_line = read.end_line;
    stage.base = read.words[0];
    if (const Flag* platform = read.flag("platform")) stage.platform = platform->value;
    if (read.words.size() == 3 && upper(read.words[1]) == "AS") {
      stage.name = lower(read.words[2]);
      const bool legal = stage.name[0] >= 'a' && stage.name[0] <= 'z' &&
                         stage.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") ==
                             std::string::npos;
      if (!legal)
        return fail(read.line, "invalid name for a stage: '" + quoted(read.words[2]) +
                                   "' (a letter first, then letters, digits, - _ .)");
    } else if (read.words.size() != 1) {
      return fail(read.line, "FROM takes IMAGE or IMAGE AS NAME");
    }
    result_.stages.push_back(std::move(stage));
    return {};
  }

  std::string_view rest_;
  Dockerfile result_;
  int line_ = 0;
  bool directives_ = true;
  bool too_long_ = false;
  bool any_ = false;
  std::set<std::string> seen_;
};

// -- which images a build takes from outside

Error at_line(const Dockerfile& dockerfile, int line, const std::string& what) {
  return Error{ErrorKind::bad_input, dockerfile.at(line) + ": " + what, "", {}};
}

using Variables = std::map<std::string, std::string>;

void set_platform(Variables& variables, const std::string& prefix, const std::string& platform) {
  const std::size_t first = platform.find('/');
  const std::size_t second =
      first == std::string::npos ? std::string::npos : platform.find('/', first + 1);
  variables[prefix + "PLATFORM"] = platform;
  variables[prefix + "OS"] = platform.substr(0, first);
  variables[prefix + "OSVERSION"] = "";
  variables[prefix + "ARCH"] =
      first == std::string::npos ? "" : platform.substr(first + 1, second - first - 1);
  variables[prefix + "VARIANT"] = second == std::string::npos ? "" : platform.substr(second + 1);
}

/// ARG NAME, NAME=VALUE; several on one line. Words keep their quotes until they are expanded.
Result<std::vector<ArgDeclaration>> declared_by(const Dockerfile& dockerfile,
                                                const Instruction& arg) {
  std::vector<ArgDeclaration> declared;
  for (const std::string& word : pair_words(arg.text, dockerfile.escape)) {
    const std::size_t equals = word.find('=');
    if (equals == 0) return at_line(dockerfile, arg.line, "ARG needs a name before '='");
    declared.emplace_back(word.substr(0, equals),
                          equals == std::string::npos
                              ? std::nullopt
                              : std::optional<std::string>{word.substr(equals + 1)});
  }
  return declared;
}

Result<Variables> global_variables(const Dockerfile& dockerfile, const Scope& scope) {
  Variables given;
  for (const auto& [name, value] : scope.build_args)
    given[name] = value;
  Variables variables;
  set_platform(variables, "BUILD", scope.build_platform);
  set_platform(variables, "TARGET",
               scope.target_platform.empty() ? scope.build_platform : scope.target_platform);
  const std::string last = dockerfile.stages.empty() ? "" : dockerfile.stages.back().name;
  variables["TARGETSTAGE"] = !scope.target.empty() ? scope.target : last.empty() ? "default" : last;
  for (auto& [name, value] : variables)
    if (const auto found = given.find(name); found != given.end()) value = found->second;
  for (const Instruction& arg : dockerfile.global_args) {
    auto declared = declared_by(dockerfile, arg);
    if (!declared) return std::move(declared).error();
    for (const auto& [name, value] : *declared) {
      if (const auto found = given.find(name); found != given.end()) {
        variables[name] = found->second;
      } else if (value) {
        auto expanded = expand(*value, variables, dockerfile.escape);
        if (!expanded)
          return at_line(dockerfile, arg.line,
                         "ARG " + quoted(name) + ": " + expanded.error().what);
        variables[name] = *std::move(expanded);
      }
    }
  }
  return variables;
}

/// One field of `--mount=`, by the rules of CSV with quotes.
std::vector<std::string> csv_fields(std::string_view text) {
  std::vector<std::string> fields(1);
  bool quoting = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' && quoting && i + 1 < text.size() && text[i + 1] == '"') {
      fields.back() += '"';
      ++i;
    } else if (c == '"') {
      quoting = !quoting;
    } else if (c == ',' && !quoting) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

struct Use {
  std::string name;
  int line = 0;
  std::string used_by;
};

/// The names in COPY --from and RUN --mount=…,from= of one instruction.
Result<std::vector<Use>> names_used(const Dockerfile& dockerfile, const Instruction& instruction) {
  std::vector<Use> uses;
  if (instruction.name == "COPY") {
    if (const Flag* from = instruction.flag("from"); from != nullptr && !from->value.empty()) {
      const auto expanded = expand(from->value, {}, dockerfile.escape);
      if (!expanded || *expanded != from->value)
        return at_line(
            dockerfile, instruction.line,
            "COPY --from=" + quoted(from->value) +
                " has a variable, which is not possible; name it by a stage: FROM ${VAR} AS name");
      uses.push_back({from->value, instruction.line, "COPY --from"});
    }
  }
  if (instruction.name != "RUN") return uses;
  for (const Flag& flag : instruction.flags) {
    if (flag.name != "mount") continue;
    for (const std::string& field : csv_fields(flag.value)) {
      const std::size_t equals = field.find('=');
      if (equals == std::string::npos || lower(field.substr(0, equals)) != "from") continue;
      const std::string value = field.substr(equals + 1);
      if (value.empty()) continue;
      const std::size_t dollar = value.find('$');
      if (dollar != std::string::npos && dollar != value.size() - 1)
        return at_line(
            dockerfile, instruction.line,
            "RUN --mount: from=" + quoted(value) +
                " has a variable, which is not possible; name it by a stage: FROM ${VAR} AS name");
      uses.push_back({value, instruction.line, "RUN --mount"});
    }
  }
  return uses;
}

bool is_plausible_reference(const std::string& name) {
  if (name.empty() || name.size() > 512) return false;
  if (std::string_view{"/:@.-_"}.find(name.front()) != std::string_view::npos) return false;
  if (std::string_view{"/:@"}.find(name.back()) != std::string_view::npos) return false;
  if (name.find("//") != std::string::npos || name.find("/:") != std::string::npos) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"/:@.-_"}.find(c) != std::string_view::npos;
  });
}

class ImageFinder {
public:
  ImageFinder(const Dockerfile& dockerfile, const Scope& scope, Variables variables)
      : dockerfile_{dockerfile}, scope_{scope}, variables_{std::move(variables)} {}

  Result<std::vector<std::optional<std::string>>> bases() {
    if (Status resolved = resolve_bases(); !resolved) return std::move(resolved).error();
    std::vector<std::optional<std::string>> images;
    for (std::size_t at = 0; at < bases_.size(); ++at)
      images.push_back(parent_[at] ? std::nullopt : std::optional<std::string>{bases_[at]});
    return images;
  }

  Result<Plan> plan() {
    auto needed = needed_stages();
    if (!needed) return std::move(needed).error();
    auto target = find_target();
    if (!target) return std::move(target).error();
    Plan plan;
    plan.target = *target;
    for (std::size_t at = 0; at < needed->size(); ++at)
      if ((*needed)[at])
        plan.stages.push_back({at, parent_[at], parent_[at] ? std::string{} : bases_[at]});
    return plan;
  }

  Result<std::vector<ExternalImage>> run() {
    auto needed = needed_stages();
    if (!needed) return std::move(needed).error();
    for (std::size_t at = 0; at < needed->size(); ++at)
      if ((*needed)[at])
        if (Status added = add_stage(at); !added) return std::move(added).error();
    return std::move(found_);
  }

private:
  Result<std::vector<bool>> needed_stages() {
    if (Status bases = resolve_bases(); !bases) return std::move(bases).error();
    auto target = find_target();
    if (!target) return std::move(target).error();
    std::vector<bool> needed(dockerfile_.stages.size());
    std::vector<std::size_t> todo{*target};
    needed[*target] = true;
    const auto need = [&](std::size_t stage) {
      if (needed[stage]) return;
      needed[stage] = true;
      todo.push_back(stage);
    };
    while (!todo.empty()) {
      const std::size_t at = todo.back();
      todo.pop_back();
      if (parent_[at]) need(*parent_[at]);
      auto uses = uses_of(at);
      if (!uses) return std::move(uses).error();
      for (const Use& use : *uses) {
        auto stage = stage_named(use);
        if (!stage) return std::move(stage).error();
        if (*stage) need(**stage);
      }
    }
    return needed;
  }

  Status resolve_bases() {
    std::map<std::string, std::size_t> earlier;
    for (std::size_t at = 0; at < dockerfile_.stages.size(); ++at) {
      const Stage& stage = dockerfile_.stages[at];
      std::vector<std::string> unset;
      auto base = expand(stage.base, variables_, dockerfile_.escape, &unset);
      if (!base)
        return at_line(dockerfile_, stage.line,
                       "FROM " + quoted(stage.base) + ": " + base.error().what);
      bases_.push_back(*base);
      unset_.push_back(std::move(unset));
      const auto found = earlier.find(*base);
      parent_.push_back(found == earlier.end() ? std::nullopt
                                               : std::optional<std::size_t>{found->second});
      if (!stage.name.empty()) earlier[stage.name] = at;
    }
    named_ = std::move(earlier);
    return {};
  }

  Result<std::size_t> find_target() const {
    if (scope_.target.empty()) return dockerfile_.stages.size() - 1;
    const auto found = named_.find(lower(scope_.target));
    if (found != named_.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [name, at] : named_)
      names.push_back(name);
    const std::string near = nearest(lower(scope_.target), names);
    return Error{ErrorKind::bad_input,
                 dockerfile_.file + " has no stage named '" + quoted(scope_.target) + "'" +
                     (near.empty() ? "" : " (did you mean " + near + "?)"),
                 "",
                 {}};
  }

  /// Of the stage itself and of the ONBUILD triggers of the stage or image below it.
  Result<std::vector<Use>> uses_of(std::size_t at) const {
    std::vector<Use> uses;
    const auto take = [&](const Instruction& instruction) -> Status {
      auto names = names_used(dockerfile_, instruction);
      if (!names) return std::move(names).error();
      uses.insert(uses.end(), names->begin(), names->end());
      return {};
    };
    if (parent_[at])
      for (const Instruction& instruction : dockerfile_.stages[*parent_[at]].instructions)
        for (const Instruction& trigger : instruction.trigger)
          if (Status taken = take(trigger); !taken) return std::move(taken).error();
    const auto base = scope_.triggers.find(bases_[at]);
    if (!parent_[at] && base != scope_.triggers.end()) {
      for (const std::string& text : base->second) {
        auto trigger = parse_trigger(text);
        if (!trigger) return std::move(trigger).error();
        trigger->line = dockerfile_.stages[at].line;
        if (Status taken = take(*trigger); !taken) return std::move(taken).error();
      }
    }
    for (const Instruction& instruction : dockerfile_.stages[at].instructions)
      if (Status taken = take(instruction); !taken) return std::move(taken).error();
    return uses;
  }

  Result<std::optional<std::size_t>> stage_named(const Use& use) const {
    if (const auto found = named_.find(lower(use.name)); found != named_.end())
      return std::optional<std::size_t>{found->second};
    const bool is_number = use.name.find_first_not_of("0123456789") == std::string::npos;
    if (use.used_by == "COPY --from" && is_number) {
      const std::size_t index =
          use.name.size() > 6 ? dockerfile_.stages.size() : std::stoul(use.name);
      if (index >= dockerfile_.stages.size())
        return at_line(dockerfile_, use.line,
                       "COPY --from=" + quoted(use.name) + ": there are " +
                           std::to_string(dockerfile_.stages.size()) + " stages, counted from 0");
      return std::optional<std::size_t>{index};
    }
    return std::optional<std::size_t>{};
  }

  Status add(const std::string& reference, const std::string& platform, int line,
             const std::string& used_by) {
    if (reference == "scratch") return {};
    if (!is_plausible_reference(reference))
      return at_line(dockerfile_, line,
                     used_by + ": '" + quoted(reference) + "' is not an image name");
    for (const ExternalImage& known : found_)
      if (known.reference == reference && known.platform == platform) return {};
    found_.push_back({reference, platform, line, used_by});
    return {};
  }

  Status add_stage(std::size_t at) {
    const Stage& stage = dockerfile_.stages[at];
    if (!parent_[at]) {
      if (!is_plausible_reference(bases_[at]) && !unset_[at].empty()) {
        std::string names;
        for (const std::string& name : unset_[at])
          names += (names.empty() ? "$" : ", $") + quoted(name);
        return Error{ErrorKind::bad_input,
                     dockerfile_.at(stage.line) + ": FROM " + quoted(stage.base) + ": " + names +
                         " has no value",
                     "give it with --build-arg, or a default with ARG before the first FROM",
                     {}};
      }
      auto platform = expand(stage.platform, variables_, dockerfile_.escape);
      if (!platform)
        return at_line(dockerfile_, stage.line, "FROM --platform: " + platform.error().what);
      if (!stage.platform.empty() && platform->empty())
        return at_line(dockerfile_, stage.line,
                       "FROM --platform=" + quoted(stage.platform) + " has no value");
      if (Status added = add(bases_[at], *platform, stage.line, "FROM"); !added) return added;
    }
    auto uses = uses_of(at);
    if (!uses) return std::move(uses).error();
    for (const Use& use : *uses) {
      auto named = stage_named(use);
      if (!named) return std::move(named).error();
      if (*named) continue;
      if (Status added = add(use.name, "", use.line, use.used_by); !added) return added;
    }
    return {};
  }

  const Dockerfile& dockerfile_;
  const Scope& scope_;
  Variables variables_;
  std::vector<std::string> bases_;
  std::vector<std::vector<std::string>> unset_;
  std::vector<std::optional<std::size_t>> parent_;
  std::map<std::string, std::size_t> named_;
  std::vector<ExternalImage> found_;
};

} // namespace

const Flag* Instruction::flag(std::string_view flag_name) const {
  for (const Flag& entry : flags)
    if (entry.name == flag_name) return &entry;
  return nullptr;
}

Result<Dockerfile> parse(std::string_view text, const std::string& file) {
  return Parser{text, file}.run();
}

Result<std::string> expand(std::string_view word,
                           const std::map<std::string, std::string>& variables, char escape,
                           std::vector<std::string>* unset) {
  auto lexed = lex(word, variables, {.escape = escape});
  if (!lexed) return std::move(lexed).error();
  if (unset != nullptr) unset->insert(unset->end(), lexed->unset.begin(), lexed->unset.end());
  return std::move(lexed->text);
}

Result<std::vector<ExternalImage>> external_images(const Dockerfile& dockerfile,
                                                   const Scope& scope) {
  auto variables = global_variables(dockerfile, scope);
  if (!variables) return std::move(variables).error();
  return ImageFinder{dockerfile, scope, *std::move(variables)}.run();
}

Result<std::vector<std::optional<std::string>>> resolved_bases(const Dockerfile& dockerfile,
                                                               const Scope& scope) {
  auto variables = global_variables(dockerfile, scope);
  if (!variables) return std::move(variables).error();
  return ImageFinder{dockerfile, scope, *std::move(variables)}.bases();
}

Result<Plan> plan_of(const Dockerfile& dockerfile, const Scope& scope) {
  auto variables = global_variables(dockerfile, scope);
  if (!variables) return std::move(variables).error();
  return ImageFinder{dockerfile, scope, *std::move(variables)}.plan();
}

std::vector<const NeededStage*> Plan::chain() const {
  std::vector<const NeededStage*> found;
  std::optional<std::size_t> wanted = target;
  for (auto stage = stages.rbegin(); stage != stages.rend() && wanted; ++stage) {
    if (stage->index != *wanted) continue;
    found.push_back(&*stage);
    wanted = stage->parent;
  }
  std::reverse(found.begin(), found.end());
  return found;
}

std::vector<Step> steps_of(const Dockerfile& dockerfile, const NeededStage& stage) {
  std::vector<Step> steps;
  if (stage.parent)
    for (const Instruction& below : dockerfile.stages[*stage.parent].instructions)
      for (const Instruction& trigger : below.trigger)
        steps.push_back({&trigger, below.line});
  for (const Instruction& instruction : dockerfile.stages[stage.index].instructions)
    steps.push_back({&instruction, instruction.line});
  return steps;
}

bool is_instruction(std::string_view name) {
  return find_grammar(name) != nullptr;
}

bool builds_as_written(const Dockerfile& dockerfile, const Plan& plan) {
  if (plan.stages.size() != plan.target + 1) return false;
  if (plan.target + 1 == dockerfile.stages.size()) return true;
  const std::string& name = dockerfile.stages[plan.target].name;
  return !name.empty() &&
         std::count_if(dockerfile.stages.begin(), dockerfile.stages.end(),
                       [&](const Stage& stage) { return stage.name == name; }) == 1;
}

std::vector<std::size_t> left_out(const Dockerfile& dockerfile, const Plan& plan) {
  std::vector<std::size_t> stages;
  for (std::size_t at = 0; at < plan.target; ++at) {
    const bool needed = std::any_of(plan.stages.begin(), plan.stages.end(),
                                    [&](const NeededStage& stage) { return stage.index == at; });
    const auto& steps = dockerfile.stages[at].instructions;
    if (!needed && std::any_of(steps.begin(), steps.end(),
                               [](const Instruction& one) { return one.name == "RUN"; }))
      stages.push_back(at);
  }
  return stages;
}

bool is_inline_cache(const Dockerfile& dockerfile, std::string_view build_arg) {
  return build_arg == "BUILDKIT_INLINE_CACHE" &&
         !declared_args(dockerfile).contains(std::string{build_arg});
}

bool is_platform_arg(std::string_view name) {
  for (const std::string_view prefix : {"TARGET", "BUILD"}) {
    if (!name.starts_with(prefix)) continue;
    const auto rest = name.substr(prefix.size());
    for (const std::string_view part : {"PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"})
      if (rest == part) return true;
  }
  return name == "TARGETSTAGE";
}

Result<std::vector<ArgDeclaration>> arg_declarations(const Dockerfile& dockerfile,
                                                     const Instruction& arg) {
  return declared_by(dockerfile, arg);
}

std::vector<std::pair<std::string, std::string>> key_values(std::string_view text, char escape) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto words = pair_words(text, escape);
  if (words.empty()) return pairs;
  if (words.front().find('=') == std::string::npos) {
    const std::string_view line = trim(text);
    const auto end = std::min(line.find_first_of(" \t\n\v\f\r"), line.size());
    pairs.emplace_back(line.substr(0, end), trim(line.substr(end)));
    return pairs;
  }
  for (const std::string& word : words)
    if (const auto equals = word.find('='); equals != std::string::npos)
      pairs.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  return pairs;
}

std::set<std::string> declared_args(const Dockerfile& dockerfile) {
  std::set<std::string> names;
  const auto add = [&](const Instruction& instruction) {
    if (instruction.name != "ARG") return;
    if (const auto declared = declared_by(dockerfile, instruction)) {
      for (const auto& [name, value] : *declared)
        names.insert(name);
    }
  };
  for (const auto& global : dockerfile.global_args)
    add(global);
  for (const auto& stage : dockerfile.stages)
    for (const auto& instruction : stage.instructions)
      add(instruction);
  return names;
}

std::vector<std::pair<std::string, std::string>> mount_fields(std::string_view value) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (const std::string& field : csv_fields(value)) {
    const std::size_t equals = field.find('=');
    fields.emplace_back(lower(field.substr(0, equals)),
                        equals == std::string::npos ? "" : field.substr(equals + 1));
  }
  return fields;
}

Result<Instruction> parse_trigger(std::string_view trigger) {
  return Parser{trigger, "ONBUILD trigger of a base image"}.single();
}

std::string with_bases(std::string_view text, const Dockerfile& dockerfile,
                       const std::map<std::size_t, std::string>& bases) {
  std::string result;
  int line = 1;
  auto next = bases.begin();
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view whole =
        text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
    text.remove_prefix(whole.size());
    if (next != bases.end() && line == dockerfile.stages[next->first].line) {
      const Stage& stage = dockerfile.stages[next->first];
      result += "FROM " + (stage.platform.empty() ? "" : "--platform=" + stage.platform + " ") +
                next->second + (stage.name.empty() ? "" : " AS " + stage.name) + "\n";
    } else if (next != bases.end() && line > dockerfile.stages[next->first].line) {
      result += "\n"; // a continued FROM: its other lines
    } else {
      result += whole;
    }
    while (next != bases.end() && line >= dockerfile.stages[next->first].end_line)
      ++next;
    ++line;
  }
  return result;
}

Status check_syntax(const Dockerfile& dockerfile) {
  if (!dockerfile.syntax) return {};
  std::string_view name = dockerfile.syntax->frontend;
  for (const std::string_view prefix :
       {std::string_view{"docker.io/"}, std::string_view{"index.docker.io/"}})
    if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  name = name.substr(0, name.find_first_of(":@"));
  if (name == "docker/dockerfile" || name == "docker/dockerfile-upstream" ||
      name == "dockerfile.v0")
    return {};
  return Error{ErrorKind::denied,
               dockerfile.at(dockerfile.syntax->line) +
                   ": '# syntax=" + quoted(dockerfile.syntax->frontend) +
                   "' asks for a frontend that is not docker/dockerfile",
               "slipway builds with the docker/dockerfile frontend that is part of BuildKit; "
               "remove the line",
               {}};
}

} // namespace slipway::dockerfile
