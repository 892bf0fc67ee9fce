// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/annotate.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <variant>

namespace slipway::oci {
namespace {

using Of = Annotation::Of;
using Texts = std::map<std::string, std::string>;

class Annotate : public testing::Test {
protected:
  std::variant<Manifest, Index> read(const Digest& digest) const {
    return *parse_manifest(*layout_.read_blob(digest, kMaxManifestBytes));
  }
  Manifest manifest(const Digest& digest) const { return std::get<Manifest>(read(digest)); }

  fakes::TempDir dir_;
  Layout layout_ = *Layout::create(dir_.path() / "l");
  Digest amd64_ = fakes::write_image(layout_, {10}, 1);
  Digest arm64_ = fakes::write_image(layout_, {10}, 2, "arm64");
  Digest both_ = fakes::write_index_of(layout_, amd64_, arm64_);
};

TEST_F(Annotate, WritesTheManifestAnewAndLeavesTheRestOfIt) {
  const auto made = annotate(layout_, amd64_,
                             {{Of::manifest, {}, "a", "1"},
                              {Of::manifest, {}, "b", "\"x\""},
                              {Of::manifest, {}, "a", "2"}});

  ASSERT_TRUE(made) << made.error().text();
  EXPECT_NE(*made, amd64_);
  EXPECT_EQ(manifest(*made).annotations, (Texts{{"a", "2"}, {"b", "\"x\""}}));
  EXPECT_EQ(manifest(*made).config.digest, manifest(amd64_).config.digest);
  EXPECT_EQ(manifest(*made).layers.at(0).digest, manifest(amd64_).layers.at(0).digest);
  EXPECT_TRUE(manifest(amd64_).annotations.empty()) << "what it was stays";
  EXPECT_EQ(*annotate(layout_, *made, {{Of::manifest, {}, "a", "2"}}), *made) << "nothing is new";
}

TEST_F(Annotate, OfAnIndexReachesEachImageAndWhatIsSaidOfIt) {
  const Platform arm{"arm64", "linux", ""};

  const auto made = annotate(layout_, both_,
                             {{Of::index, {}, "i", "1"},
                              {Of::manifest, {}, "all", "1"},
                              {Of::manifest, arm, "arm", "1"},
                              {Of::descriptor, Platform{"arm64", "linux", "v8"}, "d", "1"}});

  ASSERT_TRUE(made) << made.error().text();
  const auto index = std::get<Index>(read(*made));
  EXPECT_EQ(index.annotations, (Texts{{"i", "1"}}));
  ASSERT_EQ(index.manifests.size(), 2U);
  EXPECT_EQ(manifest(index.manifests[0].digest).annotations, (Texts{{"all", "1"}}));
  EXPECT_EQ(manifest(index.manifests[1].digest).annotations, (Texts{{"all", "1"}, {"arm", "1"}}));
  EXPECT_TRUE(index.manifests[0].annotations.empty());
  EXPECT_EQ(index.manifests[1].annotations, (Texts{{"d", "1"}}));
  EXPECT_TRUE(read_tree(layout_, *made)) << "digests and sizes fit";
}

TEST_F(Annotate, OfAnIndexIsRefusedToAnImageAloneAndItsDescriptorIsNobodys) {
  const auto made = annotate(layout_, amd64_, {{Of::index, {}, "key", "1"}});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::bad_input);
  EXPECT_NE(made.error().what.find("annotation key"), std::string::npos) << made.error().what;
  EXPECT_EQ(*annotate(layout_, amd64_, {{Of::descriptor, {}, "key", "1"}}), amd64_);
}

TEST_F(Annotate, ForAPlatformThatIsNotThereIsRefused) {
  const Annotation one{Of::manifest, Platform{"arm", "linux", "v6"}, "key", "1"};
  for (const auto& root : {amd64_, both_}) {
    const auto made = annotate(layout_, root, {one});
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().what.find("linux/arm/v6"), std::string::npos) << made.error().what;
  }
  EXPECT_FALSE(check_annotations({one}, {Platform{"arm", "linux", "v7"}}));
  EXPECT_TRUE(check_annotations({one}, {Platform{"arm", "linux", "v6"}}));
}

TEST_F(Annotate, NeverMakesAManifestThatNobodyWouldRead) {
  const auto made =
      annotate(layout_, amd64_, {{Of::manifest, {}, "a", std::string(kMaxManifestBytes, 'x')}});

  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::bad_input);
}

} // namespace
} // namespace slipway::oci
