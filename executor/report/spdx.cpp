// SPDX-License-Identifier: Apache-2.0
// Source: SPDX 2.3, ISO/IEC 5962; its annexes A (licence list) and D (licence expressions).
#include "executor/oci/digest.hpp"
#include "executor/report/escape.hpp"
#include "executor/report/formats.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>

namespace slipway::report {
namespace {

using Json = nlohmann::ordered_json;

/// Of the licence list, what packages mostly have, sorted. Any other name becomes a LicenseRef.
constexpr std::array<std::string_view, 62> kLicenses{
    "0BSD",          "AFL-2.1",
    "AGPL-3.0-only", "AGPL-3.0-or-later",
    "Apache-1.1",    "Apache-2.0",
    "Artistic-1.0",  "Artistic-1.0-Perl",
    "Artistic-2.0",  "BSD-1-Clause",
    "BSD-2-Clause",  "BSD-3-Clause",
    "BSD-4-Clause",  "BSD-4-Clause-UC",
    "BSL-1.0",       "Beerware",
    "CC-BY-3.0",     "CC-BY-4.0",
    "CC-BY-SA-3.0",  "CC-BY-SA-4.0",
    "CC0-1.0",       "CDDL-1.0",
    "CDDL-1.1",      "EPL-1.0",
    "EPL-2.0",       "EUPL-1.2",
    "FSFAP",         "FSFUL",
    "FSFULLR",       "FTL",
    "GFDL-1.2-only", "GFDL-1.2-or-later",
    "GFDL-1.3-only", "GFDL-1.3-or-later",
    "GPL-1.0-only",  "GPL-1.0-or-later",
    "GPL-2.0-only",  "GPL-2.0-or-later",
    "GPL-3.0-only",  "GPL-3.0-or-later",
    "HPND",          "ISC",
    "LGPL-2.0-only", "LGPL-2.0-or-later",
    "LGPL-2.1-only", "LGPL-2.1-or-later",
    "LGPL-3.0-only", "LGPL-3.0-or-later",
    "MIT",           "MIT-0",
    "MPL-1.1",       "MPL-2.0",
    "NCSA",          "OFL-1.1",
    "OpenSSL",       "PHP-3.01",
    "PSF-2.0",       "Ruby",
    "Unlicense",     "Vim",
    "X11",           "Zlib",
};

std::string text(const std::string& value) {
  return gate::printable(value, kMostTextBytes);
}

/// A package has to have one.
std::string name_of(const std::string& value) {
  auto shown = text(value);
  return shown.empty() ? "unnamed" : shown;
}

/// What grows while the images are walked through.
class Document {
public:
  explicit Document(std::string made_at) : made_at_{std::move(made_at)} {}

  /// Adds a package that `of` contains; "" of the one that the document describes. Its id.
  std::string add(const std::string& of, const std::string& id, const std::string& name,
                  const std::string& version, const char* purpose,
                  const Json& more = Json::object()) {
    Json package{{"SPDXID", "SPDXRef-" + id},    {"name", name_of(name)},
                 {"versionInfo", text(version)}, {"downloadLocation", "NOASSERTION"},
                 {"filesAnalyzed", false},       {"primaryPackagePurpose", purpose}};
    package.update(more);
    packages_.push_back(std::move(package));
    relationships_.push_back({{"spdxElementId", of.empty() ? "SPDXRef-DOCUMENT" : "SPDXRef-" + of},
                              {"relationshipType", of.empty() ? "DESCRIBES" : "CONTAINS"},
                              {"relatedSpdxElement", "SPDXRef-" + id}});
    return id;
  }

  std::string add_image(const std::string& of, const std::string& id, const std::string& name,
                        const oci::Digest& digest) {
    return add(
        of, id, name, digest.str(), "CONTAINER",
        {{"checksums", Json::array({{{"algorithm", "SHA256"}, {"checksumValue", digest.hex()}}})}});
  }

  /// Ids as Trivy's own, which it reads again: by them it tells a system from a package.
  void add_contents(const std::string& of, std::size_t number, const gate::Inventory& image) {
    const auto suffix = "-" + std::to_string(number);
    if (!image.os_family.empty() && image.os_family != "none")
      add(of, "OperatingSystem" + suffix, image.os_family, image.os_name, "OPERATING_SYSTEM");
    for (std::size_t i = 0; i < image.packages.size(); ++i) {
      const auto& package = image.packages[i];
      add(of, "Package" + suffix + "-" + std::to_string(i), package.name, package.version,
          "LIBRARY", facts_of(package));
    }
  }

  Json packages() { return std::move(packages_); }
  Json relationships() { return std::move(relationships_); }
  /// The texts of all LicenseRefs.
  Json licenses() const {
    Json all = Json::array();
    for (const auto& [name, id] : references_)
      all.push_back({{"licenseId", id}, {"name", name}, {"extractedText", name}});
    return all;
  }

private:
  std::string license(const std::string& name) {
    auto shown = text(name);
    if (std::binary_search(kLicenses.begin(), kLicenses.end(), shown)) return shown;
    const auto [at, is_new] =
        references_.emplace(shown, "LicenseRef-" + std::to_string(references_.size() + 1));
    return at->second;
  }

  Json facts_of(const gate::Package& package) {
    Json facts = Json::object();
    std::string expression;
    for (const auto& one : package.licenses) {
      if (!text(one).empty()) expression += (expression.empty() ? "" : " AND ") + license(one);
    }
    if (!expression.empty()) {
      facts["licenseConcluded"] = "NOASSERTION";
      facts["licenseDeclared"] = expression;
    }
    if (!package.path.empty()) facts["sourceInfo"] = text("named by " + package.path);
    if (is_purl(package.purl))
      facts["externalRefs"] = Json::array({{{"referenceCategory", "PACKAGE-MANAGER"},
                                            {"referenceType", "purl"},
                                            {"referenceLocator", package.purl}}});
    // Trivy reads these again, so that a later scan of the SBOM finds what one of the image does.
    for (const auto& [name, value] : package.source)
      facts["annotations"].push_back(
          {{"annotator", std::string{"Tool: slipway-"} + SLIPWAY_VERSION},
           {"annotationDate", made_at_},
           {"annotationType", "OTHER"},
           {"comment", text(name + ": " + value)}});
    return facts;
  }

  std::string made_at_;
  Json packages_ = Json::array();
  Json relationships_ = Json::array();
  std::map<std::string, std::string> references_;
};

} // namespace

std::string spdx_report(const gate::Verdict& verdict, const Subject& subject) {
  const auto made_at = rfc3339(verdict.judged_at);
  Json creators = Json::array({std::string{"Tool: slipway-"} + SLIPWAY_VERSION});
  if (!verdict.scanner.empty()) { // "trivy 0.69.3"
    auto scanner = text(verdict.scanner);
    std::replace(scanner.begin(), scanner.end(), ' ', '-');
    creators.push_back("Tool: " + scanner);
  }
  Document document{made_at};
  const auto root = document.add_image("", "ContainerImage", subject.image, verdict.digest);
  for (std::size_t i = 0; i < verdict.inventories.size(); ++i) {
    const auto& image = verdict.inventories[i];
    const auto of = verdict.inventories.size() == 1
                        ? root
                        : document.add_image(root, "ContainerImage-" + std::to_string(i),
                                             image.platform, image.manifest);
    document.add_contents(of, i, image);
  }
  const Json whole{{"spdxVersion", "SPDX-2.3"},
                   {"dataLicense", "CC0-1.0"},
                   {"SPDXID", "SPDXRef-DOCUMENT"},
                   {"name", text(subject.image)},
                   // The same verdict has the same namespace: it is the same document.
                   {"documentNamespace", "urn:uuid:" + uuid_of("spdx " + verdict.digest.str() +
                                                               made_at + subject.image)},
                   {"creationInfo", {{"created", made_at}, {"creators", std::move(creators)}}},
                   {"packages", document.packages()},
                   {"hasExtractedLicensingInfos", document.licenses()},
                   {"relationships", document.relationships()}};
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace slipway::report
