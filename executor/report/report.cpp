// SPDX-License-Identifier: Apache-2.0
#include "executor/report/report.hpp"

#include "executor/report/formats.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace slipway::report {
namespace {

struct Row {
  Format format;
  std::string_view word;
  std::string_view file;
};
constexpr std::array kRows{Row{Format::verdict, "verdict", "slipway-verdict.json"},
                           Row{Format::gitlab, "gitlab", "gl-container-scanning-report.json"},
                           Row{Format::sarif, "sarif", "slipway.sarif"},
                           Row{Format::junit, "junit", "slipway-junit.xml"},
                           Row{Format::html, "html", "slipway.html"},
                           Row{Format::cyclonedx, "cyclonedx", "sbom.cdx.json"},
                           Row{Format::spdx, "spdx", "sbom.spdx.json"}};

} // namespace

std::optional<Format> parse_format(std::string_view word) {
  const auto found =
      std::find_if(kRows.begin(), kRows.end(), [&](const Row& row) { return row.word == word; });
  if (found == kRows.end()) return std::nullopt;
  return found->format;
}

std::vector<std::string> format_words() {
  std::vector<std::string> words;
  words.reserve(kRows.size());
  for (const auto& row : kRows)
    words.emplace_back(row.word);
  return words;
}

std::string file_name(Format format) {
  return std::string{kRows.at(static_cast<std::size_t>(format)).file};
}

std::string render(Format format, const gate::Verdict& verdict, const Subject& subject) {
  switch (format) {
  case Format::verdict:
    return verdict.to_json() + "\n";
  case Format::gitlab:
    return gitlab_report(verdict, subject);
  case Format::sarif:
    return sarif_report(verdict, subject);
  case Format::junit:
    return junit_report(verdict, subject);
  case Format::html:
    return html_report(verdict, subject);
  case Format::cyclonedx:
    return cyclonedx_report(verdict, subject);
  case Format::spdx:
    return spdx_report(verdict, subject);
  }
  return ""; // unreachable: every enumerator returns above
}

} // namespace slipway::report
