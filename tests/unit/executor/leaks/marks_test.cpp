// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/marks.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace slipway::leaks {
namespace {

namespace fs = std::filesystem;

class LeakMarksTest : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-marks-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    marks_.emplace(root_ / "domain");
  }
  void TearDown() override { fs::remove_all(root_); }

  void mark(const std::string& name) {
    const auto marked = marks_->mark(blob_, {{name}, "holds " + name});
    ASSERT_TRUE(marked.ok()) << marked.error().text();
  }

  fs::path root_;
  std::optional<LeakMarks> marks_;
  oci::Digest blob_ = oci::Digest::of("a blob");
};

TEST_F(LeakMarksTest, ABlobThatHoldsTwoSecretsIsMarkedWithBoth) {
  mark("A");
  mark("B");
  mark("A");

  const auto on = marks_->on({blob_});

  ASSERT_TRUE(on.ok()) << on.error().text();
  ASSERT_EQ(on->size(), 1U);
  EXPECT_EQ(on->begin()->names, (std::set<std::string>{"A", "B"}));
}

TEST_F(LeakMarksTest, OneThatIsMarkedAgainIsMet) {
  using namespace std::chrono_literals;
  mark("A");
  fs::last_write_time(root_ / "domain" / blob_.hex(), fs::file_time_type::clock::now() - 240h);

  mark("A");
  LeakMarks::prune(
      root_, std::chrono::time_point_cast<WallTime::duration>(std::chrono::system_clock::now()),
      24h);

  EXPECT_EQ(marks_->on({blob_})->size(), 1U);
}

TEST_F(LeakMarksTest, OneThatNobodyMetGoes) {
  using namespace std::chrono_literals;
  mark("A");
  fs::last_write_time(root_ / "domain" / blob_.hex(), fs::file_time_type::clock::now() - 240h);

  LeakMarks::prune(
      root_, std::chrono::time_point_cast<WallTime::duration>(std::chrono::system_clock::now()),
      24h);

  EXPECT_TRUE(marks_->on({blob_})->empty());
}

} // namespace
} // namespace slipway::leaks
