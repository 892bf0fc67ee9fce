// SPDX-License-Identifier: Apache-2.0
// Source: CycloneDX 1.6, bom-1.6.schema.json.
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace slipway::report {
namespace {

using Json = nlohmann::ordered_json;

std::string text(const std::string& value) {
  return gate::printable(value, kMostTextBytes);
}

/// The same verdict has the same number, so that a second push attaches the same document.
std::string serial_of(const gate::Verdict& verdict) {
  return "urn:uuid:" + uuid_of(verdict.digest.str() + rfc3339(verdict.judged_at));
}

Json component(const gate::Package& package, const std::string& reference) {
  Json made{{"type", "library"},
            {"bom-ref", reference},
            {"name", text(package.name)},
            {"version", text(package.version)}};
  if (!package.licenses.empty()) {
    made["licenses"] = Json::array();
    for (const auto& license : package.licenses)
      made["licenses"].push_back({{"license", {{"name", text(license)}}}});
  }
  if (is_purl(package.purl)) made["purl"] = package.purl;
  if (!package.path.empty())
    made["evidence"] = {{"occurrences", Json::array({{{"location", text(package.path)}}})}};
  // Trivy reads these again, so that a later scan of the SBOM finds what one of the image does.
  if (!package.source.empty()) {
    made["properties"] = Json::array();
    for (const auto& [name, value] : package.source)
      made["properties"].push_back(
          {{"name", "aquasecurity:trivy:" + name}, {"value", text(value)}});
  }
  return made;
}

/// References need to differ, and the packages of two images may be the same.
Json components(const gate::Inventory& image) {
  Json all = Json::array();
  const auto reference = image.manifest.str() + "/";
  if (!image.os_family.empty() && image.os_family != "none") {
    all.push_back({{"type", "operating-system"},
                   {"bom-ref", reference + "os"},
                   {"name", text(image.os_family)},
                   {"version", text(image.os_name)}});
  }
  for (std::size_t i = 0; i < image.packages.size(); ++i)
    all.push_back(component(image.packages[i], reference + std::to_string(i)));
  return all;
}

} // namespace

std::string cyclonedx_report(const gate::Verdict& verdict, const Subject& subject) {
  // "trivy 0.69.3"
  const auto space = std::min(verdict.scanner.find(' '), verdict.scanner.size());
  Json tools =
      Json::array({{{"type", "application"}, {"name", "slipway"}, {"version", SLIPWAY_VERSION}}});
  if (!verdict.scanner.empty()) {
    Json scanner{{"type", "application"}, {"name", verdict.scanner.substr(0, space)}};
    if (space < verdict.scanner.size()) scanner["version"] = verdict.scanner.substr(space + 1);
    tools.push_back(std::move(scanner));
  }
  Json all = Json::array();
  if (verdict.inventories.size() == 1) {
    all = components(verdict.inventories.front());
  } else {
    for (const auto& image : verdict.inventories) {
      all.push_back({{"type", "container"},
                     {"bom-ref", image.manifest.str()},
                     {"name", text(image.platform)},
                     {"version", image.manifest.str()},
                     {"components", components(image)}});
    }
  }
  const Json document{{"$schema", "http://cyclonedx.org/schema/bom-1.6.schema.json"},
                      {"bomFormat", "CycloneDX"},
                      {"specVersion", "1.6"},
                      {"serialNumber", serial_of(verdict)},
                      {"version", 1},
                      {"metadata",
                       {{"timestamp", rfc3339(verdict.judged_at)},
                        {"tools", {{"components", std::move(tools)}}},
                        {"component",
                         {{"type", "container"},
                          {"bom-ref", "pushed"},
                          {"name", text(subject.image)},
                          {"version", verdict.digest.str()}}}}},
                      {"components", std::move(all)}};
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace slipway::report
