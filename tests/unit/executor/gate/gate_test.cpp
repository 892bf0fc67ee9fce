// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/executor/gate/gate_fixture.hpp"

#include <gtest/gtest.h>

#include <future>

namespace slipway::gate {
namespace {

TEST_F(Gate, PassesACleanImageForItsRepositoryOnly) {
  auto judged =
      TrivyGate{config_, scanner_, leaks_, clock_}.judge(layout_, root_, policy_, "reg:5000/app");

  ASSERT_TRUE(judged.ok());
  ASSERT_TRUE(judged->pass.has_value()) << judged->verdict.for_people();
  EXPECT_EQ(judged->pass->digest(), root_);
  EXPECT_EQ(judged->pass->repository(), "reg:5000/app");
  EXPECT_EQ(judged->pass->expires_at(), clock_.now() + hours{24});
}

TEST_F(Gate, MakesNoPassForAnImageWithALeakedSecretWhateverTheScannerSays) {
  leaks_.answer = [] {
    return gate::LeakFindings{{{"secret_leaked", "The value of TOKEN is in the image", false}}, {}};
  };

  EXPECT_EQ(only_code(), "secret_leaked");
  EXPECT_FALSE(verdict().could_not_judge());
  // Also where it is found when the scanner has begun.
  std::promise<void> begun;
  scanner_.seen.clear();
  scanner_.answer = [&, answer = scanner_.answer](const auto& dir, const auto& manifest) {
    if (scanner_.seen.size() == 1) begun.set_value();
    return answer(dir, manifest);
  };
  leaks_.answer = [waits = begun.get_future().share()] {
    EXPECT_EQ(waits.wait_for(std::chrono::minutes{1}), std::future_status::ready);
    return gate::LeakFindings{{{"secret_leaked", "The value of TOKEN is in the image", false}}, {}};
  };
  policy_.threshold = Severity::critical; // not what was remembered
  EXPECT_EQ(only_code(), "secret_leaked");
  // The control: the same image, with nothing found.
  leaks_.answer = [] { return gate::LeakFindings{{}, {"not searched for X"}}; };
  const auto passed = verdict();
  EXPECT_TRUE(passed.passed);
  EXPECT_EQ(passed.warnings, std::vector<std::string>{"not searched for X"});
}

TEST_F(Gate, SearchesForLeakedSecretsAlsoWhereTheVerdictIsRemembered) {
  ASSERT_TRUE(verdict().passed);
  ASSERT_TRUE(verdict().from_cache);
  EXPECT_EQ(leaks_.seen, (std::vector<oci::Digest>{root_, root_}));

  leaks_.answer = [] { return gate::LeakFindings{{{"secret_leaked", "x", false}}, {}}; };

  EXPECT_FALSE(verdict().passed);
}

TEST_F(Gate, CannotJudgeWhereLeaksCannotBeSearchedFor) {
  leaks_.answer = []() -> Result<gate::LeakFindings> {
    return Error{ErrorKind::io, "no disk", "", {}};
  };

  const auto judged =
      TrivyGate{config_, scanner_, leaks_, clock_}.judge(layout_, root_, policy_, "reg:5000/app");

  ASSERT_FALSE(judged.ok());
  EXPECT_EQ(judged.error().kind, ErrorKind::io);
}

TEST_F(Gate, TellsWhatTheImageIsMadeOfAlsoWhereTheVerdictIsRemembered) {
  parts_.packages = R"([{"Name":"zlib1g","Version":"1.2.13.dfsg","Release":"1","Epoch":1,)"
                    R"("Identifier":{"PURL":"pkg:deb/debian/zlib1g@1.2.13.dfsg-1"},)"
                    R"("Licenses":["Zlib","MIT"],"SrcName":"zlib","SrcEpoch":1}])";
  parts_.more_results = R"(,{"Target":"Python","Class":"lang-pkgs","Packages":[)"
                        R"({"Name":"PyYAML","Version":"5.4","FilePath":"usr/x/METADATA"}]})";
  for (const bool cached : {false, true}) {
    const auto judged = verdict();

    EXPECT_EQ(judged.from_cache, cached);
    ASSERT_EQ(judged.inventories.size(), 1U) << judged.for_people();
    const auto& image = judged.inventories.front();
    EXPECT_EQ(image.manifest, root_);
    EXPECT_EQ(image.os_family, "alpine");
    ASSERT_EQ(image.packages.size(), 2U);
    EXPECT_EQ(image.packages[0].version, "1:1.2.13.dfsg-1");
    EXPECT_EQ(image.packages[0].purl, "pkg:deb/debian/zlib1g@1.2.13.dfsg-1");
    EXPECT_EQ(image.packages[0].licenses, (std::vector<std::string>{"Zlib", "MIT"}));
    EXPECT_EQ(image.packages[0].path, "");
    const decltype(Package::source) source{{"SrcName", "zlib"}, {"SrcEpoch", "1"}};
    EXPECT_EQ(image.packages[0].source, source);
    EXPECT_EQ(image.packages[1].path, "usr/x/METADATA");
  }
}

TEST_F(Gate, DeniesAReportWithPackagesOfAnotherShape) {
  for (const char* package :
       {R"([{"Name":7}])", R"([{"Name":"x","Epoch":"1"}])", R"([{"Name":"x","Identifier":"y"}])",
        R"([{"Name":"x","Licenses":"y"}])", R"([{"Name":"x","Licenses":[1]}])",
        R"([{"Name":"x","SrcName":{}}])"}) {
    parts_.packages = package;
    EXPECT_EQ(only_code(), "report_invalid") << package;
  }
}

TEST_F(Gate, MakesNoPassByHand) {
  EXPECT_TRUE(verdict("").passed);
}

TEST_F(Gate, NamesPackageFixAndWhatToDo) {
  parts_.vulnerabilities = vulnerability("CRITICAL", "3.3.3-r0");

  const auto text = verdict().for_people();

  EXPECT_NE(text.find("CVE-2024-1  libssl3 3.3.2-r0, fixed in 3.3.3-r0  [alpine 3.21.3]"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("upgrade libssl3 to 3.3.3-r0 or later"), std::string::npos) << text;
  EXPECT_NE(text.find("1 CRITICAL"), std::string::npos) << text;
}

TEST_F(Gate, CapsTheListOfFindings) {
  parts_.vulnerabilities = "[";
  for (int i = 0; i < 37; ++i) {
    const auto one = vulnerability("HIGH", "9", "CVE-2025-" + std::to_string(i));
    parts_.vulnerabilities += (i > 0 ? "," : "") + one.substr(1, one.size() - 2);
  }
  parts_.vulnerabilities += "]";

  EXPECT_NE(verdict().for_people().find("and 7 more"), std::string::npos);
}

TEST_F(Gate, LetsNoTerminalSequenceOutOfTheImage) {
  parts_.vulnerabilities = vulnerability("HIGH", "9\\r\\u001b[0Ksection_end:1:x\\n\\u202e");

  const auto text = verdict().for_people();

  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find("section_end:"), std::string::npos);
  EXPECT_EQ(text.find("\xe2\x80\xae"), std::string::npos);
}

struct SeverityCase {
  const char* name;
  const char* severity;
  bool fixable;
  bool fixed_only;
  bool unknown_blocks;
  bool passes;
};
class GateSeverity : public Gate, public testing::WithParamInterface<SeverityCase> {};
TEST_P(GateSeverity, Decides) {
  parts_.vulnerabilities = vulnerability(GetParam().severity, GetParam().fixable ? "9" : "");
  policy_.fixed_only = GetParam().fixed_only;
  policy_.unknown_blocks_when_fixable = GetParam().unknown_blocks;
  EXPECT_EQ(verdict().passed, GetParam().passes);
}
INSTANTIATE_TEST_SUITE_P(
    Table, GateSeverity,
    testing::Values(SeverityCase{"HighFixable", "HIGH", true, true, true, false},
                    SeverityCase{"HighUnfixedReported", "HIGH", false, true, true, true},
                    SeverityCase{"HighUnfixedBlocksOnRequest", "HIGH", false, false, true, false},
                    SeverityCase{"MediumIsBelow", "MEDIUM", true, false, true, true},
                    SeverityCase{"UnknownFixable", "UNKNOWN", true, true, true, false},
                    SeverityCase{"UnknownUnfixed", "UNKNOWN", false, false, true, true},
                    SeverityCase{"UnknownAllowed", "UNKNOWN", true, true, false, true},
                    SeverityCase{"StrangeWordIsCritical", "DREADFUL", true, true, true, false}),
    [](const auto& row) { return row.param.name; });

TEST_F(Gate, BlocksOnSecretsUnlessPolicyAllows) {
  parts_.more_results =
      R"(,{"Target":"app/key.pem","Class":"secret","Secrets":[{"RuleID":"private-key","Severity":"HIGH","StartLine":3}]})";

  EXPECT_FALSE(verdict().passed);
  policy_.secrets_block = false;
  EXPECT_TRUE(verdict().passed);
}

// The fail-closed table.
TEST_F(Gate, DeniesWithoutOperatingSystem) {
  parts_.os = "";
  parts_.packages = "";
  EXPECT_EQ(only_code(), "no_os");
}
TEST_F(Gate, DeniesTheFamilyNone) {
  parts_.os = R"({"Family":"none"})";
  parts_.packages = "";
  EXPECT_EQ(only_code(), "no_os");
}
TEST_F(Gate, DeniesAnUnsupportedFamily) {
  parts_.os = R"({"Family":"fedora","Name":"40"})";
  EXPECT_EQ(only_code(), "os_unsupported");
}
TEST_F(Gate, DeniesZeroPackages) {
  parts_.packages = "[]";
  EXPECT_EQ(only_code(), "no_packages");
}
TEST_F(Gate, DeniesAMissingPackageResult) {
  parts_.packages = "";
  EXPECT_EQ(only_code(), "no_packages");
}
TEST_F(Gate, DeniesAnEndOfLifeSystem) {
  parts_.os = R"({"Family":"alpine","Name":"3.21","EOSL":true})";
  EXPECT_EQ(only_code(), "os_end_of_life");
}
TEST_F(Gate, DeniesPartialCoverage) {
  diagnostics_ =
      "INFO x\nWARN No OS package is detected. Make sure you haven't deleted any files\n";
  EXPECT_EQ(only_code(), "coverage_partial");
  expect_passes_with("coverage_partial");
}
TEST_F(Gate, SaysOneReasonForAMissingSystem) {
  parts_.os = R"({"Family":"none"})";
  parts_.packages = "";
  diagnostics_ = "WARN Unsupported os family=none\n";
  EXPECT_EQ(only_code(), "no_os");
}
TEST_F(Gate, DeniesAReportOfAnotherImage) {
  parts_.image_id = "sha256:" + std::string(64, '0');
  EXPECT_EQ(only_code(), "report_mismatch");
}
TEST_F(Gate, DeniesAReportOfOtherLayers) {
  parts_.diff_ids = "\"sha256:" + std::string(64, '0') + "\"";
  EXPECT_EQ(only_code(), "report_mismatch");
}
TEST_F(Gate, DeniesAnotherReportSchema) {
  parts_.schema = 3;
  EXPECT_EQ(only_code(), "report_invalid");
}
TEST_F(Gate, DeniesGarbageForAReport) {
  scanner_.answer = [](const auto&, const auto&) {
    return Scanner::Report{.json = "{\"SchemaVersion\":2", .diagnostics = ""};
  };
  EXPECT_EQ(only_code(), "report_invalid");
  EXPECT_TRUE(verdict().could_not_judge());
}
TEST_F(Gate, DeniesWhenTheScannerFails) {
  scanner_.answer = [](const auto&, const auto&) {
    return Error{ErrorKind::unavailable, "exit code 2", "", {}};
  };
  EXPECT_EQ(only_code(), "scanner_failed");
}
TEST_F(Gate, DeniesWhenTheScannerHangs) {
  scanner_.answer = [](const auto&, const auto&) {
    return Error{ErrorKind::timed_out, "late", "", {}};
  };
  EXPECT_EQ(only_code(), "scanner_timed_out");
}
TEST_F(Gate, DeniesWhenTheScannerIsNotThePinnedOne) {
  scanner_.answer = [](const auto&, const auto&) {
    return Error{ErrorKind::misconfigured, "other bytes", "", {}};
  };
  EXPECT_EQ(only_code(), "scanner_untrusted");
}
TEST_F(Gate, DeniesWithoutDatabase) {
  std::filesystem::remove(config_.db_dir / "trivy.db");
  EXPECT_EQ(only_code(), "db_missing");
  EXPECT_TRUE(scanner_.seen.empty());
}
TEST_F(Gate, DeniesAnotherDatabaseSchema) {
  write_db("2026-11-24T10:00:00Z", "1");
  EXPECT_EQ(only_code(), "db_invalid");
}
TEST_F(Gate, DeniesAStaleDatabase) {
  clock_.advance(hours{24 * 5});
  EXPECT_EQ(only_code(), "db_stale");
  expect_passes_with("db_stale");
}
TEST_F(Gate, DeniesADatabaseFromTheFuture) {
  write_db("2027-11-24T10:00:00Z");
  EXPECT_EQ(only_code(), "db_from_future");
}
TEST_F(Gate, WarnsOfAnOldDatabase) {
  clock_.advance(hours{28});
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed);
  EXPECT_EQ(judged.warnings, std::vector<std::string>{"the vulnerability DB is 30 h old"});
}
TEST_F(Gate, DeniesAScratchImageUnlessItsLanguagePackagesAreRead) {
  parts_.os = "";
  parts_.packages = "";
  policy_.allow_scratch = true;
  EXPECT_EQ(only_code(), "scratch_no_packages");
  expect_passes_with("scratch_no_packages");
  parts_.more_results = R"({"Target":"app","Class":"lang-pkgs","Packages":[{"Name":"stdlib"}]})";
  EXPECT_TRUE(verdict().passed);
}
TEST_F(Gate, DeniesALyingDiffId) {
  const auto tar = fakes::alpine_layer("1");
  root_ = fakes::write_image_of(layout_, {{tar, "sha256:" + std::string(64, '1')}});
  EXPECT_EQ(only_code(), "diff_id_false");
  EXPECT_TRUE(scanner_.seen.empty());

  // Also where the leak scan stumbled over it first.
  leaks_.answer = [] { return LeakFindings{{{"leaks_not_searched", "x", false}}, {}}; };
  EXPECT_EQ(only_code(), "diff_id_false");
  root_ = fakes::write_image_of(layout_, {{tar, oci::Digest::of(tar).str()}});
  EXPECT_EQ(only_code(), "leaks_not_searched") << "control: nothing else is false";
}
TEST_F(Gate, ScansEveryImageOfAnIndexOnce) {
  const auto other = fakes::write_alpine(layout_, "3.3.2-r0", "arm64");
  const auto first = root_;
  root_ = fakes::write_index_of(layout_, first, other);

  EXPECT_TRUE(verdict().passed);

  EXPECT_EQ(scanner_.seen, (std::vector<oci::Digest>{first, other}));
}

TEST_F(Gate, RemembersAPassUntilSomethingChanges) {
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  EXPECT_EQ(scanner_.seen.size(), 1U);

  EXPECT_FALSE(verdict("reg:5000/other").from_cache);
  policy_.threshold = Severity::critical;
  EXPECT_FALSE(verdict().from_cache);
  scanner_.version_text = "fake 2";
  EXPECT_FALSE(verdict().from_cache);
  write_db("2026-11-24T11:00:00Z");
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  config_.misconfigurations = true; // another command line of the scanner
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  root_ = fakes::write_alpine(layout_, "3.3.3-r0");
  EXPECT_FALSE(verdict().from_cache);
}
TEST_F(Gate, ForgetsAPassSoonEnoughForAPushToEndBeforeIt) {
  EXPECT_FALSE(verdict().from_cache);
  clock_.advance(hours{24} - std::chrono::minutes{11});
  EXPECT_TRUE(verdict().from_cache);
  clock_.advance(std::chrono::minutes{1});
  const auto again = verdict();
  EXPECT_FALSE(again.from_cache);
  EXPECT_EQ(again.expires_at, clock_.now() + hours{24});
  // One that lives shorter is used for three quarters of its life.
  policy_.pass_lifetime = std::chrono::minutes{8};
  EXPECT_FALSE(verdict().from_cache);
  clock_.advance(std::chrono::minutes{5});
  EXPECT_TRUE(verdict().from_cache);
  clock_.advance(std::chrono::minutes{1});
  EXPECT_FALSE(verdict().from_cache);
}
TEST_F(Gate, EndsAPassWithItsDatabase) {
  policy_.pass_lifetime = hours{24 * 30};
  EXPECT_EQ(verdict().expires_at, at("2026-11-29T10:00:00Z"));
}
TEST_F(Gate, IgnoresASpoiltMemory) {
  EXPECT_FALSE(verdict().from_cache);
  for (const auto& entry : std::filesystem::directory_iterator(config_.cache_dir / "verdicts")) {
    auto text = read_file(entry.path(), 1 << 20);
    text->replace(text->find("alpine") != std::string::npos ? text->find("alpine")
                                                            : text->find("0.69.3"),
                  6, "xxxxxx");
    ASSERT_TRUE(replace_file(entry.path(), *text).ok());
  }
  EXPECT_FALSE(verdict().from_cache);
  for (const auto& entry : std::filesystem::directory_iterator(config_.cache_dir / "verdicts")) {
    ASSERT_TRUE(replace_file(entry.path(), "{").ok());
  }
  EXPECT_FALSE(verdict().from_cache);
}
TEST_F(Gate, NamesTheDatabaseThatAPassIsByAndReadsItOnce) {
  const auto digest = oci::Digest::of(*read_file(config_.db_dir / "trivy.db", 1 << 20)).str();
  EXPECT_EQ(verdict().db_digest, digest);
  EXPECT_EQ(verdict().db_digest, digest) << "of a remembered verdict";

  const auto note = config_.cache_dir / "trivy.db.digest";
  auto text = *read_file(note, 1024);
  const auto other = oci::Digest::of("not read again").str();
  ASSERT_TRUE(replace_file(note, text.replace(0, digest.size(), other)).ok());
  EXPECT_EQ(verdict("").db_digest, other);
  ASSERT_TRUE(replace_file(note, "spoilt").ok());
  EXPECT_EQ(verdict("").db_digest, digest);

  write_db("2026-11-24T11:00:00Z", "2", fakes::bolt_file({"alpine 3.21"}));
  EXPECT_EQ(verdict().db_digest,
            oci::Digest::of(*read_file(config_.db_dir / "trivy.db", 1 << 20)).str());
  EXPECT_NE(verdict().db_digest, digest);
}
TEST_F(Gate, DoesNotJudgeByADatabaseThatWasReplacedMeanwhile) {
  scanner_.answer = [this](const std::filesystem::path& dir,
                           const oci::Digest& manifest) -> Result<Scanner::Report> {
    write_db("2026-11-24T11:00:00Z");
    return Scanner::Report{.json = report_for(dir, manifest), .diagnostics = ""};
  };
  const auto judged =
      TrivyGate{config_, scanner_, leaks_, clock_}.judge(layout_, root_, policy_, "reg:5000/app");
  ASSERT_FALSE(judged.ok());
  EXPECT_EQ(judged.error().kind, ErrorKind::unavailable);
  EXPECT_NE(judged.error().what.find("was replaced meanwhile"), std::string::npos);
}
TEST_F(Gate, DoesNotTakeARememberedVerdictOfTheFuture) {
  clock_.advance(hours{2});
  EXPECT_TRUE(verdict().passed);
  EXPECT_TRUE(verdict().from_cache);
  clock_.advance(-hours{1}); // it was set back
  const auto again = verdict();
  EXPECT_TRUE(again.passed);
  EXPECT_FALSE(again.from_cache);
}

TEST_F(Gate, NamesAScannerOnlyWhereAReportOfItWasJudged) {
  EXPECT_EQ(verdict("").scanner, "trivy 0.69.3");
  scanner_.answer = [](const auto&, const auto&) -> Result<Scanner::Report> {
    return Error{ErrorKind::unavailable, "exit code 1", "", {}};
  };
  for (const auto& judged : {verdict(""), [this] {
                               root_ = *layout_.write_blob(R"({"layers":[],"layers":[]})");
                               return verdict("");
                             }()}) {
    EXPECT_FALSE(judged.passed);
    EXPECT_EQ(judged.scanner, "") << judged.for_people();
    EXPECT_EQ(judged.for_people().find("Vulnerabilities:"), std::string::npos)
        << judged.for_people();
  }
}

class KnownBadScanner : public Gate, public testing::WithParamInterface<const char*> {};
TEST_P(KnownBadScanner, IsNotBelieved) {
  parts_.trivy_version = GetParam();
  EXPECT_EQ(only_code(), "scanner_malicious");
  EXPECT_TRUE(verdict().could_not_judge());
  parts_.trivy_version = "0.69.3";
  EXPECT_TRUE(verdict().passed);
}
INSTANTIATE_TEST_SUITE_P(Trivy, KnownBadScanner, testing::Values("0.69.4", "0.69.5", "0.69.6"));

TEST_F(Gate, DoesNotRememberADenialNorAJudgementByHand) {
  EXPECT_FALSE(verdict("").from_cache);
  EXPECT_FALSE(verdict("").from_cache);
  parts_.vulnerabilities = vulnerability("HIGH", "9");
  EXPECT_FALSE(verdict().from_cache);
  parts_.vulnerabilities = "[]";
  EXPECT_TRUE(verdict().passed);
}
TEST_F(Gate, HandsOverALayoutThatOtherIdsCanRead) {
  std::vector<unsigned> modes;
  scanner_.answer = [&](const std::filesystem::path& dir,
                        const oci::Digest& manifest) -> Result<Scanner::Report> {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
      modes.push_back(static_cast<unsigned>(entry.status().permissions()) &
                      (entry.is_directory() ? 0005U : 0004U));
      EXPECT_EQ(modes.back(), entry.is_directory() ? 0005U : 0004U) << entry.path();
    }
    return Scanner::Report{.json = report_for(dir, manifest), .diagnostics = ""};
  };
  EXPECT_TRUE(verdict().passed);
  EXPECT_FALSE(modes.empty());
  // The scratch folder is gone; what is remembered stays.
  for (const auto& entry : std::filesystem::directory_iterator(config_.cache_dir)) {
    const auto name = entry.path().filename();
    EXPECT_TRUE(name == "verdicts" || name == "layers" || name == "trivy.db.digest") << name;
  }
}

TEST(TrivyArguments, AreHermetic) {
  const auto arguments = trivy_arguments("/l", oci::Digest::of("x"), "/c");
  const std::string text = [&] {
    std::string all;
    for (const auto& word : arguments)
      all += word + " ";
    return all;
  }();
  for (const char* part : {"--config /dev/null", "--ignorefile /dev/null", "--cache-backend memory",
                           "--skip-db-update", "--offline-scan",
                           "--severity UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL", "--exit-code 0"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
}

} // namespace
} // namespace slipway::gate
