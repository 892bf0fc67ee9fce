// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/executables.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/unit/executor/gate_worker/layers.hpp"

#include <gtest/gtest.h>

#include <map>

namespace slipway::gate_worker {
namespace {

class Executables : public testing::Test {
protected:
  /// PATH -> content's digest.
  Result<std::vector<oci::Executable>> in(const std::vector<std::vector<Item>>& layers) {
    fakes::PackedImage image;
    const char* packings[] = {"gzip", "", "zstd"};
    for (const auto& items : layers)
      image.layers.push_back({layer(items), packings[image.layers.size() % 3]});
    return find_executables(layout_, image.write(layout_), 1UL << 20);
  }
  std::string paths(const std::vector<std::vector<Item>>& layers) {
    const auto found = in(layers);
    EXPECT_TRUE(found.ok()) << found.error().text();
    std::string all;
    for (const auto& one : *found)
      all += one.path + "\n";
    return all;
  }
  std::string refused(const std::vector<Item>& items) {
    const auto found = in({items});
    return found ? "" : found.error().text();
  }

  const fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
};

TEST_F(Executables, AreWhatAnybodyMayExecuteAndProgramsWhateverTheirModeIs) {
  EXPECT_EQ(paths({{{"usr", 'd', "", 0755},
                    {"usr/owner", 'f', "x", 0700},
                    {"usr/group", 'f', "x", 0610},
                    {"usr/others", 'f', "x", 0601},
                    {"usr/data", 'f', "x", 0644},
                    {"usr/empty", 'f', "", 0644},
                    {"usr/elf", 'f',
                     "\x7f"
                     "ELF\2",
                     0644},
                    {"usr/script", 'f', "#!/bin/sh", 0600},
                    {"usr/wasm", 'f', std::string("\0asm\1", 5), 0644},
                    {"usr/link", 'l', "/usr/owner", 0777}}}),
            "usr/owner\nusr/group\nusr/others\nusr/elf\nusr/script\nusr/wasm\n");
}
TEST_F(Executables, AreNamedByTheirContent) {
  const auto found = in({{{"./app", 'f', "one", 0755}}});
  ASSERT_TRUE(found.ok()) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().path, "app");
  EXPECT_EQ(found->front().content, oci::Digest::of("one"));
}
TEST_F(Executables, OfEveryLayerCount) {
  EXPECT_EQ(paths({{{"app", 'f', "one", 0755}}, {{"app", 'f', "two", 0755}}, {{".wh.app"}}}),
            "app\napp\n");
}
TEST_F(Executables, ALinkThatMayBeExecutedMakesItsFileOne) {
  EXPECT_EQ(paths({{{"data", 'f', "x", 0644}, {"run", 'h', "./data", 0755}}}), "run\n");
  EXPECT_EQ(paths({{{"data", 'f', "x", 0644}}, {{"run", 'h', "data", 0755}}}), "run\n");
  EXPECT_EQ(paths({{{"data", 'f', "x", 0644}, {"same", 'h', "data", 0644}}}), "");
}
TEST_F(Executables, CannotBeToldOfWhatIsNoImage) {
  EXPECT_NE(refused({{"run", 'h', "data", 0755}}).find("a link to data"), std::string::npos);
  EXPECT_NE(refused({{"../app", 'f', "x", 0755}}).find("leads out of the image"),
            std::string::npos);
  EXPECT_NE(refused({{"big", 'f', std::string(2UL << 20, 'x'), 0755}}).find("layer sha256:"),
            std::string::npos);
}

} // namespace
} // namespace slipway::gate_worker
