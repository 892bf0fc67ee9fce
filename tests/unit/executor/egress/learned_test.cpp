// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/learned.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

namespace slipway::egress {
namespace {

class Learned : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "learned-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = std::filesystem::path{pattern} / "egress";
  }
  void TearDown() override { std::filesystem::remove_all(dir_.parent_path()); }
  void note(const std::string& project, const std::string& target) {
    ASSERT_TRUE(learn(dir_, project, *Target::parse(target)).ok());
  }
  std::filesystem::path dir_;
};

TEST_F(Learned, GivesEachTargetOfAProjectOnceInOrder) {
  note("grp/app", "z.example:443");
  note("grp/app", "a.example:80");
  note("grp/app", "z.example:443");
  note("grp/other", "b.example:80");

  const auto targets = learned(dir_, "grp/app");

  ASSERT_TRUE(targets.ok());
  EXPECT_EQ(as_allowlist(*targets),
            "egress_allow = [\n  \"a.example:80\",\n  \"z.example:443\",\n]\n");
  EXPECT_TRUE(learned(dir_, "grp/none")->empty());
  EXPECT_EQ(as_allowlist({}), "egress_allow = []\n");
}

TEST_F(Learned, WhatIsPrintedIsAnAllowlist) {
  note("grp/app", "[2001:db8::1]:8080");
  note("grp/app", "a.example:22");
  const auto targets = *learned(dir_, "grp/app");
  std::vector<std::string> entries;
  for (const auto& target : targets)
    entries.push_back(target.str());

  const auto list = Allowlist::parse(entries);

  ASSERT_TRUE(list.ok());
  for (const auto& target : targets)
    EXPECT_EQ(list->find(target), Listed::exact);
}

TEST_F(Learned, AProjectsNameLeadsToNoOtherFolder) {
  note("../../escape", "a.example:80");

  EXPECT_EQ(learned(dir_, "../../escape")->size(), 1U);
  for (const auto& entry : std::filesystem::recursive_directory_iterator{dir_.parent_path()})
    EXPECT_TRUE(entry.path() == dir_ || entry.path().parent_path() == dir_) << entry.path();
}

TEST_F(Learned, HasAnEnd) {
  std::filesystem::create_directory(dir_);
  std::ofstream file{dir_ / "app.targets"};
  for (std::size_t i = 0; i < kMostLearned; ++i)
    file << "h" << i << ".example:443\n";
  file.close();

  note("app", "one-more.example:443");

  EXPECT_EQ(learned(dir_, "app")->size(), kMostLearned);
}

} // namespace
} // namespace slipway::egress
