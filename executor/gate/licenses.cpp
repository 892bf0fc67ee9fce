// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/licenses.hpp"

#include "config/config.hpp"

#include <algorithm>
#include <cctype>
#include <optional>

namespace slipway::gate {
namespace {

constexpr int kMaxDepth = 32; // of parentheses

std::string in_small_letters(std::string_view text) {
  std::string small{text};
  std::transform(small.begin(), small.end(), small.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return small;
}

bool is_denied(std::string_view name, const std::vector<std::string>& denied) {
  const auto small = in_small_letters(name);
  return std::any_of(denied.begin(), denied.end(), [&](const std::string& pattern) {
    return config::glob_matches(in_small_letters(pattern), small);
  });
}

/// Reads an expression. Each part is the licence that is denied in it, "" where none is, and none
/// where it is no expression.
class Expression {
public:
  Expression(std::string_view text, const std::vector<std::string>& denied)
      : rest_{text}, denied_{denied} {}
  std::optional<std::string> read() {
    auto found = any_of(0);
    return found && next().empty() ? found : std::nullopt;
  }

private:
  // "" at the end.
  std::string_view next() const {
    const auto begin = std::min(rest_.find_first_not_of(' '), rest_.size());
    auto text = rest_.substr(begin);
    if (text.empty() || text.front() == '(' || text.front() == ')') return text.substr(0, 1);
    return text.substr(0, text.find_first_of(" ()"));
  }
  std::string_view take() {
    const auto word = next();
    rest_.remove_prefix(static_cast<std::size_t>(word.data() - rest_.data()) + word.size());
    return word;
  }
  // kMaxDepth bounds these three.
  std::optional<std::string> any_of(int depth) { // NOLINT(misc-no-recursion)
    auto found = all_of(depth);
    while (found && next() == "OR") {
      take();
      auto other = all_of(depth);
      if (!other) return std::nullopt;
      if (other->empty()) found = std::move(other);
    }
    return found;
  }
  std::optional<std::string> all_of(int depth) { // NOLINT(misc-no-recursion)
    auto found = one(depth);
    while (found && next() == "AND") {
      take();
      auto other = one(depth);
      if (!other) return std::nullopt;
      if (found->empty()) found = std::move(other);
    }
    return found;
  }
  std::optional<std::string> one(int depth) { // NOLINT(misc-no-recursion)
    const auto word = take();
    if (word == "(") {
      if (depth == kMaxDepth) return std::nullopt;
      auto found = any_of(depth + 1);
      return found && take() == ")" ? found : std::nullopt;
    }
    if (word.empty() || word == ")" || word == "OR" || word == "AND" || word == "WITH")
      return std::nullopt;
    std::string name{word};
    bool denied = is_denied(word, denied_);
    if (next() == "WITH") {
      take();
      const auto exception = take();
      if (exception.empty() || exception == "(" || exception == ")") return std::nullopt;
      name += " WITH " + std::string{exception};
      denied = denied || is_denied(name, denied_);
    }
    return denied ? name : "";
  }

  std::string_view rest_;
  const std::vector<std::string>& denied_;
};

} // namespace

std::string denied_license(std::string_view expression, const std::vector<std::string>& denied) {
  if (auto found = Expression{expression, denied}.read()) return *found;
  return is_denied(expression, denied) ? std::string{expression} : "";
}

std::vector<Finding> license_findings(const std::vector<Package>& packages, const std::string& os,
                                      const std::vector<std::string>& denied) {
  std::vector<Finding> findings;
  if (denied.empty()) return findings;
  for (const auto& package : packages) {
    for (const auto& license : package.licenses) {
      auto name = denied_license(license, denied);
      if (name.empty()) continue;
      Finding finding;
      finding.kind = FindingKind::license;
      finding.id = std::move(name);
      finding.package = package.name;
      finding.installed = package.version;
      finding.severity = Severity::high;
      if (license != finding.id) finding.title = license;
      finding.os_package = package.path.empty();
      finding.target = finding.os_package ? os : package.path;
      finding.path = package.path;
      finding.purl = package.purl;
      findings.push_back(std::move(finding));
    }
  }
  return findings;
}

} // namespace slipway::gate
