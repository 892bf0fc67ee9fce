// SPDX-License-Identifier: Apache-2.0
#include "stages/image/index_draft.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::image {
namespace {

using Json = nlohmann::json;

class IndexDraftTest : public testing::Test {
protected:
  Json json() const { return Json::parse(draft_.json()); }
  std::string architectures() const {
    std::string text;
    const auto index = json();
    for (const auto& child : index["manifests"])
      text += (text.empty() ? "" : " ") + child["platform"]["architecture"].get<std::string>();
    return text;
  }
  broker::IndexPart part_for(const std::string& architecture) const {
    broker::IndexPart part;
    part.platform.architecture = architecture;
    return part;
  }

  fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path());
  oci::Digest amd_ = fakes::write_image(layout_, {10}, 1);
  oci::Digest arm_ = fakes::write_image(layout_, {10}, 2, "arm64");
  IndexDraft draft_;
};

TEST_F(IndexDraftTest, NamesEachImageWithWhatItsConfigSaysItIsFor) {
  EXPECT_FALSE(*draft_.add(layout_, amd_, {}));
  EXPECT_FALSE(*draft_.add(layout_, arm_, {}));

  EXPECT_EQ(architectures(), "amd64 arm64");
  const auto first = json()["manifests"][0];
  EXPECT_EQ(first["digest"], amd_.str());
  EXPECT_EQ(first["size"], *layout_.blob_size(amd_));
  EXPECT_EQ(first["mediaType"], oci::kMediaTypeOciManifest);
  const auto root = layout_.write_blob(draft_.json());
  const auto tree = oci::read_tree(layout_, *root);
  ASSERT_TRUE(tree) << tree.error().text();
  EXPECT_EQ(tree->images.size(), 2U);
}

TEST_F(IndexDraftTest, TakesEveryChildOfAnIndexAsItIs) {
  auto text = layout_.read_blob(fakes::write_index_of(layout_, amd_, arm_), 4096).value();
  text.replace(text.find("\"platform\":{"), 12, "\"platform\":{\"os.version\":\"10\",");
  const auto index = *layout_.write_blob(text);

  EXPECT_TRUE(*draft_.add(layout_, index, part_for("ignored")));

  EXPECT_EQ(architectures(), "amd64 arm64");
  EXPECT_EQ(json()["manifests"][0]["platform"]["os.version"], "10");
}

TEST_F(IndexDraftTest, OneThatIsThereIsChangedAndNotDoubled) {
  ASSERT_TRUE(draft_.add(layout_, amd_, {}));
  ASSERT_TRUE(draft_.add(layout_, arm_, {}));
  ASSERT_TRUE(draft_.add(layout_, amd_, part_for("386")));
  EXPECT_EQ(architectures(), "386 arm64");

  broker::IndexPart part;
  part.platform = {"", "", "v8"};
  part.annotations = {{"a", "b"}};
  ASSERT_TRUE(draft_.annotate(arm_, part));
  EXPECT_EQ(json()["manifests"][1]["platform"]["variant"], "v8");
  EXPECT_EQ(json()["manifests"][1]["annotations"]["a"], "b");
  ASSERT_TRUE(draft_.remove(amd_));
  EXPECT_EQ(architectures(), "arm64");
  EXPECT_EQ(draft_.remove(amd_).error().kind, ErrorKind::not_found);
  EXPECT_EQ(draft_.annotate(amd_, part).error().kind, ErrorKind::not_found);
}

TEST_F(IndexDraftTest, AnImageIsForAVersionOfASystem) {
  auto part = part_for("");
  part.os_version = "10.0.20348.1";
  ASSERT_TRUE(draft_.add(layout_, amd_, part));
  EXPECT_EQ(json()["manifests"][0]["platform"]["os.version"], "10.0.20348.1");
  part.os_version = "10 0";
  EXPECT_EQ(draft_.annotate(amd_, part).error().kind, ErrorKind::bad_input);
  part.os_version = std::string(65, '1');
  EXPECT_EQ(draft_.annotate(amd_, part).error().kind, ErrorKind::bad_input);
}

TEST_F(IndexDraftTest, KeepsWhatIsForThePlatformsAndWhatAttestsIt) {
  const auto statement = fakes::write_image(layout_, {10}, 3, "unknown");
  broker::IndexPart attests = part_for("unknown");
  attests.annotations = {{"vnd.docker.reference.digest", arm_.str()}};
  ASSERT_TRUE(draft_.add(layout_, amd_, {}));
  ASSERT_TRUE(draft_.add(layout_, arm_, {}));
  ASSERT_TRUE(draft_.add(layout_, statement, attests));

  EXPECT_EQ(draft_.keep({{"s390x", "linux", ""}}).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(architectures(), "amd64 arm64 unknown") << "nothing went";
  ASSERT_TRUE(draft_.keep({{"arm64", "linux", "v8"}, {"s390x", "linux", ""}}).ok());
  EXPECT_EQ(architectures(), "arm64 unknown");
  ASSERT_TRUE(draft_.add(layout_, amd_, {}));
  ASSERT_TRUE(draft_.keep({{"amd64", "linux", ""}}).ok());
  EXPECT_EQ(architectures(), "amd64");
}

TEST_F(IndexDraftTest, HasAnnotationsOfItsOwn) {
  ASSERT_TRUE(draft_.add(layout_, amd_, {}));
  draft_.annotate_index("a", "1");
  draft_.annotate_index("b", "2");
  draft_.annotate_index("a", "3");
  EXPECT_EQ(json()["annotations"], Json::parse(R"({"a": "3", "b": "2"})"));
  EXPECT_TRUE(oci::parse_manifest(draft_.json()).ok());
}

TEST_F(IndexDraftTest, GoesOnWithAnIndexThatIsThere) {
  const auto index = fakes::write_index_of(layout_, amd_, arm_);
  ASSERT_TRUE(draft_.read(layout_, index));
  EXPECT_EQ(architectures(), "amd64 arm64");
  EXPECT_EQ(IndexDraft{}.read(layout_, amd_).error().kind, ErrorKind::bad_input);
}

TEST_F(IndexDraftTest, RefusesWhatIsNoPlatformAndMoreThanWouldBeRead) {
  EXPECT_EQ(draft_.add(layout_, amd_, part_for("a b")).error().kind, ErrorKind::bad_input);
  for (unsigned i = 0; i < 64; ++i)
    ASSERT_TRUE(draft_.add(layout_, fakes::write_image(layout_, {16}, 100 + i), {})) << i;
  EXPECT_EQ(draft_.add(layout_, amd_, {}).error().kind, ErrorKind::bad_input);
}

} // namespace
} // namespace slipway::image
