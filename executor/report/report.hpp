// SPDX-License-Identifier: Apache-2.0
// A verdict in the formats that other tools read, and as one HTML page. Text that an image may have
// chosen is data in each of them: escaped, printable, bounded.
#pragma once

#include "executor/gate/gate.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::report {

/// What was judged, in the words of the job.
struct Subject {
  std::string image; ///< "reg.example/grp/app:1"
  std::string project;
  std::string ref;
  std::string backend;         ///< "buildkit v0.34.2, 1.2 s"; "" = not built here
  std::string dockerfile = {}; ///< "sha256:…"; "" likewise
};

enum class Format { verdict, gitlab, sarif, junit, html, cyclonedx, spdx };

/// "gitlab", …; none for another word.
std::optional<Format> parse_format(std::string_view word);
/// All words, in the order of the enumerators.
std::vector<std::string> format_words();
/// The file name that users of the format expect: "gl-container-scanning-report.json".
std::string file_name(Format format);

/// Never fails: what cannot be shown is replaced.
///   verdict  the gate's own JSON
///   gitlab   GitLab's container scanning report, schema 15.0.7; secrets are not in it, the format
///            has no place for them
///   sarif    SARIF 2.1.0 (OASIS)
///   junit    one test case for each finding and denial; failed ones are those that block
///   html     one page without scripts, for reading; nothing is loaded from anywhere
///   cyclonedx  CycloneDX 1.6 (ECMA-424): the packages that the scanner found, without findings
///   spdx     SPDX 2.3: the same
std::string render(Format format, const gate::Verdict& verdict, const Subject& subject);

} // namespace slipway::report
