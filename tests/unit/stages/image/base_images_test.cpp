// SPDX-License-Identifier: Apache-2.0
#include "stages/image/base_images.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

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

TEST_F(BaseImagesTest, AboveTheQuotaTheLongestUnusedGo) {
  std::vector<oci::Digest> blobs;
  {
    auto bases = open();
    for (int i = 0; i < 4; ++i)
      blobs.push_back(put(bases, static_cast<char>('a' + i), 100 - i));
    const oci::ImageTree tree{blobs[0], "", 300,
                              {},       {}, {{"", blobs[0], 300, std::nullopt, {}, "", false}}};
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
