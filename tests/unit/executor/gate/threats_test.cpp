// SPDX-License-Identifier: Apache-2.0
// Known and likely attacks: KEV, EPSS and CVSS, through the gate that blocks by them.
#include "executor/gate/threat_files.hpp"
#include "tests/unit/executor/gate/grype_fixture.hpp"

#include <zlib.h>

namespace slipway::gate {
namespace {

const std::string kKev =
    R"({"title":"CISA Catalog","catalogVersion":"2026.11.20","dateReleased":"2026-11-20T15:00:00.1234Z","count":2,
"vulnerabilities":[{"cveID":"CVE-2024-1","vendorProject":"x","dateAdded":"2024-03-01","dueDate":"2024-03-22",
"knownRansomwareCampaignUse":"Known","cwes":[]},{"cveID":"CVE-2021-44228","dateAdded":"2021-12-10"}]})";

std::string epss(const std::string& rows = "CVE-2024-1,0.93,0.999\nCVE-2024-2,0.00043,0.1\n",
                 const std::string& date = "2026-11-24T00:00:00+0000") {
  return "#model_version:v2025.03.14,score_date:" + date + "\ncve,epss,percentile\n" + rows;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&stream, text.size()) + 64, '\0');
  std::string in = text;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  ::deflateEnd(&stream);
  return out;
}

// What the reader says of a file, given in pieces.
std::string complaint(const std::string& file, std::size_t piece = 1) {
  EpssReader reader{[](std::string_view, double) {}};
  for (std::size_t at = 0; at < file.size(); at += piece) {
    if (auto fine = reader.feed(std::string_view{file}.substr(at, piece)); !fine)
      return fine.error().text();
  }
  auto fine = reader.finish();
  return fine ? "" : fine.error().text();
}

// Found as low and without a fix: nothing but an attack makes it block.
std::string low(const std::string& more = "", const std::string& fixed = "",
                const std::string& id = "CVE-2024-1") {
  return R"([{"VulnerabilityID":")" + id +
         R"(","PkgName":"libssl3","InstalledVersion":"3.3.2-r0","FixedVersion":")" + fixed +
         R"(","Severity":"LOW","Title":"bad")" + more + "}]";
}

class GateThreats : public SecondOpinion {
protected:
  GateThreats() {
    config_.grype.clear();
    parts_.vulnerabilities = low();
  }
  void give_kev(const std::string& text = kKev) {
    policy_.threats.kev_file = dir_.path() / "kev.json";
    ASSERT_TRUE(replace_file(policy_.threats.kev_file, text, 0644).ok());
  }
  void give_epss(const std::string& text = epss(), double threshold = 0.5) {
    policy_.threats.epss_file = dir_.path() / "epss.csv";
    policy_.threats.epss_threshold = threshold;
    ASSERT_TRUE(replace_file(policy_.threats.epss_file, text, 0644).ok());
  }
  // Why the only finding blocks; "" where it does not.
  std::string blocks_for() {
    const auto judged = verdict();
    EXPECT_TRUE(judged.denials.empty()) << judged.for_people();
    EXPECT_EQ(judged.findings.size(), 1U);
    return judged.findings.at(0).blocks ? judged.findings[0].threat : "";
  }
};

TEST_F(GateThreats, NothingChangesWithoutData) {
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed);
  EXPECT_EQ(judged.findings.at(0).threat, "");
  EXPECT_EQ(judged.for_people().find("Blocks for"), std::string::npos);
}

TEST_F(GateThreats, WhatIsExploitedBlocksWhateverItsSeverityFixAndGrace) {
  give_kev();
  EXPECT_EQ(blocks_for(), "KEV since 2024-03-01, due 2024-03-22, used by ransomware");
  policy_.fixed_grace_days = 30;
  parts_.vulnerabilities = low(R"(,"PublishedDate":"2026-11-20T00:00:00Z")", "3.3.3-r0");
  EXPECT_NE(blocks_for(), "");

  policy_.threats.kev_spared = true;
  EXPECT_EQ(blocks_for(), "");
  policy_.fixed_grace_days = 0;
  EXPECT_NE(blocks_for(), "");
  parts_.vulnerabilities = low();
  EXPECT_EQ(blocks_for(), "");
}

TEST_F(GateThreats, APolicyMayLeaveTheCatalogueAside) {
  give_kev("no catalogue at all");
  policy_.threats.kev_blocks = false;
  EXPECT_EQ(blocks_for(), "");
}

TEST_F(GateThreats, OtherVulnerabilitiesAreLeftAlone) {
  give_kev();
  give_epss();
  parts_.vulnerabilities = low("", "3.3.3-r0", "CVE-2024-11");
  EXPECT_EQ(blocks_for(), "");
}

TEST_F(GateThreats, WhatCannotBeLookedUpIsTold) {
  const auto warned = [&](const char* repository) {
    const auto judged = verdict(repository);
    return std::any_of(judged.warnings.begin(), judged.warnings.end(), [](const auto& line) {
      return line.find("names none for SUSE-SU-2024:1") != std::string::npos;
    });
  };
  parts_.vulnerabilities = low("", "3.3.3-r0", "SUSE-SU-2024:1");
  EXPECT_FALSE(warned("reg:5000/one")) << "nothing is looked up";
  give_kev();
  EXPECT_TRUE(warned("reg:5000/two"));
  parts_.vulnerabilities = low("", "3.3.3-r0", "CVE-2024-11");
  EXPECT_FALSE(warned("reg:5000/three"));
}

TEST_F(GateThreats, ALikelyAttackBlocksFromItsThresholdOnWhereThereIsAFix) {
  parts_.vulnerabilities = low("", "3.3.3-r0");
  give_epss(epss(), 0.931);
  EXPECT_EQ(blocks_for(), "");
  give_epss(epss(), 0.93);
  EXPECT_EQ(blocks_for(), "EPSS 0.93 >= 0.93");
  give_epss(gzip(epss()), 0.5);
  EXPECT_EQ(blocks_for(), "EPSS 0.93 >= 0.5");

  parts_.vulnerabilities = low();
  EXPECT_EQ(blocks_for(), "");
  policy_.fixed_only = false;
  EXPECT_EQ(blocks_for(), "EPSS 0.93 >= 0.5");
}

TEST_F(GateThreats, AHighScoreBlocks) {
  policy_.threats.cvss_threshold = 9;
  parts_.vulnerabilities = low(R"(,"CVSS":{"nvd":{"V3Score":9.8}})", "3.3.3-r0");
  EXPECT_EQ(blocks_for(), "CVSS 9.8 >= 9.0 (nvd)");
  parts_.vulnerabilities = low(R"(,"CVSS":{"nvd":{"V3Score":8.9}})", "3.3.3-r0");
  EXPECT_EQ(blocks_for(), "");
  parts_.vulnerabilities = low("", "3.3.3-r0");
  EXPECT_EQ(blocks_for(), "");
}

TEST_F(GateThreats, AllReasonsAreTold) {
  give_kev();
  give_epss();
  policy_.threats.cvss_threshold = 9;
  parts_.vulnerabilities = low(R"(,"CVSS":{"nvd":{"V3Score":9.8}})", "3.3.3-r0");
  const auto judged = verdict();
  EXPECT_EQ(judged.findings.at(0).threat,
            "KEV since 2024-03-01, due 2024-03-22, used by ransomware; EPSS 0.93 >= 0.5; CVSS 9.8 "
            ">= 9.0 (nvd)");
  EXPECT_NE(judged.for_people().find("      Blocks for: KEV since 2024-03-01"), std::string::npos);
  const auto one = nlohmann::json::parse(judged.to_json()).at("findings").at(0);
  EXPECT_EQ(one.at("epss"), 0.93);
  EXPECT_EQ(one.at("cvss"), 9.8);
  EXPECT_EQ(one.at("kev_since"), "2024-03-01");
}

TEST_F(GateThreats, AWaiverHoldsForThemAndIsRemembered) {
  give_kev();
  policy_.waivers = {waiver("CVE-2024-1")};
  EXPECT_TRUE(verdict().passed);
  const auto again = verdict();
  EXPECT_TRUE(again.from_cache);
  EXPECT_EQ(again.findings.at(0).kev_since, "2024-03-01");
}

TEST_F(GateThreats, TheSecondScannersFindingsAreMeasuredToo) {
  parts_.vulnerabilities = "[]";
  config_.grype = "/nonexistent/grype";
  auto match = grype_match("GHSA-1", "Low", "");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}};
  matches_ = {match};
  EXPECT_TRUE(verdict().passed);
  give_kev();
  EXPECT_NE(blocks_for().find("KEV since 2024-03-01"), std::string::npos);

  policy_.threats = {};
  policy_.threats.cvss_threshold = 7;
  match = grype_match("CVE-2024-9", "Low", "3.3.3-r0");
  match["relatedVulnerabilities"] = {
      {{"id", "CVE-2024-9"},
       {"cvss",
        {{{"source", "nvd@nist.gov"}, {"version", "2.0"}, {"metrics", {{"baseScore", 10.0}}}},
         {{"source", "nvd@nist.gov"}, {"version", "3.1"}, {"metrics", {{"baseScore", 7.5}}}}}}}};
  matches_ = {match};
  EXPECT_EQ(blocks_for(), "CVSS 7.5 >= 7.0 (nvd@nist.gov)");
}

TEST_F(GateThreats, DataThatCannotBeUsedDenies) {
  parts_.vulnerabilities = "[]";
  give_kev();
  give_epss();
  EXPECT_TRUE(verdict().passed);

  std::filesystem::remove(policy_.threats.kev_file);
  EXPECT_EQ(only_code(), "kev_missing");
  EXPECT_TRUE(verdict().could_not_judge());
  give_kev("{}");
  EXPECT_EQ(only_code(), "kev_invalid");
  give_kev(std::string(kMaxKevBytes + 1, ' '));
  EXPECT_EQ(only_code(), "kev_invalid");
  auto other = kKev;
  give_kev(other.replace(other.find("2026-11-20T"), 10, "2026-12-24"));
  EXPECT_EQ(only_code(), "kev_invalid");
  give_kev();

  std::filesystem::remove(policy_.threats.epss_file);
  EXPECT_EQ(only_code(), "epss_missing");
  std::filesystem::create_directory(policy_.threats.epss_file);
  EXPECT_EQ(only_code(), "epss_missing");
  std::filesystem::remove(policy_.threats.epss_file);
  give_epss(epss() + "CVE-2024-3,0.5\n");
  EXPECT_EQ(only_code(), "epss_invalid");
  give_epss(epss("CVE-2024-1,0.93,0.999\n", "2026-12-24T00:00:00+0000"));
  EXPECT_EQ(only_code(), "epss_invalid");
}

TEST_F(GateThreats, DataThatIsTooOldByItsOwnDateDeniesAndMayBeAllowed) {
  parts_.vulnerabilities = "[]";
  give_kev();
  policy_.threats.kev_max_age = std::chrono::days{3};
  EXPECT_EQ(only_code(), "kev_stale");
  expect_passes_with("kev_stale");
  policy_.threats.kev_max_age = std::chrono::days{14};
  give_epss(epss("CVE-2024-1,0.93,0.999\n", "2026-11-10T00:00:00Z"));
  EXPECT_EQ(only_code(), "epss_stale");
  expect_passes_with("epss_stale");
}

TEST_F(GateThreats, APassEndsWithTheDataAndIsForgottenWithEachByteOfIt) {
  parts_.vulnerabilities = "[]";
  give_kev();
  give_epss();
  policy_.threats.kev_max_age = std::chrono::days{4} + hours{2};
  EXPECT_EQ(verdict().expires_at, at("2026-11-24T17:00:00Z"));
  EXPECT_TRUE(verdict().from_cache);
  give_epss(epss("CVE-2024-1,0.94,0.999\n"));
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  give_kev(kKev + " ");
  EXPECT_FALSE(verdict().from_cache);
  policy_.threats.epss_threshold = 0.4;
  EXPECT_FALSE(verdict().from_cache);
  policy_.threats.kev_spared = true;
  EXPECT_FALSE(verdict().from_cache);
  policy_.threats.cvss_threshold = 9;
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
}

TEST_F(GateThreats, AReplayAsksThemToo) {
  const std::string report =
      R"({"SchemaVersion":2,"Metadata":{"OS":{"Family":"debian","Name":"12.5"}},"Results":[{"Class":"os-pkgs","Packages":[{"Name":"libssl3"}],"Vulnerabilities":)" +
      low() + "}]}";
  EXPECT_TRUE(replay(report, policy_, "", clock_.now())->passed);
  give_kev();
  EXPECT_NE(replay(report, policy_, "", clock_.now())->for_people().find("KEV since 2024-03-01"),
            std::string::npos);
  std::filesystem::remove(policy_.threats.kev_file);
  EXPECT_EQ(replay(report, policy_, "", clock_.now())->denials.at(0).code, "kev_missing");
}

struct CvssCase {
  const char* name;
  const char* more;
  double score;
  const char* source;
};
class CvssOfTrivy : public testing::TestWithParam<CvssCase> {};
TEST_P(CvssOfTrivy, IsThatOfTheSeveritysSourceElseTheHighest) {
  const auto report = parse_report(
      R"({"SchemaVersion":2,"Metadata":{},"Results":[{"Class":"lang-pkgs","Vulnerabilities":)" +
      low(GetParam().more) + "}]}");
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->findings.at(0).cvss.value_or(0), GetParam().score);
  EXPECT_EQ(report->findings.at(0).cvss_source, GetParam().source);
}
INSTANTIATE_TEST_SUITE_P(
    All, CvssOfTrivy,
    testing::Values(
        CvssCase{"None", "", 0, ""},
        CvssCase{
            "Own",
            R"(,"SeveritySource":"ghsa","CVSS":{"a":{"V3Score":9.9},"ghsa":{"V3Score":5},"nvd":{"V3Score":9.8}})",
            5, "ghsa"},
        CvssCase{
            "HighestWhereItsOwnHasNone",
            R"(,"SeveritySource":"debian","CVSS":{"ghsa":{"V3Score":5},"nvd":{"V3Score":9.8},"redhat":{"V3Score":9.8}})",
            9.8, "nvd"},
        CvssCase{"NewestVersion", R"(,"CVSS":{"nvd":{"V2Score":10,"V3Score":7.5,"V40Score":8.7}})",
                 8.7, "nvd"},
        CvssCase{"OldestWhereThereIsNoOther", R"(,"CVSS":{"nvd":{"V2Score":10,"V3Score":0}})", 10,
                 "nvd"}),
    [](const auto& one) { return one.param.name; });

TEST(CvssOfTrivy, OfAWrongTypeMakesTheReportUnusable) {
  for (const char* more :
       {R"(,"CVSS":[])", R"(,"CVSS":{"nvd":9})", R"(,"CVSS":{"nvd":{"V3Score":"9.8"}})",
        R"(,"CVSS":{"nvd":{"V3Score":98}})"}) {
    EXPECT_FALSE(
        parse_report(
            R"({"SchemaVersion":2,"Metadata":{},"Results":[{"Class":"lang-pkgs","Vulnerabilities":)" +
            low(more) + "}]}")
            .ok())
        << more;
  }
}

TEST(KevFile, IsReadAsPublished) {
  const auto catalogue = parse_kev(kKev);
  ASSERT_TRUE(catalogue.ok()) << catalogue.error().text();
  EXPECT_EQ(catalogue->released, at("2026-11-20T15:00:00Z"));
  EXPECT_EQ(catalogue->entries.at("CVE-2024-1").due, "2024-03-22");
  EXPECT_FALSE(catalogue->entries.at("CVE-2021-44228").ransomware);
}
TEST(KevFile, ThatIsIncompleteIsRefused) {
  const auto with = [](const std::string& from, const std::string& to) {
    auto text = kKev;
    return parse_kev(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_TRUE(with("CVE-2021-44228", "CVE-2021-44229").ok()); // the control
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"dateReleased", "released"},
                                                        {"2026-11-20T15:00:00.1234Z", "yesterday"},
                                                        {"\"count\":2", "\"count\":3"},
                                                        {"CVE-2021-44228", "44228"},
                                                        {"\"cveID\"", "\"id\""},
                                                        {"2024-03-01", "March"},
                                                        {"2024-03-22", "soon"},
                                                        {"\"title\"", "\"count\""},
                                                        {"}]}", ""}}) {
    EXPECT_EQ(with(from, to).error().kind, ErrorKind::bad_input) << from;
  }
  EXPECT_FALSE(parse_kev(R"({"dateReleased":"2026-11-20T15:00:00Z","vulnerabilities":[]})").ok());
}

TEST(EpssFile, IsReadInAnyPieces) {
  for (const auto& file : {epss(), gzip(epss()), epss("CVE-2024-1,1e-05,0\r\n")}) {
    for (const std::size_t piece : {1U, 2U, 7U, 4096U})
      EXPECT_EQ(complaint(file, piece), "");
  }
  std::string rows;
  for (int i = 1; i <= 20000; ++i)
    rows += "CVE-2024-" + std::to_string(i) + ",0.00043,0.1\n";
  std::size_t seen = 0;
  EpssReader reader{[&](std::string_view, double) { ++seen; }};
  EXPECT_TRUE(reader.feed(gzip(epss(rows))).ok());
  EXPECT_TRUE(reader.finish().ok());
  EXPECT_EQ(seen, 20000U);
}

struct EpssCase {
  const char* name;
  std::string file;
  const char* words;
};
class BadEpssFile : public testing::TestWithParam<EpssCase> {};
TEST_P(BadEpssFile, IsRefused) {
  for (const std::size_t piece : {1U, 4096U})
    EXPECT_NE(complaint(GetParam().file, piece).find(GetParam().words), std::string::npos)
        << complaint(GetParam().file, piece);
}
INSTANTIATE_TEST_SUITE_P(
    All, BadEpssFile,
    testing::Values(EpssCase{"Empty", "", "not one score"},
                    EpssCase{"OneByte", "#", "middle of a line"},
                    EpssCase{"NoComment", "cve,epss,percentile\nCVE-2024-1,0.9,0.9\n", "line 1"},
                    EpssCase{"NoDate", epss("CVE-2024-1,0.9,0.9\n", "today"), "score_date"},
                    EpssCase{"OtherHeader", "#score_date:2026-11-24T00:00:00Z\nid,score\n",
                             "line 2"},
                    EpssCase{"NoRow", epss(""), "not one score"},
                    EpssCase{"NoCve", epss("GHSA-1,0.9,0.9\n"), "line 3"},
                    EpssCase{"TwoColumns", epss("CVE-2024-1,0.9\n"), "line 3"},
                    EpssCase{"FourColumns", epss("CVE-2024-1,0.9,0.9,0.9\n"), "line 3"},
                    EpssCase{"AboveOne", epss("CVE-2024-1,1.1,0.9\n"), "line 3"},
                    EpssCase{"NoNumber", epss("CVE-2024-1,nan,0.9\n"), "line 3"},
                    EpssCase{"Cut", epss("CVE-2024-1,0.9,0.9"), "middle of a line"},
                    EpssCase{"LongLine", epss(std::string(1000, 'x')), "too long"},
                    EpssCase{"CutGzip", gzip(epss()).substr(0, 60), "too early"},
                    EpssCase{"BehindGzip", gzip(epss()) + "x", "behind the end"},
                    EpssCase{"DamagedGzip", "\x1f\x8b" + std::string(40, 'x'), "damaged"}),
    [](const auto& one) { return one.param.name; });

TEST(EpssFile, ThatExpandsTooFarIsRefused) {
  std::string rows;
  for (int i = 0; i < 100000; ++i)
    rows += "CVE-2024-1,0.000430000000000000,0.10000000000000\n";
  EpssReader reader{[](std::string_view, double) {}};
  ASSERT_TRUE(reader.feed(epss(rows)).ok());
  Status last{};
  while (last.ok())
    last = reader.feed(rows);
  EXPECT_NE(last.error().text().find("more than 256 MiB"), std::string::npos);
}

} // namespace
} // namespace slipway::gate
