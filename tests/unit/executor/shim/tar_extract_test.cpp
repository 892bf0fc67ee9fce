// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/tar_extract.hpp"
#include "executor/shim/tar_stream.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;

/// One entry as ustar writes it.
std::string entry(const std::string& name, char type, const std::string& content = "",
                  const std::string& link = "") {
  std::string block(512, '\0');
  const auto put = [&block](std::size_t at, const std::string& text) {
    block.replace(at, text.size(), text);
  };
  const auto octal = [](std::size_t value, int digits) {
    char text[24];
    (void)std::snprintf(text, sizeof text, "%0*zo", digits, value);
    return std::string{text};
  };
  put(0, name);
  put(100, octal(0640, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(content.size(), 11));
  put(136, octal(1700000000, 11));
  put(148, "        ");
  block[156] = type;
  put(157, link);
  put(257, std::string("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : block)
    sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string("\0 ", 2));
  auto padded = content;
  padded.resize((content.size() + 511) / 512 * 512, '\0');
  return block + padded;
}

const std::string kEnd(1024, '\0');

class TarExtractTest : public testing::Test {
protected:
  TarExtractTest() {
    char name[] = "/tmp/slipway-extract-XXXXXX";
    dir_ = ::mkdtemp(name);
    fs::create_directories(dir_ / "in");
    fs::create_directories(dir_ / "out");
  }
  ~TarExtractTest() override { fs::remove_all(dir_); }

  std::string read(const std::string& name) const {
    std::ifstream in{dir_ / name};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  /// The text of the error, or "".
  std::string extracted(const std::string& tar, const std::string& as, std::size_t step = 4096) {
    const UniqueFd folder{::open((dir_ / "out").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    TarExtractor extractor{folder.get(), as, false};
    for (std::size_t at = 0; at < tar.size(); at += step)
      if (auto fed = extractor.feed(std::string_view{tar}.substr(at, step)); !fed)
        return fed.error().text();
    auto ended = extractor.finish();
    return ended ? "" : ended.error().text();
  }

  static std::string all(TarStream tar) {
    std::string bytes;
    std::string buffer(1000, '\0');
    for (auto got = tar.read(buffer.data(), buffer.size()); got && *got > 0;
         got = tar.read(buffer.data(), buffer.size()))
      bytes.append(buffer, 0, *got);
    return bytes;
  }

  fs::path dir_;
};

TEST_F(TarExtractTest, WhatWasSentIsThereAgainHoweverTheBytesAreCut) {
  const std::string long_name = std::string(90, 'l') + "/" + std::string(120, 'n');
  fs::create_directories(dir_ / "in" / "sub" / std::string(90, 'l'));
  std::ofstream{dir_ / "in" / "sub" / long_name} << "deep";
  std::ofstream{dir_ / "in" / "a.txt"} << std::string(1025, 'a');
  std::ofstream{dir_ / "in" / "empty"};
  fs::create_symlink("../nowhere", dir_ / "in" / "link");
  ::chmod((dir_ / "in" / "a.txt").c_str(), 0754);
  ::chmod((dir_ / "in" / "sub").c_str(), 0555);
  const auto tar = all(TarStream{dir_ / "in", {}, {.top = "in"}});

  for (const std::size_t step : {std::size_t{1}, std::size_t{511}, std::size_t{100000}}) {
    ASSERT_EQ(extracted(tar, "copy", step), "");
    EXPECT_EQ(read("out/copy/a.txt"), std::string(1025, 'a'));
    EXPECT_EQ(read("out/copy/sub/" + long_name), "deep");
    EXPECT_EQ(fs::file_size(dir_ / "out/copy/empty"), 0U);
    EXPECT_EQ(fs::read_symlink(dir_ / "out/copy/link"), "../nowhere");
    struct stat info {};
    ::stat((dir_ / "out/copy/a.txt").c_str(), &info);
    EXPECT_EQ(info.st_mode & 07777U, 0754U);
    ::stat((dir_ / "out/copy/sub").c_str(), &info);
    EXPECT_EQ(info.st_mode & 07777U, 0555U);
    ::chmod((dir_ / "out/copy/sub").c_str(), 0755);
    fs::remove_all(dir_ / "out/copy");
  }
  ::chmod((dir_ / "in" / "sub").c_str(), 0755);
}

TEST_F(TarExtractTest, ReadsWhatGnuTarWrites) {
  fs::create_directories(dir_ / "in" / std::string(90, 'l'));
  std::ofstream{dir_ / "in" / std::string(90, 'l') / std::string(90, 'n')} << "deep";
  fs::create_hard_link(dir_ / "in" / std::string(90, 'l') / std::string(90, 'n'),
                       dir_ / "in" / "zz");
  for (const char* format : {"gnu", "posix", "ustar"}) {
    const auto line = "tar -C " + dir_.string() + " --format=" + format + " -cf " +
                      (dir_ / "x.tar").string() + " in";
    ASSERT_EQ(std::system(line.c_str()), 0);
    ASSERT_EQ(extracted(read("x.tar"), format), "") << format;
    EXPECT_EQ(read("out/" + std::string{format} + "/" + std::string(90, 'l') + "/" +
                   std::string(90, 'n')),
              "deep");
    EXPECT_EQ(read("out/" + std::string{format} + "/zz"), "deep");
  }
}

TEST_F(TarExtractTest, TheTopEntryIsRenamedOrItsContentTaken) {
  const auto folder = entry("dir/", '5') + entry("dir/x", '0', "1") + kEnd;
  EXPECT_EQ(extracted(folder, "as"), "");
  EXPECT_EQ(read("out/as/x"), "1");
  EXPECT_EQ(extracted(folder, ""), "");
  EXPECT_EQ(read("out/x"), "1");
  EXPECT_EQ(extracted(entry("./", '5') + entry("./y", '0', "2") + kEnd, ""), "");
  EXPECT_EQ(read("out/y"), "2");
  EXPECT_EQ(extracted(entry("file", '0', "new") + kEnd, "x"), "");
  EXPECT_EQ(read("out/x"), "new") << "a file is replaced";
}

TEST_F(TarExtractTest, NothingIsWrittenOutside) {
  fs::create_directories(dir_ / "other");
  std::ofstream{dir_ / "other" / "kept"} << "kept";
  fs::create_symlink(dir_ / "other", dir_ / "out" / "there");
  const auto top = entry("d/", '5');
  const auto other = (dir_ / "other").string();
  struct Row {
    std::string tar;
    const char* words;
  };
  for (const auto& row : {
           Row{top + entry("d/../../other/new", '0', "x"), "leads out of the folder"},
           Row{top + entry("../other/new", '0', "x"), "leads out of the folder"},
           Row{top + entry(other + "/new", '0', "x"), "not below the first one"},
           Row{top + entry("d/l", '2', "", other) + entry("d/l/new", '0', "x"), "is no folder"},
           Row{top + entry("d/there/new", '0', "x"), "is no folder"},
           Row{top + entry("d/h", '1', "", "../other/kept"), "leads out of the folder"},
           Row{top + entry("d/h", '1', "", "d/there/kept"), "is no folder"},
           Row{top + entry("d/null", '3'), "a device"},
           Row{entry("d", '0', "x"), "is no folder"},
       }) {
    const auto said = extracted(row.tar + kEnd, "");
    EXPECT_NE(said.find(row.words), std::string::npos) << row.words << ": " << said;
    EXPECT_FALSE(fs::exists(dir_ / "other" / "new")) << row.words;
  }
  EXPECT_EQ(extracted(top + entry("d/pipe", '6') + kEnd, ""), "");
  EXPECT_TRUE(fs::is_fifo(dir_ / "out" / "d" / "pipe") || fs::is_fifo(dir_ / "out" / "pipe"));
  // A link that an earlier copy left is replaced and not followed.
  fs::create_symlink(dir_ / "other" / "kept", dir_ / "out" / "f");
  EXPECT_EQ(extracted(entry("f", '0', "mine") + kEnd, "f"), "");
  EXPECT_EQ(read("other/kept"), "kept");
  EXPECT_EQ(read("out/f"), "mine");
}

TEST_F(TarExtractTest, FilesOfAnImageHaveNoTopEntry) {
  const auto files = [&](const std::string& tar) -> std::string {
    const UniqueFd folder{::open((dir_ / "out").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    auto extractor = TarExtractor::of_files(folder.get());
    auto done = extractor.feed(tar);
    if (done) done = extractor.finish();
    return done ? "" : done.error().text();
  };
  EXPECT_EQ(files(kEnd), "");
  EXPECT_EQ(files(entry("a", '0', "1") + entry("b/c", '0', "2") + entry("d", '1', "", "a") + kEnd),
            "");
  EXPECT_EQ(read("out/a") + read("out/b/c") + read("out/d"), "121");
  fs::create_symlink(dir_ / "in", dir_ / "out" / "there");
  EXPECT_NE(files(entry("there/x", '0', "1") + kEnd).find("is no folder"), std::string::npos);
  EXPECT_NE(files(entry("../x", '0', "1") + kEnd).find("leads out"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir_ / "in" / "x") || fs::exists(dir_ / "x"));
}

TEST_F(TarExtractTest, AFolderAndAFileDoNotReplaceEachOther) {
  fs::create_directories(dir_ / "out" / "a");
  std::ofstream{dir_ / "out" / "b"} << "b";
  EXPECT_NE(extracted(entry("x", '0', "1") + kEnd, "a").find("cannot overwrite directory"),
            std::string::npos);
  EXPECT_NE(extracted(entry("x/", '5') + kEnd, "b").find("cannot overwrite non-directory"),
            std::string::npos);
}

TEST_F(TarExtractTest, WhatIsNoTarOrNoWholeOneIsRefused) {
  const auto whole = entry("f", '0', std::string(600, 'x')) + kEnd;
  EXPECT_EQ(extracted(whole, "f"), "") << "control";
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, std::size_t{512}, std::size_t{700}})
    EXPECT_NE(extracted(whole.substr(0, size), "g").find("ends too soon"), std::string::npos)
        << size;
  auto flipped = whole;
  flipped[0] = 'g';
  EXPECT_NE(extracted(flipped, "h").find("no tar"), std::string::npos);
  EXPECT_NE(extracted(std::string(2048, 'x'), "h").find("no tar"), std::string::npos);
  auto records = entry("pax", 'x', "99 path=x\n");
  EXPECT_NE(extracted(records + whole, "h").find("broken records"), std::string::npos);
  records = entry("pax", 'x', std::string(kMaxTarRecords + 1, 'x'));
  EXPECT_NE(extracted(records + whole, "h").find("too long"), std::string::npos);
}

} // namespace
} // namespace slipway::shim
