// SPDX-License-Identifier: Apache-2.0
// What a verdict says to people and to programs.
#include "executor/gate/gate.hpp"
#include "executor/gate/report.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace slipway::gate {
namespace {

constexpr std::size_t kMostFindingsShown = 30;
constexpr std::array kSeverities{Severity::critical, Severity::high, Severity::medium,
                                 Severity::low, Severity::unknown};

std::string advice(const Finding& finding) {
  switch (finding.kind) {
  case FindingKind::secret:
    return "take it out of the image, also of earlier layers, and revoke it";
  case FindingKind::misconfiguration:
    return finding.remedy.empty() ? "change the Dockerfile" : finding.remedy;
  case FindingKind::license:
    return "use another package, or ask the operator for a waiver";
  case FindingKind::vulnerability:
    break;
  }
  if (finding.fixed.empty())
    return "no fixed version is known: remove the package, or ask the operator for a waiver";
  std::string fixed = finding.fixed;
  for (auto at = fixed.find(", "); at != std::string::npos; at = fixed.find(", "))
    fixed.replace(at, 2, " or ");
  std::string text = "upgrade " + finding.package + " to " + fixed + " or later";
  text += finding.os_package
              ? " (take a newer base image, or upgrade the package in the Dockerfile)"
              : " (raise the dependency where the project names it)";
  return text;
}

nlohmann::ordered_json number(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

void show(std::string& text, const Finding& finding) {
  text += "  ";
  text += severity_name(finding.severity);
  text += "  " + printable(finding.id) + "  ";
  const auto package = printable(finding.package) + " " + printable(finding.installed);
  switch (finding.kind) {
  case FindingKind::secret:
    text += "secret in " + printable(finding.target) + "\n";
    break;
  case FindingKind::misconfiguration:
    text += "misconfiguration of the image  [" + printable(finding.target) + "]\n";
    break;
  case FindingKind::license:
    text += "licence of " + package + "  [" + printable(finding.target) + "]\n";
    break;
  case FindingKind::vulnerability:
    text += package + ", fixed in " +
            (finding.fixed.empty() ? std::string{"no version yet"} : printable(finding.fixed)) +
            "  [" + printable(finding.target) + "]\n";
    break;
  }
  if (!finding.title.empty()) text += "      " + printable(finding.title, 160) + "\n";
  if (!finding.threat.empty()) text += "      Blocks for: " + printable(finding.threat, 300) + "\n";
  if (finding.blocks) text += "      What to do: " + printable(advice(finding), 600) + "\n";
  if (!finding.note.empty()) text += "      " + printable(finding.note, 700) + "\n";
  if (const auto origin = finding.origin(); finding.blocks && !origin.empty())
    text += "      Brought by: " + printable(origin, 300) + "\n";
  if (finding.found_by == "grype") text += "      Found by Grype, not by Trivy\n";
  if (finding.blocks && !finding.url.empty()) text += "      " + printable(finding.url) + "\n";
}

} // namespace

const char* severity_name(Severity severity) {
  switch (severity) {
  case Severity::unknown:
    return "UNKNOWN";
  case Severity::low:
    return "LOW";
  case Severity::medium:
    return "MEDIUM";
  case Severity::high:
    return "HIGH";
  case Severity::critical:
    return "CRITICAL";
  }
  return "UNKNOWN"; // unreachable: every enumerator returns above
}

const char* kind_name(FindingKind kind) {
  switch (kind) {
  case FindingKind::vulnerability:
    return "vulnerability";
  case FindingKind::secret:
    return "secret";
  case FindingKind::misconfiguration:
    return "misconfiguration";
  case FindingKind::license:
    return "license";
  }
  return "vulnerability"; // unreachable: every enumerator returns above
}

std::optional<FindingKind> parse_kind(std::string_view text) {
  for (const auto kind : {FindingKind::vulnerability, FindingKind::secret,
                          FindingKind::misconfiguration, FindingKind::license}) {
    if (text == kind_name(kind)) return kind;
  }
  return std::nullopt;
}

std::optional<Severity> parse_severity(std::string_view text) {
  std::string upper{text};
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  for (const auto severity : kSeverities) {
    if (upper == severity_name(severity)) return severity;
  }
  return std::nullopt;
}

std::string Finding::origin() const {
  return dockerfile_line + (dockerfile_line.empty() || made_by.empty() ? "" : ", ") + made_by;
}

std::string Verdict::scanners() const {
  return scanner + (scanner.empty() || second_scanner.empty() ? "" : ", " + second_scanner);
}

std::string Allowed::by() const {
  return "by " + printable(owner, 500) + " until " + rfc3339(until).substr(0, 10) + ": " +
         printable(reason, 500);
}

bool Verdict::could_not_judge() const {
  const bool any_blocks =
      std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.blocks; });
  return !passed && !any_blocks && !denials.empty() &&
         std::all_of(denials.begin(), denials.end(), [](const Denial& d) { return d.operators; });
}

std::string Verdict::for_people() const {
  const auto blocking = static_cast<std::size_t>(
      std::count_if(findings.begin(), findings.end(), [](const Finding& f) { return f.blocks; }));
  std::string text = passed              ? "Gate: passed"
                     : could_not_judge() ? "Gate: could not judge, so nothing is pushed"
                                         : "Gate: denied";
  text += " – " + digest.str() + "\n";
  for (const auto& denial : denials)
    text += "  [" + denial.code + "] " + printable(denial.message, 1200) + "\n";
  if (blocking > 0)
    text += "  " + std::to_string(blocking) +
            (blocking == 1 ? " finding blocks" : " findings block") + " this push:\n";
  std::size_t shown = 0;
  for (const auto& finding : findings) {
    if (!finding.blocks || shown == kMostFindingsShown) break;
    show(text, finding);
    ++shown;
  }
  if (blocking > shown) text += "  … and " + std::to_string(blocking - shown) + " more\n";
  for (const auto& exception : exceptions())
    text += "  " + exception + "\n";
  std::string line;
  for (const auto severity : kSeverities) {
    const auto found = counts.find(severity);
    if (found == counts.end() || found->second == 0) continue;
    line +=
        (line.empty() ? "" : ", ") + std::to_string(found->second) + " " + severity_name(severity);
  }
  if (!scanner.empty()) {
    text += "  Vulnerabilities: " + (line.empty() ? "none" : line) + " (" + printable(scanner) +
            ", DB of " + rfc3339(db_updated_at) +
            (second_scanner.empty()
                 ? ""
                 : "; " + printable(second_scanner) + ", DB of " + rfc3339(second_db_built_at)) +
            (from_cache ? ", judged at " + rfc3339(judged_at) : "") + ")\n";
  }
  for (const auto& warning : warnings)
    text += "  Note: " + printable(warning) + "\n";
  if (!passed)
    text +=
        "  All of it: in a job with SLIPWAY_REPORT_DIR as a report, for operators by slipway why\n";
  return text;
}

std::vector<std::string> Verdict::exceptions() const {
  std::vector<std::string> lines;
  for (const auto& one : allowed)
    lines.push_back("Allowed [" + one.code + "] " + one.by());
  std::size_t left_out = 0;
  for (const auto& finding : findings) {
    if (!finding.waived) continue;
    if (lines.size() >= allowed.size() + kMostFindingsShown) {
      ++left_out;
      continue;
    }
    lines.push_back(std::string{"Waived "} + severity_name(finding.severity) + "  " +
                    printable(finding.id) + "  " +
                    printable(finding.package.empty() ? finding.target : finding.package) + ": " +
                    printable(finding.note, 700));
  }
  if (left_out > 0) lines.push_back("… and " + std::to_string(left_out) + " more waived findings");
  return lines;
}

std::string Verdict::to_json() const {
  nlohmann::ordered_json object;
  object["digest"] = digest.str();
  object["passed"] = passed;
  object["could_not_judge"] = could_not_judge();
  object["denials"] = nlohmann::ordered_json::array();
  for (const auto& denial : denials) {
    object["denials"].push_back(
        {{"code", denial.code}, {"message", denial.message}, {"operators", denial.operators}});
  }
  object["allowed"] = nlohmann::ordered_json::array();
  for (const auto& one : allowed) {
    object["allowed"].push_back({{"code", one.code},
                                 {"message", one.message},
                                 {"owner", one.owner},
                                 {"reason", one.reason},
                                 {"until", rfc3339(one.until)}});
  }
  object["findings"] = nlohmann::ordered_json::array();
  for (const auto& finding : findings) {
    object["findings"].push_back({{"id", finding.id},
                                  {"aliases", finding.aliases},
                                  {"kind", kind_name(finding.kind)},
                                  {"severity", severity_name(finding.severity)},
                                  {"blocks", finding.blocks},
                                  {"package", finding.package},
                                  {"installed", finding.installed},
                                  {"fixed", finding.fixed},
                                  {"os_package", finding.os_package},
                                  {"target", finding.target},
                                  {"title", finding.title},
                                  {"remedy", finding.remedy},
                                  {"url", finding.url},
                                  {"purl", finding.purl},
                                  {"waived", finding.waived},
                                  {"note", finding.note},
                                  {"found_by", finding.found_by},
                                  {"layer", finding.layer},
                                  {"made_by", finding.made_by},
                                  {"dockerfile_line", finding.dockerfile_line},
                                  {"cvss", number(finding.cvss)},
                                  {"cvss_source", finding.cvss_source},
                                  {"epss", number(finding.epss)},
                                  {"kev_since", finding.kev_since},
                                  {"kev_due", finding.kev_due},
                                  {"kev_ransomware", finding.kev_ransomware},
                                  {"threat", finding.threat}});
  }
  object["counts"] = nlohmann::ordered_json::object();
  for (const auto severity : kSeverities) {
    const auto found = counts.find(severity);
    object["counts"][severity_name(severity)] = found == counts.end() ? 0 : found->second;
  }
  object["warnings"] = warnings;
  object["judged_at"] = rfc3339(judged_at);
  object["expires_at"] = rfc3339(expires_at);
  object["scanner"] = scanner;
  object["db_updated_at"] = rfc3339(db_updated_at);
  if (!second_scanner.empty()) {
    object["second_scanner"] = second_scanner;
    object["second_db_built_at"] = rfc3339(second_db_built_at);
  }
  for (const auto& [name, value] : {std::pair{"db_digest", &db_digest},
                                    {"java_db_digest", &java_db_digest},
                                    {"second_db_digest", &second_db_digest}})
    if (!value->empty()) object[name] = *value;
  object["policy_digest"] = policy_digest;
  object["threshold"] = threshold;
  object["from_cache"] = from_cache;
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

} // namespace slipway::gate
