// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/manifest.hpp"
#include "executor/oci/platform.hpp"
#include "executor/oci/strict_json.hpp"

#include <gtest/gtest.h>

namespace slipway::oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string descriptor(const std::string& type, const std::string& more = "") {
  return "{\"mediaType\":\"" + type + "\",\"digest\":\"" + kDigest + "\",\"size\":2" + more + "}";
}
std::string manifest(const std::string& more = "", const std::string& layers = "") {
  return "{\"schemaVersion\":2,\"config\":" + descriptor("c") + ",\"layers\":[" + layers + "]" +
         more + "}";
}

TEST(Manifest, ReadsAnImageManifest) {
  auto parsed = parse_manifest(manifest(
      ",\"artifactType\":\"t\",\"annotations\":{\"a\":\"b\"},\"subject\":" + descriptor("s"),
      descriptor("l", ",\"urls\":[\"http://x\"]")));
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  const auto& read = std::get<Manifest>(*parsed);
  EXPECT_EQ(read.media_type, kMediaTypeOciManifest);
  EXPECT_EQ(read.artifact_type, "t");
  EXPECT_EQ(read.config.digest.str(), kDigest);
  ASSERT_EQ(read.layers.size(), 1U);
  EXPECT_TRUE(read.layers[0].has_urls);
  EXPECT_TRUE(read.has_subject);
}

TEST(Manifest, ReadsAnIndexWithPlatforms) {
  auto parsed = parse_manifest(
      "{\"schemaVersion\":2,\"mediaType\":\"" + std::string{kMediaTypeDockerIndex} +
      "\",\"manifests\":[" +
      descriptor(kMediaTypeDockerManifest,
                 R"(,"platform":{"os":"linux","architecture":"arm","variant":"v7"})") +
      "]}");
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  EXPECT_EQ(std::get<Index>(*parsed).manifests.at(0).platform->str(), "linux/arm/v7");
}

TEST(Manifest, HasNoMoreValuesThanOneCanHold) {
  const auto with = [](std::size_t values) {
    std::string text = R"({"schemaVersion":2,"manifests":[],"x":[0)";
    for (std::size_t i = 1; i < values; ++i)
      text += ",0";
    return parse_manifest(text + "]}");
  };
  EXPECT_TRUE(with(1000)) << "the control";
  const auto refused = with(kMostManifestValues);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("more than 400000 values"), std::string::npos);
}

TEST(Manifest, ListsThatAreNullAreEmpty) {
  const auto parsed =
      parse_manifest("{\"schemaVersion\":2,\"config\":" + descriptor("c") + ",\"layers\":null}");
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  EXPECT_TRUE(std::get<Manifest>(*parsed).layers.empty());
  EXPECT_FALSE(parse_manifest(R"({"schemaVersion":2,"manifests":null})").ok());
}

struct Hostile {
  const char* name;
  std::string text;
  const char* words;
};
class HostileManifest : public testing::TestWithParam<Hostile> {};
TEST_P(HostileManifest, IsRefused) {
  auto parsed = parse_manifest(GetParam().text);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().kind, ErrorKind::bad_input);
  EXPECT_NE(parsed.error().text().find(GetParam().words), std::string::npos)
      << parsed.error().text();
}
INSTANTIATE_TEST_SUITE_P(
    Table, HostileManifest,
    testing::Values(
        Hostile{"LayersAndManifests", manifest(",\"manifests\":[]"), "beside"},
        Hostile{"NullLayersBesideManifests", R"({"schemaVersion":2,"manifests":[],"layers":null})",
                "beside"},
        Hostile{"DuplicateKey", manifest(",\"layers\":[]"), "twice"},
        Hostile{"DuplicateKeyByEscape", manifest(",\"l\\u0061yers\":[]"), "twice"},
        Hostile{"DeepDuplicateKey", manifest("", "{\"size\":1,\"size\":2}"), "twice"},
        Hostile{"CaseVariant", manifest(",\"Layers\":[]"), "case variant"},
        Hostile{"FoldedLongS", manifest(",\"layer\xC5\xBF\":[]"), "case variant"},
        Hostile{"CaseVariantInDescriptor", manifest("", descriptor("l", ",\"Digest\":\"x\"")),
                "case variant"},
        Hostile{"DepthBomb", std::string(100000, '['), "deeper"},
        Hostile{"TooLarge", "\"" + std::string(kMaxManifestBytes, 'x') + "\"", "limit"},
        Hostile{"SchemaOne", R"({"schemaVersion":1,"fsLayers":[]})", "schema 1"},
        Hostile{
            "OtherAlgorithm",
            R"({"schemaVersion":2,"config":{"mediaType":"c","digest":"sha512:aa","size":1},"layers":[]})",
            "not a digest"},
        Hostile{
            "TraversalForDigest",
            R"({"schemaVersion":2,"config":{"mediaType":"c","digest":"../../etc/passwd","size":1},"layers":[]})",
            "not a digest"},
        Hostile{"NegativeSize",
                R"({"schemaVersion":2,"config":{"mediaType":"c","digest":")" + kDigest +
                    R"(","size":-1},"layers":[]})",
                "not a size"},
        Hostile{"HugeSize",
                R"({"schemaVersion":2,"config":{"mediaType":"c","digest":")" + kDigest +
                    R"(","size":18446744073709551615},"layers":[]})",
                "not a size"},
        Hostile{"OtherEmbeddedData", manifest("", descriptor("l", R"(,"data":"e30=")")),
                "not the content"},
        Hostile{"IndexTypeOnManifest",
                manifest(",\"mediaType\":\"" + std::string{kMediaTypeOciIndex} + "\""),
                "no image manifest"},
        Hostile{"NoLayers", "{\"schemaVersion\":2,\"config\":" + descriptor("c") + "}", "layers"},
        Hostile{"Truncated", R"({"schemaVersion":2)", "no valid JSON"},
        Hostile{"TrailingText", manifest() + "{}", "no valid JSON"},
        Hostile{"Array", "[]", "not a JSON object"}, Hostile{"Empty", "", "no valid JSON"}),
    [](const auto& row) { return row.param.name; });

TEST(ImageConfig, ReadsWhatSlipwayActsOn) {
  auto config = parse_image_config(
      R"({"architecture":"amd64","os":"linux","created":"t","config":{"User":"1000","Env":["A=b"],
    "Entrypoint":["/e"],"Cmd":null,"WorkingDir":"/w","Labels":{"Config":"x","config":"y"},"OnBuild":["RUN x"],"ExposedPorts":{"80/tcp":{}},
    "Healthcheck":{}},"rootfs":{"type":"layers","diff_ids":[")" +
      kDigest + R"("]},"history":[{"created_by":"c","empty_layer":true}]})");
  ASSERT_TRUE(config.ok()) << config.error().text();
  EXPECT_EQ(config->user, "1000");
  EXPECT_EQ(config->env, std::vector<std::string>{"A=b"});
  EXPECT_TRUE(config->cmd.empty());
  EXPECT_EQ(config->labels.size(), 2U);
  EXPECT_EQ(config->exposed_ports, std::vector<std::string>{"80/tcp"});
  EXPECT_TRUE(config->has_healthcheck);
  EXPECT_EQ(config->diff_ids.size(), 1U);
  EXPECT_TRUE(config->history.at(0).empty_layer);
}

TEST(ImageConfig, RefusesACaseVariantOfRootfs) {
  auto config =
      parse_image_config(R"({"os":"linux","rootfs":{"diff_ids":[]},"RootFS":{"diff_ids":[]}})");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.error().text().find("case variant"), std::string::npos);
}

TEST(StrictJson, KnowsGosFolding) {
  EXPECT_TRUE(is_case_variant("LAYERS", "layers"));
  EXPECT_TRUE(is_case_variant("to\xE2\x84\xAA"
                              "en",
                              "token"));
  EXPECT_FALSE(is_case_variant("layers", "layers"));
  EXPECT_FALSE(is_case_variant("layersx", "layers"));
}

TEST(Descriptor, SurvivesItsJson) {
  Descriptor one{.media_type = kMediaTypeOciManifest,
                 .digest = *Digest::parse(kDigest),
                 .size = 7,
                 .platform = Platform{"arm64", "linux", "v8"},
                 .annotations = {{"k", "v"}},
                 .artifact_type = "t",
                 .has_urls = false};
  auto parsed = parse_manifest("{\"schemaVersion\":2,\"manifests\":[" + to_json(one) + "]}");
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  const auto& read = std::get<Index>(*parsed).manifests.at(0);
  EXPECT_EQ(read.digest, one.digest);
  EXPECT_EQ(read.size, 7U);
  EXPECT_EQ(read.platform, one.platform);
  EXPECT_EQ(read.annotations, one.annotations);
  EXPECT_EQ(read.artifact_type, "t");
}

TEST(PlatformName, IsOneForOnePlatform) {
  for (const auto& [text, name] :
       {std::pair{"linux/amd64", "linux/amd64"}, std::pair{"x86_64", "linux/amd64"},
        std::pair{"linux/amd64/v1", "linux/amd64"}, std::pair{"linux/amd64/v3", "linux/amd64/v3"},
        std::pair{"AArch64", "linux/arm64"}, std::pair{"linux/arm64/v8", "linux/arm64"},
        std::pair{"arm64/v8", "linux/arm64"}, std::pair{"arm/v6", "linux/arm/v6"},
        std::pair{"linux/arm", "linux/arm/v7"}, std::pair{"linux/arm/6", "linux/arm/v6"},
        std::pair{"armel", "linux/arm/v6"}, std::pair{"linux/i386", "linux/386"},
        std::pair{"windows/amd64", "windows/amd64"}}) {
    const auto platform = parse_platform(text);
    ASSERT_TRUE(platform) << text;
    EXPECT_EQ(platform->str(), name);
  }
  for (const char* wrong : {"", "/", "linux/", "linux/a/b/c", "linux amd64", "linux/a,b", "*"})
    EXPECT_EQ(parse_platform(wrong).error().kind, ErrorKind::bad_input) << wrong;
}

TEST(PlatformName, WithoutAVariantMeansAnyVariant) {
  EXPECT_TRUE(is_same_platform({"arm", "linux", "v7"}, {"arm", "linux", ""}));
  EXPECT_FALSE(is_same_platform({"arm", "linux", "v7"}, {"arm", "linux", "v6"}));
  EXPECT_FALSE(is_same_platform({"amd64", "linux", ""}, {"386", "linux", ""}));
}

} // namespace
} // namespace slipway::oci
