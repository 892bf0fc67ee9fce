// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/origins.hpp"
#include "executor/gate/report.hpp"

#include <gtest/gtest.h>

namespace slipway::gate {
namespace {

oci::Descriptor blob(const std::string& text) {
  return {"application/octet-stream", oci::Digest::of(text), 1, {}, {}, "", false};
}

oci::ImageTree::Image image_of(const std::vector<std::string>& commands) {
  oci::ImageTree::Image image{
      blob("manifest"), {"", "", blob("config"), {}, {}, false}, oci::ImageConfig{}, false, false};
  for (const auto& command : commands) {
    image.manifest.layers.push_back(blob("layer " + command));
    image.config->diff_ids.push_back(oci::Digest::of(command));
    image.config->history.push_back({"", command, "", false});
    image.config->history.push_back({"", "ENV A=b", "", true});
  }
  return image;
}

// What is told of something found in the layer that COMMAND made.
Finding found_in(const std::string& command, const oci::ImageTree::Image& image) {
  std::vector<Finding> findings(1);
  findings.front().layer = oci::Digest::of(command).str();
  Origins{image}.name(findings);
  return findings.front();
}

TEST(Origins, AreLayerAndInstruction) {
  const std::string run = "RUN /bin/sh -c pip install PyYAML==5.3 # buildkit";
  const auto finding = found_in(run, image_of({"ADD file:1 in /", run}));

  EXPECT_EQ(finding.layer, oci::Digest::of("layer " + run).str());
  EXPECT_EQ(finding.made_by, "RUN /bin/sh -c pip install PyYAML==5.3");
}

TEST(Origins, HoldNoBuildArguments) {
  for (const std::string run : {"RUN |2 TOKEN=s3cret A=b c /bin/sh -c make # buildkit",
                                "|2 TOKEN=s3cret A=b c /bin/sh -c make"})
    EXPECT_EQ(found_in(run, image_of({run})).made_by, "RUN /bin/sh -c make");
  const std::string other = "RUN |1 TOKEN=s3cret make";
  EXPECT_EQ(found_in(other, image_of({other})).made_by, "RUN, with build arguments");
}

TEST(Origins, OfNoLayerOfTheImageAreNone) {
  const auto finding = found_in("another image's", image_of({"COPY a b"}));

  EXPECT_EQ(finding.layer, "");
  EXPECT_EQ(finding.made_by, "");
}

TEST(Origins, WithoutAHistoryOfAllLayersAreTheLayersAlone) {
  auto image = image_of({"COPY a b", "COPY c d"});
  image.config->history.pop_back();
  image.config->history.pop_back();
  const auto finding = found_in("COPY a b", image);

  EXPECT_EQ(finding.layer, oci::Digest::of("layer COPY a b").str());
  EXPECT_EQ(finding.made_by, "");
}

TEST(Origins, AreAskedForByTheReportsDiffIds) {
  const auto report =
      parse_report(R"({"SchemaVersion":2,"Metadata":{},"Results":[{"Class":"lang-pkgs",
      "Vulnerabilities":[{"VulnerabilityID":"CVE-2020-14343","Layer":{"DiffID":"sha256:b"}}],
      "Secrets":[{"RuleID":"key","Layer":{"DiffID":"sha256:c"}}]}]})");

  ASSERT_TRUE(report.ok()) << report.error().text();
  ASSERT_EQ(report->findings.size(), 2U);
  EXPECT_EQ(report->findings[0].layer, "sha256:b");
  EXPECT_EQ(report->findings[1].layer, "sha256:c");
}

} // namespace
} // namespace slipway::gate
