// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/grype_report.hpp"

#include "executor/gate/report.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace slipway::gate {
namespace {

using nlohmann::json;

constexpr std::size_t kMostGaps = 5;

Error unusable(const std::string& why) {
  return Error{ErrorKind::bad_input, "Grype's report: " + why, "", {}};
}

// Absent and null are the same in what Go writes.
std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? "" : found->get<std::string>();
}

const json& list_of(const json& object, const char* name) {
  static const json kNone = json::array();
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return kNone;
  (void)found->get_ref<const json::array_t&>(); // throws what it throws for other wrong types
  return *found;
}

// A word that we do not know must not become "harmless". Negligible is Debian's and Ubuntu's.
Severity severity_of(const std::string& word) {
  if (word == "Negligible") return Severity::low;
  return parse_severity(word).value_or(Severity::critical);
}

std::string first_line(const std::string& text) {
  return text.substr(0, std::min(text.find('\n'), std::size_t{300}));
}

// The CVE that this is another name of. An advisory for several is none of them.
std::string only_cve(const json& match) {
  std::set<std::string> cves;
  for (const auto& related : list_of(match, "relatedVulnerabilities"))
    if (auto id = text_of(related, "id"); id.starts_with("CVE-")) cves.insert(std::move(id));
  return cves.size() == 1 ? *cves.begin() : "";
}

// The highest score that is there, of the newest version of CVSS that has one.
void read_cvss(const json& vulnerability, Finding& finding) {
  std::string newest;
  for (const auto& one : list_of(vulnerability, "cvss")) {
    const auto version = text_of(one, "version");
    const auto score = one.at("metrics").at("baseScore").get<double>();
    if (!(score > 0 && score <= 10) || version < newest) continue;
    if (version == newest && finding.cvss && *finding.cvss >= score) continue;
    newest = version;
    finding.cvss = score;
    finding.cvss_source = printable(text_of(one, "source"), 40);
  }
}

Finding finding_of(const json& match, const std::string& distro) {
  const auto& vulnerability = match.at("vulnerability");
  const auto& artifact = match.at("artifact");
  Finding finding;
  finding.id = vulnerability.at("id").get<std::string>();
  if (auto cve = only_cve(match); !cve.empty() && !finding.id.starts_with("CVE-")) {
    finding.aliases.push_back(finding.id);
    finding.id = std::move(cve);
  }
  finding.package = artifact.at("name").get<std::string>();
  finding.installed = artifact.at("version").get<std::string>();
  finding.purl = text_of(artifact, "purl");
  finding.severity = severity_of(text_of(vulnerability, "severity"));
  read_cvss(vulnerability, finding);
  // Of distributions' advisories the scores are with the vulnerabilities that they are about.
  if (!finding.cvss) {
    for (const auto& related : list_of(match, "relatedVulnerabilities")) {
      Finding scored;
      read_cvss(related, scored);
      if (!scored.cvss || scored.cvss <= finding.cvss) continue;
      finding.cvss = scored.cvss;
      finding.cvss_source = scored.cvss_source;
    }
  }
  finding.title = first_line(text_of(vulnerability, "description"));
  finding.url = text_of(vulnerability, "dataSource");
  const auto& fix = vulnerability.at("fix");
  for (const auto& version : list_of(fix, "versions"))
    finding.fixed += (finding.fixed.empty() ? "" : ", ") + version.get<std::string>();
  // Grype knows that there is a fix, and not which version has it.
  if (finding.fixed.empty() && text_of(fix, "state") == "fixed") finding.fixed = "a later version";
  const auto type = text_of(artifact, "type");
  finding.os_package = type == "deb" || type == "apk" || type == "rpm" || type == "alpm";
  finding.target = distro;
  const auto& places = list_of(artifact, "locations");
  if (!places.empty()) finding.layer = text_of(places.front(), "layerID");
  if (!finding.os_package) {
    finding.target = type;
    if (!places.empty()) finding.path = text_of(places.front(), "path");
    if (!finding.path.empty()) finding.target = finding.path.substr(finding.path.front() == '/');
  }
  finding.found_by = "grype";
  return finding;
}

bool says_end_of_life(const json& package) {
  const auto& alerts = list_of(package, "alerts");
  return std::any_of(alerts.begin(), alerts.end(),
                     [](const json& alert) { return text_of(alert, "type") == "distro-eol"; });
}

GrypeReport report_of(const json& document) {
  GrypeReport report;
  const auto& descriptor = document.at("descriptor");
  report.version = descriptor.at("version").get<std::string>();
  const auto built = descriptor.at("db").at("status").at("built").get<std::string>();
  if (!parse_rfc3339(built, report.db_built_at)) report.db_built_at = {};
  const auto& source = document.at("source");
  const auto& target = source.at("target");
  if (text_of(source, "type") != "sbom-file")
    report.image_id = target.at("imageID").get<std::string>();
  for (const auto& layer : list_of(target, "layers"))
    report.diff_ids.push_back(layer.at("digest").get<std::string>());
  const auto& distro = document.at("distro");
  report.distro = text_of(distro, "name");
  if (const auto release = text_of(distro, "version"); !report.distro.empty() && !release.empty())
    report.distro += " " + release;
  const auto& alerts = list_of(document, "alertsByPackage");
  report.os_end_of_life = std::any_of(alerts.begin(), alerts.end(), says_end_of_life);
  report.ignored = static_cast<int>(list_of(document, "ignoredMatches").size());
  for (const auto& match : document.at("matches").get_ref<const json::array_t&>())
    report.findings.push_back(finding_of(match, report.distro));
  return report;
}

// "packages=12" behind the words; none where no number is there.
std::optional<std::int64_t> packages_in(std::string_view line) {
  constexpr std::string_view kKey = " packages=";
  const auto at = line.find(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  const auto digits = line.substr(at + kKey.size());
  std::int64_t count = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  return read.ec == std::errc{} ? std::optional{count} : std::nullopt;
}

} // namespace

Result<GrypeReport> parse_grype_report(std::string_view text) {
  if (auto fine = oci::check_json(text, "Grype's report"); !fine) return std::move(fine).error();
  try {
    auto report = report_of(json::parse(text));
    if (report.db_built_at.time_since_epoch().count() <= 0)
      return unusable("it does not say when the DB was built");
    for (const auto& finding : report.findings)
      if (finding.id.empty() || finding.package.empty())
        return unusable("a match names no vulnerability or no package");
    return report;
  } catch (const json::exception& wrong) {
    return unusable(printable(wrong.what()));
  }
}

GrypeCoverage read_grype_log(std::string_view log) {
  // Source: grype 0.121.3, cmd/grype/cli/commands/root.go and grype/vulnerability_matcher.go.
  constexpr std::array<std::string_view, 3> kGaps{"matcher returned error",
                                                  "distro detection failed",
                                                  "Unable to determine the OS distribution"};
  GrypeCoverage coverage;
  for (std::size_t start = 0; start < log.size();) {
    const auto end = std::min(log.find('\n', start), log.size());
    const auto line = log.substr(start, end - start);
    start = end + 1;
    // An image may have words of its own in the log: a smaller number denies it, no larger counts.
    if (line.find("gathered packages") != std::string_view::npos)
      if (const auto count = packages_in(line))
        coverage.packages = std::min(coverage.packages.value_or(*count), *count);
    const bool gap = std::any_of(kGaps.begin(), kGaps.end(), [&](std::string_view words) {
      return line.find(words) != std::string_view::npos;
    });
    if (gap && coverage.gaps.size() < kMostGaps) coverage.gaps.push_back(printable(line));
  }
  return coverage;
}

} // namespace slipway::gate
