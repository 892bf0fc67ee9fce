// SPDX-License-Identifier: Apache-2.0
#include "stages/image/external_images.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::image {
namespace {

class WalkTest : public testing::Test {
protected:
  /// What was taken, each as "SOURCE PLATFORM", with a "*" where it is a base.
  std::vector<std::string> walk(const std::string& text, std::vector<std::string> platforms = {},
                                const NamedContexts& contexts = {}) {
    const auto parsed = *dockerfile::parse(text);
    auto scopes = scopes_of({}, platforms);
    std::vector<std::string> taken;
    auto configs =
        walk_images(parsed, scopes, contexts,
                    [&](const ExternalImage& image) -> Result<std::vector<oci::ImageConfig>> {
                      taken.push_back(image.source.familiar_name() + " " + image.platform +
                                      (image.is_base ? "*" : ""));
                      const auto triggers = triggers_.find(image.written);
                      if (triggers == triggers_.end()) return std::vector<oci::ImageConfig>{};
                      oci::ImageConfig config;
                      config.on_build = triggers->second;
                      return std::vector{config};
                    });
    EXPECT_TRUE(configs.ok()) << configs.error().text();
    if (configs) configs_ = *std::move(configs);
    return taken;
  }
  using Names = std::vector<std::string>;

  std::map<std::string, std::vector<std::string>> triggers_;
  std::vector<router::BaseConfigs> configs_;
};

TEST_F(WalkTest, TakesEachNameOncePerPlatform) {
  EXPECT_EQ(walk("FROM --platform=linux/arm64 a AS x\nFROM a\nCOPY --from=x / /\n"),
            (Names{"a linux/arm64*", "a linux/amd64*"}))
      << "two platforms of one image in one build";
  EXPECT_EQ(walk("FROM --platform=linux/amd64 a AS x\nFROM docker.io/library/a\nCOPY --from=x / /\n"
                 "COPY --from=b / /\n",
                 {"linux/amd64", "linux/arm64"}),
            (Names{"a linux/amd64*", "b linux/amd64", "a linux/arm64*", "b linux/arm64"}))
      << "by whatever spelling, and once for all platforms of the build";
}

TEST_F(WalkTest, FollowsTriggersOfBasesOnEachPlatform) {
  triggers_["a"] = {"COPY --from=tools /x /x"};

  EXPECT_EQ(walk("FROM a\n", {"linux/amd64", "linux/arm64"}),
            (Names{"a linux/amd64*", "tools linux/amd64", "a linux/arm64*", "tools linux/arm64"}));
  ASSERT_EQ(configs_.size(), 2U);
  EXPECT_TRUE(configs_[0].contains("a") && configs_[1].contains("a"));
}

TEST_F(WalkTest, NamedContextsStandInPlaceOfImages) {
  const std::string text = "FROM a\nCOPY --from=assets / /\nCOPY --from=other / /\n";

  EXPECT_EQ(walk(text), (Names{"a linux/amd64*", "assets linux/amd64", "other linux/amd64"}));
  EXPECT_EQ(walk(text, {},
                 {{"assets", "/srv/assets"}, {"other", std::string{kImageContext} + "debian:12"}}),
            (Names{"a linux/amd64*", "debian linux/amd64"}));
}

TEST_F(WalkTest, SaysWhereWhatItIsToldWasMet) {
  auto scopes = scopes_of({}, {});
  const auto walked =
      walk_images(*dockerfile::parse("FROM a\nCOPY --from=b / /\n"), scopes, {},
                  [](const ExternalImage& image) -> Result<std::vector<oci::ImageConfig>> {
                    if (image.is_base) return std::vector<oci::ImageConfig>{};
                    return Error{ErrorKind::denied, "no", "", {}};
                  });

  ASSERT_FALSE(walked.ok());
  EXPECT_EQ(walked.error().kind, ErrorKind::denied);
  EXPECT_EQ(walked.error().text(), "Dockerfile:2: COPY --from b: no");
}

TEST(PlatformsWanted, MakesOneSpellingAndRefusesWhatNobodyBuilds) {
  EXPECT_EQ(*platforms_wanted({"arm64", "linux/x86_64", "linux/arm64/v8"}),
            (std::vector<std::string>{"linux/arm64", "linux/amd64"}));
  EXPECT_EQ(platforms_wanted({"windows/amd64"}).error().kind, ErrorKind::bad_input);
  std::vector<std::string> many;
  for (int i = 0; i <= static_cast<int>(kMostPlatforms); ++i)
    many.push_back("linux/a" + std::to_string(i));
  const auto refused = platforms_wanted(many);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().what, "a build for 17 platforms");
}

TEST(ConfigsBelow, ReadsThroughIndexesAndNeedsNoLayer) {
  const fakes::TempDir dir;
  auto layout = *oci::Layout::create(dir.path());
  const auto amd = fakes::write_image(layout, {10}, 1);
  const auto arm = fakes::write_image(layout, {10}, 2, "arm64");
  for (const auto& image : {amd, arm}) {
    const auto tree = *oci::read_tree(layout, image);
    for (const auto& layer : tree.images[0].manifest.layers)
      ASSERT_TRUE(std::filesystem::remove(layout.blob_path(layer.digest)));
  }
  const auto inner = fakes::write_index_of(layout, amd, arm);
  const auto outer = *layout.write_blob(
      std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciIndex +
      R"(","manifests":[)" +
      fakes::descriptor_json(oci::kMediaTypeOciIndex, inner.str(), *layout.blob_size(inner)) +
      "]}");

  const auto one = configs_below(layout, arm);
  ASSERT_TRUE(one.ok()) << one.error().text();
  ASSERT_EQ(one->size(), 1U);
  EXPECT_EQ(one->front().platform.str(), "linux/arm64");
  const auto all = configs_below(layout, outer);
  ASSERT_TRUE(all.ok()) << all.error().text();
  EXPECT_EQ(all->size(), 2U);
  EXPECT_EQ(configs_below(layout, oci::Digest::of("nothing")).error().kind, ErrorKind::not_found);
}

} // namespace
} // namespace slipway::image
