// SPDX-License-Identifier: Apache-2.0
#include "executor/base/lock_file.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <string>

namespace slipway {
namespace {

using namespace std::chrono_literals;

class LockFile : public testing::Test {
protected:
  LockFile() {
    std::string name = testing::TempDir() + "slipway-lock-XXXXXX";
    dir_ = ::mkdtemp(name.data());
  }
  ~LockFile() override { std::filesystem::remove_all(dir_); }

  std::filesystem::path dir_;
};

TEST_F(LockFile, IsKeptFromASecondOne) {
  const auto file = dir_ / "lock";
  auto first = lock_file(file, LOCK_EX, 0ms);
  ASSERT_TRUE(first.ok() && *first);
  int asked = 0;

  const auto second = lock_file(file, LOCK_SH, [&] { return ++asked == 2; });

  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(*second);
  EXPECT_EQ(asked, 2);
  first->reset();
  const auto third = lock_file(file, LOCK_SH, 0ms);
  const auto fourth = lock_file(file, LOCK_SH, 0ms);
  EXPECT_TRUE(third.ok() && *third);
  EXPECT_TRUE(fourth.ok() && *fourth) << "both share it";
}

TEST_F(LockFile, MakesNoFolderAndFollowsNoLink) {
  std::filesystem::create_symlink(dir_ / "other", dir_ / "link");

  EXPECT_EQ(lock_file(dir_ / "none/lock", LOCK_EX, 0ms).error().kind, ErrorKind::not_found);
  EXPECT_FALSE(lock_file(dir_ / "link", LOCK_EX, 0ms).ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "other"));
}

} // namespace
} // namespace slipway
