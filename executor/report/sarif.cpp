// SPDX-License-Identifier: Apache-2.0
// Source: OASIS, Static Analysis Results Interchange Format 2.1.0.
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <nlohmann/json.hpp>

#include <map>

namespace slipway::report {
namespace {

using Json = nlohmann::ordered_json;

std::string text(std::string_view value) {
  return gate::printable(value, kMostTextBytes);
}

/// A relative reference whose text is `value`: else a registry's port would make a scheme of its
/// host. Source: RFC 3986, 4.2.
std::string reference_of(std::string_view value) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::string_view kKept = "-._~!$&'()*+,;=@/";
  std::string reference;
  bool is_first = true; // of the segments
  for (const char c : text(value)) {
    is_first = is_first && c != '/';
    const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      kKept.find(c) != std::string_view::npos || (c == ':' && !is_first);
    if (kept) {
      reference += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      reference += {'%', kHex[byte >> 4U], kHex[byte & 0xfU]};
    }
  }
  return reference;
}

const char* level_of(const gate::Finding& finding) {
  if (finding.blocks) return "error";
  return finding.severity >= gate::Severity::high ? "warning" : "note";
}

std::string sentence(const gate::Finding& finding) {
  switch (finding.kind) {
  case gate::FindingKind::secret:
    return text("secret (" + finding.id + ") in " + finding.target);
  case gate::FindingKind::misconfiguration:
    return text("misconfiguration (" + finding.id + "): " + finding.title +
                (finding.remedy.empty() ? "" : ". " + finding.remedy));
  case gate::FindingKind::license:
    return text("licence (" + finding.id + ") of " + finding.package + " " + finding.installed);
  case gate::FindingKind::vulnerability:
    break;
  }
  return text(finding.id + ": " + finding.package + " " + finding.installed + ", " +
              (finding.fixed.empty() ? std::string{"no fixed version is known"}
                                     : "fixed in " + finding.fixed) +
              (finding.threat.empty() ? "" : ". " + finding.threat) +
              (finding.title.empty() ? "" : ". " + finding.title) +
              (finding.blocks && is_noted(finding) ? ". " + finding.note : "") +
              (finding.origin().empty() ? "" : ". Brought by " + finding.origin()) +
              (finding.found_by == "grype" ? " (found by Grype)" : ""));
}

} // namespace

std::string sarif_report(const gate::Verdict& verdict, const Subject& subject) {
  Json rules = Json::array();
  Json results = Json::array();
  std::map<std::string, std::size_t> known;
  const auto rule_of = [&](const std::string& id, const std::string& short_text,
                           const std::string& url) {
    const auto [at, is_new] = known.emplace(id, rules.size());
    if (is_new) {
      Json rule{{"id", id}, {"shortDescription", {{"text", short_text.empty() ? id : short_text}}}};
      if (!url.empty()) rule["helpUri"] = url;
      rules.push_back(std::move(rule));
    }
    return at->second;
  };
  // Viewers want a file: the image's name stands for it, as other scanners of images have it.
  const Json place = Json::array(
      {Json{{"physicalLocation",
             {{"artifactLocation", {{"uri", reference_of(subject.image)}}},
              {"region", {{"startLine", 1}}}}},
            {"message", {{"text", text(subject.image + "@" + verdict.digest.str())}}}}});
  const auto add = [&](const std::string& id, std::size_t rule, const char* level,
                       const std::string& message, const std::string& waived_for) {
    Json result{{"ruleId", id},
                {"ruleIndex", rule},
                {"level", level},
                {"message", {{"text", message}}},
                {"locations", place}};
    if (!waived_for.empty())
      result["suppressions"] =
          Json::array({Json{{"kind", "external"}, {"justification", text(waived_for)}}});
    results.push_back(std::move(result));
  };
  for (const auto& denial : verdict.denials) {
    const auto id = "slipway/" + text(denial.code);
    add(id, rule_of(id, denial.code, ""), "error", text(denial.message), "");
  }
  for (const auto& one : verdict.allowed) {
    const auto id = "slipway/" + text(one.code);
    add(id, rule_of(id, one.code, ""), "warning", text(one.message), "allowed " + one.by());
  }
  for (const auto& finding : verdict.findings) {
    const auto id = text(finding.id);
    add(id, rule_of(id, text(finding.title), safe_url(finding.url)), level_of(finding),
        sentence(finding), finding.waived ? finding.note : "");
  }
  const Json document{
      {"$schema",
       "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"},
      {"version", "2.1.0"},
      {"runs",
       Json::array({Json{
           {"tool",
            {{"driver",
              {{"name", "slipway"}, {"version", SLIPWAY_VERSION}, {"rules", std::move(rules)}}}}},
           {"results", std::move(results)},
           {"properties",
            {{"image", text(subject.image)},
             {"digest", verdict.digest.str()},
             {"passed", verdict.passed},
             {"scanner", text(verdict.scanners())}}}}})}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace slipway::report
