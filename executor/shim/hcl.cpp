// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/hcl.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

/// Leaves the recursion of parser and evaluation; caught in hcl_to_json().
struct Refused {
  Error error;
};

struct Place {
  const std::string* file = nullptr;
  std::size_t line = 0;
  std::size_t column = 0;

  std::string text() const {
    return *file + ":" + std::to_string(line) + ":" + std::to_string(column) + ": ";
  }
};

[[noreturn]] void refuse(const Place& place, const std::string& what,
                         const std::string& hint = "") {
  throw Refused{Error{ErrorKind::bad_input, place.text() + what, hint, {}}};
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// ---- the tree ----------------------------------------------------------------------------------

struct Expression {
  enum class Kind { literal, text, variable, list, object, call, unary, binary, choice, index };
  Kind kind = Kind::literal;
  Place place;
  Json value;       ///< of a literal
  std::string name; ///< of a variable, a function, an operator
  /// Parts of a text or a list, key and value by turns of an object, arguments, operands.
  std::vector<Expression> parts;
};

struct Block;
struct Body {
  std::vector<std::pair<std::string, Expression>> attributes;
  std::vector<Block> blocks;
};
struct Block {
  Place place;
  std::string type;
  std::vector<std::string> labels;
  Body body;
};

bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Parser {
public:
  Parser(const std::string& file, const std::string& text) : file_{file}, text_{text} {}

  Body parse() { return body(false); }

private:
  using Kind = Expression::Kind;

  /// Counts how deep expressions and blocks are in each other.
  class Level {
  public:
    explicit Level(Parser& parser) : parser_{parser} {
      if (++parser_.depth_ > kMaxHclDepth) refuse(parser_.here(), "nested too deeply");
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

  private:
    Parser& parser_;
  };

  Place here() const { return {&file_, line_, at_ - line_begin_ + 1}; }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool is_next(std::string_view word) const { return text_.compare(at_, word.size(), word) == 0; }
  void step() {
    if (at_ < text_.size() && text_[at_++] == '\n') {
      ++line_;
      line_begin_ = at_;
    }
  }
  void skip(std::size_t count) {
    for (; count > 0; --count)
      step();
  }

  /// Blanks and comments; newlines where they mean nothing.
  void space(bool newlines) {
    while (at_ < text_.size()) {
      const char c = peek();
      if (c == ' ' || c == '\t' || c == '\r' || (c == '\n' && newlines)) {
        step();
      } else if (c == '#' || is_next("//")) {
        while (at_ < text_.size() && peek() != '\n')
          step();
      } else if (is_next("/*")) {
        const auto begin = here();
        while (at_ < text_.size() && !is_next("*/"))
          step();
        if (at_ >= text_.size()) refuse(begin, "the comment has no end");
        skip(2);
      } else {
        return;
      }
    }
  }

  bool take(std::string_view word) {
    if (!is_next(word)) return false;
    skip(word.size());
    return true;
  }
  void expect(std::string_view word) {
    if (!take(word)) refuse(here(), "\"" + std::string{word} + "\" is missing");
  }

  std::string name() {
    const auto begin = at_;
    if (!begins_name(peek())) refuse(here(), "a name is missing");
    while (begins_name(peek()) || is_digit(peek()) || peek() == '-')
      step();
    return text_.substr(begin, at_ - begin);
  }

  Body body(bool inner) {
    const Level level{*this};
    Body made;
    for (;;) {
      space(true);
      if (at_ >= text_.size()) {
        if (inner) refuse(here(), "the block has no end");
        return made;
      }
      if (inner && take("}")) return made;
      const auto place = here();
      const auto word = peek() == '"' ? plain_text() : name();
      space(false);
      if (peek() == '=' && peek(1) != '=') {
        step();
        space(false);
        auto value = expression(false);
        if (std::any_of(made.attributes.begin(), made.attributes.end(),
                        [&](const auto& one) { return one.first == word; }))
          refuse(place, "\"" + word + "\" is there twice");
        made.attributes.emplace_back(word, std::move(value));
        end_of_line(inner);
        continue;
      }
      Block block{place, word, {}, {}};
      while (peek() == '"' || begins_name(peek())) {
        block.labels.push_back(peek() == '"' ? plain_text() : name());
        space(false);
      }
      expect("{");
      block.body = body(true);
      made.blocks.push_back(std::move(block));
      end_of_line(inner);
    }
  }

  void end_of_line(bool inner) {
    space(false);
    if (at_ >= text_.size() || peek() == '\n' || (inner && peek() == '}')) return;
    refuse(here(), "a new line is wanted here");
  }

  std::string plain_text() {
    const auto place = here();
    const auto made = quoted();
    if (made.kind != Kind::literal || !made.value.is_string())
      refuse(place, "a plain text is wanted here");
    return made.value.get<std::string>();
  }

  // ---- expressions -----------------------------------------------------------------------------

  Expression made(Kind kind, const Place& place, std::string name = {}) const {
    Expression one;
    one.kind = kind;
    one.place = place;
    one.name = std::move(name);
    return one;
  }

  Expression expression(bool newlines) {
    const Level level{*this};
    auto condition = binary(0, newlines);
    space(newlines);
    if (peek() != '?') return condition;
    auto choice = made(Kind::choice, here());
    step();
    space(newlines);
    auto yes = expression(newlines);
    space(newlines);
    expect(":");
    space(newlines);
    choice.parts.push_back(std::move(condition));
    choice.parts.push_back(std::move(yes));
    choice.parts.push_back(expression(newlines));
    return choice;
  }

  /// From the loosest to the tightest.
  static const std::vector<std::vector<std::string_view>>& operators() {
    static const std::vector<std::vector<std::string_view>> levels{
        {"||"}, {"&&"}, {"==", "!="}, {"<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"}};
    return levels;
  }

  Expression binary(std::size_t tightness, bool newlines) {
    if (tightness == operators().size()) return unary(newlines);
    auto left = binary(tightness + 1, newlines);
    for (std::size_t count = 0;; ++count) {
      space(newlines);
      const auto& words = operators()[tightness];
      const auto found = std::find_if(words.begin(), words.end(),
                                      [&](std::string_view word) { return is_next(word); });
      if (found == words.end()) return left;
      if (count > kMaxHclDepth) refuse(here(), "the expression is too long");
      auto whole = made(Kind::binary, here(), std::string{*found});
      skip(found->size());
      space(newlines);
      whole.parts.push_back(std::move(left));
      whole.parts.push_back(binary(tightness + 1, newlines));
      left = std::move(whole);
    }
  }

  Expression unary(bool newlines) {
    const Level level{*this};
    space(newlines);
    const auto place = here();
    if ((peek() == '!' && peek(1) != '=') || peek() == '-') {
      auto whole = made(Kind::unary, place, std::string{peek()});
      step();
      whole.parts.push_back(unary(newlines));
      return whole;
    }
    auto value = term();
    for (std::size_t count = 0; peek() == '[' || (peek() == '.' && !is_digit(peek(1))); ++count) {
      if (count > kMaxHclDepth) refuse(here(), "the expression is too long");
      auto whole = made(Kind::index, here());
      whole.parts.push_back(std::move(value));
      if (take(".")) {
        if (peek() == '*') refuse(here(), "splats are not supported");
        auto key = made(Kind::literal, here());
        key.value = name();
        whole.parts.push_back(std::move(key));
      } else {
        step();
        space(true);
        if (peek() == '*') refuse(here(), "splats are not supported");
        whole.parts.push_back(expression(true));
        space(true);
        expect("]");
      }
      value = std::move(whole);
    }
    return value;
  }

  Expression term() {
    const auto place = here();
    const char c = peek();
    if (c == '"') return quoted();
    if (is_next("<<")) return heredoc();
    if (is_digit(c)) return number();
    if (c == '[') return list();
    if (c == '{') return object();
    if (take("(")) {
      space(true);
      auto inner = expression(true);
      space(true);
      expect(")");
      return inner;
    }
    if (!begins_name(c)) refuse(place, "an expression is missing");
    const auto word = name();
    if (is_one_of(word, {"true", "false", "null"})) {
      auto literal = made(Kind::literal, place);
      if (word != "null") literal.value = word == "true";
      return literal;
    }
    if (peek() != '(') return made(Kind::variable, place, word);
    step();
    auto call = made(Kind::call, place, word);
    for (space(true); !take(")"); space(true)) {
      call.parts.push_back(expression(true));
      space(true);
      if (is_next("...")) refuse(here(), "\"...\" is not supported");
      if (!take(",") && peek() != ')') refuse(here(), "\")\" is missing");
    }
    return call;
  }

  Expression number() {
    const auto place = here();
    const auto begin = at_;
    while (is_digit(peek()))
      step();
    if (peek() == '.' && is_digit(peek(1))) {
      step();
      while (is_digit(peek()))
        step();
    }
    if (peek() == 'e' || peek() == 'E')
      refuse(here(), "numbers with an exponent are not supported");
    auto literal = made(Kind::literal, place);
    literal.value = std::strtod(text_.substr(begin, at_ - begin).c_str(), nullptr);
    return literal;
  }

  void refuse_for() {
    if (is_next("for") && !begins_name(peek(3)) && !is_digit(peek(3)))
      refuse(here(), "\"for\" expressions are not supported");
  }

  Expression list() {
    auto whole = made(Kind::list, here());
    step();
    space(true);
    refuse_for();
    for (; !take("]"); space(true)) {
      whole.parts.push_back(expression(true));
      space(true);
      if (!take(",") && peek() != ']') refuse(here(), "\"]\" is missing");
    }
    return whole;
  }

  Expression object() {
    auto whole = made(Kind::object, here());
    step();
    space(true);
    refuse_for();
    for (; !take("}"); space(true)) {
      auto key = made(Kind::literal, here());
      if (take("(")) {
        space(true);
        key = expression(true);
        space(true);
        expect(")");
      } else if (peek() == '"') {
        key = quoted();
      } else {
        key.value = name();
      }
      space(false);
      if (!take("=")) expect(":");
      space(true);
      whole.parts.push_back(std::move(key));
      whole.parts.push_back(expression(false));
      space(false);
      if (!take(",") && peek() != '\n' && peek() != '}')
        refuse(here(), "a comma or a new line is missing");
    }
    return whole;
  }

  /// Adds a character or an expression of a template; false where the template has neither.
  bool template_part(Expression& whole, std::string& pending) {
    if (is_next("$${") || is_next("%%{")) {
      pending += text_.substr(at_ + 1, 2);
      skip(3);
      return true;
    }
    if (is_next("%{")) refuse(here(), "directives (%{ … }) are not supported");
    if (!is_next("${")) return false;
    if (peek(2) == '~') refuse(here(), "trim marks (~) are not supported");
    skip(2);
    flush(whole, pending);
    space(true);
    whole.parts.push_back(expression(true));
    space(true);
    if (peek() == '~') refuse(here(), "trim marks (~) are not supported");
    expect("}");
    return true;
  }

  void flush(Expression& whole, std::string& pending) const {
    if (pending.empty()) return;
    auto literal = made(Kind::literal, whole.place);
    literal.value = std::exchange(pending, "");
    whole.parts.push_back(std::move(literal));
  }

  Expression finished(Expression whole, std::string& pending) const {
    flush(whole, pending);
    if (whole.parts.empty()) {
      whole.kind = Kind::literal;
      whole.value = "";
    } else if (whole.parts.size() == 1 && whole.parts[0].kind == Kind::literal &&
               whole.parts[0].value.is_string()) {
      auto only = std::move(whole.parts[0]);
      return only;
    }
    return whole;
  }

  Expression quoted() {
    const Level level{*this};
    auto whole = made(Kind::text, here());
    std::string pending;
    step();
    while (peek() != '"') {
      if (at_ >= text_.size() || peek() == '\n') refuse(whole.place, "the text has no end");
      if (template_part(whole, pending)) continue;
      if (peek() == '\\') {
        step();
        escape(pending);
      } else {
        pending += peek();
        step();
      }
    }
    step();
    return finished(std::move(whole), pending);
  }

  void escape(std::string& pending) {
    constexpr std::string_view kWritten = "nrt\"\\";
    constexpr std::string_view kMeant = "\n\r\t\"\\";
    const auto found = kWritten.find(peek());
    if (at_ >= text_.size() || found == std::string_view::npos)
      refuse(here(), "the escape \\" + std::string{peek()} + " is not supported");
    pending += kMeant[found];
    step();
  }

  /// The lines up to the mark; with "-" without the blanks that all of them begin with.
  Expression heredoc() {
    const Level level{*this};
    auto whole = made(Kind::text, here());
    skip(2);
    const bool indented = take("-");
    const auto mark = name();
    if (peek() == '\r') step();
    if (peek() != '\n') refuse(here(), "a new line is wanted here");
    step();
    const auto begin = at_;
    auto end = begin;
    std::size_t margin = std::string::npos;
    for (;; ++end) {
      if (end >= text_.size()) refuse(whole.place, "the text up to " + mark + " has no end");
      const auto next = std::min(text_.find('\n', end), text_.size());
      const auto line = std::string_view{text_}.substr(end, next - end);
      const auto blanks = std::min(line.find_first_not_of(" \t"), line.size());
      auto word = line.substr(blanks);
      if (word.ends_with('\r')) word.remove_suffix(1);
      if (word == mark) break;
      if (blanks < line.size()) margin = std::min(margin, blanks);
      end = next;
    }
    std::string pending;
    bool line_begins = true;
    while (at_ < end) {
      if (line_begins && indented)
        for (std::size_t i = 0; i < margin && (peek() == ' ' || peek() == '\t'); ++i)
          step();
      line_begins = false;
      if (at_ >= end) break;
      if (template_part(whole, pending)) continue;
      line_begins = peek() == '\n';
      pending += peek();
      step();
    }
    space(false);
    expect(mark);
    return finished(std::move(whole), pending);
  }

  const std::string& file_;
  const std::string& text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t line_begin_ = 0;
  std::size_t depth_ = 0;
};

// ---- evaluation --------------------------------------------------------------------------------

std::string number_text(double value) {
  if (value == std::floor(value) && std::fabs(value) < 1e15)
    return std::to_string(static_cast<long long>(value));
  return Json(value).dump();
}

const char* kind_of(const Json& value) {
  return value.is_string()    ? "a text"
         : value.is_boolean() ? "a boolean"
         : value.is_number()  ? "a number"
         : value.is_array()   ? "a list"
         : value.is_object()  ? "an object"
                              : "null";
}

std::string text_of(const Json& value, const Place& place) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return number_text(value.get<double>());
  refuse(place, std::string{"a text is wanted here, and this is "} + kind_of(value));
}

bool bool_of(const Json& value, const Place& place) {
  if (value.is_boolean()) return value.get<bool>();
  if (value == Json("true")) return true;
  if (value == Json("false")) return false;
  refuse(place, std::string{"a boolean is wanted here, and this is "} + kind_of(value));
}

double number_of(const Json& value, const Place& place) {
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (!text.empty() && end == text.c_str() + text.size()) return number;
  }
  refuse(place, std::string{"a number is wanted here, and this is "} + kind_of(value));
}

const Json& list_of(const Json& value, const Place& place) {
  if (!value.is_array())
    refuse(place, std::string{"a list is wanted here, and this is "} + kind_of(value));
  return value;
}

/// Numbers by their value, whatever they are kept as.
bool are_equal(const Json& one, const Json& other) {
  if (one.is_number() && other.is_number()) return one.get<double>() == other.get<double>();
  return one == other;
}

using Scope = std::map<std::string, Json>;

class Evaluation {
public:
  explicit Evaluation(const Environment& env) : env_{env} {}

  /// NAME = … at the top of a file: it counts before any variable's default.
  void define_attribute(const std::string& name, const Expression& value) {
    attributes_.insert_or_assign(name, value);
  }
  /// A block: the environment may say another value.
  void define_variable(const std::string& name, const Expression* fallback) {
    if (fallback == nullptr)
      variables_.emplace(name, std::nullopt);
    else
      variables_.insert_or_assign(name, *fallback);
  }

  /// Of every name the expression that it stands for; none where there is none.
  std::map<std::string, const Expression*> names() const {
    std::map<std::string, const Expression*> all;
    for (const auto& [name, value] : attributes_)
      all.emplace(name, &value);
    for (const auto& [name, value] : variables_)
      all.emplace(name, value ? &*value : nullptr);
    return all;
  }

  Json variable(const std::string& name, const Place& place) {
    const auto known = values_.find(name);
    if (known != values_.end()) return known->second;
    const auto attribute = attributes_.find(name);
    const auto block = variables_.find(name);
    if (attribute == attributes_.end())
      if (const auto own = bake_builtin(name)) return values_[name] = *own;
    if (attribute == attributes_.end() && block == variables_.end())
      refuse(place, "there is no variable \"" + name + "\"");
    if (!being_.insert(name).second)
      refuse(place, "the variable \"" + name + "\" refers to itself");
    Json value = "";
    if (attribute != attributes_.end())
      value = evaluate(attribute->second, {});
    else if (block->second)
      value = evaluate(*block->second, {});
    being_.erase(name);
    // The environment's text is taken as what the default is.
    if (const auto set = env_.find(name); block != variables_.end() && set != env_.end()) {
      if (value.is_boolean())
        value = as_bool(set->second, name, place);
      else if (value.is_number())
        value = number_of(Json(set->second), place);
      else if (value.is_structured())
        refuse(place, "the variable \"" + name + "\" is " + kind_of(value) +
                          ", and slipway does not read such from the environment");
      else
        value = set->second;
    }
    values_[name] = value;
    return value;
  }

  Json evaluate(const Expression& one, const Scope& scope) {
    if (++steps_ > kMaxHclSteps) refuse(one.place, "the files take too long to evaluate");
    using Kind = Expression::Kind;
    switch (one.kind) {
    case Kind::literal:
      return one.value;
    case Kind::variable: {
      const auto own = scope.find(one.name);
      return own != scope.end() ? own->second : variable(one.name, one.place);
    }
    case Kind::text: {
      if (one.parts.size() == 1) return evaluate(one.parts[0], scope);
      std::string text;
      for (const auto& part : one.parts)
        add(text, text_of(evaluate(part, scope), part.place), one.place);
      return text;
    }
    case Kind::list: {
      Json list = Json::array();
      for (const auto& part : one.parts)
        list.push_back(evaluate(part, scope));
      return list;
    }
    case Kind::object: {
      Json object = Json::object();
      for (std::size_t i = 0; i + 1 < one.parts.size(); i += 2)
        object[text_of(evaluate(one.parts[i], scope), one.parts[i].place)] =
            evaluate(one.parts[i + 1], scope);
      return object;
    }
    case Kind::unary: {
      const auto value = evaluate(one.parts[0], scope);
      if (one.name == "!") return !bool_of(value, one.place);
      return -number_of(value, one.place);
    }
    case Kind::binary:
      return binary(one, scope);
    case Kind::choice: {
      const bool yes = bool_of(evaluate(one.parts[0], scope), one.parts[0].place);
      return evaluate(one.parts[yes ? 1 : 2], scope);
    }
    case Kind::index:
      return indexed(one, scope);
    case Kind::call: {
      std::vector<Json> arguments;
      for (const auto& part : one.parts)
        arguments.push_back(evaluate(part, scope));
      return call(one, arguments);
    }
    }
    return {};
  }

private:
  static Json as_bool(const std::string& text, const std::string& name, const Place& place) {
    if (is_one_of(text, {"1", "t", "T", "true", "TRUE", "True"})) return true;
    if (is_one_of(text, {"0", "f", "F", "false", "FALSE", "False"})) return false;
    refuse(place,
           "the variable \"" + name + "\" is a boolean, and the environment says \"" + text + "\"");
  }

  void add(std::string& text, const std::string& more, const Place& place) {
    text += more;
    made_ += more.size();
    if (text.size() > kMaxBakeBytes || made_ > 64 * kMaxBakeBytes)
      refuse(place, "a text becomes too long");
  }

  Json binary(const Expression& one, const Scope& scope) {
    const auto& left_part = one.parts[0];
    const auto& right_part = one.parts[1];
    const auto left = evaluate(left_part, scope);
    if (one.name == "&&" || one.name == "||") {
      // HCL evaluates both.
      const bool yes = bool_of(left, left_part.place);
      const bool other = bool_of(evaluate(right_part, scope), right_part.place);
      return one.name == "&&" ? yes && other : yes || other;
    }
    const auto right = evaluate(right_part, scope);
    if (one.name == "==") return are_equal(left, right);
    if (one.name == "!=") return !are_equal(left, right);
    const double a = number_of(left, left_part.place);
    const double b = number_of(right, right_part.place);
    if (one.name == "<") return a < b;
    if (one.name == ">") return a > b;
    if (one.name == "<=") return a <= b;
    if (one.name == ">=") return a >= b;
    if (one.name == "+") return a + b;
    if (one.name == "-") return a - b;
    if (one.name == "*") return a * b;
    if (b == 0) refuse(one.place, "division by zero");
    return one.name == "/" ? a / b : std::fmod(a, b);
  }

  Json indexed(const Expression& one, const Scope& scope) {
    const auto& base = one.parts[0];
    if (base.kind == Expression::Kind::variable && is_one_of(base.name, {"target", "group"}) &&
        !scope.contains(base.name) && !attributes_.contains(base.name) &&
        !variables_.contains(base.name))
      refuse(base.place, "references to what a " + base.name + " says are not supported");
    const auto value = evaluate(base, scope);
    const auto key = evaluate(one.parts[1], scope);
    if (value.is_object()) {
      const auto found = value.find(text_of(key, one.place));
      if (found == value.end()) refuse(one.place, "there is no member " + text_of(key, one.place));
      return *found;
    }
    const auto& list = list_of(value, one.place);
    const double at = number_of(key, one.place);
    if (at < 0 || at != std::floor(at) || at >= static_cast<double>(list.size()))
      refuse(one.place, "the list has no such element");
    return list[static_cast<std::size_t>(at)];
  }

  // ---- functions -------------------------------------------------------------------------------

  static void need(const Expression& one, std::size_t least, std::size_t most) {
    if (one.parts.size() < least || one.parts.size() > most)
      refuse(one.place, "the function \"" + one.name + "\" takes another number of arguments");
  }

  Json call(const Expression& one, const std::vector<Json>& arguments) {
    const auto& name = one.name;
    constexpr std::size_t kMany = 1000;
    const auto text = [&](std::size_t i) { return text_of(arguments[i], one.parts[i].place); };
    const auto list = [&](std::size_t i) -> const Json& {
      return list_of(arguments[i], one.parts[i].place);
    };
    if (name == "equal" || name == "notequal") {
      need(one, 2, 2);
      return are_equal(arguments[0], arguments[1]) == (name == "equal");
    }
    if (name == "and" || name == "or") {
      need(one, 2, 2);
      const bool a = bool_of(arguments[0], one.place);
      const bool b = bool_of(arguments[1], one.place);
      return name == "and" ? a && b : a || b;
    }
    if (name == "not") {
      need(one, 1, 1);
      return !bool_of(arguments[0], one.place);
    }
    if (name == "lower" || name == "upper") {
      need(one, 1, 1);
      return cased(text(0), name == "upper");
    }
    if (name == "trimspace") {
      need(one, 1, 1);
      return trimmed(text(0));
    }
    if (name == "trimprefix" || name == "trimsuffix") {
      need(one, 2, 2);
      auto whole = text(0);
      const auto part = text(1);
      if (name == "trimprefix" && whole.starts_with(part)) whole.erase(0, part.size());
      if (name == "trimsuffix" && whole.ends_with(part)) whole.resize(whole.size() - part.size());
      return whole;
    }
    if (name == "replace") {
      need(one, 3, 3);
      return replaced(text(0), text(1), text(2), one.place);
    }
    if (name == "split") {
      need(one, 2, 2);
      return split(text(0), text(1), one.place);
    }
    if (name == "join") {
      need(one, 2, kMany);
      std::string whole;
      bool first = true;
      for (std::size_t i = 1; i < arguments.size(); ++i)
        for (const auto& part : list(i)) {
          add(whole, (std::exchange(first, false) ? "" : text(0)) + text_of(part, one.place),
              one.place);
        }
      return whole;
    }
    if (name == "concat") {
      need(one, 1, kMany);
      Json all = Json::array();
      for (std::size_t i = 0; i < arguments.size(); ++i)
        for (const auto& part : list(i))
          put(all, part, one.place);
      return all;
    }
    if (name == "compact" || name == "distinct") {
      need(one, 1, 1);
      Json kept = Json::array();
      for (const auto& part : list(0)) {
        if (++steps_ > kMaxHclSteps) refuse(one.place, "the files take too long to evaluate");
        const bool drop = name == "compact"
                              ? part.is_null() || part == Json("")
                              : std::find(kept.begin(), kept.end(), part) != kept.end();
        if (!drop) kept.push_back(part);
      }
      return kept;
    }
    if (name == "contains") {
      need(one, 2, 2);
      return std::any_of(list(0).begin(), list(0).end(),
                         [&](const Json& part) { return are_equal(part, arguments[1]); });
    }
    if (name == "length") {
      need(one, 1, 1);
      if (!arguments[0].is_structured()) list(0);
      return static_cast<double>(arguments[0].size());
    }
    if (name == "coalesce") {
      need(one, 1, kMany);
      for (const auto& part : arguments)
        if (!part.is_null()) return part;
      refuse(one.place, "every argument of \"coalesce\" is null");
    }
    if (name == "merge") {
      need(one, 1, kMany);
      Json all = Json::object();
      for (const auto& part : arguments) {
        if (!part.is_object()) refuse(one.place, "\"merge\" takes objects");
        all.update(part);
      }
      return all;
    }
    if (name == "format") {
      need(one, 1, kMany);
      return formatted(text(0), arguments, one);
    }
    if (name == "formatlist") {
      need(one, 2, kMany);
      return formatted_list(arguments, one);
    }
    refuse(one.place, "the function \"" + name + "\" is not supported",
           "`docker buildx bake --print` of a real buildx turns the file into JSON");
  }

  void put(Json& list, const Json& one, const Place& place) {
    if (++steps_ > kMaxHclSteps) refuse(place, "the files take too long to evaluate");
    list.push_back(one);
  }

  static std::string cased(std::string text, bool upper) {
    std::transform(text.begin(), text.end(), text.begin(), [&](char c) {
      if (upper) return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    return text;
  }

  static std::string trimmed(const std::string& text) {
    constexpr std::string_view kBlank = " \t\r\n";
    const auto first = text.find_first_not_of(kBlank);
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
  }

  std::string replaced(const std::string& text, const std::string& from, const std::string& to,
                       const Place& place) {
    if (from.empty()) refuse(place, "\"replace\" of an empty text");
    std::string whole;
    std::size_t at = 0;
    for (auto found = text.find(from); found != std::string::npos; found = text.find(from, at)) {
      add(whole, text.substr(at, found - at) + to, place);
      at = found + from.size();
    }
    add(whole, text.substr(at), place);
    return whole;
  }

  Json split(const std::string& separator, const std::string& text, const Place& place) {
    if (separator.empty()) refuse(place, "\"split\" by an empty text");
    Json parts = Json::array();
    std::size_t at = 0;
    for (auto found = text.find(separator); found != std::string::npos;
         found = text.find(separator, at)) {
      put(parts, text.substr(at, found - at), place);
      at = found + separator.size();
    }
    put(parts, text.substr(at), place);
    return parts;
  }

  /// %s, %v, %d and %%.
  std::string formatted(const std::string& format, const std::vector<Json>& arguments,
                        const Expression& one) {
    std::string whole;
    std::size_t next = 1;
    for (std::size_t i = 0; i < format.size(); ++i) {
      if (format[i] != '%') {
        whole += format[i];
        continue;
      }
      const char verb = i + 1 < format.size() ? format[++i] : '\0';
      if (verb == '%') {
        whole += '%';
        continue;
      }
      if (verb != 's' && verb != 'v' && verb != 'd')
        refuse(one.place, "only %s, %v, %d and %% of \"" + one.name + "\" are supported");
      if (next >= arguments.size()) refuse(one.place, "\"" + one.name + "\" lacks an argument");
      const auto& argument = arguments[next++];
      add(whole,
          verb == 'd' ? number_text(std::trunc(number_of(argument, one.place)))
                      : text_of(argument, one.place),
          one.place);
    }
    if (next != arguments.size())
      refuse(one.place, "\"" + one.name + "\" has more arguments than its text takes");
    return whole;
  }

  /// Once for each element of the lists, which have one length; what is no list is the same for
  /// all.
  Json formatted_list(const std::vector<Json>& arguments, const Expression& one) {
    std::optional<std::size_t> length;
    for (const auto& part : arguments) {
      if (!part.is_array()) continue;
      if (length && *length != part.size())
        refuse(one.place, "the lists of \"formatlist\" differ in length");
      length = part.size();
    }
    Json all = Json::array();
    for (std::size_t i = 0; i < length.value_or(1); ++i) {
      std::vector<Json> row;
      row.reserve(arguments.size());
      for (const auto& part : arguments)
        row.push_back(part.is_array() ? part[i] : part);
      put(all, formatted(text_of(row[0], one.place), row, one), one.place);
    }
    return all;
  }

  const Environment& env_;
  std::map<std::string, Expression> attributes_;
  std::map<std::string, std::optional<Expression>> variables_;
  std::map<std::string, Json> values_;
  std::set<std::string> being_;
  std::size_t steps_ = 0;
  std::size_t made_ = 0;
};

// ---- files -------------------------------------------------------------------------------------

/// A text that the reader of JSON files leaves as it is.
Json escaped(const Json& value) {
  if (value.is_string()) {
    std::string text;
    const auto& whole = value.get_ref<const std::string&>();
    for (std::size_t i = 0; i < whole.size(); ++i) {
      if (i + 1 < whole.size() && whole[i + 1] == '{' && (whole[i] == '$' || whole[i] == '%'))
        text += whole[i];
      text += whole[i];
    }
    return text;
  }
  if (value.is_number()) return number_text(value.get<double>());
  if (!value.is_structured()) return value;
  Json made = value.is_array() ? Json::array() : Json::object();
  for (const auto& [key, one] : value.items()) {
    if (value.is_array())
      made.push_back(escaped(one));
    else
      made[key] = escaped(one);
  }
  return made;
}

const Expression* find(const Body& body, std::string_view name) {
  for (const auto& [key, value] : body.attributes)
    if (key == name) return &value;
  return nullptr;
}

class Converter {
public:
  explicit Converter(const Environment& env) : all_{env} {}

  /// What must be known before anything is evaluated. `body` outlives this.
  void declare(const Body& body) {
    for (const auto& [name, value] : body.attributes)
      all_.define_attribute(name, value);
    for (const auto& block : body.blocks) {
      if (!is_one_of(block.type, {"variable", "group", "target"}))
        refuse(block.place,
               "a block \"" + block.type +
                   "\" is not supported, only variable, group and "
                   "target",
               block.type == "function" ? "write out what the function gives" : "");
      if (block.labels.size() != 1)
        refuse(block.place, "a block \"" + block.type + "\" has one name");
      if (block.type != "variable") continue;
      for (const auto& [key, value] : block.body.attributes)
        if (!is_one_of(key, {"default", "description", "type"}))
          refuse(value.place, "\"" + key + "\" of a variable is not supported");
      all_.define_variable(block.labels[0], find(block.body, "default"));
    }
  }

  /// The variables of a file in JSON, which HCL's expressions know too. What is wrong with the file
  /// is said by its own reader. `file` outlives this.
  void declare(const BakeFile& file) {
    const auto too_deep = [](int depth, Json::parse_event_t, const Json&) {
      return depth <= static_cast<int>(kMaxHclDepth);
    };
    const Json json = Json::parse(file.text, too_deep, false, true);
    const auto blocks = json.is_object() ? json.find("variable") : json.end();
    if (!json.is_object() || blocks == json.end() || !blocks->is_object()) return;
    for (const auto& [name, block] : blocks->items()) {
      if (!block.is_object()) continue;
      Expression literal;
      literal.place = {&file.name, 0, 0};
      literal.value = block.value("default", Json(""));
      if (literal.value.is_string() &&
          literal.value.get_ref<const std::string&>().find_first_of("$%") != std::string::npos)
        refuse(
            literal.place,
            "the variable \"" + name +
                "\" has an expression as its default, which is not supported beside files in HCL",
            "declare it in the HCL file");
      all_.define_variable(name, block.contains("default") ? &literal : nullptr);
    }
  }

  std::string converted(const Body& body) {
    Json json = Json::object();
    for (const auto& block : body.blocks) {
      if (block.type == "variable")
        validate(block);
      else if (block.type == "group")
        json["group"][block.labels[0]] = attributes(block, {});
      else
        add_target(block, json);
    }
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  /// For the files in JSON, and so that each is looked at: also one that nobody uses.
  std::string variables() {
    Json json = Json::object();
    for (const auto& [name, value] : all_.names()) {
      const auto known =
          all_.variable(name, value != nullptr ? value->place : Place{&nowhere_, 0, 0});
      if (!known.is_structured()) json["variable"][name]["default"] = escaped(known);
    }
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

private:
  void validate(const Block& block) {
    for (const auto& inner : block.body.blocks) {
      const auto* condition = find(inner.body, "condition");
      const auto* message = find(inner.body, "error_message");
      if (inner.type != "validation" || condition == nullptr)
        refuse(inner.place, "a block \"" + inner.type + "\" is not supported here");
      if (!bool_of(all_.evaluate(*condition, {}), condition->place))
        refuse(inner.place, "the variable \"" + block.labels[0] + "\" is not valid" +
                                (message == nullptr ? ""
                                                    : ": " + text_of(all_.evaluate(*message, {}),
                                                                     message->place)));
    }
  }

  Json attributes(const Block& block, const Scope& scope) {
    if (!block.body.blocks.empty())
      refuse(block.body.blocks[0].place, "a block within a " + block.type + " is not supported");
    Json json = Json::object();
    for (const auto& [name, value] : block.body.attributes)
      if (block.type != "target" || !is_one_of(name, {"matrix", "name"}))
        json[name] = escaped(all_.evaluate(value, scope));
    return json;
  }

  void put_target(Json& json, const std::string& name, Json body, const Place& place) {
    if (++targets_ > kMaxBakeTargets)
      refuse(place, "more than " + std::to_string(kMaxBakeTargets) + " targets");
    if (json["target"].contains(name)) refuse(place, "the target \"" + name + "\" is there twice");
    json["target"][name] = std::move(body);
  }

  /// With a matrix the name is that of a group, and each row of the table is a target.
  void add_target(const Block& block, Json& json) {
    const auto* matrix = find(block.body, "matrix");
    const auto* name = find(block.body, "name");
    if (matrix == nullptr) {
      if (name != nullptr) refuse(name->place, "\"name\" is for targets with a matrix");
      put_target(json, block.labels[0], attributes(block, {}), block.place);
      return;
    }
    if (name == nullptr) refuse(matrix->place, "a target with a matrix needs a \"name\"");
    const auto axes = all_.evaluate(*matrix, {});
    if (!axes.is_object()) refuse(matrix->place, "a matrix is an object of lists");
    std::vector<Scope> rows{{}};
    for (const auto& [axis, values] : axes.items()) {
      std::vector<Scope> wider;
      for (const auto& row : rows)
        for (const auto& value : list_of(values, matrix->place)) {
          if (wider.size() >= kMaxBakeTargets) refuse(matrix->place, "the matrix is too large");
          wider.push_back(row);
          wider.back()[axis] = value;
        }
      rows = std::move(wider);
    }
    Json names = Json::array();
    for (const auto& row : rows) {
      const auto one = text_of(all_.evaluate(*name, row), name->place);
      const bool good = !one.empty() && std::all_of(one.begin(), one.end(), [](char c) {
        return begins_name(c) || is_digit(c) || c == '-';
      });
      if (!good) refuse(name->place, "\"" + one + "\" is no name of a target");
      put_target(json, one, attributes(block, row), name->place);
      names.push_back(one);
    }
    json["group"][block.labels[0]]["targets"] = std::move(names);
  }

  Evaluation all_;
  std::string nowhere_ = "the environment";
  std::size_t targets_ = 0;
};

} // namespace

bool is_hcl(const BakeFile& file) {
  if (file.name.ends_with(".hcl")) return true;
  if (file.name.ends_with(".json")) return false;
  const auto first = file.text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && file.text[first] != '{';
}

Result<std::vector<BakeFile>> hcl_to_json(const std::vector<BakeFile>& files,
                                          const Environment& env) {
  if (std::none_of(files.begin(), files.end(), is_hcl)) return files;
  try {
    Converter converter{env};
    std::vector<std::optional<Body>> bodies;
    for (const auto& file : files) {
      bodies.push_back(is_hcl(file) ? std::optional{Parser{file.name, file.text}.parse()}
                                    : std::nullopt);
      if (bodies.back())
        converter.declare(*bodies.back());
      else
        converter.declare(file);
    }
    std::vector<BakeFile> json;
    for (std::size_t i = 0; i < files.size(); ++i)
      json.push_back(bodies[i] ? BakeFile{files[i].name, converter.converted(*bodies[i])}
                               : files[i]);
    // The last word on a variable counts: here it is the one that HCL's expressions saw.
    json.push_back({files.front().name, converter.variables()});
    return json;
  } catch (const Refused& refused) {
    return refused.error;
  }
}

} // namespace slipway::shim
