// SPDX-License-Identifier: Apache-2.0
#include "executor/report/report.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>

namespace slipway::report {
namespace {

using nlohmann::json;

const Subject kSubject{"reg.example/grp/app:1", "grp/app", "main", "buildkit v0.34.2, 1.2 s"};

// What a verdict has besides is its own defaults'.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
gate::Verdict empty_verdict(bool passed) {
  return {.digest = oci::Digest::of("image"), .passed = passed};
}
#pragma GCC diagnostic pop

gate::Finding finding(const std::string& id, gate::Severity severity, bool blocks) {
  gate::Finding one;
  one.id = id;
  one.package = "libx";
  one.installed = "1.0";
  one.fixed = blocks ? "1.1" : "";
  one.severity = severity;
  one.title = "overflow in libx";
  one.target = "debian 12";
  one.url = "https://advisory.example/" + id;
  one.blocks = blocks;
  one.os_package = true;
  return one;
}

gate::Verdict denied() {
  auto verdict = empty_verdict(false);
  verdict.denials.push_back({"eol_os", "debian 8 gets no fixes any more", false});
  verdict.findings = {finding("CVE-2026-1", gate::Severity::critical, true),
                      finding("CVE-2026-2", gate::Severity::low, false)};
  gate::Finding secret;
  secret.id = "aws-access-key-id";
  secret.target = "/root/.aws/credentials";
  secret.severity = gate::Severity::critical;
  secret.blocks = true;
  secret.kind = gate::FindingKind::secret;
  verdict.findings.push_back(secret);
  verdict.scanner = "trivy 0.69.3";
  EXPECT_TRUE(parse_rfc3339("2026-11-27T10:11:12Z", verdict.judged_at));
  return verdict;
}

gate::Verdict hostile() {
  auto verdict = denied();
  const std::string text =
      "</title></script><script>alert(1)</script><img src=x onerror=\"a\">'&\x1b[31m"
      "\nsection_end:1:x\r\xef\xbf\xbf\xe2\x80\xae";
  for (auto& one : verdict.findings) {
    one.id = one.package = one.installed = one.fixed = one.title = one.target = one.threat = text;
    one.remedy = text;
    one.url = "javascript:alert(1)";
  }
  verdict.findings[1].waived = true;
  verdict.findings[1].note = text;
  verdict.denials[0].message = text;
  verdict.allowed = {{"no_os", text, text, text, {}}};
  verdict.warnings.push_back(text);
  return verdict;
}

gate::Verdict with_other_kinds() {
  auto verdict = denied();
  gate::Finding user;
  user.kind = gate::FindingKind::misconfiguration;
  user.id = "DS-0002";
  user.target = "config and history";
  user.title = "Image user should not be 'root'";
  user.remedy = "Add a USER line";
  user.severity = gate::Severity::high;
  user.blocks = true;
  auto license = finding("AGPL-3.0-only", gate::Severity::high, true);
  license.kind = gate::FindingKind::license;
  verdict.findings = {user, license};
  return verdict;
}

TEST(Report, TellsMisconfigurationsAndLicencesAsWhatTheyAre) {
  const auto verdict = with_other_kinds();
  const auto has = [](const std::string& text, const char* words) {
    EXPECT_NE(text.find(words), std::string::npos) << words << " in " << text;
  };
  const auto html = render(Format::html, verdict, kSubject);
  has(html, "<td>misconfiguration</td>");
  has(html, "<td>Add a USER line</td>");
  has(html, "licence of ");
  const auto junit = render(Format::junit, verdict, kSubject);
  has(junit, "name=\"DS-0002 in config and history\"");
  has(junit, "HIGH, a misconfiguration: Image user should not be");
  has(junit, "HIGH, a licence that the policy denies");
  const auto sarif = render(Format::sarif, verdict, kSubject);
  has(sarif, "misconfiguration (DS-0002): Image user should not be 'root'. Add a USER line");
  has(sarif, "licence (AGPL-3.0-only) of ");
  EXPECT_EQ(render(Format::gitlab, verdict, kSubject).find("DS-0002"), std::string::npos);
}

TEST(Report, FormatsHaveWordsAndTheFileNamesThatUsersExpect) {
  EXPECT_EQ(format_words(), (std::vector<std::string>{"verdict", "gitlab", "sarif", "junit", "html",
                                                      "cyclonedx", "spdx"}));
  EXPECT_EQ(file_name(*parse_format("gitlab")), "gl-container-scanning-report.json");
  EXPECT_EQ(parse_format("pdf"), std::nullopt);
}

TEST(Report, SaysWhatTheSecondScannerFound) {
  auto verdict = denied();
  verdict.second_scanner = "grype 0.121.3";
  verdict.findings[0].id = "GHSA-1";
  verdict.findings[0].found_by = "grype";

  const auto gitlab = json::parse(render(Format::gitlab, verdict, kSubject));
  const auto& first = gitlab.at("vulnerabilities").at(0);
  EXPECT_EQ(first.at("description"), "overflow in libx (found by Grype)");
  EXPECT_EQ(first.at("identifiers").at(0).at("type"), "grype");
  EXPECT_EQ(gitlab.at("vulnerabilities").at(1).at("description"), "overflow in libx");
  for (const auto format : {Format::sarif, Format::html}) {
    const auto text = render(format, verdict, kSubject);
    EXPECT_NE(text.find("(found by Grype)"), std::string::npos);
    EXPECT_NE(text.find("trivy 0.69.3, grype 0.121.3"), std::string::npos);
  }
  const auto own = json::parse(render(Format::verdict, verdict, kSubject));
  EXPECT_EQ(own.at("second_scanner"), "grype 0.121.3");
  EXPECT_EQ(own.at("findings").at(0).at("found_by"), "grype");
}

TEST(Report, SaysWhichAttackMakesAFindingBlock) {
  auto verdict = denied();
  verdict.findings[0].threat = "KEV since 2024-03-01";
  for (const auto format :
       {Format::gitlab, Format::sarif, Format::junit, Format::html, Format::verdict}) {
    const auto text = render(format, verdict, kSubject);
    const auto at = text.find("KEV since 2024-03-01");
    ASSERT_NE(at, std::string::npos) << file_name(format);
    EXPECT_EQ(text.find("KEV since", at + 1), std::string::npos) << file_name(format);
  }
}

TEST(Report, SaysWhichFindingIsWaivedByWhom) {
  auto verdict = denied();
  verdict.findings[0].blocks = false;
  verdict.findings[0].waived = true;
  verdict.findings[0].note = "waived by team-x (OPS-1)";
  for (const auto format :
       {Format::gitlab, Format::sarif, Format::junit, Format::html, Format::verdict}) {
    const auto text = render(format, verdict, kSubject);
    const auto at = text.find("waived by team-x (OPS-1)");
    ASSERT_NE(at, std::string::npos) << file_name(format);
    EXPECT_EQ(text.find("waived by", at + 1), std::string::npos) << file_name(format);
  }
  const auto results =
      json::parse(render(Format::sarif, verdict, kSubject)).at("runs").at(0).at("results");
  EXPECT_EQ(results.at(1).at("suppressions").at(0).at("kind"), "external");
  EXPECT_FALSE(results.at(2).contains("suppressions"));
  const auto junit = render(Format::junit, verdict, kSubject);
  EXPECT_NE(junit.find("failures=\"2\" errors=\"0\" skipped=\"1\""), std::string::npos) << junit;
}

// The members that the schema 15.0.7 calls required, and the words that it allows.
TEST(GitlabReport, HasWhatItsSchemaAsksFor) {
  const auto report = json::parse(render(Format::gitlab, denied(), kSubject));

  EXPECT_EQ(report.at("version"), "15.0.7");
  const auto& scan = report.at("scan");
  for (const char* who : {"analyzer", "scanner"}) {
    for (const char* key : {"id", "name", "version", "vendor"})
      EXPECT_TRUE(scan.at(who).contains(key)) << who << "." << key;
  }
  EXPECT_EQ(scan.at("type"), "container_scanning");
  EXPECT_EQ(scan.at("start_time"), "2026-11-27T10:11:12");
  EXPECT_EQ(scan.at("status"), "failure") << "of an old system what is found is not all";
  ASSERT_EQ(report.at("vulnerabilities").size(), 2U) << "secrets have no place in it";
  std::set<std::string> ids;
  for (const auto& one : report.at("vulnerabilities")) {
    ids.insert(one.at("id").get<std::string>());
    EXPECT_EQ(one.at("location").at("image"), kSubject.image);
    EXPECT_EQ(one.at("location").at("operating_system"), "debian 12");
    EXPECT_EQ(one.at("location").at("dependency").at("package").at("name"), "libx");
    EXPECT_EQ(one.at("location").at("dependency").at("version"), "1.0");
    EXPECT_EQ(one.at("identifiers").at(0).at("type"), "cve");
  }
  EXPECT_EQ(ids.size(), 2U);
  EXPECT_EQ(report.at("vulnerabilities").at(0).at("severity"), "Critical");
  EXPECT_EQ(report, json::parse(render(Format::gitlab, denied(), kSubject)))
      << "the same ids again";
}

struct NotScanned {
  const char* name;
  const char* code;
  bool operators;
  const char* scanner;
};
class GitlabReportOf : public testing::TestWithParam<NotScanned> {};

TEST_P(GitlabReportOf, SaysFailureWhereNothingWasScanned) {
  const auto& row = GetParam();
  auto verdict = empty_verdict(false);
  verdict.scanner = row.scanner;
  verdict.denials.push_back({row.code, "why\x1b[31m", row.operators});

  const auto scan = json::parse(render(Format::gitlab, verdict, kSubject)).at("scan");
  EXPECT_EQ(scan.at("status"), "failure");
  ASSERT_EQ(scan.at("messages").size(), 1U);
  EXPECT_EQ(scan.at("messages").at(0).at("level"), "fatal");
  const auto words = scan.at("messages").at(0).at("value").get<std::string>();
  EXPECT_TRUE(words.starts_with("[" + std::string{row.code} + "] why")) << words;
  EXPECT_EQ(words.find('\x1b'), std::string::npos);
}
INSTANTIATE_TEST_SUITE_P(
    Table, GitlabReportOf,
    testing::Values(NotScanned{"ScannerFailed", "scanner_failed", true, ""},
                    NotScanned{"AmbiguousJson", "json_ambiguous", false, ""},
                    NotScanned{"OtherBytes", "blob_mismatch", false, ""},
                    NotScanned{"NoImage", "no_image", false, ""},
                    NotScanned{"NoSystem", "no_os", false, "trivy 0.69.3"},
                    NotScanned{"NoPackages", "no_packages", false, "trivy 0.69.3"},
                    NotScanned{"OnlyAPart", "coverage_partial", false, "trivy 0.69.3"},
                    NotScanned{"LeakedSecret", "secret_leaked", false, ""}),
    [](const auto& row) { return row.param.name; });

TEST(GitlabReport, SaysWhatWasAllowedAndThatNothingIsScanned) {
  auto verdict = empty_verdict(true);
  const auto scan_of = [&] {
    return json::parse(render(Format::gitlab, verdict, kSubject)).at("scan");
  };
  EXPECT_EQ(scan_of().at("status"), "failure") << "an artifact";
  EXPECT_EQ(scan_of().at("messages").at(0).at("level"), "info");
  verdict.scanner = "trivy 0.69.3";
  EXPECT_EQ(scan_of().at("status"), "success");
  EXPECT_TRUE(scan_of().at("messages").empty());
  verdict.allowed = {{"os_end_of_life", "too old", "team-x", "moves in May", {}}};
  EXPECT_EQ(scan_of().at("status"), "success");
  EXPECT_EQ(scan_of().at("messages").at(0).at("level"), "warn");
}

TEST(Report, SaysWhichRowIsAllowedByWhomAndWhy) {
  auto verdict = denied();
  verdict.allowed = {{"os_end_of_life", "debian 10 is <old>", "team-x", "moves in May", {}}};
  EXPECT_TRUE(parse_rfc3339("2026-12-24T00:00:00Z", verdict.allowed.front().until));
  for (const auto format :
       {Format::gitlab, Format::sarif, Format::junit, Format::html, Format::verdict}) {
    const auto text = render(format, verdict, kSubject);
    for (const char* words : {"os_end_of_life", "team-x", "moves in May", "2026-12-24"})
      EXPECT_NE(text.find(words), std::string::npos) << words << " in " << file_name(format);
  }
  const auto html = render(Format::html, verdict, kSubject);
  EXPECT_NE(html.find("<h2>Allowed</h2>"), std::string::npos);
  EXPECT_NE(html.find("debian 10 is &lt;old&gt;"), std::string::npos);
  EXPECT_EQ(render(Format::html, denied(), kSubject).find("<h2>Allowed</h2>"), std::string::npos);
  const auto junit = render(Format::junit, verdict, kSubject);
  EXPECT_NE(junit.find("tests=\"5\" failures=\"3\" errors=\"0\" skipped=\"1\""), std::string::npos)
      << junit;
  const auto results =
      json::parse(render(Format::sarif, verdict, kSubject)).at("runs").at(0).at("results");
  ASSERT_EQ(results.size(), 5U);
  EXPECT_EQ(results.at(1).at("ruleId"), "slipway/os_end_of_life");
  EXPECT_EQ(results.at(1).at("suppressions").at(0).at("justification"),
            "allowed by team-x until 2026-12-24: moves in May");
}

TEST(Report, SaysWhyAWaiverDidNotHelp) {
  auto verdict = denied();
  verdict.findings[0].note = "the waiver of team-x (OPS-1) ended on 2026-11-01";
  verdict.findings[1].note = "no fix yet"; // does not block
  for (const auto format : {Format::gitlab, Format::sarif, Format::junit, Format::html}) {
    const auto text = render(format, verdict, kSubject);
    const auto at = text.find("the waiver of team-x (OPS-1) ended on 2026-11-01");
    ASSERT_NE(at, std::string::npos) << file_name(format);
    EXPECT_EQ(text.find("ended on", at + 60), std::string::npos) << file_name(format);
  }
}

TEST(HtmlReport, SaysFromWhichSeverityOnFindingsBlock) {
  auto verdict = denied();
  verdict.threshold = "HIGH";
  EXPECT_NE(render(Format::html, verdict, kSubject).find("<dt>Blocks from</dt><dd>HIGH</dd>"),
            std::string::npos);
}

TEST(SarifReport, ResultsNameTheirRules) {
  const auto run = json::parse(render(Format::sarif, denied(), kSubject)).at("runs").at(0);

  const auto& rules = run.at("tool").at("driver").at("rules");
  ASSERT_EQ(run.at("results").size(), 4U) << "the denial, too";
  for (const auto& result : run.at("results"))
    EXPECT_EQ(rules.at(result.at("ruleIndex").get<std::size_t>()).at("id"), result.at("ruleId"));
  EXPECT_EQ(run.at("results").at(0).at("ruleId"), "slipway/eol_os");
  EXPECT_EQ(run.at("results").at(1).at("level"), "error");
  EXPECT_EQ(run.at("results").at(2).at("level"), "note");
}

TEST(GitlabReport, FitsTheLimitsOfItsSchema) {
  auto verdict = denied();
  verdict.findings[0].package = std::string(400, 'x');
  verdict.findings[1].id = verdict.findings[1].target = "";

  const auto report = json::parse(render(Format::gitlab, verdict, kSubject));
  const auto& found = report.at("vulnerabilities");
  EXPECT_EQ(found.at(0).at("name").get<std::string>().size(), 255U);
  EXPECT_EQ(found.at(1).at("identifiers").at(0).at("value"), "Unknown");
  EXPECT_EQ(found.at(1).at("location").at("operating_system"), "Unknown");
}

TEST(SarifReport, NamesTheImageAsARelativeReference) {
  const auto uri_of = [](const std::string& image) {
    auto subject = kSubject;
    subject.image = image;
    const auto report = json::parse(render(Format::sarif, denied(), subject));
    return report
        .at(json::json_pointer{
            "/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri"})
        .get<std::string>();
  };
  EXPECT_EQ(uri_of("reg.example/grp/app:1"), "reg.example/grp/app:1");
  EXPECT_EQ(uri_of("192.0.2.1:5000/app@sha256:0a"), "192.0.2.1%3A5000/app@sha256:0a");
  EXPECT_EQ(uri_of("app:1"), "app%3A1");
  EXPECT_EQ(uri_of("/a folder/50%"), "/a%20folder/50%25");
}

TEST(JunitReport, CountsWhatItHolds) {
  const auto report = render(Format::junit, denied(), kSubject);

  EXPECT_NE(report.find(R"(tests="4" failures="3")"), std::string::npos) << report;
  EXPECT_NE(report.find("CVE-2026-1 libx 1.0 [debian 12]"), std::string::npos);
  const auto clean = empty_verdict(true);
  EXPECT_NE(render(Format::junit, clean, kSubject).find(R"(tests="1" failures="0")"),
            std::string::npos);
}

TEST(HtmlReport, SaysWhatBlocksAndLoadsNothing) {
  const auto page = render(Format::html, denied(), kSubject);

  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(page.find("Denied: nothing was pushed."), std::string::npos);
  EXPECT_NE(page.find("<tr class=\"blocks\">"), std::string::npos);
  EXPECT_NE(page.find("href=\"https://advisory.example/CVE-2026-1\""), std::string::npos);
  for (const char* loads : {"<script", "src=", "@import", "url(", "<link"})
    EXPECT_EQ(page.find(loads), std::string::npos) << loads;
}

gate::Inventory inventory(const std::string& of) {
  return {.manifest = oci::Digest::of(of),
          .platform = "linux/" + of,
          .os_family = "debian",
          .os_name = "12.5",
          .packages = {{"zlib1g",
                        "1:1.2.13-1",
                        "pkg:deb/debian/zlib1g@1.2.13-1",
                        "",
                        {"Zlib"},
                        {{"SrcName", "zlib"}}},
                       {"PyYAML", "5.4", "pkg:pypi/pyyaml@5.4", "usr/lib/x/METADATA", {}, {}}}};
}

TEST(CycloneDxReport, ListsSystemAndPackagesOfTheJudgedImage) {
  auto verdict = empty_verdict(true);
  verdict.scanner = "trivy 0.69.3";
  verdict.inventories = {inventory("amd64")};

  const auto bom = json::parse(render(Format::cyclonedx, verdict, kSubject));

  EXPECT_EQ(bom.at("bomFormat"), "CycloneDX");
  EXPECT_EQ(bom.at("metadata").at("component").at("version"), verdict.digest.str());
  EXPECT_EQ(bom.at("metadata").at("tools").at("components").at(1).at("version"), "0.69.3");
  const auto& components = bom.at("components");
  ASSERT_EQ(components.size(), 3U);
  EXPECT_EQ(components[0].at("type"), "operating-system");
  EXPECT_EQ(components[1].at("purl"), "pkg:deb/debian/zlib1g@1.2.13-1");
  EXPECT_EQ(components[1].at("licenses").at(0).at("license").at("name"), "Zlib");
  EXPECT_EQ(components[1].at("properties").at(0).at("name"), "aquasecurity:trivy:SrcName");
  EXPECT_FALSE(components[1].contains("evidence"));
  EXPECT_EQ(components[2].at("evidence").at("occurrences").at(0).at("location"),
            "usr/lib/x/METADATA");
  EXPECT_EQ(bom, json::parse(render(Format::cyclonedx, verdict, kSubject))) << "the same again";
}

TEST(CycloneDxReport, TellsPlatformsApart) {
  auto verdict = empty_verdict(true);
  verdict.inventories = {inventory("amd64"), inventory("arm64")};

  const auto bom = json::parse(render(Format::cyclonedx, verdict, kSubject));

  std::set<std::string> references;
  ASSERT_EQ(bom.at("components").size(), 2U);
  for (const auto& image : bom.at("components")) {
    references.insert(image.at("bom-ref").get<std::string>());
    for (const auto& one : image.at("components"))
      references.insert(one.at("bom-ref").get<std::string>());
  }
  EXPECT_EQ(references.size(), 8U);
  EXPECT_EQ(bom.at("components").at(1).at("name"), "linux/arm64");
}

TEST(CycloneDxReport, WhatAnImageSaysStaysInItsField) {
  auto verdict = empty_verdict(true);
  const std::string text = "x\"},{\"name\":\"y\x1b[31m\xe2\x80\xae";
  verdict.inventories = {inventory("amd64")};
  verdict.inventories[0].os_name = text;
  for (auto& package : verdict.inventories[0].packages)
    package = {text, text, "pkg:deb/a b" + text, text, {text}, {{"SrcName", text}}};

  const auto rendered = render(Format::cyclonedx, verdict, kSubject);

  const auto bom = json::parse(rendered);
  ASSERT_EQ(bom.at("components").size(), 3U);
  for (const auto& one : bom.at("components"))
    EXPECT_FALSE(one.contains("purl")) << "no package URL has blanks";
  for (const char* bad : {"\x1b", "\\u001b", "\xe2\x80\xae"})
    EXPECT_EQ(rendered.find(bad), std::string::npos);
}

TEST(SpdxReport, ListsSystemAndPackagesOfTheJudgedImage) {
  auto verdict = empty_verdict(true);
  verdict.scanner = "trivy 0.69.3";
  verdict.inventories = {inventory("amd64")};
  verdict.inventories[0].packages[1].licenses = {"MIT", "as-is by somebody"};

  const auto document = json::parse(render(Format::spdx, verdict, kSubject));

  EXPECT_EQ(document.at("spdxVersion"), "SPDX-2.3");
  EXPECT_EQ(document.at("creationInfo").at("creators").at(1), "Tool: trivy-0.69.3");
  const auto& packages = document.at("packages");
  ASSERT_EQ(packages.size(), 4U);
  EXPECT_EQ(packages[0].at("name"), kSubject.image);
  EXPECT_EQ(packages[0].at("checksums").at(0).at("checksumValue"), verdict.digest.hex());
  EXPECT_EQ(packages[1].at("primaryPackagePurpose"), "OPERATING_SYSTEM");
  EXPECT_EQ(packages[1].at("versionInfo"), "12.5");
  EXPECT_EQ(packages[2].at("externalRefs").at(0).at("referenceLocator"),
            "pkg:deb/debian/zlib1g@1.2.13-1");
  EXPECT_EQ(packages[2].at("licenseDeclared"), "Zlib");
  EXPECT_EQ(packages[2].at("annotations").at(0).at("comment"), "SrcName: zlib");
  EXPECT_EQ(packages[3].at("sourceInfo"), "named by usr/lib/x/METADATA");
  EXPECT_EQ(packages[3].at("licenseDeclared"), "MIT AND LicenseRef-1");
  EXPECT_EQ(document.at("hasExtractedLicensingInfos").at(0).at("extractedText"),
            "as-is by somebody");
  EXPECT_EQ(document, json::parse(render(Format::spdx, verdict, kSubject))) << "the same again";

  auto other = kSubject;
  other.image = "reg.example/grp/app:2";
  EXPECT_NE(json::parse(render(Format::spdx, verdict, other)).at("documentNamespace"),
            document.at("documentNamespace"));
}

TEST(SpdxReport, TellsPlatformsApartAndSaysWhatIsInWhat) {
  auto verdict = empty_verdict(true);
  verdict.inventories = {inventory("amd64"), inventory("arm64")};

  const auto document = json::parse(render(Format::spdx, verdict, kSubject));

  std::set<std::string> ids{"SPDXRef-DOCUMENT"};
  for (const auto& one : document.at("packages"))
    EXPECT_TRUE(ids.insert(one.at("SPDXID").get<std::string>()).second) << one;
  EXPECT_EQ(ids.size(), 10U);
  std::set<std::string> placed;
  for (const auto& one : document.at("relationships")) {
    EXPECT_TRUE(ids.contains(one.at("spdxElementId").get<std::string>())) << one;
    EXPECT_TRUE(placed.insert(one.at("relatedSpdxElement").get<std::string>()).second) << one;
  }
  EXPECT_EQ(placed.size(), 9U) << "each package is in one other, or what is described";
}

TEST(SpdxReport, WhatAnImageSaysStaysInItsField) {
  auto verdict = empty_verdict(true);
  const std::string hostile = "x\"},{\"name\":\"y\x1b[31m\xe2\x80\xae";
  verdict.inventories = {inventory("amd64")};
  verdict.inventories[0].os_name = hostile;
  for (auto& package : verdict.inventories[0].packages)
    package = {hostile,
               hostile,
               "pkg:deb/a b" + hostile,
               hostile,
               {hostile, "MIT) OR (GPL-2.0"},
               {{"SrcName", hostile}}};

  const auto rendered = render(Format::spdx, verdict, kSubject);

  const auto document = json::parse(rendered);
  ASSERT_EQ(document.at("packages").size(), 4U);
  for (const auto& one : document.at("packages"))
    EXPECT_FALSE(one.contains("externalRefs")) << "no package URL has blanks";
  EXPECT_EQ(document.at("packages").at(2).at("licenseDeclared"), "LicenseRef-1 AND LicenseRef-2");
  for (const char* bad : {"\x1b", "\\u001b", "\xe2\x80\xae"})
    EXPECT_EQ(rendered.find(bad), std::string::npos);
}

TEST(SpdxReport, WhatAnImageLeavesEmptyIsLeftOutOrHasAStandIn) {
  auto verdict = empty_verdict(true);
  verdict.inventories = {inventory("amd64")};
  auto& packages = verdict.inventories[0].packages;
  packages[0].name = "";
  packages[0].licenses = {""};
  packages[1].licenses = {"", "MIT", ""};

  const auto document = json::parse(render(Format::spdx, verdict, kSubject));

  EXPECT_EQ(document.at("packages").at(2).at("name"), "unnamed");
  EXPECT_FALSE(document.at("packages").at(2).contains("licenseDeclared"));
  EXPECT_EQ(document.at("packages").at(3).at("licenseDeclared"), "MIT");
  EXPECT_TRUE(document.at("hasExtractedLicensingInfos").empty());
}

TEST(Reports, TextOfAnImageIsDataInEachOfThem) {
  for (const auto format : {Format::junit, Format::html}) {
    const auto text = render(format, hostile(), kSubject);
    for (const char* bad : {"<script>", "<img", "\x1b", "onerror=\"",
                            "javascript:", "section_end:", "\xef\xbf\xbf", "\xe2\x80\xae"})
      EXPECT_EQ(text.find(bad), std::string::npos) << file_name(format) << " has " << bad;
    EXPECT_NE(text.find("&lt;script&gt;"), std::string::npos) << "control: it is shown";
  }
  for (const auto format : {Format::gitlab, Format::sarif}) {
    const auto text = render(format, hostile(), kSubject);
    EXPECT_FALSE(json::parse(text, nullptr, false).is_discarded());
    for (const char* bad : {"\x1b", "\\u001b", "javascript:", "section_end:"})
      EXPECT_EQ(text.find(bad), std::string::npos) << file_name(format) << " has " << bad;
    EXPECT_NE(text.find("<script>"), std::string::npos) << "control: JSON does not mind";
  }
}

} // namespace
} // namespace slipway::report
