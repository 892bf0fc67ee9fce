// SPDX-License-Identifier: Apache-2.0
// What a second scanner adds to a verdict, and that it takes nothing away.
#include "tests/fakes/vulnerability_db.hpp"
#include "tests/unit/executor/gate/grype_fixture.hpp"

#include <algorithm>
#include <random>
#include <set>

namespace slipway::gate {
namespace {

using nlohmann::json;

std::set<std::string> blockers(const Verdict& verdict) {
  std::set<std::string> ids;
  for (const auto& finding : verdict.findings)
    if (finding.blocks) ids.insert(finding.id + " " + finding.package + " " + finding.installed);
  return ids;
}

TEST_F(SecondOpinion, BlocksWhatOnlyItKnows) {
  matches_ = {grype_match("CVE-2024-7", "High", "3.3.3-r0")};

  const auto judged = verdict();

  EXPECT_FALSE(judged.passed);
  ASSERT_EQ(judged.findings.size(), 1U);
  EXPECT_EQ(judged.findings.front().found_by, "grype");
  EXPECT_EQ(judged.second_scanner, "grype 0.121.3");
  const auto text = judged.for_people();
  EXPECT_NE(text.find("Found by Grype, not by Trivy"), std::string::npos) << text;
  EXPECT_NE(text.find("grype 0.121.3, DB of 2026-11-24T06:00:00Z"), std::string::npos) << text;
  EXPECT_TRUE(passes_without());
}

TEST_F(SecondOpinion, IsJudgedByTheSamePolicy) {
  matches_ = {grype_match("CVE-2024-7", "Medium", "3.3.3-r0"),
              grype_match("CVE-2024-8", "Critical", "")};
  EXPECT_TRUE(verdict("").passed) << "below the threshold, and not fixed";

  policy_.fixed_only = false;
  EXPECT_EQ(blockers(verdict("")), std::set<std::string>{"CVE-2024-8 libssl3 3.3.2-r0"});
  policy_.threshold = Severity::medium;
  EXPECT_EQ(blockers(verdict("")).size(), 2U);
}

TEST_F(SecondOpinion, KeepsWhatTheFirstFoundWhateverItSays) {
  parts_.vulnerabilities = vulnerability("CRITICAL", "3.3.3-r0");
  const auto alone = blockers(verdict(""));
  ASSERT_EQ(alone.size(), 1U);

  EXPECT_EQ(blockers(verdict("")), alone) << "it finds nothing";
  matches_ = {grype_match("CVE-2024-1", "Low", "")};
  EXPECT_EQ(blockers(verdict("")), alone) << "it thinks little of it";
}

TEST_F(SecondOpinion, TellsOnceWhatBothFound) {
  parts_.vulnerabilities = vulnerability("HIGH", "3.3.3-r0");
  auto match = grype_match("GHSA-1", "High", "3.3.3-r0");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}};
  matches_ = {match};

  const auto judged = verdict();

  ASSERT_EQ(judged.findings.size(), 1U) << judged.for_people();
  EXPECT_EQ(judged.findings.front().found_by, "trivy, grype");
  EXPECT_EQ(judged.findings.front().aliases, std::vector<std::string>{"GHSA-1"});
  EXPECT_EQ(judged.counts.at(Severity::high), 1);
}

TEST_F(SecondOpinion, BlocksWhatTheFirstKnowsNoFixFor) {
  parts_.vulnerabilities = vulnerability("HIGH", "");
  ASSERT_TRUE(passes_without());
  matches_ = {grype_match("CVE-2024-1", "High", "3.3.3-r0")};

  const auto judged = verdict();

  EXPECT_FALSE(judged.passed);
  EXPECT_EQ(judged.findings.size(), 2U) << "both are told: they say different things";
}

TEST_F(SecondOpinion, TellsTwiceWhatIsOfTwoVersions) {
  parts_.vulnerabilities = vulnerability("HIGH", "3.3.3-r0");
  auto match = grype_match("CVE-2024-1", "High", "3.3.3-r0");
  match["artifact"]["version"] = "3.3.1-r0";
  matches_ = {match};

  EXPECT_EQ(verdict().findings.size(), 2U);
}

TEST_F(SecondOpinion, IsWaivedByEitherName) {
  auto match = grype_match("GHSA-1", "High", "3.3.3-r0");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}};
  matches_ = {match};
  for (const auto* id : {"CVE-2024-1", "GHSA-1"}) {
    policy_.waivers = {waiver(id)};
    EXPECT_TRUE(verdict("reg:5000/app").passed) << id;
  }
  policy_.waivers = {waiver("CVE-2024-2")};
  EXPECT_FALSE(verdict().passed);
}

TEST_F(SecondOpinion, HasNoGraceForWhatNamesNoDay) {
  matches_ = {grype_match("CVE-2024-7", "High", "3.3.3-r0")};
  policy_.fixed_grace_days = 300;

  EXPECT_FALSE(verdict().passed);
}

// Whatever both say, no blocker of the first one alone is missing with the second one.
TEST_F(SecondOpinion, NeverTakesABlockerAway) {
  std::mt19937 random{20261124}; // NOLINT(cert-msc32-c,cert-msc51-cpp): the same in every run
  const auto pick = [&](int below) {
    return static_cast<int>(random() % static_cast<unsigned>(below));
  };
  const std::vector<std::string> severities{"Unknown", "Low", "Medium", "High", "Critical"};
  const std::vector<std::string> fixes{"", "3.3.3-r0"};
  for (int round = 0; round < 200; ++round) {
    auto known = json::array();
    for (int i = pick(4); i > 0; --i)
      known.push_back({{"VulnerabilityID", "CVE-2024-" + std::to_string(pick(4))},
                       {"PkgName", pick(2) == 0 ? "libssl3" : "libcrypto3"},
                       {"InstalledVersion", "3.3.2-r0"},
                       {"FixedVersion", fixes[static_cast<std::size_t>(pick(2))]},
                       {"Severity", severities[static_cast<std::size_t>(pick(5))]}});
    parts_.vulnerabilities = known.dump();
    matches_ = json::array();
    for (int i = pick(5); i > 0; --i) {
      auto match = grype_match((pick(2) == 0 ? "CVE-2024-" : "GHSA-") + std::to_string(pick(4)),
                               severities[static_cast<std::size_t>(pick(5))],
                               fixes[static_cast<std::size_t>(pick(2))],
                               pick(2) == 0 ? "libssl3" : "libcrypto3");
      if (pick(2) == 0)
        match["relatedVulnerabilities"] = {{{"id", "CVE-2024-" + std::to_string(pick(4))}}};
      matches_.push_back(std::move(match));
    }
    policy_.threshold = pick(2) == 0 ? Severity::low : Severity::high;
    policy_.fixed_only = pick(2) == 0;
    policy_.waivers.clear();
    if (pick(2) == 0) policy_.waivers = {waiver("CVE-2024-1")};

    scanner_.version_text = "fake " + std::to_string(round); // no verdict of another round counts
    const auto both = verdict();
    const auto program = std::exchange(config_.grype, "");
    const auto first = verdict();
    config_.grype = program;

    const auto with = blockers(both);
    const auto without = blockers(first);
    EXPECT_TRUE(std::includes(with.begin(), with.end(), without.begin(), without.end()))
        << known << matches_;
    EXPECT_GE(both.findings.size(), first.findings.size());
    EXPECT_FALSE(both.passed && !first.passed);
  }
}

// The fail-closed table, each row with the control: without the second scanner the image passes.
TEST_F(SecondOpinion, DeniesWhereItDoesNotReport) {
  ASSERT_TRUE(passes_without());
  const auto code_after = [&](ErrorKind kind) {
    second_.answer = [=](const auto&, const auto&) -> Result<Scanner::Report> {
      return Error{kind, "as told", "", {}};
    };
    EXPECT_TRUE(verdict().could_not_judge());
    return only_code();
  };
  EXPECT_EQ(code_after(ErrorKind::unavailable), "second_scanner_failed");
  EXPECT_EQ(code_after(ErrorKind::io), "second_scanner_failed");
  EXPECT_EQ(code_after(ErrorKind::timed_out), "second_scanner_timed_out");
  EXPECT_EQ(code_after(ErrorKind::misconfigured), "second_scanner_untrusted");
}

TEST_F(SecondOpinion, DeniesWhereTheReportIsOfNoUse) {
  for (const auto* text : {"", "{}", "not found", "{\"matches\":[]}"}) {
    second_.answer = [=](const auto&, const auto&) -> Result<Scanner::Report> {
      return Scanner::Report{.json = text, .diagnostics = ""};
    };
    EXPECT_EQ(only_code(), "second_report_invalid") << text;
  }
}

TEST_F(SecondOpinion, DeniesWhereTheReportIsAboutAnotherImage) {
  EXPECT_EQ(code_with(R"({"source":{"target":{"imageID":"sha256:0"}}})"), "second_report_mismatch");
  EXPECT_EQ(code_with(R"({"source":{"target":{"layers":[]}}})"), "second_report_mismatch");
  EXPECT_EQ(code_with(R"({"source":{"target":{"layers":[{"digest":"sha256:0"}]}}})"),
            "second_report_mismatch");
}

TEST_F(SecondOpinion, DeniesWhereItDidNotLookAtAll) {
  EXPECT_EQ(code_with(R"({"distro":{"name":"","version":""}})"), "second_coverage_partial");
  log_ = "[0001]  INFO gathered packages packages=0 time=1s\n";
  EXPECT_EQ(only_code(), "second_coverage_partial");
  log_ = "";
  EXPECT_EQ(only_code(), "second_coverage_partial");
  log_ = "[0001]  INFO gathered packages packages=1\n[0001]  WARN matcher returned error\n";
  EXPECT_EQ(only_code(), "second_coverage_partial");
  expect_passes_with("second_coverage_partial");
}

TEST_F(SecondOpinion, DeniesWhereSomethingWasLeftOut) {
  EXPECT_EQ(code_with(R"({"ignoredMatches":[{}]})"), "second_findings_suppressed");
}

TEST_F(SecondOpinion, DeniesASystemWhoseEndItKnows) {
  EXPECT_EQ(code_with(R"({"alertsByPackage":[{"alerts":[{"type":"distro-eol"}]}]})"),
            "os_end_of_life");
  EXPECT_TRUE(verdict().passed);
}

TEST_F(SecondOpinion, DeniesWhereItsDbIsMissingOldOrFromTheFuture) {
  built_ = "2026-11-10T06:00:00Z";
  EXPECT_EQ(only_code(), "second_db_stale");
  expect_passes_with("second_db_stale");
  built_ = "2026-11-26T06:00:00Z";
  EXPECT_EQ(only_code(), "second_db_from_future");
  built_ = "2026-11-24T06:00:00Z";
  std::filesystem::remove(config_.grype_db_dir / "6/import.json");
  EXPECT_EQ(only_code(), "second_db_missing");
  std::filesystem::remove_all(config_.grype_db_dir);
  EXPECT_EQ(only_code(), "second_db_missing");
}

TEST_F(SecondOpinion, IsMissedWhereNobodyStartedIt) {
  auto judged = TrivyGate{config_, scanner_, leaks_, clock_}.judge(layout_, root_, policy_, "r/a");

  ASSERT_TRUE(judged.ok());
  EXPECT_FALSE(judged->pass.has_value());
  ASSERT_EQ(judged->verdict.denials.size(), 1U);
  EXPECT_EQ(judged->verdict.denials.front().code, "second_scanner_failed");
}

TEST_F(SecondOpinion, IsNotAskedWhereNoneIsNamed) {
  config_.grype.clear();

  EXPECT_TRUE(verdict().passed);
  EXPECT_TRUE(second_.seen.empty());
}

TEST_F(SecondOpinion, IsAPartOfWhatARememberedVerdictDependsOn) {
  EXPECT_TRUE(verdict().passed);
  const auto again = verdict();
  EXPECT_TRUE(again.from_cache);
  EXPECT_EQ(again.second_scanner, "grype 0.121.3");
  EXPECT_EQ(rfc3339(again.second_db_built_at), built_);
  const auto db = read_file(config_.grype_db_dir / "6/vulnerability.db", 1 << 20);
  ASSERT_TRUE(db);
  EXPECT_EQ(again.second_db_digest, oci::Digest::of(*db).str());

  write_grype_db("another");
  EXPECT_FALSE(verdict().from_cache) << "its DB";
  second_.version_text = "fake grype 2";
  EXPECT_FALSE(verdict().from_cache) << "its program";
  config_.grype_sha256 = std::string(64, 'c');
  EXPECT_FALSE(verdict().from_cache) << "its pin";
  config_.grype.clear();
  EXPECT_FALSE(verdict().from_cache) << "that it is there";
}

TEST_F(SecondOpinion, ARememberedVerdictEndsWithItsDb) {
  built_ = "2026-11-20T06:00:00Z";
  policy_.pass_lifetime = hours{24 * 30};

  const auto judged = verdict();

  EXPECT_TRUE(judged.passed);
  EXPECT_EQ(rfc3339(judged.expires_at), "2026-11-25T06:00:00Z");
  EXPECT_NE(judged.for_people().find("Note: Grype's vulnerability DB of 2026-11-20T06:00:00Z"),
            std::string::npos);
}

TEST_F(SecondOpinion, ThatIsNotPinnedIsSaid) {
  config_.grype_sha256.clear();
  const auto judged = verdict();
  EXPECT_NE(judged.for_people().find("set [gate] grype_sha256"), std::string::npos);
}

// Trivy finds what it is shown; whether Grype does is what these are about.
class SecondCanary : public SecondOpinion {
protected:
  SecondCanary() {
    config_.canaries = true;
    write_db("2026-11-24T10:00:00Z", "2",
             fakes::advisory_db(
                 {{"alpine 3.21",
                   {{"openssl", {{"CVE-2024-12797", R"({"FixedVersion":"3.3.3-r0"})"}}}}}}));
    scanner_.answer = [this](const std::filesystem::path& dir,
                             const oci::Digest& manifest) -> Result<Scanner::Report> {
      const auto shown = canary_in(dir, manifest);
      const auto before = parts_;
      if (!shown.empty())
        parts_.vulnerabilities = R"([{"VulnerabilityID":"CVE-2024-12797","PkgName":")" + shown +
                                 R"(","InstalledVersion":"0","Severity":"LOW"}])";
      Scanner::Report report{report_for(dir, manifest), ""};
      parts_ = before;
      return report;
    };
    second_.answer = [this](const std::filesystem::path& dir,
                            const oci::Digest& manifest) -> Result<Scanner::Report> {
      const auto shown = canary_in(dir, manifest);
      if (!shown.empty() && finds_) {
        ++proofs_;
        matches_ = {grype_match("CVE-2020-1", "Low", "", shown)};
      }
      Scanner::Report report{grype_report(dir, manifest).dump(), log_};
      matches_ = json::array();
      return report;
    };
  }
  bool finds_ = true;
  int proofs_ = 0;
};

TEST_F(SecondCanary, IsFoundOnceForEachDb) {
  EXPECT_TRUE(verdict().passed);
  EXPECT_EQ(proofs_, 1);
  EXPECT_TRUE(verdict("reg:5000/other").passed);
  EXPECT_EQ(proofs_, 1);
  write_grype_db("another");
  EXPECT_TRUE(verdict().passed);
  EXPECT_EQ(proofs_, 2);
}

TEST_F(SecondCanary, ThatIsNotFoundDenies) {
  finds_ = false;
  EXPECT_EQ(only_code(), "second_canary_not_found");
  EXPECT_TRUE(verdict().could_not_judge());
  EXPECT_TRUE(passes_without());
  expect_passes_with("second_canary_not_found");
}

} // namespace
} // namespace slipway::gate
