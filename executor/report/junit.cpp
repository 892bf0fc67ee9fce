// SPDX-License-Identifier: Apache-2.0
// The dialect of JUnit's XML that GitLab and Jenkins read.
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <algorithm>

namespace slipway::report {
namespace {

// `outcome`: "failure" or "skipped"; without a message the case is passed.
std::string test_case(const std::string& group, const std::string& name, const std::string& message,
                      const std::string& outcome = "failure") {
  std::string text = "    <testcase classname=\"" + group + "\" name=\"" + name + "\"";
  if (message.empty()) return text + "/>\n";
  return text + ">\n      <" + outcome + " message=\"" + message + "\"/>\n    </testcase>\n";
}

std::string nature_of(const gate::Finding& finding) {
  switch (finding.kind) {
  case gate::FindingKind::secret:
    return "a secret in the image";
  case gate::FindingKind::misconfiguration:
    return "a misconfiguration: " + finding.title;
  case gate::FindingKind::license:
    return "a licence that the policy denies";
  case gate::FindingKind::vulnerability:
    break;
  }
  return finding.fixed.empty() ? "no fixed version is known" : "fixed in " + finding.fixed;
}

} // namespace

std::string junit_report(const gate::Verdict& verdict, const Subject& subject) {
  const auto blocking = static_cast<std::size_t>(
      std::count_if(verdict.findings.begin(), verdict.findings.end(),
                    [](const gate::Finding& finding) { return finding.blocks; }));
  const auto waived = static_cast<std::size_t>(
      std::count_if(verdict.findings.begin(), verdict.findings.end(),
                    [](const gate::Finding& finding) { return finding.waived; }));
  std::string cases;
  for (const auto& denial : verdict.denials)
    cases += test_case("slipway.gate", escaped(denial.code), escaped(denial.message));
  for (const auto& one : verdict.allowed)
    cases += test_case("slipway.gate", escaped(one.code),
                       escaped("allowed " + one.by() + ". " + one.message), "skipped");
  for (const auto& finding : verdict.findings) {
    const auto what = finding.package.empty() ? finding.id + " in " + finding.target
                                              : finding.id + " " + finding.package + " " +
                                                    finding.installed + " [" + finding.target + "]";
    const auto why = std::string{gate::severity_name(finding.severity)} + ", " +
                     nature_of(finding) + (finding.threat.empty() ? "" : ", " + finding.threat) +
                     (is_noted(finding) ? "; " + finding.note : "");
    cases +=
        finding.waived
            ? test_case("slipway.findings", escaped(what), escaped(finding.note, 700), "skipped")
            : test_case("slipway.findings", escaped(what), finding.blocks ? escaped(why) : "");
  }
  auto tests = verdict.denials.size() + verdict.allowed.size() + verdict.findings.size();
  if (tests == 0) {
    cases = test_case("slipway.gate", "nothing to report", verdict.passed ? "" : "denied");
    tests = 1;
  }
  const auto failures = verdict.denials.size() + blocking;
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"" +
         escaped(subject.image) + "\" tests=\"" + std::to_string(tests) + "\" failures=\"" +
         std::to_string(failures) + "\" errors=\"0\" skipped=\"" +
         std::to_string(waived + verdict.allowed.size()) + "\" timestamp=\"" +
         rfc3339(verdict.judged_at).substr(0, 19) + "\">\n" + cases +
         "  </testsuite>\n</testsuites>\n";
}

} // namespace slipway::report
