// SPDX-License-Identifier: Apache-2.0
#include "executor/log/log.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

namespace slipway::log {
namespace {
namespace fs = std::filesystem;

class OperatorLog : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/slipway-log-XXXXXX";
    dir = ::mkdtemp(name);
    file = dir / "slipway.log";
  }
  void TearDown() override { fs::remove_all(dir); }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::ifstream in{file};
    for (std::string line; std::getline(in, line);)
      all.push_back(line);
    return all;
  }
  // After "TIME level pid=N ".
  static std::string words_of(const std::string& line) {
    const auto pid = line.find(" pid=");
    return line.substr(line.find(' ', pid + 1) + 1);
  }
  fs::path dir;
  fs::path file;
};

TEST_F(OperatorLog, WritesTimeLevelProcessMessageAndFields) {
  ASSERT_TRUE(open(file, Level::info));

  write(Level::info, "prepare", {{"job", "j1-ab"}, {"image", "reg:5000/a b"}, {"note", ""}});

  const auto all = lines();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(words_of(all[0]), R"(prepare job=j1-ab image="reg:5000/a b" note="")");
  EXPECT_EQ(all[0].substr(4, 1) + all[0].substr(10, 1) + all[0].substr(23, 1), "-TZ") << all[0];
  EXPECT_NE(all[0].find("Z info pid=" + std::to_string(::getpid()) + " "), std::string::npos)
      << all[0];
}

TEST_F(OperatorLog, LeavesOutWhatIsBelowItsLevelAndAppends) {
  ASSERT_TRUE(open(file, Level::warning));
  write(Level::info, "not this");
  write(Level::warning, "first");
  ASSERT_TRUE(open(file, Level::debug));
  write(Level::debug, "second");

  const auto all = lines();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(words_of(all[0]), "first");
  EXPECT_EQ(words_of(all[1]), "second");
}

TEST_F(OperatorLog, ATextOfAJobBeginsNoLineAndSteersNoTerminal) {
  ASSERT_TRUE(open(file, Level::info));

  write(Level::error, "failed: a\n2026-01-01T00:00:00.000Z info pid=1 all is well\x1b[2J",
        {{"ref", "main\nfake=1"}, {"image", "\x1b]0;x\x07"}, {"user", "say \"hi\" \\"}});

  const auto all = lines();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(words_of(all[0]), R"(failed: a\n2026-01-01T00:00:00.000Z info pid=1 all is well [2J )"
                              R"(ref="main\nfake=1" image=" ]0;x " user="say \"hi\" \\")");
}

TEST_F(OperatorLog, IsForItsOwnerAndGroupAlone) {
  const auto mask = ::umask(0);
  const bool opened = open(file, Level::info);
  ::umask(mask);

  ASSERT_TRUE(opened);
  struct stat facts {};
  ASSERT_EQ(::stat(file.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0640U);
}

TEST_F(OperatorLog, SaysWhereItCannotBeOpened) {
  EXPECT_FALSE(open(dir / "no-such-folder/slipway.log", Level::info));
}

} // namespace
} // namespace slipway::log
