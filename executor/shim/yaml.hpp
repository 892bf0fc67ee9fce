// SPDX-License-Identifier: Apache-2.0
// YAML as Compose files have it: a tree of texts that knows where each of them stands. Aliases and
// merge keys (`<<`) are filled in, with limits, so that a small file cannot become a large tree.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

constexpr std::size_t kMaxYamlBytes = 1UL << 20;
constexpr std::size_t kMaxYamlTreeBytes = 8UL << 20; ///< with aliases filled in
constexpr std::size_t kMaxYamlNodes = 100000;        ///< with aliases filled in
constexpr std::size_t kMaxYamlDepth = 64;

struct YamlMember;

struct YamlNode {
  enum class Kind { null, text, list, map };
  Kind kind = Kind::null;
  std::string text;     ///< of a text, as written
  bool plain = false;   ///< a text without quotes: perhaps a number or a boolean
  bool reset = false;   ///< `!reset`: what an earlier file said is taken away
  bool replace = false; ///< `!override`: what an earlier file said does not count
  std::vector<YamlNode> items;
  std::vector<YamlMember> members; ///< in the order of the file
  std::shared_ptr<const std::string> file;
  std::size_t line = 0;

  bool is_map() const { return kind == Kind::map; }
  bool is_list() const { return kind == Kind::list; }
  bool is_text() const { return kind == Kind::text; }
  bool is_null() const { return kind == Kind::null; }

  const YamlNode* find(std::string_view key) const;
  YamlNode* find(std::string_view key);
  /// Makes the member where it is missing.
  YamlNode& at(const std::string& key);
  void erase(std::string_view key);
  /// "compose.yml:12"
  std::string where() const;
  /// Of the same place, without content.
  YamlNode beside(Kind what) const;
};

struct YamlMember {
  std::string key;
  YamlNode value;
};

/// The text of a scalar as a Go program prints what it read: `1.10` without quotes is "1.1", `010`
/// is "8". Source: resolve.go of gopkg.in/yaml.v3.
std::string scalar_text(const YamlNode& node);

/// All documents of a file. Errors: bad_input, with file and line.
Result<std::vector<YamlNode>> parse_yaml(const std::string& name, const std::string& text);

/// Block style, every text that could be taken for something else in quotes.
std::string yaml_text(const YamlNode& node);

} // namespace slipway::shim
