// SPDX-License-Identifier: Apache-2.0
// One page that a browser may open from anywhere: no script, no request, all text escaped.
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <algorithm>

namespace slipway::report {
namespace {

constexpr std::size_t kMostRows = 5000;

constexpr const char* kHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.outcome { font-weight: 700; padding: .6rem .9rem; border-radius: .3rem; }
.passed { background: #dcf5e3; color: #0b4f21; }
.denied { background: #fde4e1; color: #7a1109; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #4a525b; }
dd { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #c9d1d9; }
th { background: #f3f5f7; overflow-wrap: normal; }
tr.blocks td:first-child { border-left: .3rem solid #a51d12; font-weight: 700; }
a { color: #0b57a4; }
@media print { body { margin: 0; max-width: none; } .scroll { overflow: visible; } tr { break-inside: avoid; } }
</style>
)";

std::string cell(const std::string& text) {
  return "<td>" + text + "</td>";
}

std::string what_fixes(const gate::Finding& finding) {
  switch (finding.kind) {
  case gate::FindingKind::secret:
    return "take it out of every layer and revoke it";
  case gate::FindingKind::misconfiguration:
    return escaped(finding.remedy, 300);
  case gate::FindingKind::license:
    return "another package";
  case gate::FindingKind::vulnerability:
    break;
  }
  return finding.fixed.empty() ? "no version yet" : escaped(finding.fixed);
}

std::string row(const gate::Finding& finding) {
  const auto url = safe_url(finding.url);
  const auto id = escaped(finding.id, 200);
  std::string text = finding.blocks ? "<tr class=\"blocks\">" : "<tr>";
  text += cell(std::string{finding.blocks   ? "blocks, "
                           : finding.waived ? "waived, "
                                            : ""} +
               gate::severity_name(finding.severity));
  text += cell(url.empty()
                   ? id
                   : "<a rel=\"noreferrer noopener\" href=\"" + escaped(url) + "\">" + id + "</a>");
  text +=
      cell(finding.package.empty()                      ? gate::kind_name(finding.kind)
           : finding.kind == gate::FindingKind::license ? "licence of " + escaped(finding.package)
                                                        : escaped(finding.package));
  text += cell(escaped(finding.installed));
  text += cell(what_fixes(finding));
  text += cell(escaped(finding.target));
  text += cell(finding.layer.empty()
                   ? ""
                   : escaped(finding.origin(), 300) + "<br>layer " + escaped(finding.layer));
  text += cell(
      (finding.threat.empty() ? "" : "<strong>" + escaped(finding.threat, 300) + "</strong><br>") +
      escaped(finding.title, 300) + (finding.found_by == "grype" ? " (found by Grype)" : "") +
      (is_noted(finding) ? "<br>" + escaped(finding.note, 700) : ""));
  return text + "</tr>\n";
}

std::string line(const char* name, const std::string& value) {
  return value.empty() ? "" : std::string{"<dt>"} + name + "</dt><dd>" + escaped(value) + "</dd>\n";
}

std::string allowed_rows(const std::vector<gate::Allowed>& allowed) {
  if (allowed.empty()) return "";
  std::string text =
      "<h2>Allowed</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Allowed\">\n<table>\n<thead><tr><th scope=\"col\">Row</th>"
      "<th scope=\"col\">What</th><th scope=\"col\">Allowed by</th><th "
      "scope=\"col\">Reason</th><th scope=\"col\">Until</th></tr></thead>\n<tbody>\n";
  for (const auto& one : allowed)
    text += "<tr>" + cell(escaped(one.code)) + cell(escaped(one.message, 1200)) +
            cell(escaped(one.owner, 500)) + cell(escaped(one.reason, 500)) +
            cell(rfc3339(one.until).substr(0, 10)) + "</tr>\n";
  return text + "</tbody>\n</table>\n</div>\n";
}

} // namespace

std::string html_report(const gate::Verdict& verdict, const Subject& subject) {
  const auto outcome = verdict.passed ? "Passed: this digest may be pushed."
                       : verdict.could_not_judge()
                           ? "Could not judge: nothing was pushed, and the operator has to act."
                           : "Denied: nothing was pushed.";
  std::string page = kHead;
  page += "<title>" + escaped(subject.image, 200) + (verdict.passed ? " passed" : " denied") +
          "</title>\n</head>\n<body>\n<main>\n";
  page += "<h1>" + escaped(subject.image) + "</h1>\n<p class=\"outcome " +
          std::string{verdict.passed ? "passed" : "denied"} + "\">" + outcome + "</p>\n<dl>\n";
  page += line("Digest", verdict.digest.str()) + line("Project", subject.project) +
          line("Ref", subject.ref) + line("Built by", subject.backend) +
          line("Scanner", verdict.scanners()) +
          line("Database of", verdict.scanner.empty() ? "" : rfc3339(verdict.db_updated_at)) +
          line("Blocks from", verdict.threshold) + line("Judged", rfc3339(verdict.judged_at)) +
          line("Good until", verdict.passed ? rfc3339(verdict.expires_at) : "");
  page += "</dl>\n";
  if (!verdict.denials.empty()) {
    page += "<h2>Why it is denied</h2>\n<ul>\n";
    for (const auto& denial : verdict.denials)
      page += "<li><strong>" + escaped(denial.code) + "</strong> " + escaped(denial.message, 1200) +
              "</li>\n";
    page += "</ul>\n";
  }
  page += allowed_rows(verdict.allowed);
  const auto blocking = std::count_if(verdict.findings.begin(), verdict.findings.end(),
                                      [](const gate::Finding& finding) { return finding.blocks; });
  page += "<h2>Findings: " + std::to_string(verdict.findings.size()) + ", of which " +
          std::to_string(blocking) + " block</h2>\n";
  if (!verdict.findings.empty()) {
    page += "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
            "aria-label=\"Findings\">\n<table>\n<thead><tr><th scope=\"col\">Severity</th><th "
            "scope=\"col\">Finding</th>"
            "<th scope=\"col\">Package</th><th scope=\"col\">Installed</th><th scope=\"col\">Fixed "
            "in</th>"
            "<th scope=\"col\">Where</th><th scope=\"col\">Brought by</th><th "
            "scope=\"col\">What</th></tr></thead>\n<tbody>\n";
    std::size_t shown = 0;
    for (const auto& finding : verdict.findings) {
      if (shown++ == kMostRows) break;
      page += row(finding);
    }
    page += "</tbody>\n</table>\n</div>\n";
    if (verdict.findings.size() > kMostRows)
      page += "<p>" + std::to_string(verdict.findings.size() - kMostRows) +
              " more are in the JSON report.</p>\n";
  }
  if (!verdict.warnings.empty()) {
    page += "<h2>Notes</h2>\n<ul>\n";
    for (const auto& warning : verdict.warnings)
      page += "<li>" + escaped(warning) + "</li>\n";
    page += "</ul>\n";
  }
  return page + "</main>\n</body>\n</html>\n";
}

} // namespace slipway::report
