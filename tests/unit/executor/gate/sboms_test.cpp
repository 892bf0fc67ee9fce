// SPDX-License-Identifier: Apache-2.0
// Images from scratch whose program no scanner can read, and the SBOMs that policy owners sign for
// them.
#include "executor/gate/sboms.hpp"
#include "tests/fakes/signing_key.hpp"
#include "tests/unit/executor/gate/grype_fixture.hpp"

#include <nlohmann/json.hpp>

namespace slipway::gate {
namespace {

using nlohmann::json;

const oci::Digest kApp = oci::Digest::of("app");
const oci::Digest kTool = oci::Digest::of("tool");

json file_named(const oci::Digest& digest) {
  return {{"type", "file"},
          {"name", "app"},
          {"hashes", json::array({{{"alg", "SHA-256"}, {"content", digest.hex()}}})}};
}

std::string cyclonedx(const std::vector<json>& components) {
  return json{{"bomFormat", "CycloneDX"}, {"specVersion", "1.6"}, {"components", components}}
      .dump();
}

class GateSboms : public SecondOpinion {
protected:
  GateSboms() {
    config_.grype.clear();
    parts_.os.clear();
    parts_.packages.clear();
    policy_.allow_scratch = true;
    leaks_.can_be_executed = [this] { return executables_; };
    scanner_.sbom_answer = [this]() -> Result<Scanner::Report> {
      return Scanner::Report{.json = sbom_report_, .diagnostics = ""};
    };
    write(key_file_, key_.public_pem());
    policy_.sboms.keys = {key_file_};
  }
  void write(const std::filesystem::path& file, const std::string& text) {
    ASSERT_TRUE(replace_file(file, text, 0644).ok());
  }
  /// A signed document, among those that policy names.
  std::filesystem::path give(const std::string& text, const std::string& name = "app.cdx.json") {
    const auto file = dir_.path() / name;
    write(file, text);
    write(file.string() + ".sig", key_.sign(text));
    auto& files = policy_.sboms.files;
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
    return file;
  }
  void look_up_finds(const std::string& vulnerabilities,
                     const std::string& packages = R"([{"Name":"zlib","Version":"1.3"}])",
                     const std::string& more = "") {
    sbom_report_ = R"({"SchemaVersion":2,"Trivy":{"Version":"0.69.3"},"Metadata":{)" + more +
                   R"(},"Results":[{"Target":"C","Class":"lang-pkgs","Packages":)" + packages +
                   R"(,"Vulnerabilities":)" + vulnerabilities + "}]}";
  }
  /// Nothing is known of the image, and the verdict says this of why.
  void expect_unknown(const std::string& words) {
    const auto judged = verdict();
    EXPECT_FALSE(judged.passed);
    ASSERT_EQ(judged.denials.size(), 1U) << judged.for_people();
    EXPECT_EQ(judged.denials.front().code, "scratch_no_packages");
    EXPECT_NE(judged.for_people().find(words), std::string::npos) << judged.for_people();
    EXPECT_TRUE(scanner_.sboms.empty());
  }
  /// The control: the same image with all its executables in a document that counts.
  void expect_passes_otherwise() {
    give(cyclonedx({file_named(kApp), file_named(kTool)}));
    const auto judged = verdict();
    EXPECT_TRUE(judged.passed) << judged.for_people();
  }

  fakes::SigningKey key_ = fakes::SigningKey::ec("P-256");
  std::filesystem::path key_file_ = dir_.path() / "owner.pub";
  std::vector<oci::Executable> executables_{{"app", kApp}};
  std::string sbom_report_ =
      R"({"SchemaVersion":2,"Trivy":{"Version":"0.69.3"},"ArtifactType":"cyclonedx","Results":[{"Target":"C",)"
      R"("Class":"lang-pkgs","Packages":[{"Name":"zlib","Version":"1.3"}]}]})";
};

TEST_F(GateSboms, APackageThatTheyNameIsLookedUp) {
  const auto text = cyclonedx({file_named(kApp)});
  give(text);

  const auto judged = verdict();

  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_EQ(scanner_.sboms, std::vector<std::string>{text});
  ASSERT_EQ(judged.inventories.size(), 1U);
  EXPECT_EQ(judged.inventories.front().packages.at(0).name, "zlib");
  EXPECT_NE(judged.for_people().find("by what the SBOM app.cdx.json (signed with owner.pub) names"),
            std::string::npos)
      << judged.for_people();
}
TEST_F(GateSboms, AndBlocksWhereItIsVulnerable) {
  give(cyclonedx({file_named(kApp)}));
  look_up_finds(vulnerability("HIGH", "1.4"));

  const auto judged = verdict();

  EXPECT_FALSE(judged.passed);
  EXPECT_TRUE(judged.findings.at(0).blocks);
  EXPECT_NE(judged.findings.at(0).target.find("app.cdx.json"), std::string::npos);
}
TEST_F(GateSboms, AskTheSecondScannerToo) {
  config_.grype = "/nonexistent/grype";
  log_ = "[0001]  INFO gathered packages packages=0 time=1.5s\n";
  patch_["distro"] = {{"name", ""}, {"version", ""}};
  auto matches = json::array();
  second_.sbom_answer = [&]() -> Result<Scanner::Report> {
    const json report{
        {"matches", matches},
        {"source", {{"type", "sbom-file"}, {"target", "/opt/layout/sbom.json"}}},
        {"distro", {{"name", ""}}},
        {"descriptor",
         {{"name", "grype"}, {"version", "0.121.3"}, {"db", {{"status", {{"built", built_}}}}}}}};
    return Scanner::Report{.json = report.dump(),
                           .diagnostics = "[0001]  INFO gathered packages packages=1 time=1s\n"};
  };
  give(cyclonedx({file_named(kApp)}));
  EXPECT_TRUE(verdict("").passed) << verdict("").for_people();
  matches.push_back(grype_match("CVE-2024-9", "High", "1.4"));

  const auto judged = verdict("");

  EXPECT_FALSE(judged.passed);
  EXPECT_EQ(judged.findings.at(0).id, "CVE-2024-9");
}
TEST_F(GateSboms, AProgramThatTheScannerReadNeedsNone) {
  const auto read = [this](const char* type) {
    parts_.more_results = std::string{R"({"Target":"app","Class":"lang-pkgs","Type":")"} + type +
                          R"(","Packages":[{"Name":"stdlib","Version":"1.24"}]})";
  };
  policy_.sboms.files = {dir_.path() / "none.json"};
  read("gobinary");
  EXPECT_TRUE(verdict("").passed) << verdict("").for_people();
  executables_.push_back({"usr/bin/tool", kTool});
  expect_unknown("and a program of which nothing is known, was found in");
  executables_.pop_back();
  read("node-pkg"); // anybody may write down that there is one
  expect_unknown("none names app");
}
TEST_F(GateSboms, OneThatLiesInTheImageIsNoneOfThem) {
  const auto said_by = [this](const char* analyzer) {
    parts_.more_results =
        std::string{R"({"Target":"x.cdx.json","Class":"lang-pkgs","Packages":[)"} +
        R"({"Name":"zlib","Version":"1.3","AnalyzedBy":")" + analyzer + "\"}]}";
  };
  said_by("sbom");
  EXPECT_EQ(only_code(), "scratch_no_packages");
  said_by("gobinary"); // policy names no document, so executables are not asked for
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateSboms, AnExecutableThatNoneNamesIsUnknown) {
  give(cyclonedx({file_named(kApp)}));
  executables_.push_back({"usr/bin/tool", kTool});
  expect_unknown("none names usr/bin/tool (" + kTool.str() + ").");
  executables_.push_back({"usr/bin/third", oci::Digest::of("3")});
  expect_unknown(", nor 1 more executables.");
  executables_.pop_back();
  expect_passes_otherwise();
}
TEST_F(GateSboms, SeveralMayNameThemTogether) {
  executables_.push_back({"usr/bin/tool", kTool});
  give(cyclonedx({file_named(kApp)}));
  give(cyclonedx({file_named(kTool)}), "tool.cdx.json");
  give(cyclonedx({file_named(oci::Digest::of("another"))}), "other.cdx.json");

  EXPECT_TRUE(verdict().passed);

  EXPECT_EQ(scanner_.sboms.size(), 2U) << "those that name none of them are not asked";
}
TEST_F(GateSboms, ADocumentThatNobodySignedCoversNothing) {
  const auto file = give(cyclonedx({file_named(kApp)}));
  std::filesystem::remove(file.string() + ".sig");
  expect_unknown("its signature: no such file");
  expect_passes_otherwise();
}
TEST_F(GateSboms, ADocumentThatWasChangedAfterItWasSignedCoversNothing) {
  const auto file = give(cyclonedx({file_named(kTool)}));
  write(file, cyclonedx({file_named(kApp)}));
  expect_unknown("of none of sbom_keys, or of another content");
  expect_passes_otherwise();
}
TEST_F(GateSboms, ADocumentThatSomebodyElseSignedCoversNothing) {
  const auto text = cyclonedx({file_named(kApp)});
  const auto file = give(text);
  write(file.string() + ".sig", fakes::SigningKey::ec("P-256").sign(text));
  expect_unknown("of none of sbom_keys");
  expect_passes_otherwise();
}
TEST_F(GateSboms, WhatTheScannerCannotLookUpIsUnknownToo) {
  give(cyclonedx({file_named(kApp)}));
  look_up_finds("[]", "[]");
  EXPECT_EQ(only_code(), "scratch_no_packages");
  look_up_finds("[]", "[]", R"("OS":{"Family":"arch","Name":""})");
  EXPECT_EQ(only_code(), "os_unsupported");
  look_up_finds("[]", "[]", R"("OS":{"Family":"alpine","Name":"3.2"})");
  EXPECT_FALSE(verdict().passed) << "no package, and a release that nobody knows";
  look_up_finds("[]");
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateSboms, HelpNoImageWhoseScratchPolicyDoesNotAllow) {
  give(cyclonedx({file_named(kApp)}));
  policy_.allow_scratch = false;
  EXPECT_EQ(only_code(), "no_os");
  policy_.allow_scratch = true;
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateSboms, ExecutablesThatCannotBeToldAreUnknown) {
  give(cyclonedx({file_named(kApp)}));
  leaks_.can_be_executed = []() -> Result<std::vector<oci::Executable>> {
    return Error{ErrorKind::bad_input, "a link to nothing", "", {}};
  };
  expect_unknown("Its executables cannot be told: a link to nothing.");
  leaks_.can_be_executed = [] { return std::vector<oci::Executable>{}; };
  expect_unknown("It has no executable.");
  leaks_.can_be_executed = [this] { return executables_; };
  expect_passes_otherwise();
}
TEST_F(GateSboms, AScannerThatGivesNoReportOnOneDenies) {
  give(cyclonedx({file_named(kApp)}));
  scanner_.sbom_answer = []() -> Result<Scanner::Report> {
    return Error{ErrorKind::timed_out, "too slow", "", {}};
  };
  EXPECT_EQ(only_code(), "scanner_timed_out");
  scanner_.sbom_answer = []() -> Result<Scanner::Report> {
    return Scanner::Report{.json = "{}", .diagnostics = ""};
  };
  EXPECT_EQ(only_code(), "report_invalid");
}
TEST_F(GateSboms, ARememberedPassIsForgottenWithEachByteOfThem) {
  const auto file = give(cyclonedx({file_named(kApp)}));
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  give(cyclonedx({file_named(kApp), file_named(kTool)}));
  EXPECT_FALSE(verdict().from_cache);
  EXPECT_TRUE(verdict().from_cache);
  std::filesystem::remove(file.string() + ".sig");
  EXPECT_FALSE(verdict().passed);
}

TEST(SbomHashes, AreThoseOfFilesAndComponentsAtAnyDepth) {
  const auto hashes = [](const std::string& text) {
    auto read = hashes_of_sbom(text);
    EXPECT_TRUE(read.ok()) << read.error().text();
    return read ? *read : std::set<std::string>{};
  };
  auto nested = file_named(kApp);
  nested["components"] = json::array({file_named(kTool)});
  EXPECT_EQ(hashes(cyclonedx({nested})), (std::set<std::string>{kApp.hex(), kTool.hex()}));
  EXPECT_EQ(hashes(json{{"bomFormat", "CycloneDX"}, {"metadata", {{"component", nested}}}}.dump()),
            (std::set<std::string>{kApp.hex(), kTool.hex()}));
  const auto sum = [](const char* algorithm, std::string value) {
    return json{{"checksums",
                 json::array({{{"algorithm", algorithm}, {"checksumValue", std::move(value)}}})}};
  };
  auto upper = kApp.hex();
  for (auto& c : upper)
    c = static_cast<char>(::toupper(c));
  EXPECT_EQ(hashes(json{{"spdxVersion", "SPDX-2.3"},
                        {"files", json::array({sum("SHA256", upper), sum("SHA1", "x")})},
                        {"packages", json::array({sum("SHA256", kTool.hex())})}}
                       .dump()),
            (std::set<std::string>{kApp.hex(), kTool.hex()}));
}
TEST(SbomHashes, SaysWhatIsWrongWithADocument) {
  const struct {
    std::string text;
    const char* says;
  } rows[] = {
      {"[]", "no JSON object"},
      {"{", "SBOM"},
      {"{}", "neither CycloneDX nor SPDX 2"},
      {R"({"bomFormat":1})", "type"},
      {R"({"spdxVersion":"SPDX-3.0"})", "neither"},
      {R"({"bomFormat":"CycloneDX","components":{}})", "components is no list"},
      {R"({"bomFormat":"CycloneDX","components":[{"hashes":[{"alg":"SHA-256"}]}]})", "content"},
      {R"({"bomFormat":"CycloneDX","components":[{"hashes":[{"alg":"SHA-256","content":"12"}]}]})",
       "a value of SHA-256 is none: 12"},
      {R"({"bomFormat":"CycloneDX","bomFormat":"CycloneDX"})", "bomFormat"},
  };
  for (const auto& row : rows) {
    const auto read = hashes_of_sbom(row.text);
    ASSERT_FALSE(read.ok()) << row.text;
    EXPECT_EQ(read.error().kind, ErrorKind::bad_input);
    EXPECT_NE(read.error().text().find(row.says), std::string::npos) << read.error().text();
  }
}

} // namespace
} // namespace slipway::gate
