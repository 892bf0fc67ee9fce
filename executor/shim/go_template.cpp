// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/go_template.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxOutputBytes = 64UL << 20;

Error template_error(const std::string& what) {
  return Error{ErrorKind::bad_input, "template parsing error: template: " + what, "", {}};
}

/// Fields that the Engine API leaves out or writes as null where they are empty, though Go's
/// structs have them.
std::optional<Json> zero_of_optional_field(const std::string& name) {
  static const std::set<std::string> maps{"Labels", "Volumes", "ExposedPorts"};
  static const std::set<std::string> lists{"Entrypoint", "Cmd",      "OnBuild",    "Shell",
                                           "Env",        "RepoTags", "RepoDigests"};
  static const std::set<std::string> texts{"Parent",     "Comment", "Author",    "User",
                                           "WorkingDir", "Variant", "OsVersion", "StopSignal"};
  if (maps.contains(name)) return Json::object();
  if (lists.contains(name)) return Json::array();
  if (texts.contains(name)) return Json("");
  if (name == "Healthcheck" || name == "Health") return Json(nullptr);
  return std::nullopt;
}

std::string lower(std::string text) {
  for (char& c : text)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

struct Value {
  Json json;
  bool is_plain_map = false; ///< below Labels and the like: a missing key is "<no value>"
  bool is_nil = false;       ///< a list or map of Go's that was never made: null for json alone
};

std::string go_text(const Json& value, bool top = true) {
  if (value.is_null()) return top ? "<no value>" : "<nil>";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    std::string text = "[";
    for (const auto& item : value)
      text += (text.size() > 1 ? " " : "") + go_text(item, false);
    return text + "]";
  }
  if (value.is_object()) {
    std::map<std::string, std::string> sorted;
    for (const auto& [key, item] : value.items())
      sorted[key] = go_text(item, false);
    std::string text = "map[";
    for (const auto& [key, item] : sorted)
      text += (text.size() > 4 ? " " : "") + key + ":" + item;
    return text + "]";
  }
  return value.dump();
}

bool truth(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

struct Node {
  enum class Kind { text, action, condition, range, with } kind = Kind::text;
  std::string text; ///< literal, or the pipeline
  std::vector<Node> body;
  std::vector<Node> otherwise;
};

/// The template as a list of nodes.
class Parser {
public:
  explicit Parser(std::string_view text) : text_{text} {}

  Result<std::vector<Node>> parse() {
    std::string end;
    auto nodes = block(0, end);
    if (nodes && !end.empty()) return template_error(":1: unexpected {{" + end + "}}");
    return nodes;
  }

private:
  Result<std::vector<Node>> block(std::size_t depth, std::string& end) {
    if (depth > kMaxDepth) return template_error(":1: nested too deeply");
    std::vector<Node> nodes;
    end.clear();
    while (at_ < text_.size()) {
      const auto open = text_.find("{{", at_);
      std::string literal{text_.substr(at_, open == std::string_view::npos ? open : open - at_)};
      if (trim_next_)
        literal.erase(0, literal.find_first_not_of(" \t\r\n") == std::string::npos
                             ? literal.size()
                             : literal.find_first_not_of(" \t\r\n"));
      trim_next_ = false;
      const bool trims_before = open != std::string_view::npos && text_.substr(open + 2, 2) == "- ";
      if (trims_before) literal.erase(literal.find_last_not_of(" \t\r\n") + 1);
      if (!literal.empty()) nodes.push_back({Node::Kind::text, literal, {}, {}});
      if (open == std::string_view::npos) {
        at_ = text_.size();
        break;
      }
      at_ = open + 2 + (trims_before ? 1 : 0);
      auto inside = action_text();
      if (!inside) return std::move(inside).error();
      const auto [word, rest] = keyword_of(*inside);
      if (word == "end" || word == "else") {
        end = *inside;
        if (depth == 0) return template_error(":1: unexpected {{" + word + "}}");
        return nodes;
      }
      if (word == "if" || word == "range" || word == "with") {
        auto node = branch(word, rest, depth);
        if (!node) return std::move(node).error();
        nodes.push_back(std::move(*node));
      } else if (!inside->starts_with("/*")) {
        nodes.push_back({Node::Kind::action, *inside, {}, {}});
      }
    }
    if (depth > 0) return template_error(":1: unexpected EOF");
    return nodes;
  }

  /// The word at the beginning, which ends where Go's lexer ends it: at what is neither letter nor
  /// digit. And what is behind it.
  static std::pair<std::string, std::string> keyword_of(const std::string& text) {
    const auto end = std::find_if(text.begin(), text.end(),
                                  [](unsigned char c) { return std::isalnum(c) == 0 && c != '_'; });
    const auto rest = std::find_if(end, text.end(), [](char c) { return c != ' '; });
    return {{text.begin(), end}, {rest, text.end()}};
  }

  Result<Node> branch(const std::string& word, const std::string& pipeline, std::size_t depth) {
    Node node{word == "if"      ? Node::Kind::condition
              : word == "range" ? Node::Kind::range
                                : Node::Kind::with,
              pipeline,
              {},
              {}};
    if (pipeline.find_first_not_of(' ') == std::string::npos)
      return template_error(":1: missing value for " + word);
    std::string end;
    auto body = block(depth + 1, end);
    if (!body) return std::move(body).error();
    node.body = std::move(*body);
    const auto [found, behind] = keyword_of(end);
    const auto [second, condition] = keyword_of(behind);
    if (found == "else" && second == "if") {
      auto inner = branch("if", condition, depth + 1);
      if (!inner) return std::move(inner).error();
      node.otherwise.push_back(std::move(*inner));
    } else if (found == "else" && !behind.empty()) {
      return template_error(":1: unexpected {{" + end + "}}");
    } else if (found == "else") {
      auto otherwise = block(depth + 1, end);
      if (!otherwise) return std::move(otherwise).error();
      if (end != "end") return template_error(":1: expected end; found {{" + end + "}}");
      node.otherwise = std::move(*otherwise);
    }
    return node;
  }

  /// Up to "}}", quotes respected; blanks outside quotes become single, ends trimmed.
  Result<std::string> action_text() {
    std::string inside;
    char quote = 0;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (quote != 0) {
        inside += c;
        if (c == '\\' && quote == '"' && at_ + 1 < text_.size())
          inside += text_[++at_];
        else if (c == quote)
          quote = 0;
        continue;
      }
      if (text_.substr(at_, 2) == "}}") {
        at_ += 2;
        if (inside.ends_with(" -")) {
          trim_next_ = true;
          inside.resize(inside.size() - 2);
        }
        while (inside.ends_with(' '))
          inside.pop_back();
        if (inside.empty()) return template_error(":1: missing value for command");
        return inside;
      }
      if (c == '"' || c == '`') quote = c;
      if (std::isspace(static_cast<unsigned char>(c)) != 0) {
        if (!inside.empty() && !inside.ends_with(' ')) inside += ' ';
      } else {
        inside += c;
      }
    }
    return template_error(":1: unclosed action");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool trim_next_ = false;
};

class Evaluator {
public:
  Evaluator(const Json& root, const Json& labels, const Json& whole)
      : root_{root}, labels_{labels}, whole_{whole} {}

  Status render(const std::vector<Node>& nodes, const Value& dot, std::string& out) {
    for (const auto& node : nodes) {
      if (out.size() > kMaxOutputBytes) return template_error(":1: output is too large");
      if (node.kind == Node::Kind::text) {
        out += node.text;
        continue;
      }
      auto value = pipeline(node.text, dot);
      if (!value) return std::move(value).error();
      if (node.kind == Node::Kind::action) {
        out += go_text(value->json);
        continue;
      }
      if (node.kind == Node::Kind::range && truth(value->json)) {
        if (!value->json.is_structured())
          return template_error(":1:2: executing \"\" at <" + node.text +
                                ">: range can't iterate over " + go_text(value->json));
        for (const auto& [key, item] : value->json.items())
          if (auto done = render(node.body, {item, value->is_plain_map}, out); !done) return done;
        continue;
      }
      const bool yes = node.kind != Node::Kind::range && truth(value->json);
      const Value& inner = yes && node.kind == Node::Kind::with ? *value : dot;
      if (auto done = render(yes ? node.body : node.otherwise, inner, out); !done) return done;
    }
    return {};
  }

private:
  Result<Value> pipeline(const std::string& text, const Value& dot) {
    if (++depth_ > kMaxDepth) return template_error(":1: nested too deeply");
    std::optional<Value> last;
    std::size_t at = 0;
    for (;;) {
      auto value = command(text, at, dot, last);
      if (!value) return std::move(value).error();
      last = std::move(*value);
      if (at >= text.size()) break;
      ++at; // '|'
    }
    --depth_;
    return *std::move(last);
  }

  /// One command of a pipeline: operands up to '|' or the end.
  Result<Value> command(const std::string& text, std::size_t& at, const Value& dot,
                        const std::optional<Value>& piped) {
    std::string function;
    std::vector<Value> operands;
    bool first = true;
    constexpr std::string_view kLabel = ".Label ";
    const auto word = std::min(text.find_first_not_of(' ', at), text.size());
    if (!labels_.is_null() && text.compare(word, kLabel.size(), kLabel) == 0) {
      function = ".Label";
      at = word + function.size();
      first = false;
    }
    while (at < text.size() && text[at] != '|') {
      if (text[at] == ' ') {
        ++at;
        continue;
      }
      if (first && std::isalpha(static_cast<unsigned char>(text[at])) != 0) {
        while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0))
          function += text[at++];
        first = false;
        if (function == "true" || function == "false" || function == "nil") {
          operands.push_back({function == "nil" ? Json(nullptr) : Json(function == "true"), false});
          function.clear();
        }
        continue;
      }
      first = false;
      auto value = operand(text, at, dot);
      if (!value) return std::move(value).error();
      operands.push_back(std::move(*value));
    }
    if (piped) operands.push_back(*piped);
    if (function == ".Label" && operands.size() == 1) return label(operands.front());
    if (!function.empty()) return call(function, operands, text);
    if (operands.empty()) return template_error(":1: missing value for command");
    if (operands.size() > 1)
      return template_error(":1: can't give argument to non-function " + text);
    return operands.front();
  }

  Result<Value> operand(const std::string& text, std::size_t& at, const Value& dot) {
    const char c = text[at];
    if (c == '"' || c == '`') return string_literal(text, at);
    if (c == '(') {
      const std::size_t start = ++at;
      std::size_t open = 1;
      char quote = 0;
      for (; at < text.size() && open > 0; ++at) {
        if (quote != 0) {
          if (text[at] == '\\' && quote == '"')
            ++at;
          else if (text[at] == quote)
            quote = 0;
        } else if (text[at] == '"' || text[at] == '`')
          quote = text[at];
        else if (text[at] == '(')
          ++open;
        else if (text[at] == ')')
          --open;
      }
      if (open > 0) return template_error(":1: unclosed left paren");
      auto inner = pipeline(text.substr(start, at - start - 1), dot);
      if (!inner || at >= text.size() || text[at] != '.') return inner;
      return fields(text, at, *inner);
    }
    if (c == '$') {
      ++at;
      if (at < text.size() && (std::isalpha(static_cast<unsigned char>(text[at])) != 0))
        return template_error(":1: variables are not supported here: " + text);
      return fields(text, at, {root_, false});
    }
    if (c == '.') return fields(text, at, dot);
    if (c == '-' || (std::isdigit(static_cast<unsigned char>(c)) != 0)) {
      long long number = 0;
      const auto [end, cause] =
          std::from_chars(text.data() + at, text.data() + text.size(), number);
      if (cause != std::errc{}) return template_error(":1: bad number syntax: " + text);
      at = static_cast<std::size_t>(end - text.data());
      return Value{Json(number), false};
    }
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      std::string word;
      while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0))
        word += text[at++];
      if (word == "true" || word == "false") return Value{Json(word == "true"), false};
      if (word == "nil") return Value{Json(nullptr), false};
      return template_error(":1: function \"" + word + "\" not supported as an argument");
    }
    return template_error(":1: unexpected \"" + std::string(1, c) + "\" in operand");
  }

  Result<Value> string_literal(const std::string& text, std::size_t& at) {
    const char quote = text[at++];
    std::string value;
    for (; at < text.size() && text[at] != quote; ++at) {
      if (quote == '"' && text[at] == '\\' && at + 1 < text.size()) {
        ++at;
        value += text[at] == 'n' ? '\n' : text[at] == 't' ? '\t' : text[at];
      } else {
        value += text[at];
      }
    }
    if (at >= text.size()) return template_error(":1: unterminated quoted string");
    ++at;
    return Value{Json(value), false};
  }

  Result<Value> fields(const std::string& text, std::size_t& at, Value value) {
    const std::size_t start = at;
    while (at < text.size() && text[at] == '.') {
      ++at;
      std::string name;
      while (at < text.size() &&
             (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_'))
        name += text[at++];
      if (name.empty()) break; // "." alone
      auto next = field(value, name, text.substr(start, at - start));
      if (!next) return next;
      value = std::move(*next);
    }
    return value;
  }

  static Result<Value> field(const Value& value, const std::string& name, const std::string& path) {
    const bool map_below =
        value.is_plain_map || name == "Labels" || name == "Annotations" || name == "Attributes";
    if (value.json.is_null()) {
      return template_error(":1:2: executing \"\" at <" + path +
                            ">: nil data; no entry for key \"" + name + "\"");
    }
    if (!value.json.is_object())
      return template_error(":1:2: executing \"\" at <" + path + ">: can't evaluate field " + name);
    auto zero = value.is_plain_map ? std::nullopt : zero_of_optional_field(name);
    const auto given = [&](const Json& item) -> Value {
      if (item.is_null() && zero) return {*zero, map_below, zero->is_structured()};
      return {item, map_below};
    };
    if (const auto found = value.json.find(name); found != value.json.end()) return given(*found);
    if (value.is_plain_map) return Value{Json(nullptr), true};
    // Go's struct fields and the JSON keys differ in case only (.ID and Id, .APIVersion and
    // ApiVersion).
    for (const auto& [key, item] : value.json.items())
      if (lower(key) == lower(name)) return given(item);
    if (zero) return given(nullptr);
    return template_error(":1:2: executing \"\" at <" + path + ">: map has no entry for key \"" +
                          name + "\"");
  }

  static Result<Value> index(const std::vector<Value>& operands, const std::string& text) {
    if (operands.empty())
      return template_error(":1: wrong number of args for index: want at least 1 got 0");
    Value value = operands.front();
    for (std::size_t i = 1; i < operands.size(); ++i) {
      const Json& key = operands[i].json;
      if (value.json.is_array() && key.is_number_integer()) {
        const auto number = key.get<long long>();
        if (number < 0 || static_cast<std::size_t>(number) >= value.json.size())
          return template_error(":1:2: executing \"\" at <" + text +
                                ">: error calling index: reflect: slice index out of range");
        value = {Json(value.json[static_cast<std::size_t>(number)]), false};
      } else if (value.json.is_object() && key.is_string()) {
        const auto found = value.json.find(key.get<std::string>());
        value = {found == value.json.end() ? Json("") : Json(*found), false};
      } else if (value.json.is_null()) {
        return template_error(":1:2: executing \"\" at <" + text +
                              ">: error calling index: index of untyped nil");
      } else {
        return template_error(":1:2: executing \"\" at <" + text +
                              ">: error calling index: can't index item of type " +
                              value.json.type_name());
      }
    }
    return value;
  }

  Result<Value> call(const std::string& function, const std::vector<Value>& operands,
                     const std::string& text) const {
    const auto wrong_count = [&](std::size_t want) {
      return template_error(":1: wrong number of args for " + function + ": want " +
                            std::to_string(want) + " got " + std::to_string(operands.size()));
    };
    const auto text_of = [&](std::size_t i) { return go_text(operands[i].json); };
    if (function == "index") return index(operands, text);
    if (function == "print" || function == "println") {
      std::string all;
      for (std::size_t i = 0; i < operands.size(); ++i)
        all += (i > 0 ? " " : "") + text_of(i);
      return Value{Json(all + (function == "println" ? "\n" : "")), false};
    }
    if (function == "printf") return formatted(operands);
    if (function == "and" || function == "or") {
      if (operands.empty()) return wrong_count(1);
      for (const auto& operand : operands)
        if (truth(operand.json) == (function == "or")) return operand;
      return operands.back();
    }
    if (function == "json" || function == "len" || function == "upper" || function == "lower" ||
        function == "title" || function == "not") {
      if (operands.size() != 1) return wrong_count(1);
      const Json& value = operands[0].json;
      if (function == "json") {
        const Json& printed = !whole_.is_null() && value == root_ ? whole_ : value;
        return Value{Json(operands[0].is_nil
                              ? "null"
                              : printed.dump(-1, ' ', false, Json::error_handler_t::replace)),
                     false};
      }
      if (function == "not") return Value{Json(!truth(value)), false};
      if (function == "len")
        return Value{Json(value.is_string() ? value.get<std::string>().size() : value.size()),
                     false};
      std::string result = text_of(0);
      if (function == "title") {
        if (!result.empty())
          result[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(result[0])));
      } else if (function == "lower") {
        result = lower(result);
      } else {
        for (char& c : result)
          c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      }
      return Value{Json(result), false};
    }
    if (operands.size() < 2) {
      if (function == "join" || function == "split" || function == "eq" || function == "ne" ||
          function == "truncate")
        return wrong_count(2);
      return template_error(":1: function \"" + function + "\" not defined");
    }
    if (function == "eq" || function == "ne") {
      const bool same = std::any_of(operands.begin() + 1, operands.end(), [&](const Value& other) {
        return other.json == operands[0].json;
      });
      return Value{Json(same == (function == "eq")), false};
    }
    if (function == "join") {
      std::string all;
      for (const auto& item : operands[0].json)
        all += (all.empty() ? "" : text_of(1)) + go_text(item, false);
      return Value{Json(all), false};
    }
    if (function == "split") {
      Json parts = Json::array();
      std::string rest = text_of(0);
      const std::string separator = text_of(1);
      for (std::size_t found = 0;
           !separator.empty() && (found = rest.find(separator)) != std::string::npos;
           rest.erase(0, found + separator.size()))
        parts.push_back(rest.substr(0, found));
      parts.push_back(rest);
      return Value{parts, false};
    }
    if (function == "truncate" && operands[1].json.is_number_unsigned())
      return Value{Json(text_of(0).substr(0, operands[1].json.get<std::size_t>())), false};
    if (function == "truncate" && operands[1].json.is_number_integer())
      return Value{Json(text_of(0).substr(0, static_cast<std::size_t>(std::max(
                                                 0LL, operands[1].json.get<long long>())))),
                   false};
    return template_error(":1: function \"" + function + "\" not defined");
  }

  static Result<Value> formatted(const std::vector<Value>& operands) {
    if (operands.empty())
      return template_error(":1: wrong number of args for printf: want at least 1 got 0");
    const std::string format = go_text(operands[0].json);
    std::string all;
    std::size_t next = 1;
    for (std::size_t i = 0; i < format.size(); ++i) {
      if (format[i] != '%') {
        all += format[i];
        continue;
      }
      const char verb = i + 1 < format.size() ? format[++i] : '%';
      if (verb == '%')
        all += '%';
      else if (verb != 's' && verb != 'v' && verb != 'd' && verb != 'q')
        return template_error(":1: printf verb %" + std::string(1, verb) + " is not supported");
      else if (next >= operands.size())
        all += "%!" + std::string(1, verb) + "(MISSING)";
      else if (verb == 'q')
        all += Json(go_text(operands[next++].json)).dump();
      else
        all += go_text(operands[next++].json);
    }
    return Value{Json(all), false};
  }

  /// What a list's row says of a label; where the row is the headings, the label's.
  Value label(const Value& name) const {
    const std::string key = go_text(name.json);
    if (labels_.is_object()) {
      const auto found = labels_.find(key);
      return {found == labels_.end() ? Json("") : *found, false};
    }
    std::string heading = key.substr(key.rfind('.') + 1); // npos + 1 is 0
    std::replace_if(
        heading.begin(), heading.end(), [](char c) { return c == '-' || c == '_'; }, ' ');
    return {heading, false};
  }

  const Json& root_;
  const Json& labels_; ///< null where the template is of something else
  const Json& whole_;  ///< null where it is the root
  std::size_t depth_ = 0;
};

} // namespace

Result<std::string> render_template(std::string_view text, const std::string& data) {
  Json root = Json::parse(data, nullptr, false);
  if (root.is_discarded())
    return Error{ErrorKind::bad_input, "the broker's answer is not JSON", "", {}};
  auto nodes = Parser{text}.parse();
  if (!nodes) return std::move(nodes).error();
  Json labels;
  if (root.is_object() && root.contains(kLabelsOfRow)) {
    labels = std::move(root[kLabelsOfRow]);
    root.erase(kLabelsOfRow);
  }
  Json whole;
  if (root.is_object() && root.contains(kWholeAsJson)) {
    whole = std::move(root[kWholeAsJson]);
    root.erase(kWholeAsJson);
  }
  std::string out;
  if (auto done = Evaluator{root, labels, whole}.render(*nodes, {root, false}, out); !done)
    return std::move(done).error();
  return out;
}

} // namespace slipway::shim
