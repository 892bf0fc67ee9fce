// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/id_slots.hpp"

#include <gtest/gtest.h>

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace slipway::sandbox {
namespace {

struct Grant {
  const char* name;
  const char* text;
  std::uint64_t ids;
};

class SubordinateIds : public testing::TestWithParam<Grant> {};

TEST_P(SubordinateIds, AreCounted) {
  EXPECT_EQ(count_subordinate_ids(GetParam().text, "ci", 1001), GetParam().ids);
}

INSTANTIATE_TEST_SUITE_P(
    Lines, SubordinateIds,
    testing::Values(Grant{"OneRange", "ci:100000:65536\n", 65536},
                    Grant{"NoLastNewline", "ci:100000:65536", 65536},
                    Grant{"ByNumber", "1001:100000:65536\n", 65536},
                    Grant{"RangesAddUp", "ci:100000:65536\nother:1:9\nci:300000:131072\n", 196608},
                    Grant{"OthersDoNotCount", "cicada:100000:65536\n1:100000:5\n", 0},
                    Grant{"NoNumber", "ci:100000:many\n", 0},
                    Grant{"MissingField", "ci:100000\n", 0}, Grant{"ExtraField", "ci:1:2:3\n", 0},
                    Grant{"RootIsNotSubordinate", "ci:0:65536\n", 0},
                    Grant{"BeyondTheLastId", "ci:4294900000:65536000\n", 0},
                    Grant{"Overflow", "ci:1:18446744073709551615\n", 0},
                    Grant{"Negative", "ci:-5:65536\n", 0}, Grant{"Empty", "", 0}),
    [](const auto& param) { return std::string{param.param.name}; });

class Slots : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "slots-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    user_ = ::getpwuid(::getuid())->pw_name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  Result<HeldSlot> take(std::uint64_t ids, int most = 100, const std::set<int>& in_use = {}) {
    for (const char* file : {"subuid", "subgid"}) {
      std::ofstream(dir_ / file) << user_ << ":100000:" << ids << "\n";
    }
    return take_id_slot_from({dir_ / "subuid", dir_ / "subgid"}, dir_ / "locks", user_, most,
                             in_use);
  }

  std::filesystem::path dir_;
  std::string user_;
};

TEST_F(Slots, TwoJobsGetDisjointRangesAboveTheServiceUser) {
  auto first = take(3 * 65536);
  auto second = take(3 * 65536);

  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_FALSE(first->slot.shared);
  EXPECT_FALSE(second->slot.shared);
  EXPECT_EQ(first->slot.first, 65537U);
  EXPECT_EQ(second->slot.first, 131073U);
  EXPECT_EQ(first->slot.size, 65536U);
}

TEST_F(Slots, AFreedSlotIsTakenAgain) {
  {
    auto first = take(2 * 65536);
    ASSERT_EQ(first->slot.number, 1);
  }

  EXPECT_EQ(take(2 * 65536)->slot.number, 1);
}

TEST_F(Slots, TheCommonSlotTakesWhoFindsNone) {
  auto first = take(2 * 65536);
  auto second = take(2 * 65536);
  auto third = take(2 * 65536);

  EXPECT_EQ(first->slot.number, 1);
  for (const auto* late : {&second, &third}) {
    EXPECT_TRUE((*late)->slot.shared);
    EXPECT_EQ((*late)->slot.first, 1U);
    EXPECT_EQ((*late)->slot.number, 0);
  }
}

TEST_F(Slots, OneRangeIsShared) {
  auto only = take(65536);

  EXPECT_TRUE(only->slot.shared);
  EXPECT_EQ(only->slot.first, 1U);
  EXPECT_EQ(only->slot.size, 65536U);
}

TEST_F(Slots, ASmallRangeIsSharedAndNotExceeded) {
  auto only = take(5000);

  EXPECT_TRUE(only->slot.shared);
  EXPECT_EQ(only->slot.size, 5000U);
}

TEST_F(Slots, SlotsOfLiveJobsAreSkipped) {
  EXPECT_EQ(take(4 * 65536, 100, {1, 2})->slot.number, 3);
}

TEST_F(Slots, NoMoreThanAskedAreHandedOut) {
  auto first = take(9 * 65536, 1);
  auto second = take(9 * 65536, 1);

  EXPECT_FALSE(first->slot.shared);
  EXPECT_TRUE(second->slot.shared);
}

TEST_F(Slots, WithoutIdsTheErrorSaysWhatToRun) {
  auto none = take(10);

  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(none.error().hint.find("usermod --add-subuids"), std::string::npos);
}

struct Division {
  const char* name;
  std::uint64_t ranges;
  int jobs, scanner, builders, stores;
};

class PlanSlots : public testing::TestWithParam<Division> {};

TEST_P(PlanSlots, GivesNoSlotTwice) {
  const auto& wanted = GetParam();

  const auto plan = plan_slots(wanted.ranges * kSlotSize, {4, 3, 2});

  EXPECT_EQ(plan.jobs.count, wanted.jobs);
  EXPECT_EQ(plan.scanner.count, wanted.scanner);
  EXPECT_EQ(plan.builders.count, wanted.builders);
  EXPECT_EQ(plan.stores.count, wanted.stores);
  int next = 1; // 0 is the common one
  for (const auto& share : {plan.jobs, plan.scanner, plan.builders, plan.stores}) {
    EXPECT_EQ(share.first, next);
    next += share.count;
  }
  EXPECT_LE(next, static_cast<int>(std::max<std::uint64_t>(wanted.ranges, 1)));
}

INSTANTIATE_TEST_SUITE_P(Ranges, PlanSlots,
                         testing::Values(Division{"None", 0, 0, 0, 0, 0},
                                         Division{"OnlyTheCommon", 1, 0, 0, 0, 0},
                                         Division{"OneIsAJobs", 2, 1, 0, 0, 0},
                                         Division{"ThenTheScanners", 3, 1, 1, 0, 0},
                                         Division{"ThenABuilders", 4, 2, 1, 0, 0},
                                         Division{"HalfAreForJobs", 7, 3, 1, 1, 1},
                                         Division{"AsManyAsWanted", 11, 4, 1, 3, 2},
                                         Division{"NoMoreThanWanted", 99, 4, 1, 3, 2}),
                         [](const auto& param) { return std::string{param.param.name}; });

TEST(SlotPlan, SlotsAreDisjointAndTheCommonOneIsSaidToBeShared) {
  const auto plan = plan_slots(5000, {4, 3, 2});
  const auto enough = plan_slots(11 * kSlotSize, {4, 3, 2});

  EXPECT_TRUE(plan.scanners().shared);
  EXPECT_EQ(plan.scanners().size, 5000U);
  EXPECT_FALSE(enough.scanners().shared);
  EXPECT_EQ(enough.slot(1).first, 1 + kSlotSize);
  EXPECT_EQ(enough.slot(2).first, enough.slot(1).first + enough.slot(1).size);
}

} // namespace
} // namespace slipway::sandbox
