// SPDX-License-Identifier: Apache-2.0
// Reports against the schemas that those who read them publish, by a validator of others.
#include "executor/base/file.hpp"
#include "executor/process/process.hpp"
#include "executor/report/report.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kHostile = "</title><script>x</script>\"'&\x1b[31m\nsection_end:1:x\r\xef\xbf\xbf"
                             "\xe2\x80\xae\xff %zz [a b] #?" +
                             std::string(3000, 'x');

gate::Finding finding(gate::FindingKind kind, const std::string& id, const std::string& words) {
  gate::Finding made;
  made.kind = kind;
  made.id = id;
  made.package = made.installed = made.fixed = made.title = made.target = made.note = words;
  made.threat = made.remedy = made.path = made.layer = made.made_by = words;
  made.url = "https://advisory.example/" + words;
  made.severity = gate::Severity::critical;
  made.blocks = made.os_package = true;
  return made;
}

gate::Inventory inventory(const std::string& of, const std::string& words) {
  return {.manifest = oci::Digest::of(of),
          .platform = "linux/" + of,
          .os_family = words,
          .os_name = words,
          .packages = {{words,
                        words,
                        "pkg:deb/debian/zlib1g@1.2.13-1",
                        words,
                        {"MIT", words},
                        {{"SrcName", words}}},
                       {words, words, "pkg:deb/" + words, words, {"(A AND B)", "GPL-2.0+"}, {}},
                       {"empty", "", "", "", {""}, {{"SrcName", ""}}}}};
}

gate::Verdict verdict(bool passed, const std::string& scanner, const std::string& words,
                      const std::vector<std::string>& platforms) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
  gate::Verdict made{.digest = oci::Digest::of("image")}; // the rest is its own defaults'
#pragma GCC diagnostic pop
  made.passed = passed;
  made.scanner = scanner;
  EXPECT_TRUE(parse_rfc3339("2026-11-27T10:11:12Z", made.judged_at));
  for (const auto& platform : platforms)
    made.inventories.push_back(inventory(platform, words));
  if (passed) return made;
  made.denials = {{"eol_os", words, false}, {"db_stale", words, true}};
  made.warnings = {words};
  made.allowed = {{"os_end_of_life", words, words, words, {}}};
  using gate::FindingKind;
  for (const auto kind : {FindingKind::vulnerability, FindingKind::secret,
                          FindingKind::misconfiguration, FindingKind::license}) {
    for (const std::string& id : {std::string{"CVE-2026-1"}, words, std::string{}}) {
      made.findings.push_back(finding(kind, id, words));
      made.findings.push_back(finding(kind, id, ""));
      made.findings.back().url = words;
      made.findings.back().waived = true;
      made.findings.back().found_by = "grype";
      made.findings.back().severity = gate::Severity::unknown;
    }
  }
  return made;
}

class Schemas : public ::testing::Test {
protected:
  void SetUp() override {
    const char* cache = std::getenv("SLIPWAY_CACHE");
    published_ = fs::path{cache == nullptr ? "/var/cache/slipway" : cache} / "tools/schemas";
    if (!fs::exists(published_))
      SLIPWAY_SKIP("no " + published_.string() + "; packaging/tools/build schemas makes it");
  }
  fs::path schema(Format format) const {
    return format == Format::gitlab  ? fs::path{SLIPWAY_TESTDATA} / "gitlab.json"
           : format == Format::sarif ? published_ / "sarif.json"
           : format == Format::spdx  ? published_ / "spdx.json"
                                     : published_ / "cyclonedx.json";
  }
  /// What the validator says of the documents; "" where all are valid.
  std::string complaints(Format format, const std::vector<std::string>& documents) {
    process::Command command;
    command.argv = {"/usr/bin/python3",
                    (fs::path{SLIPWAY_SOURCE_DIR} / "tests/lib/validate_report.py").string(),
                    schema(format)};
    for (const auto& document : documents) {
      const auto file = dir_.path() / (std::to_string(command.argv.size()) + ".json");
      EXPECT_TRUE(replace_file(file, document));
      command.argv.push_back(file);
    }
    command.deadline = std::chrono::minutes{2};
    const auto output = runner_.run(command);
    EXPECT_TRUE(output.ok());
    const auto said = output ? output->out + output->err : "";
    EXPECT_EQ(output && process::succeeded(output->ending), said.empty()) << said;
    return said;
  }
  fs::path published_;
  fakes::TempDir dir_;
  process::LocalRunner runner_;
};

constexpr Format kFormats[] = {Format::gitlab, Format::sarif, Format::cyclonedx, Format::spdx};

TEST_F(Schemas, EachReportIsAsItsFormatIsPublishedWhateverAnImageSays) {
  const Subject subjects[] = {
      {"reg.example/grp/app:1", "grp/app", "main", "buildkit v0.34.2, 1.2 s"},
      {"localhost:5000/" + std::string(230, 'a') + "@" + oci::Digest::of("image").str(), "", "",
       ""},
      {"192.0.2.1:5000/grp/app:1", "", "", ""},
      {kHostile, kHostile, kHostile, kHostile},
      {"", "", "", ""}};
  for (const auto format : kFormats) {
    std::vector<std::string> documents;
    for (const auto& subject : subjects) {
      for (const auto& judged :
           {verdict(true, "trivy 0.69.3", "words", {"amd64"}), verdict(true, "trivy", "", {}),
            verdict(false, "", kHostile, {}), verdict(false, "trivy 0.69.3", "words", {"amd64"}),
            verdict(false, "trivy 0.69.3", kHostile, {"amd64", "arm64"})})
        documents.push_back(render(format, judged, subject));
    }
    EXPECT_EQ(complaints(format, documents), "") << file_name(format);
  }
}

// The control: what is wrong in one of them is found.
TEST_F(Schemas, FindWhatIsWrong) {
  const struct {
    Format format;
    const char* member;
    json value;
    const char* says;
  } rows[] = {
      {Format::gitlab, "/scan/status", "passed", "scan/status: 'passed' is not one of"},
      {Format::gitlab, "/vulnerabilities/0/name", std::string(256, 'x'), "is too long"},
      {Format::gitlab, "/scan/start_time", "2026-11-27T10:11:12Z", "does not match"},
      {Format::gitlab, "/vulnerabilities/0/location/tag", "1", "'tag' was unexpected"},
      {Format::sarif, "/runs/0/results/0/level", "bad", "'bad' is not one of"},
      {Format::sarif, "/runs/0/tool/driver/rules/0/helpUri", "no address", "is not a 'uri'"},
      {Format::cyclonedx, "/serialNumber", "1", "does not match"},
      {Format::cyclonedx, "/components/0/licenses", json::parse(R"([{"license":{"id":"no"}}])"),
       "is not valid"},
      {Format::spdx, "/packages/0/primaryPackagePurpose", "IMAGE", "'IMAGE' is not one of"},
      {Format::spdx, "/packages/0/license", "MIT", "'license' was unexpected"}};
  for (const auto& row : rows) {
    auto document = json::parse(render(row.format, verdict(false, "trivy 1", "words", {"amd64"}),
                                       {"reg.example/app:1", "", "", ""}));
    EXPECT_EQ(complaints(row.format, {document.dump()}), "") << row.member;
    document[json::json_pointer{row.member}] = row.value;
    const auto said = complaints(row.format, {document.dump()});
    EXPECT_NE(said.find(row.says), std::string::npos) << row.member << ": " << said;
  }
}

} // namespace
} // namespace slipway::report
