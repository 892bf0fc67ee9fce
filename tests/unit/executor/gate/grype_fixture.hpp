// SPDX-License-Identifier: Apache-2.0
// The gate with a second scanner that answers with reports in Grype's format.
#pragma once

#include "tests/unit/executor/gate/gate_fixture.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>

namespace slipway::gate {

/// One of Grype's matches: an Alpine package in its installed version.
inline nlohmann::json grype_match(const std::string& id, const std::string& severity,
                                  const std::string& fixed,
                                  const std::string& package = "libssl3") {
  auto versions = nlohmann::json::array();
  if (!fixed.empty()) versions.push_back(fixed);
  return {{"vulnerability",
           {{"id", id},
            {"dataSource", "https://localhost/" + id},
            {"namespace", "alpine:distro:alpine:3.21"},
            {"severity", severity},
            {"description", "bad\nand long"},
            {"fix", {{"versions", versions}, {"state", fixed.empty() ? "not-fixed" : "fixed"}}}}},
          {"relatedVulnerabilities", nlohmann::json::array()},
          {"artifact",
           {{"name", package},
            {"version", "3.3.2-r0"},
            {"type", "apk"},
            {"purl", "pkg:apk/alpine/" + package + "@3.3.2-r0?arch=x86_64&distro=alpine-3.21.3"},
            {"locations", {{{"path", "/lib/apk/db/installed"}}}}}}};
}

class SecondOpinion : public Gate {
protected:
  SecondOpinion() {
    config_.grype = "/nonexistent/grype";
    config_.grype_sha256 = std::string(64, 'b');
    config_.grype_db_dir = dir_.path() / "grype-db";
    write_grype_db("one");
    second_.version_text = "fake grype 1";
    second_.answer = [this](const std::filesystem::path& dir,
                            const oci::Digest& manifest) -> Result<Scanner::Report> {
      return Scanner::Report{.json = grype_report(dir, manifest).dump(), .diagnostics = log_};
    };
  }

  void write_grype_db(const std::string& bytes) {
    const auto folder = config_.grype_db_dir / "6";
    std::filesystem::create_directories(folder);
    ASSERT_TRUE(replace_file(folder / "vulnerability.db", bytes, 0644).ok());
    ASSERT_TRUE(replace_file(folder / "import.json", "{}", 0644).ok());
  }
  nlohmann::json grype_report(const std::filesystem::path& dir, const oci::Digest& manifest) {
    const auto layout = oci::Layout::open(dir);
    const auto tree = oci::read_tree(*layout, manifest);
    const auto& image = tree->images.front();
    auto layers = nlohmann::json::array();
    for (const auto& digest : image.config->diff_ids)
      layers.push_back({{"digest", digest.str()}});
    nlohmann::json report{
        {"matches", matches_},
        {"source",
         {{"type", "image"},
          {"target", {{"imageID", image.manifest.config.digest.str()}, {"layers", layers}}}}},
        {"distro", {{"name", "alpine"}, {"version", "3.21.3"}}},
        {"descriptor",
         {{"name", "grype"}, {"version", "0.121.3"}, {"db", {{"status", {{"built", built_}}}}}}}};
    report.merge_patch(patch_);
    return report;
  }
  std::string code_with(const std::string& patch) {
    patch_ = nlohmann::json::parse(patch);
    auto code = only_code();
    patch_ = nlohmann::json::object();
    return code;
  }
  // The control: the same image without the second scanner.
  bool passes_without() {
    const auto program = std::exchange(config_.grype, "");
    const bool passed = verdict().passed;
    config_.grype = program;
    return passed;
  }

  nlohmann::json matches_ = nlohmann::json::array();
  nlohmann::json patch_ = nlohmann::json::object();
  std::string built_ = "2026-11-24T06:00:00Z";
  std::string log_ = "[0001]  INFO gathered packages packages=1 time=1.5s\n";
};

} // namespace slipway::gate
