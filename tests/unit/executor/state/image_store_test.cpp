// SPDX-License-Identifier: Apache-2.0
#include "executor/state/image_store.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace slipway::state {
namespace {

namespace fs = std::filesystem;

class JobImages : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-images-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    store.emplace(ImageStore::open(dir / "images").value());
  }
  void TearDown() override { fs::remove_all(dir); }

  static oci::Digest put(oci::Layout& layout, const std::string& layer_bytes,
                         const std::string& note = "") {
    using Json = nlohmann::json;
    const auto layer = layout.write_blob(layer_bytes).value();
    const auto config = Json{{"architecture", "amd64"},
                             {"os", "linux"},
                             {"config", {{"Labels", {{"note", note}}}}},
                             {"rootfs", {{"type", "layers"}, {"diff_ids", {layer.str()}}}}}
                            .dump();
    const auto config_digest = layout.write_blob(config).value();
    return layout
        .write_blob(Json{{"schemaVersion", 2},
                         {"mediaType", oci::kMediaTypeOciManifest},
                         {"config",
                          {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                           {"digest", config_digest.str()},
                           {"size", config.size()}}},
                         {"layers",
                          {{{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                            {"digest", layer.str()},
                            {"size", layer_bytes.size()}}}}}
                        .dump())
        .value();
  }
  static oci::Reference ref(const std::string& text) { return oci::Reference::parse(text).value(); }
  StoredImage add(const std::string& bytes, const std::vector<oci::Reference>& tags) {
    return store->add(put(store->layout(), bytes), tags).value();
  }
  using Lines = std::vector<std::string>;

  fs::path dir;
  std::optional<ImageStore> store;
};

TEST_F(JobImages, FindsByEveryName) {
  const auto image = add("a", {ref("reg:5000/app:1")});
  ASSERT_TRUE(store->note_repo_digest(image.manifest_digest,
                                      "reg:5000/app@" + image.manifest_digest.str()));

  for (const std::string& name :
       {std::string{"reg:5000/app:1"}, image.image_id.str(), image.image_id.hex(),
        image.image_id.hex().substr(0, 12), "sha256:" + image.image_id.hex().substr(0, 12),
        image.manifest_digest.str(), "reg:5000/app@" + image.manifest_digest.str()}) {
    auto found = store->find(name);
    ASSERT_TRUE(found) << name << ": " << found.error().text();
    EXPECT_EQ(found->image_id, image.image_id);
  }
  for (const char* name : {"reg:5000/app:2", "other/app:1", "", "../../etc", "sha256:"}) {
    auto found = store->find(name);
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().kind, ErrorKind::not_found) << name;
  }
}

TEST_F(JobImages, SaysThatAPrefixIsAmbiguous) {
  std::vector<StoredImage> images;
  for (int i = 0; i < 17; ++i)
    images.push_back(add(std::to_string(i), {}));
  std::map<char, int> first;
  for (const auto& image : images)
    ++first[image.image_id.hex()[0]];
  const auto twice =
      std::find_if(first.begin(), first.end(), [](const auto& p) { return p.second > 1; });

  auto found = store->find("sha256:" + std::string(1, twice->first));

  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input);
}

TEST_F(JobImages, ATagMovesToTheNewerImage) {
  const auto older = add("a", {ref("app:1")});
  const auto newer = add("b", {ref("app:1")});

  EXPECT_EQ(store->find("app:1")->image_id, newer.image_id);
  EXPECT_TRUE(store->find(older.image_id.str())->tags.empty());
  EXPECT_EQ(store->list()->size(), 2U);
}

TEST_F(JobImages, RemovalOfOneOfTwoNamesKeepsTheImage) {
  const auto image = add("a", {ref("app:1"), ref("app:2")});

  EXPECT_EQ(*store->remove("app:1", false), (Lines{"Untagged: app:1"}));
  EXPECT_TRUE(store->find("app:2"));
  EXPECT_EQ(*store->remove("app:2", false),
            (Lines{"Untagged: app:2", "Deleted: " + image.image_id.str()}));
  EXPECT_FALSE(store->layout().has_blob(image.manifest_digest));
}

TEST_F(JobImages, RemovalByIdOfSeveralRepositoriesNeedsForce) {
  const auto image = add("a", {ref("app:1"), ref("reg:5000/app:1")});

  auto refused = store->remove(image.image_id.hex().substr(0, 12), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  EXPECT_NE(refused.error().what.find("must be forced"), std::string::npos);

  EXPECT_EQ(
      *store->remove(image.image_id.str(), true),
      (Lines{"Untagged: app:1", "Untagged: reg:5000/app:1", "Deleted: " + image.image_id.str()}));
}

TEST_F(JobImages, RepoDigestsGoWithTheLastTagOfTheirRepository) {
  const auto image = add("a", {ref("reg:5000/app:1"), ref("x:1")});
  const auto repo_digest = "reg:5000/app@" + image.manifest_digest.str();
  ASSERT_TRUE(store->note_repo_digest(image.manifest_digest, repo_digest));

  EXPECT_EQ(*store->remove("reg:5000/app:1", false),
            (Lines{"Untagged: reg:5000/app:1", "Untagged: " + repo_digest}));
  EXPECT_TRUE(store->find("x:1")->repo_digests.empty());
}

TEST_F(JobImages, AnIndexMeansThatOfItsImagesWhichWasPulledLast) {
  const auto index = "reg:5000/app@" + oci::Digest::of("an index").str();
  const auto first = put(store->layout(), "layer of 386");
  const auto second = put(store->layout(), "layer of amd64");
  for (const auto& pulled : {first, second}) {
    ASSERT_TRUE(store->add(pulled, {}));
    ASSERT_TRUE(store->note_repo_digest(pulled, index));
    EXPECT_EQ(store->find(index)->manifest_digest, pulled);
  }
  ASSERT_TRUE(store->note_repo_digest(first, index));
  EXPECT_EQ(store->find(index)->manifest_digest, first);
  EXPECT_TRUE(store->find(second.str())->repo_digests.empty());
}

TEST_F(JobImages, BlobsThatAnotherImageUsesStay) {
  const auto one = put(store->layout(), "shared", "one");
  const auto two = put(store->layout(), "shared", "two");
  ASSERT_TRUE(store->add(one, {ref("app:1")}));
  ASSERT_TRUE(store->add(two, {ref("app:2")}));

  ASSERT_TRUE(store->remove("app:1", false));

  EXPECT_FALSE(store->layout().has_blob(one));
  EXPECT_TRUE(store->layout().has_blob(oci::Digest::of("shared")));
  ASSERT_TRUE(store->remove("app:2", false));
  EXPECT_FALSE(store->layout().has_blob(oci::Digest::of("shared")));
}

TEST_F(JobImages, RefusesAnImageWithAMissingLayer) {
  const auto root = put(store->layout(), "layer");
  fs::remove(store->layout().blob_path(oci::Digest::of("layer")));

  EXPECT_FALSE(store->add(root, {ref("app:1")}));
  EXPECT_TRUE(store->list()->empty());
}

TEST_F(JobImages, AListHasWhatItShowsAndNotTheWholeConfigs) {
  const auto image = add("a", {ref("app:1")});

  const auto listed = store->list();

  ASSERT_TRUE(listed) << listed.error().text();
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ(listed->front().config.labels, image.config.labels);
  EXPECT_EQ(listed->front().config.platform.str(), image.config.platform.str());
  EXPECT_EQ(listed->front().size, image.size);
  EXPECT_TRUE(listed->front().config_json.empty());
  EXPECT_TRUE(listed->front().config.diff_ids.empty());
  EXPECT_FALSE(store->find("app:1")->config_json.empty());
  EXPECT_FALSE(store->find("app:1")->config.diff_ids.empty());
}

TEST_F(JobImages, HaveSoManyBytesOfConfigsAndManifestsTogether) {
  const auto first = add("a", {ref("app:1")});
  const auto size = first.config_json.size() + *store->layout().blob_size(first.manifest_digest);
  store->max_description_bytes = 2 * size;
  add("b", {ref("app:2")});

  const auto third = store->add(put(store->layout(), "c"), {ref("app:3")});

  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().kind, ErrorKind::denied);
  EXPECT_NE(third.error().text().find("manifests and configs"), std::string::npos);
  EXPECT_FALSE(store->find("app:3"));
  // What is known takes nothing more; what is removed makes room.
  EXPECT_TRUE(store->add(first.manifest_digest, {ref("app:4")}));
  ASSERT_TRUE(store->remove("app:2", false));
  EXPECT_TRUE(store->add(put(store->layout(), "c"), {ref("app:3")}));
}

TEST_F(JobImages, AreThereForTheNextProcess) {
  const auto image = add("a", {ref("app:1")});

  auto again = ImageStore::open(dir / "images");

  ASSERT_TRUE(again);
  EXPECT_EQ(again->find("app:1")->image_id, image.image_id);
  struct stat status {};
  ASSERT_EQ(::stat((dir / "images").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(JobImages, KeepEveryTagOfThreadsAndStoresAtOnce) {
  const auto image = add("a", {});
  auto other = ImageStore::open(dir / "images").value();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      ImageStore& mine = t % 2 == 0 ? *store : other;
      for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(mine.tag(image.image_id.str(),
                             ref("app:" + std::to_string(t) + "-" + std::to_string(i))));
    });
  }
  for (auto& thread : threads)
    thread.join();

  EXPECT_EQ(store->find(image.image_id.str())->tags.size(), 40U);
}

struct Damaged {
  const char* name;
  const char* text;
};
class DamagedNames : public JobImages, public testing::WithParamInterface<Damaged> {};
TEST_P(DamagedNames, AreAnErrorAndNotAnEmptyStore) {
  std::ofstream{dir / "images" / "names.json"} << GetParam().text;

  auto opened = ImageStore::open(dir / "images");

  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::bad_input);
}
INSTANTIATE_TEST_SUITE_P(Table, DamagedNames,
                         testing::Values(Damaged{"Cut", "{\"images\":["}, Damaged{"Array", "[]"},
                                         Damaged{"NoObject", "{\"images\":[1]}"},
                                         Damaged{"NumberAsDigest",
                                                 "{\"images\":[{\"digest\":1,\"id\":2}]}"},
                                         Damaged{"NoDigest", "{\"images\":[{}]}"}),
                         [](const auto& row) { return row.param.name; });

TEST_F(JobImages, AnIndexIsKeptUnderItsNameAlsoWhereItHasNoImageYet) {
  const auto child = put(store->layout(), "layer");
  const auto list = [&](const std::string& children) {
    return store->layout()
        .write_blob(std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciIndex +
                    R"(","manifests":[)" + children + "]}")
        .value();
  };
  const auto empty = store->add(list(""), {ref("list:1")});
  ASSERT_TRUE(empty) << empty.error().text();
  EXPECT_EQ(empty->media_type, oci::kMediaTypeOciIndex);
  EXPECT_EQ(store->list().value().size(), 1U);

  const auto full = store->add(list(R"({"mediaType":")" + std::string{oci::kMediaTypeOciManifest} +
                                    R"(","digest":")" + child.str() + R"(","size":)" +
                                    std::to_string(*store->layout().blob_size(child)) +
                                    R"(,"platform":{"os":"linux","architecture":"s390x"}})"),
                               {ref("list:1")});
  ASSERT_TRUE(full) << full.error().text();
  EXPECT_EQ(store->find("list:1")->manifest_digest, full->manifest_digest);
  EXPECT_EQ(full->image_id,
            oci::read_tree(store->layout(), child)->images[0].manifest.config.digest)
      << "of the only image, though it is for another machine";
}

} // namespace
} // namespace slipway::state
