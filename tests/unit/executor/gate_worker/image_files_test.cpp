// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/image_files.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/unit/executor/gate_worker/layers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

namespace slipway::gate_worker {
namespace {

using fakes::PackedImage;

class ImageFiles : public testing::Test {
protected:
  Status write(const std::vector<std::string>& layers, std::uint64_t most = 1UL << 20) {
    PackedImage image;
    const char* packings[] = {"gzip", "", "zstd"};
    for (const auto& one : layers)
      image.layers.push_back({one, packings[image.layers.size() % 3]});
    tar_.clear();
    return write_image_files(layout_, image.write(layout_), most, [this](std::string_view bytes) {
      tar_ += bytes;
      return Status{};
    });
  }
  /// PATH -> "d MODE", "f CONTENT", "l TARGET" or "h TARGET" of what was written; in `order_` too.
  std::map<std::string, std::string> files(const std::vector<std::vector<Item>>& layers) {
    std::vector<std::string> tars;
    tars.reserve(layers.size());
    for (const auto& items : layers)
      tars.push_back(layer(items));
    const auto written = write(tars);
    EXPECT_TRUE(written.ok()) << written.error().text();
    std::map<std::string, std::string> found;
    order_.clear();
    archive* from = ::archive_read_new();
    ::archive_read_support_format_tar(from);
    ::archive_read_open_memory(from, tar_.data(), tar_.size());
    archive_entry* entry = nullptr;
    const auto next = [&] {
      const int code = ::archive_read_next_header(from, &entry);
      return code == ARCHIVE_OK || code == ARCHIVE_WARN; // of names that are no text here
    };
    while (next()) {
      const std::string path = ::archive_entry_pathname(entry);
      order_.push_back(path);
      char text[64];
      if (::archive_entry_hardlink(entry) != nullptr) {
        found[path] = std::string{"h "} + ::archive_entry_hardlink(entry);
      } else if (::archive_entry_filetype(entry) == AE_IFDIR) {
        (void)std::snprintf(text, sizeof text, "d %o", ::archive_entry_perm(entry));
        found[path] = text;
      } else if (::archive_entry_filetype(entry) == AE_IFLNK) {
        found[path] = std::string{"l "} + ::archive_entry_symlink(entry);
      } else {
        const auto got = ::archive_read_data(from, text, sizeof text);
        found[path] =
            "f " + std::string(text, static_cast<std::size_t>(std::max(got, la_ssize_t{0})));
      }
    }
    ::archive_read_free(from);
    return found;
  }
  /// The error's words; "" where there was none.
  std::string refused(const std::vector<Item>& items, const std::vector<Item>& over = {}) {
    const auto written = write({layer(items), layer(over)});
    if (written) return "";
    EXPECT_TRUE(tar_.empty()) << "written before the layers were read";
    return written.error().text();
  }

  const fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
  std::string tar_;
  std::vector<std::string> order_;
};

using Found = std::map<std::string, std::string>;

TEST_F(ImageFiles, AreThoseOfTheUppermostLayerThatHasThem) {
  EXPECT_EQ(files({{{"./a/", 'd', "", 0700}, {"a/one", 'f', "1"}, {"a/two", 'f', "2"}},
                   {{"a/", 'd', "", 0755}, {"/a/two", 'f', "two"}, {"b", 'l', "a/two"}}}),
            (Found{{"a/", "d 755"}, {"a/one", "f 1"}, {"a/two", "f two"}, {"b", "l a/two"}}));
  ASSERT_FALSE(order_.empty());
  EXPECT_EQ(order_.front(), "a/") << "a folder stands before what is in it";
}

TEST_F(ImageFiles, AWhiteoutTakesAwayWhatIsBelowItAndNothingElse) {
  EXPECT_EQ(files({{{"a/", 'd', "", 0755}, {"a/x", 'f', "1"}, {"a0", 'f', "2"}, {"b", 'f', "3"}},
                   {{".wh.a"}, {"b", 'f', "b"}, {"new", 'f', "4"}}}),
            (Found{{"a0", "f 2"}, {"b", "f b"}, {"new", "f 4"}}));
  // Of its own layer it takes nothing, wherever it stands.
  EXPECT_EQ(files({{{"a/", 'd', "", 0755}, {"a/x", 'f', "1"}},
                   {{"a/", 'd', "", 0755}, {"a/y", 'f', "2"}, {"a/.wh..wh..opq"}}}),
            (Found{{"a/", "d 755"}, {"a/y", "f 2"}}));
  EXPECT_EQ(files({{{"x", 'f', "1"}}, {{".wh..wh..opq"}, {".wh..wh.plnk"}, {"y", 'f', "2"}}}),
            (Found{{"y", "f 2"}}));
}

TEST_F(ImageFiles, AFolderAndAFileTakeEachOthersPlace) {
  EXPECT_EQ(files({{{"a/", 'd', "", 0755}, {"a/x", 'f', "1"}, {"b", 'f', "2"}},
                   {{"a", 'f', "a"}, {"b/", 'd', "", 0755}, {"b/y", 'f', "3"}}}),
            (Found{{"a", "f a"}, {"b/", "d 755"}, {"b/y", "f 3"}}));
}

TEST_F(ImageFiles, HardLinksKeepTheContentThatTheyWereMadeFor) {
  EXPECT_EQ(files({{{"z", 'f', "old"}, {"b", 'h', "z"}, {"c", 'h', "b"}}, {{"z", 'f', "new"}}}),
            (Found{{"b", "f old"}, {"c", "h b"}, {"z", "f new"}}));
  ASSERT_FALSE(order_.empty());
  EXPECT_EQ(order_.back(), "c") << "a link stands behind what it links to";
}

TEST_F(ImageFiles, NamesAreBytes) {
  const std::string long_name = std::string(90, 'l') + "/" + std::string(150, 'n');
  EXPECT_EQ(files({{{"\xc3\xa4\xff", 'f', "1"}, {long_name, 'f', "2"}}}),
            (Found{{"\xc3\xa4\xff", "f 1"}, {long_name, "f 2"}}));
}

TEST_F(ImageFiles, AnImageWithoutFilesIsAnEmptyTar) {
  EXPECT_EQ(files({{{"a", 'f', "1"}}, {{".wh.a"}}}), Found{});
  EXPECT_EQ(tar_, std::string(1024, '\0'));
}

TEST_F(ImageFiles, NoNameLeadsOutOfTheTreeOrThroughALink) {
  EXPECT_NE(refused({{"../x", 'f', "1"}}).find("leads out of the image: ../x"), std::string::npos);
  EXPECT_NE(refused({{"a/../../x", 'f', "1"}}).find("leads out"), std::string::npos);
  EXPECT_NE(refused({{"h", 'h', "../etc/passwd"}}).find("leads out"), std::string::npos);
  EXPECT_NE(refused({{"h", 'h', "etc/passwd"}}).find("no file of the image"), std::string::npos);
  EXPECT_NE(refused({{"l", 'l', "/etc"}, {"l/x", 'f', "1"}}).find("l/x is below l"),
            std::string::npos);
  EXPECT_NE(refused({{"l", 'l', "/etc"}}, {{"l/x", 'f', "1"}}).find("l/x is below l"),
            std::string::npos);
  EXPECT_EQ(refused({{"l", 'l', "/etc"}}, {{"m", 'f', "1"}}), "") << "control";
}

TEST_F(ImageFiles, LayersThatAreNoTarAndTooMuchContentAreRefused) {
  const auto whole = layer({{"a", 'f', std::string(2000, 'x')}});
  EXPECT_NE(write({"no tar at all" + std::string(600, 'x')}).error().text().find("as a tar"),
            std::string::npos);
  EXPECT_FALSE(write({whole.substr(0, 1000)}).ok());
  EXPECT_FALSE(write({whole}, 1000).ok());
  EXPECT_TRUE(write({whole}).ok());
}

} // namespace
} // namespace slipway::gate_worker
