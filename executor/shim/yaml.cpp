// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/yaml.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

namespace slipway::shim {
namespace {

using Kind = YamlNode::Kind;

/// Leaves the parser's callbacks; caught in parse_yaml().
struct Refused {
  Error error;
};

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

struct Size {
  std::size_t nodes = 0;
  std::size_t bytes = 0;
};

void add_size(const YamlNode& node, Size& size) {
  ++size.nodes;
  size.bytes += node.text.size();
  for (const auto& one : node.items)
    add_size(one, size);
  for (const auto& [key, value] : node.members) {
    size.bytes += key.size();
    add_size(value, size);
  }
}

/// How many levels are below a node, itself among them.
std::size_t height(const YamlNode& node) {
  std::size_t most = 0;
  for (const auto& one : node.items)
    most = std::max(most, height(one));
  for (const auto& member : node.members)
    most = std::max(most, height(member.value));
  return most + 1;
}

/// Builds the tree from the parser's events.
class Builder final : public YAML::EventHandler {
public:
  explicit Builder(std::shared_ptr<const std::string> file) : file_{std::move(file)} {}

  std::vector<YamlNode> documents;

  void OnDocumentStart(const YAML::Mark& mark) override {
    (void)mark;
    anchors_.clear();
    frames_.clear();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    finish(made(mark, Kind::null), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(mark, "an alias within its own anchor");
    count(mark, found->second.size);
    if (frames_.size() + found->second.height > kMaxYamlDepth) too_deep(mark);
    finish(found->second.node, 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto node = made(mark, Kind::text);
    node.text = value;
    node.plain = tag == "?";
    if (node.plain && is_one_of(value, {"", "~", "null", "Null", "NULL"})) {
      node.kind = Kind::null;
      node.text.clear();
    }
    take_tag(mark, tag, node);
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    (void)style;
    open(mark, tag, anchor, Kind::list);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    (void)style;
    open(mark, tag, anchor, Kind::map);
  }
  void OnMapEnd() override {
    auto& frame = frames_.back();
    // The map's own keys win, then those of the first map that is merged.
    for (auto& from : frame.merged)
      for (auto& member : from.members)
        if (frame.keys.insert(member.key).second) frame.node.members.push_back(std::move(member));
    close();
  }

private:
  struct Frame {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::optional<std::string> key; ///< waits for its value
    bool merge = false;             ///< the key is <<
    std::set<std::string> keys;
    std::vector<YamlNode> merged;
  };
  struct Anchored {
    YamlNode node;
    Size size;
    std::size_t height = 0;
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what) const {
    throw Refused{Error{
        ErrorKind::bad_input, *file_ + ":" + std::to_string(mark.line + 1) + ": " + what, "", {}}};
  }
  [[noreturn]] void too_deep(const YAML::Mark& mark) const {
    refuse(mark, "nested more than " + std::to_string(kMaxYamlDepth) + " levels deep");
  }

  YamlNode made(const YAML::Mark& mark, Kind kind) const {
    YamlNode node;
    node.kind = kind;
    node.file = file_;
    node.line = static_cast<std::size_t>(mark.line < 0 ? 0 : mark.line) + 1;
    return node;
  }

  void count(const YAML::Mark& mark, const Size& size) {
    total_.nodes += size.nodes;
    total_.bytes += size.bytes;
    if (total_.nodes > kMaxYamlNodes || total_.bytes > kMaxYamlTreeBytes)
      refuse(mark, "the file, with its aliases filled in, is too large");
  }

  void take_tag(const YAML::Mark& mark, const std::string& tag, YamlNode& node) const {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (is_one_of(tag, {"", "?", "!"})) return;
    if (tag == "!reset") {
      node.reset = true;
      if (node.is_text()) node.kind = Kind::null;
    } else if (tag == "!override") {
      node.replace = true;
      node.plain = true;
    } else if (tag == std::string{kCore} + "str" && node.kind != Kind::list &&
               node.kind != Kind::map) {
      node.kind = Kind::text;
    } else if (tag.starts_with(kCore)) {
      const auto type = std::string_view{tag}.substr(kCore.size());
      if (!is_one_of(type, {"int", "float", "bool", "null", "map", "seq"}))
        refuse(mark, "the tag !!" + std::string{type} + " is not supported");
      node.plain = node.kind == Kind::text;
      if (type == "null") node.kind = Kind::null;
    } else {
      refuse(mark, "the tag " + tag + " is not supported");
    }
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Kind kind) {
    if (frames_.size() >= kMaxYamlDepth) too_deep(mark);
    Frame frame;
    frame.node = made(mark, kind);
    frame.anchor = anchor;
    take_tag(mark, tag, frame.node);
    frames_.push_back(std::move(frame));
  }

  void close() {
    auto frame = std::move(frames_.back());
    frames_.pop_back();
    finish(std::move(frame.node), frame.anchor);
  }

  void finish(YamlNode node, YAML::anchor_t anchor) {
    YAML::Mark mark;
    mark.line = static_cast<int>(node.line) - 1;
    count(mark, {1, node.text.size()});
    if (anchor != 0) {
      Anchored kept{node, {}, height(node)};
      add_size(node, kept.size);
      count(mark, kept.size);
      anchors_[anchor] = std::move(kept);
    }
    if (frames_.empty()) {
      documents.push_back(std::move(node));
      return;
    }
    auto& frame = frames_.back();
    if (frame.node.is_list()) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.key) {
      if (node.is_map() || node.is_list()) refuse(mark, "a key has to be a text");
      frame.merge = node.plain && node.text == "<<";
      frame.key = node.text;
    } else if (frame.merge) {
      frame.key.reset();
      if (node.is_map()) {
        frame.merged.push_back(std::move(node));
      } else if (node.is_list() && std::all_of(node.items.begin(), node.items.end(),
                                               [](const auto& one) { return one.is_map(); })) {
        for (auto& one : node.items)
          frame.merged.push_back(std::move(one));
      } else {
        refuse(mark, "<< takes a map or a list of maps");
      }
    } else {
      const std::string key = *std::exchange(frame.key, std::nullopt);
      if (!frame.keys.insert(key).second) refuse(mark, "the key \"" + key + "\" is there twice");
      frame.node.members.push_back({key, std::move(node)});
    }
  }

  std::shared_ptr<const std::string> file_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  Size total_;
};

bool is_float_text(std::string_view text) {
  std::size_t at = 0;
  const auto digits = [&] {
    const auto begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9')
      ++at;
    return at - begin;
  };
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  const auto whole = digits();
  std::size_t rest = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    rest = digits();
  }
  if (whole + rest == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

/// As Go's %v prints a float64 that is finite.
std::string go_float(double value) {
  constexpr double kLeast = 1e-4;
  constexpr double kMost = 1e21;
  const double size = std::fabs(value);
  const bool fixed = size == 0 || (size >= kLeast && size < kMost);
  std::array<char, 64> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  return {digits.data(), end.ptr};
}

/// A whole number as Go's ParseInt with base 0 takes it.
std::optional<std::string> whole_number(std::string text) {
  std::string sign;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    if (text[0] == '-') sign = "-";
    text.erase(0, 1);
  }
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char mark = text[1];
    base = mark == 'x' || mark == 'X' ? 16 : mark == 'b' || mark == 'B' ? 2 : 8;
    text.erase(0, base != 8 || mark == 'o' || mark == 'O' ? 2 : 1);
  }
  std::uint64_t value = 0;
  const auto [end, cause] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || cause != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return (value == 0 ? "" : sign) + std::to_string(value);
}

/// True where the text without quotes would be read as something else: scripts cut images out of
/// what is shown, so those have none.
bool needs_quotes(const std::string& text) {
  constexpr std::size_t kLongest = 200;
  if (text.empty() || text.size() > kLongest) return true;
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{" _./-:@+=,$()"}.find(c) != std::string_view::npos;
  };
  if (!std::all_of(text.begin(), text.end(), is_plain)) return true;
  if (text.back() == ':' || text.back() == ' ' || text.find(": ") != std::string::npos ||
      std::string_view{" -@+=,:."}.find(text[0]) != std::string_view::npos)
    return true;
  // Numbers, those to the base of 60 and dates among them.
  if (text[0] >= '0' && text[0] <= '9' &&
      text.find_first_not_of("0123456789abcdefxoABCDEFTZ.:_+-") == std::string::npos)
    return true;
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return is_one_of(lower, {"true", "false", "null", "yes", "no", "on", "off", "y", "n"});
}

std::string quoted(const std::string& text) {
  if (!needs_quotes(text)) return text;
  std::string out = "\"";
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += std::string{"\\"} + c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (byte < 0x20 || byte == 0x7f)
      out += std::string{"\\x"} + kHex[byte >> 4U] + kHex[byte & 15U];
    else
      out += c;
  }
  return out + "\"";
}

/// What a Go program reads in a text without quotes that is no string to it.
std::optional<std::string> resolved(const std::string& text) {
  if (is_one_of(text, {"true", "True", "TRUE"})) return "true";
  if (is_one_of(text, {"false", "False", "FALSE"})) return "false";
  if (text.empty() || std::string_view{"+-.0123456789"}.find(text[0]) == std::string_view::npos)
    return std::nullopt;
  std::string digits = text;
  std::erase(digits, '_');
  if (auto whole = whole_number(digits)) return whole;
  if (!is_float_text(digits)) return std::nullopt;
  const double value = std::strtod(digits.c_str(), nullptr);
  if (std::isinf(value)) return std::nullopt;
  return go_float(value);
}

void write_block(const YamlNode& node, std::size_t indent, std::string& out);

/// True of a text that stood without quotes and can again, behind a key or a dash. Those of several
/// lines, and some within brackets, cannot.
bool is_bare(std::string_view text) {
  const bool is_mark = std::string_view{"-?:"}.find(text[0]) != std::string_view::npos;
  return !(is_mark && (text.size() == 1 || text[1] == ' ')) && text.back() != ':' &&
         text.find(": ") == std::string_view::npos && text.find(" #") == std::string_view::npos &&
         std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string written_text(const YamlNode& node) {
  if (!node.plain || node.text.empty()) return quoted(node.text);
  if (auto value = resolved(node.text)) return *std::move(value);
  return is_bare(node.text) ? node.text : quoted(node.text);
}

/// What stands behind "key:" or "-".
void write_value(const YamlNode& node, std::size_t indent, std::string& out) {
  if (node.is_map() && !node.members.empty()) {
    out += "\n";
    write_block(node, indent, out);
  } else if (node.is_list() && !node.items.empty()) {
    out += "\n";
    write_block(node, indent, out);
  } else {
    out += node.is_map()    ? " {}\n"
           : node.is_list() ? " []\n"
           : node.is_null() ? " null\n"
                            : " " + written_text(node) + "\n";
  }
}

void write_block(const YamlNode& node, std::size_t indent, std::string& out) {
  const std::string margin(indent, ' ');
  constexpr std::size_t kLongestKey = 128; // go-yaml's; 1024 is the most on the line of a value
  for (const auto& [key, value] : node.members) {
    const auto written = quoted(key);
    out += written.size() > kLongestKey ? margin + "? " + written + "\n" + margin + ":"
                                        : margin + written + ":";
    write_value(value, indent + 2, out);
  }
  for (const auto& value : node.items) {
    // The first member of a map goes behind the dash.
    std::string inner;
    write_value(value, indent + 2, inner);
    if (inner.starts_with('\n')) inner = " " + inner.substr(1 + indent + 2);
    out += margin + "-" + inner;
  }
}

} // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const YamlMember& one) { return one.key == key; });
  return found == members.end() ? nullptr : &found->value;
}

YamlNode* YamlNode::find(std::string_view key) {
  return const_cast<YamlNode*>(std::as_const(*this).find(key));
}

YamlNode& YamlNode::at(const std::string& key) {
  if (auto* found = find(key)) return *found;
  members.push_back({key, beside(Kind::null)});
  return members.back().value;
}

void YamlNode::erase(std::string_view key) {
  std::erase_if(members, [&](const YamlMember& one) { return one.key == key; });
}

std::string YamlNode::where() const {
  return (file ? *file : std::string{"?"}) + ":" + std::to_string(line);
}

YamlNode YamlNode::beside(Kind what) const {
  YamlNode node;
  node.kind = what;
  node.file = file;
  node.line = line;
  return node;
}

std::string scalar_text(const YamlNode& node) {
  if (!node.is_text() || !node.plain) return node.text;
  return resolved(node.text).value_or(node.text);
}

Result<std::vector<YamlNode>> parse_yaml(const std::string& name, const std::string& text) {
  if (text.size() > kMaxYamlBytes)
    return Error{ErrorKind::bad_input,
                 name + " is larger than the limit of " + std::to_string(kMaxYamlBytes) + " bytes",
                 "",
                 {}};
  // yaml-cpp takes it for the mark of an escape outside of quotes. UTF-16 is full of it.
  const std::size_t unit = text.starts_with("\xFE\xFF") || text.starts_with("\xFF\xFE") ? 2 : 1;
  for (std::size_t at = 0, line = 1; at + unit <= text.size(); at += unit) {
    if (text[at] == '\n' || text[at + unit - 1] == '\n') ++line;
    if (text[at] == '\0' && text[at + unit - 1] == '\0')
      return Error{
          ErrorKind::bad_input, name + ":" + std::to_string(line) + ": a NUL character", "", {}};
  }
  Builder builder{std::make_shared<const std::string>(name)};
  try {
    std::istringstream in{text};
    YAML::Parser parser{in};
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    return refused.error;
  } catch (const YAML::Exception& bad) {
    return Error{ErrorKind::bad_input,
                 name + ":" + std::to_string(bad.mark.line + 1) + ": no YAML: " + bad.msg,
                 "",
                 {}};
  }
  return std::move(builder.documents);
}

std::string yaml_text(const YamlNode& node) {
  std::string out;
  write_value(node, 0, out);
  return out.starts_with('\n') ? out.substr(1) : out;
}

} // namespace slipway::shim
