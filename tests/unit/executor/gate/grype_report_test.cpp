// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/grype_report.hpp"
#include "tests/unit/executor/gate/grype_fixture.hpp"

namespace slipway::gate {
namespace {

using nlohmann::json;

json document_with(json matches) {
  return {{"matches", std::move(matches)},
          {"source",
           {{"type", "image"},
            {"target", {{"imageID", "sha256:1"}, {"layers", {{{"digest", "sha256:2"}}}}}}}},
          {"distro", {{"name", "debian"}, {"version", "12"}}},
          {"descriptor",
           {{"version", "0.121.3"}, {"db", {{"status", {{"built", "2026-11-24T06:00:00Z"}}}}}}}};
}

Finding only_finding(const json& match) {
  auto report = parse_grype_report(document_with(json::array({match})).dump());
  EXPECT_TRUE(report.ok()) << report.error().text();
  if (!report || report->findings.size() != 1) return {};
  return report->findings.front();
}

TEST(GrypeReport, TellsWhatWasScannedWithWhat) {
  auto report = parse_grype_report(document_with(json::array()).dump());

  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_EQ(report->version, "0.121.3");
  EXPECT_EQ(report->image_id, "sha256:1");
  EXPECT_EQ(report->diff_ids, std::vector<std::string>{"sha256:2"});
  EXPECT_EQ(report->distro, "debian 12");
  EXPECT_EQ(rfc3339(report->db_built_at), "2026-11-24T06:00:00Z");
  EXPECT_FALSE(report->os_end_of_life);
  EXPECT_EQ(report->ignored, 0);
}

TEST(GrypeReport, MakesAFindingOfAMatch) {
  const auto finding = only_finding(grype_match("CVE-2024-1", "High", "3.3.3-r0"));

  EXPECT_EQ(finding.id, "CVE-2024-1");
  EXPECT_EQ(finding.package, "libssl3");
  EXPECT_EQ(finding.installed, "3.3.2-r0");
  EXPECT_EQ(finding.fixed, "3.3.3-r0");
  EXPECT_EQ(finding.severity, Severity::high);
  EXPECT_EQ(finding.title, "bad");
  EXPECT_EQ(finding.target, "debian 12");
  EXPECT_TRUE(finding.os_package);
  EXPECT_EQ(finding.found_by, "grype");
}

TEST(GrypeReport, NamesTheFileOfALanguagePackage) {
  auto match = grype_match("CVE-2024-1", "High", "2.10.1", "Jinja2");
  match["artifact"]["type"] = "python";
  match["artifact"]["locations"][0]["path"] = "/usr/lib/Jinja2.dist-info/METADATA";

  const auto finding = only_finding(match);

  EXPECT_FALSE(finding.os_package);
  EXPECT_EQ(finding.target, "usr/lib/Jinja2.dist-info/METADATA");
}

TEST(GrypeReport, CallsWhatHasOneCveByItsName) {
  auto match = grype_match("GHSA-1", "High", "1");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}};
  EXPECT_EQ(only_finding(match).id, "CVE-2024-1");
  EXPECT_EQ(only_finding(match).aliases, std::vector<std::string>{"GHSA-1"});

  // Of several it is none: a waiver for one would cover the others.
  match["relatedVulnerabilities"].push_back({{"id", "CVE-2024-2"}});
  EXPECT_EQ(only_finding(match).id, "GHSA-1");
  EXPECT_TRUE(only_finding(match).aliases.empty());
}

TEST(GrypeReport, TakesAWordThatItDoesNotKnowForTheWorst) {
  const auto severity = [](const std::string& word) {
    return only_finding(grype_match("CVE-2024-1", word, "1")).severity;
  };
  EXPECT_EQ(severity("Negligible"), Severity::low);
  EXPECT_EQ(severity("Unknown"), Severity::unknown);
  EXPECT_EQ(severity("critical"), Severity::critical);
  EXPECT_EQ(severity("Harmless"), Severity::critical);
  EXPECT_EQ(severity(""), Severity::critical);
}

TEST(GrypeReport, TakesAFixWithoutAVersionForAFix) {
  auto match = grype_match("CVE-2024-1", "High", "");
  EXPECT_EQ(only_finding(match).fixed, "");
  match["vulnerability"]["fix"]["state"] = "fixed";
  EXPECT_NE(only_finding(match).fixed, "");
}

struct WrongReport {
  const char* name;
  const char* patch;
};
class WrongGrypeReport : public testing::TestWithParam<WrongReport> {};
TEST_P(WrongGrypeReport, IsRefused) {
  auto document = document_with(json::array({grype_match("CVE-2024-1", "High", "1")}));
  document = document.patch(json::parse(GetParam().patch));

  auto report = parse_grype_report(document.dump());

  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::bad_input);
  EXPECT_NE(report.error().text().find("Grype's report"), std::string::npos);
}
INSTANTIATE_TEST_SUITE_P(
    Each, WrongGrypeReport,
    testing::Values(
        WrongReport{"NoMatches", R"([{"op":"remove","path":"/matches"}])"},
        WrongReport{"MatchesAreNull", R"([{"op":"replace","path":"/matches","value":null}])"},
        WrongReport{"AMatchIsAString", R"([{"op":"replace","path":"/matches/0","value":"x"}])"},
        WrongReport{"NoId", R"([{"op":"remove","path":"/matches/0/vulnerability/id"}])"},
        WrongReport{"EmptyId",
                    R"([{"op":"replace","path":"/matches/0/vulnerability/id","value":""}])"},
        WrongReport{"NoPackage", R"([{"op":"remove","path":"/matches/0/artifact/name"}])"},
        WrongReport{"NoFix", R"([{"op":"remove","path":"/matches/0/vulnerability/fix"}])"},
        WrongReport{"SeverityIsANumber",
                    R"([{"op":"replace","path":"/matches/0/vulnerability/severity","value":1}])"},
        WrongReport{"NoSource", R"([{"op":"remove","path":"/source"}])"},
        WrongReport{"NoImageId", R"([{"op":"remove","path":"/source/target/imageID"}])"},
        WrongReport{"TargetIsAPath", R"([{"op":"replace","path":"/source/target","value":"/x"}])"},
        WrongReport{"NoDistro", R"([{"op":"remove","path":"/distro"}])"},
        WrongReport{"NoDb", R"([{"op":"remove","path":"/descriptor/db"}])"},
        WrongReport{"NoTimeOfTheDb",
                    R"([{"op":"replace","path":"/descriptor/db/status/built","value":"soon"}])"},
        WrongReport{"ZeroTimeOfTheDb", R"([{"op":"replace","path":"/descriptor/db/status/built",)"
                                       R"("value":"0001-01-01T00:00:00Z"}])"},
        WrongReport{"IgnoredIsANumber", R"([{"op":"add","path":"/ignoredMatches","value":3}])"}),
    [](const auto& row) { return std::string{row.param.name}; });

TEST(GrypeReport, IsRefusedWhereItIsNoJson) {
  for (const auto* text : {"", "{", "[]", "null", "{\"matches\":[],\"matches\":[]}"})
    EXPECT_FALSE(parse_grype_report(text).ok()) << text;
}

TEST(GrypeLog, SaysHowManyPackagesThereAre) {
  EXPECT_EQ(read_grype_log("[0001]  INFO gathered packages packages=12 time=1.5s\n").packages, 12);
  EXPECT_EQ(read_grype_log("[0001]  INFO gathered packages packages=0 time=1s").packages, 0);
  EXPECT_EQ(read_grype_log("").packages, std::nullopt);
  EXPECT_EQ(read_grype_log("gathered packages packages=many").packages, std::nullopt);
  // Words of an image may stand in it.
  EXPECT_EQ(read_grype_log("gathered packages packages=9\ngathered packages packages=0\n"
                           "gathered packages packages=9")
                .packages,
            0);
}

TEST(GrypeLog, SaysWhatWasNotLookedAt) {
  const auto coverage = read_grype_log("[0001]  WARN matcher returned error error=x package=y\n"
                                       "[0001]  INFO found vulnerability matches\n");
  ASSERT_EQ(coverage.gaps.size(), 1U);
  EXPECT_NE(coverage.gaps.front().find("matcher returned error"), std::string::npos);
}

} // namespace
} // namespace slipway::gate
