// SPDX-License-Identifier: Apache-2.0
// Waivers, allowances and the grace of young findings, through the gate that obeys them.
#include "tests/unit/executor/gate/gate_fixture.hpp"

namespace slipway::gate {
namespace {

using GateExceptions = Gate;

std::string finding(const std::string& more = "", const std::string& id = "CVE-2024-1",
                    const std::string& purl = "pkg:apk/alpine/libssl3@3.3.2-r0?arch=x86_64") {
  return R"({"VulnerabilityID":")" + id +
         R"(","PkgName":"libssl3","InstalledVersion":"3.3.2-r0","FixedVersion":"3.3.3-r0","Severity":"HIGH")" +
         (purl.empty() ? "" : R"(,"PkgIdentifier":{"PURL":")" + purl + "\"}") + more + "}";
}

TEST_F(GateExceptions, AWaivedFindingReportsAndDoesNotBlock) {
  parts_.vulnerabilities = "[" + finding() + "]";
  EXPECT_FALSE(verdict().passed);

  policy_.waivers = {waiver("CVE-2024-1")};
  const auto judged = verdict();

  EXPECT_TRUE(judged.passed);
  ASSERT_EQ(judged.findings.size(), 1U);
  EXPECT_TRUE(judged.findings[0].waived);
  EXPECT_EQ(judged.counts.at(Severity::high), 1);
  EXPECT_EQ(judged.exceptions(),
            std::vector<std::string>{"Waived HIGH  CVE-2024-1  libssl3: waived by team-x (OPS-1) "
                                     "until 2027-01-01: not reachable"});
  EXPECT_NE(judged.for_people().find("waived by team-x (OPS-1)"), std::string::npos);
}
TEST_F(GateExceptions, AWaiverCoversItsIdOnly) {
  parts_.vulnerabilities = "[" + finding() + "," + finding("", "CVE-2024-2") + "]";
  policy_.waivers = {waiver("CVE-2024-1")};
  const auto judged = verdict();
  EXPECT_FALSE(judged.passed);
  EXPECT_EQ(judged.findings.front().id, "CVE-2024-2");
}
TEST_F(GateExceptions, AnExpiredWaiverBlocksAndSaysSo) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1", "2026-11-24T00:00:00Z")};
  const auto text = verdict().for_people();
  EXPECT_NE(text.find("Gate: denied"), std::string::npos) << text;
  EXPECT_NE(text.find("the waiver of team-x (OPS-1) ended on 2026-11-24"), std::string::npos)
      << text;
}
TEST_F(GateExceptions, AWaiverTooFarAheadBlocksAndSaysSo) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1", "2028-01-01T00:00:00Z")};
  EXPECT_NE(verdict().for_people().find("more than 180 days ahead"), std::string::npos);
  policy_.waiver_max_days = 3650;
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateExceptions, ThePassEndsWithTheFirstWaiverThatItUsed) {
  policy_.pass_lifetime = hours{24 * 4};
  parts_.vulnerabilities = "[" + finding() + "," + finding("", "CVE-2024-2") + "]";
  policy_.waivers = {waiver("CVE-2024-1", "2026-11-26T00:00:00Z"),
                     waiver("CVE-2024-2", "2026-11-27T00:00:00Z"),
                     waiver("CVE-2024-3", "2026-11-25T00:00:00Z")}; // not used
  EXPECT_EQ(verdict().expires_at, at("2026-11-26T00:00:00Z"));
  // Of two for the same finding, the longer one is used.
  policy_.waivers.push_back(waiver("CVE-2024-1", "2026-12-24T00:00:00Z"));
  EXPECT_EQ(verdict().expires_at, at("2026-11-27T00:00:00Z"));
}
TEST_F(GateExceptions, ARememberedPassEndsWithItsWaiver) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1", "2026-11-25T00:00:00Z")};
  EXPECT_FALSE(verdict().from_cache);
  const auto again = verdict();
  EXPECT_TRUE(again.from_cache);
  EXPECT_EQ(again.exceptions().size(), 1U);
  clock_.advance(hours{12});
  const auto late = verdict();
  EXPECT_FALSE(late.passed);
  EXPECT_FALSE(late.from_cache);
}
TEST_F(GateExceptions, ARememberedPassIsForgottenWhenAWaiverOfItsRepositoryChanges) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1")};
  EXPECT_TRUE(verdict().passed);
  EXPECT_TRUE(verdict().from_cache);
  auto elsewhere = waiver("CVE-2024-9");
  elsewhere.repositories = {"reg:6000/*"};
  policy_.waivers.push_back(elsewhere);
  EXPECT_TRUE(verdict().from_cache);
  policy_.waivers.front().reason = "another";
  EXPECT_FALSE(verdict().from_cache);
  policy_.waivers.clear();
  EXPECT_FALSE(verdict().passed);
}
TEST_F(GateExceptions, AWaiverForARepositoryHelpsNoOther) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1")};
  EXPECT_TRUE(verdict("reg:5000/app").passed);
  EXPECT_FALSE(verdict("reg:6000/app").passed);
  EXPECT_FALSE(verdict("").passed);
}
TEST_F(GateExceptions, TheHubGoesByTheNameOfReferences) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].repositories = {"docker.io/grp/*"};
  EXPECT_TRUE(verdict("registry-1.docker.io/grp/app").passed);
  EXPECT_FALSE(verdict("evil.example/docker.io/grp/app").passed);
}
TEST_F(GateExceptions, AWaiverForADigestHelpsNoOther) {
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].repositories.clear();
  policy_.waivers[0].digest = root_.str();
  EXPECT_TRUE(verdict().passed);
  EXPECT_TRUE(verdict("").passed);
  root_ = fakes::write_alpine(layout_, "3.3.1-r0");
  EXPECT_FALSE(verdict().passed);
}
TEST_F(GateExceptions, AWaiverForOneImageOfAnIndexHelpsNotTheOther) {
  parts_.vulnerabilities = "[" + finding() + "]";
  const auto other = fakes::write_alpine(layout_, "3.3.2-r0", "arm64");
  const auto first = root_;
  root_ = fakes::write_index_of(layout_, first, other);
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].digest = first.str();
  EXPECT_FALSE(verdict().passed);
  policy_.waivers.push_back(policy_.waivers[0]);
  policy_.waivers[1].digest = other.str();
  EXPECT_TRUE(verdict().passed);
}
// Whoever makes the index names the platforms.
TEST_F(GateExceptions, AWaiverForOneImageOfAnIndexHelpsNotTheOtherOfItsPlatform) {
  parts_.vulnerabilities = "[" + finding() + "]";
  const auto other = fakes::write_alpine(layout_, "3.3.4-r0");
  const auto first = root_;
  ASSERT_NE(other.str(), first.str());
  root_ = fakes::write_index_of(layout_, first, other, "amd64");
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].digest = first.str();
  EXPECT_FALSE(verdict().passed);
  policy_.waivers.push_back(policy_.waivers[0]);
  policy_.waivers[1].digest = other.str();
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateExceptions, AWaiverForAPackageHelpsNoOther) {
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].purl = "pkg:apk/alpine/libssl3";
  parts_.vulnerabilities = "[" + finding() + "]";
  EXPECT_TRUE(verdict("reg:5000/one").passed);
  parts_.vulnerabilities =
      "[" + finding("", "CVE-2024-1", "pkg:apk/alpine/libcrypto3@3.3.2-r0") + "]";
  EXPECT_FALSE(verdict("reg:5000/other").passed);
}
// Trivy's own ignore file takes every finding without a package URL for the package that it names.
TEST_F(GateExceptions, AWaiverForAPackageDoesNotCoverAFindingThatNamesNone) {
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].purl = "pkg:apk/alpine/libssl3";
  parts_.vulnerabilities = "[" + finding("", "CVE-2024-1", "") + "]";
  EXPECT_FALSE(verdict().passed);
  policy_.waivers[0].purl.clear();
  EXPECT_TRUE(verdict().passed);
}
// Two findings that differ in the package URL alone must not be taken for one.
TEST_F(GateExceptions, AWaiverDoesNotSwallowTheSameFindingOfAnotherPackage) {
  policy_.waivers = {waiver("CVE-2024-1")};
  policy_.waivers[0].purl = "pkg:apk/alpine/libssl3?arch=x86_64";
  parts_.vulnerabilities = "[" + finding() + "," +
                           finding("", "CVE-2024-1", "pkg:apk/alpine/libssl3@3.3.2-r0?arch=x86") +
                           "]";
  EXPECT_FALSE(verdict().passed);
}
TEST_F(GateExceptions, ASecretIsWaivedByItsRuleAndFile) {
  parts_.more_results =
      R"(,{"Target":"/etc/ssl/private/snakeoil.key","Class":"secret","Secrets":[{"RuleID":"private-key","Severity":"HIGH","StartLine":1}]})";
  policy_.waivers = {waiver("private-key")};
  policy_.waivers[0].path = "/etc/ssl/private/*";
  EXPECT_TRUE(verdict().passed);
  policy_.waivers[0].path = "/root/*";
  EXPECT_FALSE(verdict().passed);
}

TEST_F(GateExceptions, AYoungFindingHasItsGrace) {
  policy_.fixed_grace_days = 7;
  parts_.vulnerabilities = "[" + finding(R"(,"PublishedDate":"2026-11-20T08:00:00Z")") + "]";
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed);
  EXPECT_EQ(judged.findings[0].note,
            "published on 2026-11-20: blocks from 2026-11-27 on (fixed_grace_days)");
  EXPECT_FALSE(judged.findings[0].waived);
  policy_.pass_lifetime = hours{24 * 5};
  policy_.db_max_age = hours{24 * 30};
  EXPECT_EQ(verdict().expires_at, at("2026-11-27T08:00:00Z"));
  clock_.advance(hours{24 * 3});
  EXPECT_FALSE(verdict().passed);
}
TEST_F(GateExceptions, NoGraceWithoutATimeOrWithOneThatLiesAhead) {
  policy_.fixed_grace_days = 7;
  for (const char* more :
       {"", R"(,"PublishedDate":"2027-01-01T00:00:00Z")", R"(,"PublishedDate":"yesterday")"}) {
    parts_.vulnerabilities = "[" + finding(more) + "]";
    EXPECT_FALSE(verdict().passed) << more;
  }
}
TEST_F(GateExceptions, NoGraceForSecretsAndForWhatHasNoFix) {
  policy_.fixed_grace_days = 7;
  policy_.fixed_only = false;
  auto unfixed = finding(R"(,"PublishedDate":"2026-11-20T08:00:00Z")");
  unfixed.replace(unfixed.find("3.3.3-r0"), 8, "");
  parts_.vulnerabilities = "[" + unfixed + "]";
  EXPECT_FALSE(verdict().passed);
}

TEST_F(GateExceptions, AnAllowanceLiftsItsRowOnly) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  EXPECT_EQ(only_code(), "os_end_of_life");
  expect_passes_with("os_end_of_life");
  policy_.allowances = {allowance("no_packages")};
  EXPECT_EQ(only_code(), "os_end_of_life");
}
TEST_F(GateExceptions, AnAllowanceLiftsNoFinding) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.allowances = {allowance("os_end_of_life")};
  const auto judged = verdict();
  EXPECT_FALSE(judged.passed);
  EXPECT_TRUE(judged.denials.empty());
}
TEST_F(GateExceptions, AnExpiredAllowanceDeniesAndSaysSo) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  policy_.allowances = {allowance("os_end_of_life", "2026-11-20T00:00:00Z")};
  EXPECT_EQ(only_code(), "os_end_of_life");
  EXPECT_NE(verdict().for_people().find("What team-x allowed ended on 2026-11-20."),
            std::string::npos);
  policy_.allowances = {allowance("os_end_of_life", "2028-01-01T00:00:00Z")};
  EXPECT_NE(verdict().for_people().find("counts for nothing"), std::string::npos);
}
TEST_F(GateExceptions, AnAllowanceForARepositoryHelpsNoOther) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  policy_.allowances = {allowance("os_end_of_life")};
  EXPECT_TRUE(verdict("reg:5000/app").passed);
  EXPECT_FALSE(verdict("reg:6000/app").passed);
}
TEST_F(GateExceptions, AnAllowanceForAnOldDatabaseEndsThePass) {
  clock_.advance(hours{24 * 6});
  EXPECT_EQ(only_code(), "db_stale");
  policy_.allowances = {allowance("db_stale", "2026-12-01T00:00:00Z")};
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_EQ(judged.expires_at, at("2026-12-01T00:00:00Z"));
}
// Whatever the configuration was made to hold, what was not judged does not pass.
TEST_F(GateExceptions, NothingLiftsWhatWasNotJudged) {
  for (const char* code : {"report_mismatch", "scanner_failed", "db_missing", "blob_mismatch"})
    policy_.allowances.push_back(allowance(code));
  parts_.image_id = "sha256:" + std::string(64, '0');
  EXPECT_EQ(only_code(), "report_mismatch");
}

TEST_F(GateExceptions, AreToldInTheVerdictForPrograms) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  parts_.vulnerabilities = "[" + finding() + "]";
  policy_.allowances = {allowance("os_end_of_life")};
  policy_.waivers = {waiver("CVE-2024-1")};
  const auto json = verdict().to_json();
  EXPECT_NE(json.find(R"("allowed":[{"code":"os_end_of_life")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("waived":true)"), std::string::npos) << json;
}

TEST(Replay, JudgesAStoredReport) {
  const auto report = [](const std::string& os, const std::string& vulnerabilities) {
    return R"({"SchemaVersion":2,"Metadata":{"OS":)" + os +
           R"(},"Results":[{"Class":"os-pkgs","Packages":[{"Name":"libssl3"}],"Vulnerabilities":[)" +
           vulnerabilities + "]}]}";
  };
  const std::string debian = R"({"Family":"debian","Name":"12.5"})";
  GatePolicy policy;
  const auto now = at("2026-11-24T12:00:00Z");

  EXPECT_TRUE(replay(report(debian, ""), policy, "", now)->passed);
  EXPECT_FALSE(replay(report(debian, finding()), policy, "", now)->passed);
  policy.threshold = Severity::critical;
  EXPECT_TRUE(replay(report(debian, finding()), policy, "", now)->passed);
  EXPECT_EQ(replay(report(R"({"Family":"none"})", ""), policy, "", now)->denials.at(0).code,
            "no_os");
  for (const char* text : {"", "{}", "[]", R"({"SchemaVersion":3,"Metadata":{}})"})
    EXPECT_EQ(replay(text, policy, "", now).error().kind, ErrorKind::bad_input) << text;
}
TEST(Replay, ObeysWaiversOfTheRepository) {
  const auto report =
      R"({"SchemaVersion":2,"Metadata":{"OS":{"Family":"debian","Name":"12.5"}},"Results":[{"Class":"os-pkgs","Packages":[{"Name":"libssl3"}],"Vulnerabilities":[)" +
      finding() + "]}]}";
  GatePolicy policy;
  policy.waivers.emplace_back();
  policy.waivers[0].id = "CVE-2024-1";
  policy.waivers[0].repositories = {"reg:5000/*"};
  policy.waivers[0].expires = at("2026-12-24T00:00:00Z");
  const auto now = at("2026-11-24T12:00:00Z");
  EXPECT_TRUE(replay(report, policy, "reg:5000/app", now)->passed);
  EXPECT_FALSE(replay(report, policy, "", now)->passed);
}

} // namespace
} // namespace slipway::gate
