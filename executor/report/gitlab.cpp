// SPDX-License-Identifier: Apache-2.0
// Source: GitLab's security report schemas 15.0.7, container-scanning-report-format.json; GitLab
// docs, "Security scanner integration".
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <nlohmann/json.hpp>

namespace slipway::report {
namespace {

using Json = nlohmann::ordered_json;

/// The schema's limit is 255 letters.
constexpr std::size_t kMostNameBytes = 255;
constexpr std::size_t kMostMessages = 100;

std::string severity_of(gate::Severity severity) {
  switch (severity) {
  case gate::Severity::unknown:
    return "Unknown";
  case gate::Severity::low:
    return "Low";
  case gate::Severity::medium:
    return "Medium";
  case gate::Severity::high:
    return "High";
  case gate::Severity::critical:
    return "Critical";
  }
  return "Unknown"; // unreachable: every enumerator returns above
}

/// The schema's times are local to UTC and have no zone: 2026-01-02T03:04:05.
std::string time_of(WallTime time) {
  return rfc3339(time).substr(0, 19);
}

Json message(const char* level, const std::string& words) {
  return {{"level", level}, {"value", gate::printable(words, kMostTextBytes)}};
}

/// Why what was found is not all there is: GitLab shows these beside the findings. Denials are no
/// findings, so with each of them the image, or a part of it, was not scanned as it should be.
Json messages_of(const gate::Verdict& verdict) {
  Json messages = Json::array();
  for (const auto& denial : verdict.denials) {
    if (messages.size() == kMostMessages) break;
    messages.push_back(message("fatal", "[" + denial.code + "] " + denial.message));
  }
  for (const auto& one : verdict.allowed) {
    if (messages.size() == kMostMessages) break;
    messages.push_back(
        message("warn", "Allowed [" + one.code + "] " + one.by() + ". " + one.message));
  }
  if (verdict.scanner.empty() && messages.empty())
    messages.push_back(message("info", "Nothing in it is scanned for vulnerabilities."));
  return messages;
}

/// The same finding has the same id in every run, or GitLab takes it for a new one.
std::string id_of(const gate::Finding& finding) {
  return uuid_of(finding.id + "\n" + finding.package + "\n" + finding.installed + "\n" +
                 finding.target);
}

Json program(const std::string& id, const std::string& name, const std::string& version,
             const std::string& vendor) {
  return {{"id", id}, {"name", name}, {"version", version}, {"vendor", {{"name", vendor}}}};
}

} // namespace

std::string gitlab_report(const gate::Verdict& verdict, const Subject& subject) {
  // "trivy 0.69.3"
  const auto space = verdict.scanner.find(' ');
  const auto version =
      space == std::string::npos ? std::string{"unknown"} : verdict.scanner.substr(space + 1);
  Json vulnerabilities = Json::array();
  for (const auto& finding : verdict.findings) {
    if (!finding.is_vulnerability()) continue;
    const auto text = [](const std::string& value) {
      return gate::printable(value, kMostTextBytes);
    };
    // Where the schema wants at least one letter.
    const auto named = [&](const std::string& value) {
      auto shown = text(value);
      return shown.empty() ? std::string{"Unknown"} : shown;
    };
    const auto* scanner = finding.found_by == "grype" ? "grype" : "trivy";
    Json identifier{{"type", finding.id.starts_with("CVE-") ? "cve" : scanner},
                    {"name", named(finding.id)},
                    {"value", named(finding.id)}};
    const auto url = safe_url(finding.url);
    if (!url.empty()) identifier["url"] = url;
    Json entry{
        {"id", id_of(finding)},
        {"name", gate::printable(finding.id + " in " + finding.package + "-" + finding.installed,
                                 kMostNameBytes)},
        {"description", text((finding.title.empty() ? finding.id : finding.title) +
                             (finding.threat.empty() ? "" : ". " + finding.threat) +
                             (is_noted(finding) ? ". " + finding.note : "") +
                             (finding.found_by == "grype" ? " (found by Grype)" : ""))},
        {"severity", severity_of(finding.severity)},
        {"solution", finding.fixed.empty()
                         ? std::string{"No fixed version is known."}
                         : text("Upgrade " + finding.package + " from " + finding.installed +
                                " to " + finding.fixed + ".")},
        {"identifiers", Json::array({identifier})},
        {"links", url.empty() ? Json::array() : Json::array({Json{{"url", url}}})},
        {"location",
         {{"dependency",
           {{"package", {{"name", text(finding.package)}}}, {"version", text(finding.installed)}}},
          {"operating_system", named(finding.os_package ? finding.target : "")},
          {"image", named(subject.image)}}}};
    vulnerabilities.push_back(std::move(entry));
  }
  const Json document{
      {"version", "15.0.7"},
      {"scan",
       {{"analyzer", program("slipway", "slipway", SLIPWAY_VERSION, "slipway")},
        {"scanner", program("trivy", "Trivy", version, "Aqua Security")},
        {"type", "container_scanning"},
        {"start_time", time_of(verdict.judged_at)},
        {"end_time", time_of(verdict.judged_at)},
        {"messages", messages_of(verdict)},
        {"status", verdict.scanner.empty() || !verdict.denials.empty() ? "failure" : "success"}}},
      {"vulnerabilities", std::move(vulnerabilities)},
      {"remediations", Json::array()}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace slipway::report
