// SPDX-License-Identifier: Apache-2.0
// What policy owners excuse in signed OpenVEX documents, through the gate that obeys them; and each
// way in which a document counts for nothing.
#include "executor/base/base64.hpp"
#include "executor/gate/openvex.hpp"
#include "tests/fakes/signing_key.hpp"
#include "tests/unit/executor/gate/grype_fixture.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>

namespace slipway::gate {
namespace {

using nlohmann::json;

constexpr const char* kPurl = "pkg:apk/alpine/libssl3@3.3.2-r0?arch=x86_64";

std::string found(const std::string& id = "CVE-2024-1", const std::string& purl = kPurl) {
  return R"([{"VulnerabilityID":")" + id +
         R"(","PkgName":"libssl3","InstalledVersion":"3.3.2-r0","FixedVersion":"3.3.3-r0","Severity":"HIGH")" +
         (purl.empty() ? "" : R"(,"PkgIdentifier":{"PURL":")" + purl + "\"}") + "}]";
}

// Of one thing or of several.
json listed(const json& things) {
  return things.is_object() ? json::array({things}) : things;
}

json product(const std::string& id, const std::vector<std::string>& parts = {}) {
  json made{{"@id", id}};
  for (const auto& part : parts)
    made["subcomponents"].push_back({{"@id", part}});
  return made;
}

json statement(const json& products, const std::string& status = "not_affected",
               const std::string& at = "2026-11-20T00:00:00Z",
               const std::string& name = "CVE-2024-1") {
  json made{{"vulnerability", {{"name", name}}}, {"status", status}, {"timestamp", at}};
  if (!products.is_null()) made["products"] = listed(products);
  if (status == "not_affected") made["justification"] = "vulnerable_code_not_present";
  if (status == "affected") made["action_statement"] = "upgrade";
  return made;
}

class GateVex : public SecondOpinion {
protected:
  GateVex() {
    config_.grype.clear();
    parts_.vulnerabilities = found();
    write(key_file_, key_.public_pem());
    policy_.vex.keys = {key_file_};
  }
  void write(const std::filesystem::path& file, const std::string& text) {
    ASSERT_TRUE(replace_file(file, text, 0644).ok());
  }
  std::string document(const json& statements) {
    return json{{"@context", "https://openvex.dev/ns/v0.2.0"},
                {"@id", "https://example.com/vex/1"},
                {"author", "Team X"},
                {"timestamp", "2026-11-01T00:00:00Z"},
                {"version", 1},
                {"statements", listed(statements)}}
        .dump();
  }
  /// A signed document of these statements, among those that policy names.
  std::filesystem::path give(const json& statements, const std::string& name = "app.json") {
    const auto file = dir_.path() / name;
    write(file, document(statements));
    write(file.string() + ".sig", key_.sign(document(statements)));
    auto& files = policy_.vex.files;
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
    return file;
  }
  bool excuses(const json& products, const std::string& repository = "reg:5000/app") {
    give({statement(products)});
    const auto judged = verdict(repository);
    EXPECT_TRUE(judged.denials.empty()) << judged.for_people();
    EXPECT_EQ(judged.findings.at(0).waived, judged.passed);
    return judged.passed;
  }
  std::string image_url() const { return "pkg:oci/app@" + root_.str(); }
  /// The verdict denies, and says this of why no document counts.
  void expect_counts_for_nothing(const std::string& words) {
    const auto judged = verdict();
    EXPECT_FALSE(judged.passed);
    EXPECT_FALSE(judged.could_not_judge()) << "the finding blocks";
    const auto text = judged.for_people();
    EXPECT_NE(text.find("no OpenVEX document counts until the operator has mended"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find(words), std::string::npos) << text;
  }

  fakes::SigningKey key_ = fakes::SigningKey::ec("P-256");
  std::filesystem::path key_file_ = dir_.path() / "owner.pub";
};

TEST_F(GateVex, AnExcusedFindingReportsAndDoesNotBlock) {
  EXPECT_FALSE(verdict().passed);
  auto says = statement({product(image_url(), {kPurl})});
  says["impact_statement"] = "not built";
  give({says});

  const auto judged = verdict();

  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_TRUE(judged.findings.at(0).waived);
  EXPECT_EQ(judged.counts.at(Severity::high), 1);
  EXPECT_EQ(judged.exceptions(),
            std::vector<std::string>{
                "Waived HIGH  CVE-2024-1  libssl3: OpenVEX: not_affected, says Team X (signed with "
                "owner.pub) on 2026-11-20: vulnerable_code_not_present: not built"});
  EXPECT_TRUE(judged.warnings.empty());
}
TEST_F(GateVex, TheProductMayBeTheImageOrItsPackage) {
  for (const auto& products :
       {json{product(image_url())}, json{product(image_url(), {kPurl})},
        json{product(image_url() + "?repository_url=reg:5000/app&arch=amd64&tag=1")},
        json{product("pkg:oci/app?repository_url=reg%3A5000%2Fapp")}, json{product(kPurl)},
        json{product("pkg:apk/alpine/libssl3")},
        json{product("pkg:deb/debian/other"), product(kPurl)},
        json{{{"hashes", {{"sha-256", root_.hex()}}}}},
        json{{{"@id", "https://example.com/app"}, {"identifiers", {{"purl", image_url()}}}}}})
    EXPECT_TRUE(excuses(products)) << products;
}
TEST_F(GateVex, FixedExcusesAndTheOtherWordsDoNot) {
  const json products{product(kPurl)};
  give({statement(products, "fixed")});
  EXPECT_TRUE(verdict().passed);
  for (const char* status : {"affected", "under_investigation"}) {
    give({statement(products, status)});
    const auto judged = verdict();
    EXPECT_FALSE(judged.passed);
    EXPECT_NE(judged.findings.at(0).note.find(std::string{"OpenVEX: "} + status + ", says Team X"),
              std::string::npos)
        << judged.findings.at(0).note;
  }
}
TEST_F(GateVex, AStatementWithoutProductsExcusesNothing) {
  give({statement(nullptr)});
  EXPECT_FALSE(verdict().passed);
  EXPECT_FALSE(excuses(json::array()));
  EXPECT_FALSE(excuses({{{"supplier", "x"}}}));
  EXPECT_FALSE(excuses({product("https://example.com/app")}));
  EXPECT_TRUE(excuses({product(image_url())}));
}
TEST_F(GateVex, AStatementAboutAnotherProductExcusesNothing) {
  const auto other = "sha256:" + std::string(64, 'a');
  for (const auto& products :
       {json{product("pkg:oci/app@" + other)}, json{product("pkg:oci/app")},
        json{product("pkg:oci/app?tag=1&repository_url=reg:5000/app")},
        json{product("pkg:oci/app?repository_url=reg:5000/other")},
        json{product(image_url() + "?repository_url=reg:6000/app")},
        json{product(image_url() + "?arch=arm64")}, json{product(image_url() + "?os=linux")},
        json{product(image_url(), {"pkg:apk/alpine/libcrypto3"})},
        json{product("pkg:apk/alpine/libssl3@3.3.1-r0")},
        json{product("pkg:apk/alpine/libssl3?arch=x86")},
        json{product("pkg:golang/example.com/app", {kPurl})}, json{product(kPurl, {kPurl})},
        json{{{"@id", kPurl}, {"identifiers", {{"purl", "pkg:apk/alpine/other"}}}}},
        json{{{"@id", image_url()}, {"hashes", {{"sha-256", other.substr(7)}}}}},
        json{{{"@id", kPurl}, {"hashes", {{"sha-256", root_.hex()}}}}},
        json{{{"@id", image_url()}, {"hashes", {{"md5", "x"}}}}}})
    EXPECT_FALSE(excuses(products)) << products;
  EXPECT_TRUE(excuses({product(kPurl)}));
}
TEST_F(GateVex, AStatementForADigestHelpsNoOther) {
  const auto url = image_url();
  EXPECT_TRUE(excuses({product(url)}));
  root_ = fakes::write_alpine(layout_, "3.3.1-r0");
  EXPECT_FALSE(excuses({product(url)}));
}
TEST_F(GateVex, AStatementForOneImageOfAnIndexHelpsNotTheOther) {
  const auto first = root_;
  const auto other = fakes::write_alpine(layout_, "3.3.2-r0", "arm64");
  root_ = fakes::write_index_of(layout_, first, other);
  EXPECT_FALSE(excuses({product("pkg:oci/app@" + first.str())}));
  EXPECT_FALSE(excuses({product(image_url() + "?arch=amd64")}));
  EXPECT_TRUE(excuses({product(image_url())}));
  EXPECT_TRUE(
      excuses({product("pkg:oci/app@" + first.str()), product(image_url() + "?arch=arm64")}));
}
TEST_F(GateVex, AStatementForARepositoryHelpsNoOtherAndNobodyByHand) {
  const json products{product("pkg:oci/app?repository_url=reg:5000/app")};
  EXPECT_TRUE(excuses(products));
  EXPECT_FALSE(excuses(products, "reg:5000/other"));
  EXPECT_FALSE(excuses(products, ""));
  EXPECT_FALSE(excuses({product("pkg:oci/app?repository_url=")}, ""));
  const json hub{product("pkg:oci/app?repository_url=index.docker.io/grp/app")};
  EXPECT_TRUE(excuses(hub, "registry-1.docker.io/grp/app"));
}
TEST_F(GateVex, AFindingThatNamesNoPackageIsExcusedWithTheWholeImageOnly) {
  parts_.vulnerabilities = found("CVE-2024-1", "");
  EXPECT_FALSE(excuses({product(kPurl)}));
  EXPECT_FALSE(excuses({product(image_url(), {kPurl})}));
  EXPECT_TRUE(excuses({product(image_url())}));
}
TEST_F(GateVex, AnotherVulnerabilityIsNotExcused) {
  parts_.vulnerabilities = found("CVE-2024-11");
  EXPECT_FALSE(excuses({product(kPurl)}));
  auto says = statement({product(kPurl)});
  says["vulnerability"]["aliases"] = {"CVE-2024-11"};
  give({says});
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, AnAliasOfTheFindingIsAsGoodAsItsName) {
  parts_.vulnerabilities = "[]";
  config_.grype = "/nonexistent/grype";
  auto match = grype_match("GHSA-1", "High", "3.3.3-r0");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}};
  matches_ = {match};
  for (const char* name : {"GHSA-1", "CVE-2024-1"}) {
    give({statement({product(image_url())}, "not_affected", "2026-11-20T00:00:00Z", name)});
    EXPECT_TRUE(verdict().passed) << name;
  }
}
// Some distributions' advisories are about several vulnerabilities.
TEST_F(GateVex, AnAdvisoryForSeveralIsExcusedByItsOwnNameAlone) {
  parts_.vulnerabilities = "[]";
  config_.grype = "/nonexistent/grype";
  auto match = grype_match("ALAS-1", "High", "3.3.3-r0");
  match["relatedVulnerabilities"] = {{{"id", "CVE-2024-1"}}, {{"id", "CVE-2024-2"}}};
  matches_ = {match};
  EXPECT_FALSE(excuses({product(image_url())}));
  give({statement({product(image_url())}, "not_affected", "2026-11-20T00:00:00Z", "ALAS-1")});
  EXPECT_TRUE(verdict().passed);
}

TEST_F(GateVex, TheLatestStatementCountsWhereverItStands) {
  const json products{product(kPurl)};
  const auto excuse = statement(products, "not_affected", "2026-11-20T00:00:00Z");
  give({excuse}, "a.json");
  give({statement(products, "affected", "2026-11-19T00:00:00Z")}, "b.json");
  EXPECT_TRUE(verdict().passed);
  give({statement({product("pkg:apk/alpine/libssl3")}, "affected", "2026-11-21T00:00:00Z")},
       "b.json");
  EXPECT_FALSE(verdict().passed) << "also where it names the product less exactly";
  give({statement({{{"@id", kPurl}, {"identifiers", {{"purl", "pkg:apk/alpine/other"}}}}},
                  "affected", "2026-11-21T00:00:00Z")},
       "b.json");
  EXPECT_FALSE(verdict().passed) << "or perhaps";
  give({statement(products, "under_investigation", "2026-11-20T00:00:00Z")}, "b.json");
  EXPECT_FALSE(verdict().passed) << "of two of one time the one that excuses nothing";
  give({statement({product("pkg:apk/alpine/other")}, "affected", "2026-11-21T00:00:00Z")},
       "b.json");
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, AnExcuseIsTakenBackUnderAnyNameThatItGives) {
  auto says = statement({product(kPurl)});
  says["vulnerability"]["aliases"] = {"GHSA-1"};
  const auto back = [&](const std::string& name) {
    return statement({product(kPurl)}, "affected", "2026-11-21T00:00:00Z", name);
  };
  give({says, back("GHSA-2")});
  EXPECT_TRUE(verdict().passed);
  give({says, back("GHSA-1")});
  EXPECT_FALSE(verdict().passed);
}
TEST_F(GateVex, WithoutATimeOfItsOwnAStatementIsOfTheDocumentsTime) {
  const json products{product(kPurl)};
  auto timeless = statement(products, "affected"); // then of 2026-11-01
  timeless.erase("timestamp");
  give({timeless, statement(products, "not_affected", "2026-11-02T00:00:00Z")});
  EXPECT_TRUE(verdict().passed);
  give({timeless, statement(products, "not_affected", "2026-10-31T00:00:00Z")});
  EXPECT_FALSE(verdict().passed);
}

TEST_F(GateVex, SecretsAreNeverExcused) {
  parts_.vulnerabilities = "[]";
  parts_.more_results =
      R"(,{"Target":"/root/key","Class":"secret","Secrets":[{"RuleID":"private-key","Severity":"HIGH","StartLine":1}]})";
  give({statement({product(image_url())}, "not_affected", "2026-11-20T00:00:00Z", "private-key")});
  EXPECT_FALSE(verdict().passed);
  policy_.waivers = {waiver("private-key")};
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, NoRowOfTheTableIsLifted) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  parts_.vulnerabilities = "[]";
  give({statement({product(image_url())}, "not_affected", "2026-11-20T00:00:00Z",
                  "os_end_of_life")});
  EXPECT_EQ(only_code(), "os_end_of_life");
  expect_passes_with("os_end_of_life");
}
TEST_F(GateVex, AWaiverHoldsBesideThem) {
  give({statement({product(kPurl)}, "affected")});
  policy_.waivers = {waiver("CVE-2024-1")};
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed);
  EXPECT_NE(judged.findings.at(0).note.find("waived by team-x"), std::string::npos);
}
TEST_F(GateVex, TheSecondScannersFindingsAreExcusedToo) {
  parts_.vulnerabilities = "[]";
  config_.grype = "/nonexistent/grype";
  matches_ = {grype_match("CVE-2024-1", "High", "3.3.3-r0")};
  EXPECT_FALSE(verdict().passed);
  EXPECT_TRUE(excuses({product(image_url())}));
}

TEST_F(GateVex, ADocumentThatNobodySignedCountsForNothing) {
  const auto file = give({statement({product(kPurl)})});
  std::filesystem::remove(file.string() + ".sig");
  expect_counts_for_nothing("no such file: " + file.string() + ".sig");
  write(file.string() + ".sig", "nothing");
  expect_counts_for_nothing("is of none of vex_keys, or of another content");
  give({statement({product(kPurl)})});
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, ADocumentThatWasChangedAfterItWasSignedCountsForNothing) {
  auto says = statement({product(kPurl)}, "affected");
  const auto file = give({says});
  EXPECT_FALSE(verdict().passed);
  const auto changed = document({statement({product(kPurl)})});
  write(file, changed);
  expect_counts_for_nothing("is of none of vex_keys, or of another content");
  write(file.string() + ".sig", base64(key_.sign(changed)) + "\n");
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, ADocumentThatSomebodyElseSignedCountsForNothing) {
  const auto other = fakes::SigningKey::ed25519();
  const auto file = give({statement({product(kPurl)})});
  write(file.string() + ".sig", other.sign(document({statement({product(kPurl)})})));
  expect_counts_for_nothing("is of none of vex_keys");
  write(dir_.path() / "other.pub", other.public_pem());
  policy_.vex.keys.push_back(dir_.path() / "other.pub");
  EXPECT_NE(verdict().findings.at(0).note.find("signed with other.pub"), std::string::npos);
  policy_.vex.keys.clear();
  expect_counts_for_nothing("is of none of vex_keys");
}
// The one that cannot be read may be the one that takes the excuse back.
TEST_F(GateVex, BesideADocumentThatCannotBeUsedNoneCounts) {
  give({statement({product(kPurl)})}, "a.json");
  const auto later =
      give({statement({product(kPurl)}, "affected", "2026-11-21T00:00:00Z")}, "b.json");
  EXPECT_FALSE(verdict().passed);
  std::filesystem::remove(later);
  expect_counts_for_nothing("no such file: " + later.string());
  policy_.vex.files.pop_back();
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateVex, WhatCannotBeReadCountsForNothing) {
  const auto file = give({statement({product(kPurl)})});
  const auto sign = [&](const std::string& text) {
    write(file, text);
    write(file.string() + ".sig", key_.sign(text));
  };
  sign("{}");
  expect_counts_for_nothing("not OpenVEX 0.2.0");
  sign(std::string(kMaxVexBytes + 1, ' '));
  expect_counts_for_nothing("larger than 16 MiB");
  sign(document({statement({product(kPurl)}, "not_affected", "2026-12-24T00:00:00Z")}));
  expect_counts_for_nothing("is dated ahead, of 2026-12-24");
  write(file.string() + ".sig", std::string(20000, 'x'));
  expect_counts_for_nothing("its signature: larger than 16 KiB");
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  expect_counts_for_nothing("is empty or no file");
  std::filesystem::remove(file);
  give({statement({product(kPurl)})});
  write(key_file_, key_.private_pem());
  expect_counts_for_nothing("holds a private key");
}
TEST_F(GateVex, WhatBlocksNobodyIsNotHeldUp) {
  parts_.vulnerabilities = "[]";
  std::filesystem::remove(give({statement({product(kPurl)})}));
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed);
  EXPECT_EQ(judged.warnings.size(), 1U);
  EXPECT_TRUE(verdict().from_cache);
  EXPECT_EQ(verdict().warnings.size(), 1U);
}

TEST_F(GateVex, ARememberedPassIsForgottenWithEachByteOfDocumentSignatureAndKey) {
  const auto file = give({statement({product(kPurl)})});
  EXPECT_FALSE(verdict().from_cache);
  auto again = verdict();
  EXPECT_TRUE(again.from_cache);
  EXPECT_EQ(again.exceptions().size(), 1U);
  write(file.string() + ".sig", key_.sign(document({statement({product(kPurl)})})));
  EXPECT_FALSE(verdict().from_cache) << "another signature of the same";
  write(key_file_, key_.public_pem() + "\n");
  EXPECT_FALSE(verdict().from_cache);
  give({statement({product(kPurl)}, "fixed")});
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  give({statement({product(kPurl)}, "affected")});
  EXPECT_FALSE(verdict().passed);
}

TEST_F(GateVex, AReplayObeysThemToo) {
  const auto report =
      R"({"SchemaVersion":2,"Metadata":{"OS":{"Family":"debian","Name":"12.5"}},"Results":[{"Class":"os-pkgs","Packages":[{"Name":"libssl3"}],"Vulnerabilities":)" +
      found() + "}]}";
  const auto file = give({statement({product(kPurl)})});
  EXPECT_TRUE(replay(report, policy_, "", clock_.now())->passed);
  write(file, "{}");
  const auto judged = replay(report, policy_, "", clock_.now());
  EXPECT_FALSE(judged->passed);
  EXPECT_NE(judged->for_people().find("no OpenVEX document counts"), std::string::npos);
}

} // namespace
} // namespace slipway::gate
