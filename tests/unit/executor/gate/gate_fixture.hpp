// SPDX-License-Identifier: Apache-2.0
// The gate over a scanner that answers by a lambda, a DB of a few pages and a tiny Alpine image.
#pragma once

#include "executor/base/file.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/report.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/bolt_file.hpp"
#include "tests/fakes/fake_leak_scanner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace slipway::gate {

using std::chrono::hours;

inline WallTime at(const char* text) {
  WallTime time;
  EXPECT_TRUE(parse_rfc3339(text, time));
  return time;
}

// Answers from a lambda; remembers what it was given.
class FakeScanner final : public Scanner {
public:
  std::vector<oci::Digest> seen;
  std::string version_text = "fake 1";
  std::function<Result<Report>(const std::filesystem::path&, const oci::Digest&)> answer;
  Result<Report> scan(const std::filesystem::path& dir, const oci::Digest& manifest) override {
    seen.push_back(manifest);
    return answer(dir, manifest);
  }
  std::vector<std::string> sboms; ///< those that it was given
  std::function<Result<Report>()> sbom_answer;
  Result<Report> scan_sbom(const std::filesystem::path& dir) override {
    sboms.push_back(*read_file(dir / kSbomFile, 1UL << 20));
    return sbom_answer();
  }
  std::string version() const override { return version_text; }
};

// The package of an image that was made to be found; "" for all others.
inline std::string canary_in(const std::filesystem::path& dir, const oci::Digest& manifest) {
  const auto layout = oci::Layout::open(dir);
  const auto tree = oci::read_tree(*layout, manifest);
  const auto layer =
      *layout->read_blob(tree->images.front().manifest.layers.front().digest, 1UL << 20);
  if (layer.find("T:canary") == std::string::npos &&
      layer.find("Description: canary") == std::string::npos)
    return "";
  for (const std::string mark : {"P:", "Package: "}) {
    const auto at = layer.find(mark);
    if (at == std::string::npos) continue;
    const auto begin = at + mark.size();
    return layer.substr(begin, layer.find('\n', begin) - begin);
  }
  return "";
}

struct ReportParts {
  std::string os = R"({"Family":"alpine","Name":"3.21.3"})";
  std::string packages = R"([{"Name":"libssl3"}])";
  std::string vulnerabilities = "[]";
  std::string more_results;
  int schema = 2;
  std::string trivy_version = "0.69.3";
  std::string image_id;
  std::string diff_ids;
};

inline std::string vulnerability(const std::string& severity, const std::string& fixed,
                                 const std::string& id = "CVE-2024-1") {
  return R"([{"VulnerabilityID":")" + id +
         R"(","PkgName":"libssl3","InstalledVersion":"3.3.2-r0","FixedVersion":")" + fixed +
         R"(","Severity":")" + severity + R"(","Title":"bad"}])";
}

class Gate : public testing::Test {
protected:
  Gate() {
    config_.trivy = "/nonexistent/trivy";
    config_.trivy_sha256 = std::string(64, 'a');
    config_.db_dir = dir_.path() / "db";
    config_.cache_dir = dir_.path() / "verdicts";
    config_.canaries =
        false; // this scanner finds what the test says; canary_test.cpp is about them
    write_db("2026-11-24T10:00:00Z");
    scanner_.answer = [this](const std::filesystem::path& dir,
                             const oci::Digest& manifest) -> Result<Scanner::Report> {
      return Scanner::Report{.json = report_for(dir, manifest), .diagnostics = diagnostics_};
    };
  }

  void write_db(const std::string& updated, const std::string& version = "2",
                const std::string& bytes = fakes::bolt_file({"alpine 3.21", "debian 12"})) {
    std::filesystem::create_directories(config_.db_dir);
    ASSERT_TRUE(replace_file(config_.db_dir / "trivy.db", bytes, 0644).ok());
    ASSERT_TRUE(replace_file(config_.db_dir / "metadata.json",
                             "{\"Version\":" + version + ",\"UpdatedAt\":\"" + updated + "\"}",
                             0644)
                    .ok());
  }
  std::string report_for(const std::filesystem::path& dir, const oci::Digest& manifest) const {
    const auto layout = oci::Layout::open(dir);
    const auto tree = oci::read_tree(*layout, manifest);
    std::string diff_ids;
    for (const auto& digest : tree->images.front().config->diff_ids)
      diff_ids += (diff_ids.empty() ? "\"" : ",\"") + digest.str() + "\"";
    const auto id = parts_.image_id.empty() ? tree->images.front().manifest.config.digest.str()
                                            : parts_.image_id;
    return "{\"SchemaVersion\":" + std::to_string(parts_.schema) + ",\"Trivy\":{\"Version\":\"" +
           parts_.trivy_version + "\"},\"Metadata\":{" +
           (parts_.os.empty() ? "" : "\"OS\":" + parts_.os + ",") + "\"ImageID\":\"" + id +
           "\",\"DiffIDs\":[" + (parts_.diff_ids.empty() ? diff_ids : parts_.diff_ids) +
           "]},\"Results\":[" +
           (parts_.packages.empty()
                ? ""
                : "{\"Target\":\"/x (alpine)\",\"Class\":\"os-pkgs\",\"Packages\":" +
                      parts_.packages + ",\"Vulnerabilities\":" + parts_.vulnerabilities + "}") +
           parts_.more_results + "]}";
  }
  Verdict verdict(const std::string& repository = "reg:5000/app") {
    auto judged = TrivyGate{config_, scanner_, leaks_, clock_, &second_}.judge(layout_, root_,
                                                                               policy_, repository);
    EXPECT_TRUE(judged.ok()) << judged.error().text();
    EXPECT_EQ(judged->pass.has_value(), judged->verdict.passed && !repository.empty());
    return judged->verdict;
  }
  config::Allowance allowance(const std::string& code, const char* until = "2027-01-01T00:00:00Z") {
    return {"p.toml:1", code, {"reg:5000/*"}, "team-x", "still in use", at(until)};
  }
  config::Waiver waiver(const std::string& id, const char* until = "2027-01-01T00:00:00Z") {
    config::Waiver made;
    made.origin = "p.toml:1";
    made.id = id;
    made.repositories = {"reg:5000/*"};
    made.owner = "team-x";
    made.ticket = "OPS-1";
    made.reason = "not reachable";
    made.expires = at(until);
    return made;
  }
  // The control of an attack: with this row allowed, the same image passes, and the verdict tells.
  void expect_passes_with(const std::string& code) {
    policy_.allowances = {allowance(code)};
    const auto judged = verdict();
    EXPECT_TRUE(judged.passed) << judged.for_people();
    ASSERT_EQ(judged.allowed.size(), 1U) << judged.for_people();
    EXPECT_EQ(judged.allowed.front().code, code);
    EXPECT_LE(judged.expires_at, judged.allowed.front().until);
    policy_.allowances.clear();
  }
  std::string only_code() {
    const auto judged = verdict();
    EXPECT_FALSE(judged.passed);
    EXPECT_EQ(judged.denials.size(), 1U) << judged.for_people();
    return judged.denials.empty() ? "" : judged.denials.front().code;
  }

  fakes::TempDir dir_;
  ScannerConfig config_;
  FakeScanner scanner_;
  FakeScanner second_; ///< asked where config_ names one
  fakes::FakeLeakScanner leaks_;
  FixedClock clock_{at("2026-11-24T12:00:00Z")};
  GatePolicy policy_;
  ReportParts parts_;
  std::string diagnostics_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
  oci::Digest root_ = fakes::write_alpine(layout_, "3.3.2-r0");
};

} // namespace slipway::gate
