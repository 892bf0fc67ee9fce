// SPDX-License-Identifier: Apache-2.0
// What is no image and passes by policy; and images that would like to pass so.
#include "executor/oci/artifact.hpp"
#include "tests/fakes/streams.hpp"
#include "tests/unit/executor/gate/gate_fixture.hpp"

#include <algorithm>

namespace slipway::gate {
namespace {

constexpr const char* kChart = "application/vnd.cncf.helm.config.v1+json";
constexpr const char* kChartContent = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
constexpr const char* kImageConfig = "application/vnd.oci.image.config.v1+json";
constexpr const char* kEmpty = "application/vnd.oci.empty.v1+json";
constexpr const char* kSignature = "application/vnd.dev.cosign.simplesigning.v1+json";

class Artifacts : public Gate {
protected:
  struct Part {
    std::string type;
    std::string bytes;
  };
  oci::Digest write(const Part& config, const std::vector<Part>& layers,
                    const std::string& artifact_type = "") {
    const auto blob = [this](const Part& part) {
      return fakes::descriptor_json(part.type.c_str(), layout_.write_blob(part.bytes)->str(),
                                    part.bytes.size());
    };
    std::string listed;
    for (const auto& layer : layers)
      listed += (listed.empty() ? "" : ",") + blob(layer);
    return *layout_.write_blob(
        std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciManifest + "\"," +
        (artifact_type.empty() ? "" : R"("artifactType":")" + artifact_type + "\",") +
        "\"config\":" + blob(config) + ",\"layers\":[" + listed + "]}");
  }
  /// As an image's, with these bytes as its one layer.
  static std::string image_config(const std::string& layer) {
    return R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
           oci::Digest::of(layer).str() + "\"]}}";
  }
  void use(const oci::Digest& root) { root_ = root; }
  void expect_passes() {
    const auto judged = verdict();
    EXPECT_TRUE(judged.passed) << judged.for_people();
  }

  const std::string tar_ = std::string(10240, '\0');
};

TEST_F(Artifacts, AChartPassesWhereTheRuleNamesItsType) {
  use(write({kChart, R"({"name":"web","version":"1.0.0"})"}, {{kChartContent, "chart"}}));
  policy_.artifacts = {kChart};

  const auto judged = verdict();

  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_TRUE(scanner_.seen.empty());
  EXPECT_EQ(leaks_.seen.size(), 1U) << "leaked secrets are searched for in everything";
  EXPECT_TRUE(std::any_of(judged.warnings.begin(), judged.warnings.end(), [](const auto& line) {
    return line.find("is an artifact of type '" + std::string{kChart}) != std::string::npos;
  }));
}

TEST_F(Artifacts, NoTypePassesThatNoRuleNames) {
  use(write({kChart, "{}"}, {{kChartContent, "chart"}}));

  EXPECT_EQ(only_code(), "not_an_image");

  policy_.artifacts = {"application/vnd.example.sbom+json"};
  EXPECT_EQ(only_code(), "not_an_image");
  EXPECT_NE(verdict().denials.front().message.find("artifacts = [\"" + std::string{kChart}),
            std::string::npos);
}

TEST_F(Artifacts, AVerdictIsForgottenWhenTheRuleNamesTheTypeNoLonger) {
  use(write({kChart, "{}"}, {{kChartContent, "chart"}}));
  policy_.artifacts = {kChart};
  expect_passes();

  policy_.artifacts.clear();

  EXPECT_EQ(only_code(), "not_an_image");
}

TEST_F(Artifacts, ALeakedSecretDeniesThemAsItDeniesImages) {
  use(write({kChart, "{}"}, {{kChartContent, "chart"}}));
  policy_.artifacts = {kChart};
  leaks_.answer = [] {
    return LeakFindings{{{"secret_leaked", "The value of TOKEN is in it.", false}}, {}};
  };

  EXPECT_EQ(only_code(), "secret_leaked");
}

TEST_F(Artifacts, ASignatureOfCosignIsCalledByItsLayers) {
  const std::string statement = R"({"critical":{"type":"cosign container image signature"}})";
  use(write({kImageConfig, image_config(statement)}, {{kSignature, statement}}));
  policy_.artifacts = {kSignature};
  expect_passes();

  policy_.artifacts.clear();
  EXPECT_EQ(only_code(), "layer_type_unknown");
}

TEST_F(Artifacts, AnImageIsStillScannedBesideThem) {
  const auto image = root_;
  const auto chart = write({kChart, "{}"}, {{kChartContent, "chart"}});
  const auto child = [&](const oci::Digest& digest) {
    return fakes::descriptor_json(oci::kMediaTypeOciManifest, digest.str(),
                                  *layout_.blob_size(digest));
  };
  use(*layout_.write_blob(std::string{R"({"schemaVersion":2,"mediaType":")"} +
                          oci::kMediaTypeOciIndex + R"(","manifests":[)" + child(image) + "," +
                          child(chart) + "]}"));
  policy_.artifacts = {kChart};
  expect_passes();
  EXPECT_EQ(scanner_.seen.size(), 1U);

  parts_.vulnerabilities = vulnerability("CRITICAL", "9");
  policy_.threshold = Severity::critical; // another verdict than the one that is remembered
  EXPECT_FALSE(verdict().passed);
}

// Attacks: an image that the scanner denies, called something that it is not asked about. Docker
// takes types of configs that say nothing, and unpacks layers by their first bytes.
TEST_F(Artifacts, AnImageWithTheConfigTypeOfAChart) {
  use(write({kChart, image_config(tar_)}, {{"application/vnd.oci.image.layer.v1.tar", tar_}}));
  policy_.artifacts = {kChart};
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kChart, "{}"}, {{kChartContent, tar_}})); // without the trick
  expect_passes();
}

TEST_F(Artifacts, AnImageWhoseConfigAndLayersAreCalledAChart) {
  use(write({kChart, image_config(tar_)}, {{kChartContent, tar_}}));
  policy_.artifacts = {kChart};
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kChart, R"({"RootFS":{}})"}, {{kChartContent, tar_}})); // as Go would read it too
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kChart, R"({"name":"web"})"}, {{kChartContent, tar_}}));
  expect_passes();
}

TEST_F(Artifacts, AnImageWhoseConfigOnlySomeReadersUnderstand) {
  policy_.artifacts = {kChart};
  for (const auto& config : {image_config(tar_) + " x", "\xEF\xBB\xBF" + image_config(tar_),
                             R"({"author":")"
                             "\xFF"
                             R"(",)" +
                                 image_config(tar_).substr(1),
                             R"({"rootfs":1,)" + image_config(tar_).substr(1)}) {
    use(write({kChart, config}, {{kChartContent, tar_}}));
    EXPECT_EQ(only_code(), "artifact_disguise") << config;
  }
  use(write({kChart, std::string(oci::kMaxConfigBytes + 1, ' ')}, {{kChartContent, tar_}}));
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kChart, "no JSON at all"}, {{kChartContent, tar_}}));
  expect_passes();
}

TEST_F(Artifacts, AnImageWhoseLayersAreCalledASignature) {
  use(write({kImageConfig, image_config(tar_)}, {{kSignature, tar_}}));
  policy_.artifacts = {kSignature};
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kImageConfig, image_config("{}")}, {{kSignature, "{}"}}));
  expect_passes();
}

TEST_F(Artifacts, ADocumentThatIsATarToo) {
  auto text = fakes::document_and_tar();
  use(write({kImageConfig, image_config(text)}, {{kSignature, text}}));
  policy_.artifacts = {kSignature};
  EXPECT_EQ(only_code(), "artifact_disguise");

  text[150] = text[150] == '7' ? '6' : '7'; // another sum
  use(write({kImageConfig, image_config(text)}, {{kSignature, text}}));
  expect_passes();
}

TEST_F(Artifacts, AnArtifactTypeOnAnImage) {
  use(write({kImageConfig, image_config(tar_)}, {{"application/vnd.oci.image.layer.v1.tar", tar_}},
            kChart));
  policy_.artifacts = {kChart};
  EXPECT_EQ(only_code(), "artifact_disguise");
  EXPECT_EQ(scanner_.seen.size(), 0U);
}

TEST_F(Artifacts, AnEmptyConfigOverLayersOfAnImage) {
  use(write({kEmpty, "{}"}, {{"application/vnd.oci.image.layer.v1.tar", tar_}}, kChart));
  policy_.artifacts = {kChart};
  EXPECT_EQ(only_code(), "artifact_disguise");

  use(write({kEmpty, "{}"}, {{kChartContent, tar_}}, kChart));
  expect_passes();
}

TEST_F(Artifacts, NoRuleCanNameTheTypesOfImages) {
  for (const char* type :
       {kImageConfig, "application/vnd.docker.container.image.v1+json", "application/octet-stream",
        "text/html", "application/vnd.oci.image.layer.v1.tar+gzip", kEmpty, "chart", ""})
    EXPECT_FALSE(oci::may_be_artifact(type)) << type;
  EXPECT_TRUE(oci::may_be_artifact(kChart));
}

} // namespace
} // namespace slipway::gate
