// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/layers.hpp"
#include "executor/base/file.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Keys = std::vector<std::string>;

constexpr std::chrono::seconds kForever{1'000'000'000};

std::string key_of(char digit) {
  return std::string(64, digit);
}

class LayerStoresTest : public testing::Test {
protected:
  LayerStoresTest() {
    char name[] = "/tmp/slipway-layers-XXXXXX";
    dir_ = ::mkdtemp(name);
    config_.state_dir = dir_ / "stores";
    config_.owner = "me";
    config_.max_bytes = 100;
    config_.most = 2;
    config_.max_idle = 1h;
    images_ = std::make_unique<oci::Layout>(*oci::Layout::create(dir_ / "images"));
  }
  ~LayerStoresTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  LayerStores stores() { return {config_, clock_}; }
  /// A layer that the image holds.
  NewLayer layer(char digit, const std::string& bytes) {
    return {key_of(digit),
            {"application/vnd.oci.image.layer.v1.tar+gzip",
             *images_->write_blob(bytes),
             bytes.size(),
             {},
             {},
             "",
             false},
            oci::Digest::of("expanded " + bytes)};
  }
  Result<LayerStores::Lent> lend(const std::string& store = "k",
                                 std::chrono::seconds max_age = kForever,
                                 const std::string& program = "v1.24.0") {
    return stores().lend(store, program, dir_ / ("lent-" + std::to_string(++lent_)), max_age);
  }
  Keys keys(const std::string& store = "k", std::chrono::seconds max_age = kForever,
            const std::string& program = "v1.24.0") {
    auto lent = lend(store, max_age, program);
    EXPECT_TRUE(lent.ok()) << lent.error().text();
    if (!lent) return {"none"};
    std::sort(lent->keys.begin(), lent->keys.end());
    return lent->keys;
  }
  void keep(const std::vector<NewLayer>& made, const std::string& store = "k",
            const Keys& used = {}) {
    const auto kept = stores().keep(store, *lend(store), used, made, *images_);
    EXPECT_TRUE(kept.ok()) << kept.error().text();
  }
  fs::path last_lent() const { return dir_ / ("lent-" + std::to_string(lent_)); }

  fs::path dir_;
  LayerConfig config_;
  FixedClock clock_{WallTime{1'800'000'000s}};
  std::unique_ptr<oci::Layout> images_;
  int lent_ = 0;
};

TEST_F(LayerStoresTest, LendsWhatWasKeptAsLayoutsThatAllCanRead) {
  const auto made = layer('a', "bytes");
  keep({made});

  ASSERT_EQ(keys(), Keys{key_of('a')});
  const auto entry = last_lent() / key_of('a');
  const auto layout = oci::Layout::open(entry);
  ASSERT_TRUE(layout.ok()) << layout.error().text();
  const auto tree = oci::read_tree(*layout, layout->index()->at(0).digest);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_EQ(tree->images.at(0).manifest.layers.at(0).digest, made.layer.digest);
  EXPECT_EQ(tree->images.at(0).config->diff_ids.at(0), made.diff_id);
  EXPECT_EQ(tree->images.at(0).config->created, rfc3339(clock_.now()));
  EXPECT_TRUE(is_whole_entry(entry));
  for (const auto& one : fs::recursive_directory_iterator{last_lent()}) {
    struct stat facts {};
    ASSERT_EQ(::stat(one.path().c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, one.is_directory() ? 0755U : 0444U) << one.path();
  }
  EXPECT_EQ(keys("other"), Keys{});
}

TEST_F(LayerStoresTest, LendsNothingThatIsTooOldOrWasMadeByAnother) {
  keep({layer('a', "1")});
  clock_.advance(100s);
  keep({layer('b', "2")});

  EXPECT_EQ(keys("k", 99s), Keys{key_of('b')});
  EXPECT_EQ(keys("k", 100s), (Keys{key_of('a'), key_of('b')}));
  EXPECT_EQ(keys("k", -1s), Keys{});
  EXPECT_EQ(keys("k", kForever, "v1.24.1"), Keys{});
  EXPECT_EQ(keys(), Keys{}) << "it was erased";
}

TEST_F(LayerStoresTest, MakesRoomForWhatIsNewByWhatWasUnusedForLongest) {
  keep({layer('a', std::string(40, 'a')), layer('b', std::string(40, 'b'))});
  clock_.advance(1s);
  keep({}, "k", {key_of('a')});
  clock_.advance(1s);

  keep({layer('c', std::string(40, 'c')), layer('d', std::string(101, 'd'))});

  EXPECT_EQ(keys(), (Keys{key_of('a'), key_of('c')}));
  clock_.advance(1s);
  config_.most_entries = 1;
  keep({layer('e', "e")});
  EXPECT_EQ(keys(), Keys{key_of('e')});
}

TEST_F(LayerStoresTest, WhatWasLentStaysWhereTheStoreIsErased) {
  keep({layer('a', "bytes")});
  const auto lent = *lend();
  const auto entry = last_lent() / key_of('a');

  ASSERT_TRUE(stores().discard("k").ok());

  EXPECT_TRUE(is_whole_entry(entry));
  ASSERT_TRUE(stores().keep("k", lent, {}, {layer('b', "2")}, *images_).ok());
  EXPECT_EQ(keys(), Keys{}) << "nothing of a build that began on it";
  ASSERT_TRUE(stores().keep("k", lent, {}, {layer('b', "2")}, *images_).ok());
  EXPECT_EQ(keys(), Keys{}) << "nor into the store that came after it";
}

TEST_F(LayerStoresTest, OneThatIsSpoiltServesNobodyAndTakesNothing) {
  keep({layer('a', "bytes")});
  const auto lent = *lend();

  ASSERT_TRUE(stores().spoil("k").ok());

  ASSERT_TRUE(stores().keep("k", lent, {}, {layer('b', "2")}, *images_).ok());
  EXPECT_EQ(keys(), Keys{});
  keep({layer('c', "3")});
  EXPECT_EQ(keys(), Keys{key_of('c')}) << "it is a new one";
  ASSERT_TRUE(stores().spoil("k").ok());
  EXPECT_EQ(stores().reap()->size(), 1U);
}

TEST_F(LayerStoresTest, ThereAreSoManyAndTheLongestIdleGoesFirst) {
  for (const char* store : {"one", "two"}) {
    keep({layer('a', "bytes")}, store);
    clock_.advance(1s);
  }
  keep({layer('a', "bytes")}, "three");

  EXPECT_EQ(keys("two"), Keys{key_of('a')});
  EXPECT_EQ(keys("three"), Keys{key_of('a')});
  EXPECT_EQ(keys("one"), Keys{});
}

TEST_F(LayerStoresTest, GoWhereTheyWereIdleForTooLong) {
  keep({layer('a', "bytes")});
  clock_.advance(1h);
  EXPECT_EQ(stores().reap()->size(), 0U);
  clock_.advance(1s);

  EXPECT_EQ(stores().reap()->size(), 1U);

  EXPECT_EQ(keys(), Keys{});
}

TEST_F(LayerStoresTest, TheLayerOfNothingNeedsNoImage) {
  keep({{key_of('a'), empty_layer(), oci::Digest::of(std::string(1024, '\0'))}});

  ASSERT_EQ(keys(), Keys{key_of('a')});
  const auto layout = oci::Layout::open(last_lent() / key_of('a'));
  const auto tree = oci::read_tree(*layout, layout->index()->at(0).digest);
  EXPECT_TRUE(oci::verify_tree(*layout, *tree, 1UL << 20).ok()) << "it expands to that";
}

TEST_F(LayerStoresTest, WhatIsDamagedIsNotLentOrIsFoundOut) {
  keep({layer('a', "bytes"), layer('b', "other"), layer('c', "third")});
  for (const auto& one : fs::recursive_directory_iterator{config_.state_dir}) {
    const auto blob = one.path().filename();
    if (blob == oci::Digest::of("bytes").hex())
      (void)replace_file(one.path(), "byte", 0444).ok();
    else if (blob == oci::Digest::of("other").hex())
      (void)replace_file(one.path(), "othex", 0444).ok();
  }

  EXPECT_EQ(keys(), (Keys{key_of('b'), key_of('c')})) << "one has another size";
  EXPECT_FALSE(is_whole_entry(last_lent() / key_of('b')));
  EXPECT_TRUE(is_whole_entry(last_lent() / key_of('c')));
}

TEST_F(LayerStoresTest, TakesNoLayerThatTheImageLacksAndNoStrangeKey) {
  auto lacking = layer('a', "bytes");
  lacking.layer.digest = oci::Digest::of("none");
  EXPECT_FALSE(stores().keep("k", *lend(), {}, {lacking}, *images_).ok());

  auto strange = layer('b', "bytes");
  for (const auto& key : Keys{"", "..", "../" + key_of('b'), key_of('B'), key_of('b') + "b"}) {
    EXPECT_FALSE(is_layer_key(key));
    strange.key = key;
    keep({strange}, "k", {key});
  }
  EXPECT_EQ(keys(), Keys{});
}

} // namespace
} // namespace slipway::backends::kaniko
