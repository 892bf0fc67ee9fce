// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/report.hpp"

#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace slipway::gate {
namespace {

using nlohmann::json;

Error refused(const std::string& where, const std::string& why) {
  return Error{ErrorKind::bad_input, "scan report: " + where + " " + why, "", {}};
}

// Most of a report is text and lists that nothing is concluded from: not kept, so a report of many
// megabytes takes few of memory.
json parse_without_ballast(std::string_view text) {
  static constexpr std::array<std::string_view, 8> kBallast{
      "Description", "References", "VendorSeverity", "VendorIDs",
      "CweIDs",      "DependsOn",  "InstalledFiles", "ImageConfig"};
  const auto keep = [](int, json::parse_event_t event, const json& parsed) {
    return event != json::parse_event_t::key ||
           std::find(kBallast.begin(), kBallast.end(), parsed.get_ref<const std::string&>()) ==
               kBallast.end();
  };
  return json::parse(text, keep, false);
}

// Absent and null are the same in what Go writes.
const json* member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Status read_text(const json& object, const char* name, std::string& into) {
  const json* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_string()) return refused(name, "is not a string");
  into = value->get<std::string>();
  return {};
}

Result<const json*> read_array(const json& object, const char* name) {
  static const json kNone = json::array();
  const json* value = member(object, name);
  if (value == nullptr) return &kNone;
  if (!value->is_array()) return refused(name, "is not an array");
  for (const auto& entry : *value) {
    if (!entry.is_object()) return refused(name, "holds something that is no object");
  }
  return value;
}

Status read_layer(const json& entry, Finding& finding) {
  const json* layer = member(entry, "Layer");
  if (layer == nullptr) return {};
  if (!layer->is_object()) return refused("Layer", "is not an object");
  return read_text(*layer, "DiffID", finding.layer);
}

// A source's score by the newest version of CVSS that it has one of; none where it has none.
Result<std::optional<double>> read_score(const json& source) {
  if (!source.is_object()) return refused("CVSS", "holds something that is no object");
  for (const char* name : {"V40Score", "V3Score", "V2Score"}) {
    const json* value = member(source, name);
    if (value == nullptr) continue;
    const double score = value->is_number() ? value->get<double>() : -1;
    if (!(score >= 0 && score <= 10)) return refused(name, "is not a number from 0 to 10");
    if (score > 0) return std::optional{score};
  }
  return std::optional<double>{};
}

// The score of the source that the severity is from; where it has none, the highest of all, and of
// equal ones the first by the source's name.
Status read_cvss(const json& entry, Finding& finding) {
  const json* all = member(entry, "CVSS");
  if (all == nullptr) return {};
  if (!all->is_object()) return refused("CVSS", "is not an object");
  std::string severity_source;
  if (auto fine = read_text(entry, "SeveritySource", severity_source); !fine) return fine;
  bool is_decided = false;
  for (const auto& [name, source] : all->items()) {
    auto score = read_score(source);
    if (!score) return std::move(score).error();
    if (!*score || is_decided) continue;
    is_decided = name == severity_source;
    if (!is_decided && finding.cvss && *finding.cvss >= **score) continue;
    finding.cvss = **score;
    finding.cvss_source = printable(name, 40);
  }
  return {};
}

Result<Finding> read_vulnerability(const json& entry, const std::string& target, bool os_package) {
  Finding finding;
  finding.target = target;
  finding.os_package = os_package;
  std::string severity;
  for (const auto& [name, into] :
       {std::pair{"VulnerabilityID", &finding.id}, std::pair{"PkgName", &finding.package},
        std::pair{"InstalledVersion", &finding.installed},
        std::pair{"FixedVersion", &finding.fixed}, std::pair{"Title", &finding.title},
        std::pair{"PrimaryURL", &finding.url}, std::pair{"Severity", &severity}}) {
    if (auto fine = read_text(entry, name, *into); !fine) return std::move(fine).error();
  }
  if (finding.id.empty()) return refused("a vulnerability", "has no VulnerabilityID");
  if (const json* identifier = member(entry, "PkgIdentifier")) {
    if (!identifier->is_object()) return refused("PkgIdentifier", "is not an object");
    if (auto fine = read_text(*identifier, "PURL", finding.purl); !fine)
      return std::move(fine).error();
  }
  if (auto fine = read_layer(entry, finding); !fine) return std::move(fine).error();
  if (auto fine = read_cvss(entry, finding); !fine) return std::move(fine).error();
  std::string published;
  if (auto fine = read_text(entry, "PublishedDate", published); !fine)
    return std::move(fine).error();
  // One that cannot be read is none: then there is no grace.
  if (!parse_rfc3339(published, finding.published)) finding.published = {};
  // A word that we do not know must not become "harmless".
  finding.severity = parse_severity(severity).value_or(Severity::critical);
  return finding;
}

Result<Finding> read_secret(const json& entry, const std::string& target) {
  Finding finding;
  finding.target = target;
  finding.path = target;
  finding.kind = FindingKind::secret;
  std::string severity;
  for (const auto& [name, into] :
       {std::pair{"RuleID", &finding.id}, std::pair{"Title", &finding.title},
        std::pair{"Severity", &severity}}) {
    if (auto fine = read_text(entry, name, *into); !fine) return std::move(fine).error();
  }
  if (auto fine = read_layer(entry, finding); !fine) return std::move(fine).error();
  if (const json* line = member(entry, "StartLine"); line != nullptr && line->is_number_integer()) {
    finding.target += ":" + std::to_string(line->get<std::int64_t>());
  }
  finding.severity = parse_severity(severity).value_or(Severity::critical);
  return finding;
}

// None of a check that the image passes.
Result<std::optional<Finding>> read_misconfiguration(const json& entry) {
  Finding finding;
  finding.kind = FindingKind::misconfiguration;
  finding.target = "config and history"; // Trivy's own is the path of the layout
  std::string status;
  std::string severity;
  std::string message;
  for (const auto& [name, into] :
       {std::pair{"ID", &finding.id}, std::pair{"Title", &finding.title},
        std::pair{"Message", &message}, std::pair{"Resolution", &finding.remedy},
        std::pair{"PrimaryURL", &finding.url}, std::pair{"Severity", &severity},
        std::pair{"Status", &status}}) {
    if (auto fine = read_text(entry, name, *into); !fine) return std::move(fine).error();
  }
  if (status == "PASS") return std::optional<Finding>{};
  if (finding.id.empty()) return refused("a misconfiguration", "has no ID");
  if (!message.empty() && message != finding.title)
    finding.title += (finding.title.empty() ? "" : ": ") + message;
  finding.severity = parse_severity(severity).value_or(Severity::critical);
  return std::optional{std::move(finding)};
}

Result<Package> read_package(const json& entry, const std::string& place) {
  Package package;
  std::string release;
  package.path = place;
  for (const auto& [name, into] :
       {std::pair{"Name", &package.name}, std::pair{"Version", &package.version},
        std::pair{"Release", &release}, std::pair{"FilePath", &package.path}}) {
    if (auto fine = read_text(entry, name, *into); !fine) return std::move(fine).error();
  }
  if (!release.empty()) package.version += "-" + release;
  if (const json* epoch = member(entry, "Epoch")) {
    if (!epoch->is_number_integer()) return refused("Epoch", "is not an integer");
    if (const auto number = epoch->get<std::int64_t>(); number != 0)
      package.version.insert(0, std::to_string(number) + ":");
  }
  if (const json* identifier = member(entry, "Identifier")) {
    if (!identifier->is_object()) return refused("Identifier", "is not an object");
    if (auto fine = read_text(*identifier, "PURL", package.purl); !fine)
      return std::move(fine).error();
  }
  if (const json* licenses = member(entry, "Licenses")) {
    if (!licenses->is_array()) return refused("Licenses", "is not an array");
    for (const auto& license : *licenses) {
      if (!license.is_string()) return refused("Licenses", "holds something that is no string");
      package.licenses.push_back(license.get<std::string>());
    }
  }
  for (const char* name : {"SrcName", "SrcVersion", "SrcRelease"}) {
    std::string value;
    if (auto fine = read_text(entry, name, value); !fine) return std::move(fine).error();
    if (!value.empty()) package.source.emplace_back(name, std::move(value));
  }
  if (const json* epoch = member(entry, "SrcEpoch")) {
    if (!epoch->is_number_integer()) return refused("SrcEpoch", "is not an integer");
    package.source.emplace_back("SrcEpoch", std::to_string(epoch->get<std::int64_t>()));
  }
  return package;
}

Status read_result(const json& result, ScanReport& report) {
  std::string target;
  std::string kind;
  if (auto fine = read_text(result, "Target", target); !fine) return fine;
  if (auto fine = read_text(result, "Class", kind); !fine) return fine;
  const bool os = kind == "os-pkgs";
  if (kind == "config") report.looked_at_config = true;
  if (os)
    target = report.os_family + " " + report.os_name; // Trivy's own holds the path of the layout

  std::string type;
  if (auto fine = read_text(result, "Type", type); !fine) return fine;

  auto packages = read_array(result, "Packages");
  if (!packages) return std::move(packages).error();
  int found = 0;
  for (const auto& package : **packages) {
    auto read = read_package(package, os ? "" : target);
    if (!read) return std::move(read).error();
    std::string reader;
    if (auto fine = read_text(package, "AnalyzedBy", reader); !fine) return fine;
    // What an SBOM in the image names anybody may have written.
    if (reader != "sbom") {
      ++found;
      if (os && !reader.empty()) report.package_readers.insert(std::move(reader));
    }
    report.packages.push_back(*std::move(read));
    const json* repository = member(package, "Repository");
    if (repository != nullptr && repository->is_object() &&
        repository->value("Class", json{}) == "third-party") {
      ++report.third_party_packages;
      report.third_party_names.insert(report.packages.back().name);
    }
  }

  if (os) report.os_packages += found;
  if (kind == "lang-pkgs") report.language_packages += found;
  if (found > 0 && (type == "gobinary" || type == "rustbinary"))
    report.read_programs.insert(target.substr(target.starts_with('/') ? 1 : 0));

  auto vulnerabilities = read_array(result, "Vulnerabilities");
  if (!vulnerabilities) return std::move(vulnerabilities).error();
  for (const auto& entry : **vulnerabilities) {
    auto finding = read_vulnerability(entry, target, os);
    if (!finding) return std::move(finding).error();
    report.findings.push_back(*std::move(finding));
  }
  auto secrets = read_array(result, "Secrets");
  if (!secrets) return std::move(secrets).error();
  for (const auto& entry : **secrets) {
    auto finding = read_secret(entry, target);
    if (!finding) return std::move(finding).error();
    report.findings.push_back(*std::move(finding));
  }
  auto misconfigurations = read_array(result, "Misconfigurations");
  if (!misconfigurations) return std::move(misconfigurations).error();
  for (const auto& entry : **misconfigurations) {
    auto finding = read_misconfiguration(entry);
    if (!finding) return std::move(finding).error();
    if (*finding) report.findings.push_back(**std::move(finding));
  }
  auto suppressed = read_array(result, "ExperimentalModifiedFindings");
  if (!suppressed) return std::move(suppressed).error();
  report.suppressed += static_cast<int>((*suppressed)->size());
  return {};
}

} // namespace

Result<ScanReport> parse_report(std::string_view text) {
  if (auto fine = oci::check_json(text, "scan report"); !fine) return std::move(fine).error();
  const json document = parse_without_ballast(text);
  if (!document.is_object()) return refused("", "is no JSON object");
  const json* version = member(document, "SchemaVersion");
  if (version == nullptr || !version->is_number_integer() || version->get<std::int64_t>() != 2) {
    return refused("SchemaVersion", "is not 2");
  }
  ScanReport report;
  if (const json* trivy = member(document, "Trivy"); trivy != nullptr && trivy->is_object()) {
    if (auto fine = read_text(*trivy, "Version", report.trivy_version); !fine)
      return std::move(fine).error();
  }
  static const json kNone = json::object();
  const json* metadata = member(document, "Metadata");
  const auto about = document.value("ArtifactType", json{});
  report.is_of_sbom = about == "cyclonedx" || about == "spdx";
  if (metadata == nullptr && report.is_of_sbom) metadata = &kNone;
  if (metadata == nullptr || !metadata->is_object()) return refused("Metadata", "is missing");
  if (auto fine = read_text(*metadata, "ImageID", report.image_id); !fine)
    return std::move(fine).error();
  if (const json* diff_ids = member(*metadata, "DiffIDs")) {
    if (!diff_ids->is_array()) return refused("DiffIDs", "is not an array");
    for (const auto& entry : *diff_ids) {
      if (!entry.is_string()) return refused("DiffIDs", "holds something that is no string");
      report.diff_ids.push_back(entry.get<std::string>());
    }
  }
  if (const json* os = member(*metadata, "OS")) {
    if (!os->is_object()) return refused("OS", "is not an object");
    if (auto fine = read_text(*os, "Family", report.os_family); !fine)
      return std::move(fine).error();
    if (auto fine = read_text(*os, "Name", report.os_name); !fine) return std::move(fine).error();
    report.has_os = !report.os_family.empty() && report.os_family != "none";
    if (const json* end = member(*os, "EOSL")) {
      if (!end->is_boolean()) return refused("EOSL", "is not a boolean");
      report.os_end_of_life = end->get<bool>();
    }
  }
  auto results = read_array(document, "Results");
  if (!results) return std::move(results).error();
  for (const auto& result : **results) {
    if (auto fine = read_result(result, report); !fine) return std::move(fine).error();
  }
  return report;
}

bool is_malicious_trivy(std::string_view version) {
  static constexpr std::array<std::string_view, 3> kOfMarch2026{"0.69.4", "0.69.5", "0.69.6"};
  return std::find(kOfMarch2026.begin(), kOfMarch2026.end(), version) != kOfMarch2026.end();
}

Coverage read_diagnostics(std::string_view diagnostics, bool os_was_judged) {
  struct Known {
    std::string_view words;
    const char* code; ///< "" = worth passing on, no gap
    bool about_os;
  };
  // Source: trivy 0.69.3, pkg/scan/ospkg, pkg/detector/ospkg, pkg/vulnerability,
  // pkg/fanal/analyzer/pkg. Of Alpine Trivy
  // takes the release that /etc/apk/repositories names, whatever os-release says.
  static constexpr std::array<Known, 9> kKnown{
      {{"Unsupported os", "coverage_partial", true},
       {"No OS package is detected", "coverage_partial", true},
       {"not on the EOL list", "release_unknown", false},
       {"no longer supported", "os_end_of_life", false},
       {"Mixing Alpine versions", "release_mixed", false},
       {"Parse error", "coverage_partial", false}, // a package in dpkg's status is left out
       {"Invalid version", "coverage_partial", false},
       {"Invalid source version", "coverage_partial", false},
       {"Unable to get vulnerability details", "", false}}};
  Coverage coverage;
  for (std::size_t start = 0; start < diagnostics.size();) {
    const auto end = std::min(diagnostics.find('\n', start), diagnostics.size());
    const auto line = diagnostics.substr(start, end - start);
    start = end + 1;
    for (const auto& known : kKnown) {
      if (line.find(known.words) == std::string_view::npos) continue;
      if (known.about_os && os_was_judged) continue;
      // Of what dpkg could install only digests are read.
      if (line.find("var/lib/dpkg/available") != std::string_view::npos) continue;
      if (known.code[0] == '\0') {
        if (coverage.warnings.size() < 20) coverage.warnings.push_back(printable(line));
      } else if (coverage.gaps.size() < 20) {
        coverage.gaps.push_back({known.code, printable(line)});
      }
    }
  }
  return coverage;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string clean;
  for (std::size_t i = 0; i < text.size() && clean.size() < limit;) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      clean += lead < 0x20 || lead == 0x7f ? '?' : text[i];
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xf0 && lead < 0xf5   ? 4
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                                                             : 0;
    bool valid = length != 0 && i + length <= text.size();
    std::uint32_t code = length == 2 ? lead & 0x1fU : length == 3 ? lead & 0x0fU : lead & 0x07U;
    for (std::size_t j = 1; valid && j < length; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      valid = (next & 0xc0U) == 0x80;
      code = code << 6 | (next & 0x3fU);
    }
    if (!valid) {
      clean += '?';
      ++i;
      continue;
    }
    // C1 controls, line separators, text direction, invisible joiners, overlong forms, surrogates.
    const bool hidden = code < 0xa0 || (length == 3 && code < 0x800) ||
                        (length == 4 && code < 0x10000) || (code >= 0x200b && code <= 0x200f) ||
                        (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x2069) ||
                        (code >= 0xd800 && code <= 0xdfff) || code == 0xfeff || code == 0x61c ||
                        code > 0x10ffff;
    if (hidden) {
      clean += '?';
    } else {
      clean.append(text.substr(i, length));
    }
    i += length;
  }
  for (const std::string_view mark : {"section_start:", "section_end:"}) {
    for (auto at = clean.find(mark); at != std::string::npos; at = clean.find(mark))
      clean[at + 7] = '-';
  }
  return clean;
}

} // namespace slipway::gate
