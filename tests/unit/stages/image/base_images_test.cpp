// SPDX-License-Identifier: Apache-2.0
#include "stages/image/base_images.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <variant>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

class BaseImagesTest : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-bases-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { fs::remove_all(dir_); }

  BaseImages open(const std::string& domain = "grp/app#1|protected", std::uint64_t quota = 1000) {
    auto opened = BaseImages::open(dir_, domain, quota);
    EXPECT_TRUE(opened) << opened.error().text();
    return *std::move(opened);
  }
  /// A blob of 300 bytes that was last used so many seconds ago.
  oci::Digest put(BaseImages& bases, char what, int age) {
    auto digest = bases.layout().write_blob(std::string(300, what));
    EXPECT_TRUE(digest);
    fs::last_write_time(bases.layout().blob_path(*digest),
                        fs::file_time_type::clock::now() - seconds{age});
    return *digest;
  }

  fs::path dir_;
};

TEST_F(BaseImagesTest, TrustDomainsDoNotShareBlobs) {
  auto mine = open("grp/app#1|protected");
  const auto blob = put(mine, 'a', 0);

  for (const char* other :
       {"grp/app#1|unprotected", "grp/app#2|protected", "grp/other#1|protected"})
    EXPECT_FALSE(open(other).layout().has_blob(blob)) << other;
  EXPECT_TRUE(open("grp/app#1|protected").layout().has_blob(blob)) << "control: its own";
}

oci::Digest image_for(oci::Layout& layout, const std::string& architecture) {
  const std::string config =
      R"({"os":"linux","architecture":")" + architecture + R"(","rootfs":{"type":"layers"}})";
  const auto digest = layout.write_blob(config);
  return *layout.write_blob(
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
      R"("layers":[],"config":)" +
      fakes::descriptor_json("application/vnd.oci.image.config.v1+json", digest->str(),
                             config.size()) +
      "}");
}

TEST_F(BaseImagesTest, OneImageForTwoPlatformsIsAnIndexOfBoth) {
  auto bases = open();
  const auto amd = image_for(bases.layout(), "amd64");
  const auto arm = image_for(bases.layout(), "arm64");

  const auto one =
      one_of_platforms(bases.layout(), {{"linux/amd64", amd}, {"linux/arm64/v8", arm}});

  ASSERT_TRUE(one) << one.error().text();
  const auto index = oci::parse_manifest(*bases.layout().read_blob(*one, 4096));
  ASSERT_TRUE(index) << index.error().text();
  const auto& children = std::get<oci::Index>(*index).manifests;
  ASSERT_EQ(children.size(), 2U);
  EXPECT_EQ(children[0].digest, amd);
  EXPECT_EQ(children[0].platform->str(), "linux/amd64");
  EXPECT_EQ(children[1].digest, arm);
  EXPECT_EQ(children[1].platform->str(), "linux/arm64");
  EXPECT_EQ(*platforms_of(bases.layout(), *one), (std::vector<oci::Digest>{amd, arm}));
}

TEST_F(BaseImagesTest, OneManifestForTwoPlatformsStaysThatManifest) {
  auto bases = open();
  const auto amd = image_for(bases.layout(), "amd64");

  EXPECT_EQ(*one_of_platforms(bases.layout(), {{"linux/amd64", amd}, {"linux/arm64", amd}}), amd);
  EXPECT_EQ(*platforms_of(bases.layout(), amd), std::vector<oci::Digest>{amd});
}

TEST(ImageOfAJob, IsForTheOnePlatformThatItsConfigNames) {
  oci::ImageConfig image;
  EXPECT_TRUE(is_for(image, "linux/arm64")) << "it does not say what it is for";
  image.platform = {"amd64", "linux", ""};
  for (const char* own : {"linux/amd64", "amd64", "x86_64", "linux/x86_64", "linux/amd64/v2"})
    EXPECT_TRUE(is_for(image, own)) << own;
  for (const char* other : {"linux/arm64", "arm64", "windows/amd64", "linux/386"})
    EXPECT_FALSE(is_for(image, other)) << other;
}

TEST_F(BaseImagesTest, AboveTheQuotaTheLongestUnusedGo) {
  std::vector<oci::Digest> blobs;
  {
    auto bases = open();
    for (int i = 0; i < 4; ++i)
      blobs.push_back(put(bases, static_cast<char>('a' + i), 100 - i));
    const oci::ImageTree tree{
        blobs[0], "", 300, {}, {}, {}, {{"", blobs[0], 300, std::nullopt, {}, "", false}}};
    bases.used(tree);
  }

  auto bases = open();

  EXPECT_EQ(bases.name(), "0");
  EXPECT_TRUE(bases.layout().has_blob(blobs[0])) << "used again";
  EXPECT_FALSE(bases.layout().has_blob(blobs[1]));
  EXPECT_FALSE(bases.layout().has_blob(blobs[2])) << "down to three quarters";
  EXPECT_TRUE(bases.layout().has_blob(blobs[3]));
}

TEST_F(BaseImagesTest, NothingIsTakenFromABuildThatRuns) {
  auto running = open();
  std::vector<oci::Digest> blobs;
  for (int i = 0; i < 4; ++i)
    blobs.push_back(put(running, static_cast<char>('a' + i), 100 - i));

  auto next = open();
  collect_base_images(dir_, 1000, seconds{0}, true);

  EXPECT_EQ(next.name(), "1") << "a new place, in the same folder";
  EXPECT_EQ(next.folder(), running.folder());
  for (const auto& blob : blobs)
    EXPECT_TRUE(running.layout().has_blob(blob));
}

TEST_F(BaseImagesTest, CollectingKeepsWhatIsFreshAndRemovesWhatIsIdle) {
  std::optional<oci::Digest> blob;
  fs::path layout;
  {
    auto bases = open();
    blob = put(bases, 'a', 0);
    layout = bases.layout().path();
  }

  collect_base_images(dir_, 1000, seconds{3600}, false);
  EXPECT_TRUE(open().layout().has_blob(*blob));

  fs::last_write_time(layout.string() + ".lock", fs::file_time_type::clock::now() - seconds{7200});
  collect_base_images(dir_, 1000, seconds{3600}, false);
  EXPECT_FALSE(fs::exists(layout));
  EXPECT_TRUE(fs::exists(layout.parent_path())) << "a sandbox may have it";
}

} // namespace
} // namespace slipway::image
