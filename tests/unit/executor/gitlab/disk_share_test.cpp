// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/disk_share.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace slipway::gitlab {
namespace {

constexpr std::uint64_t kMiB = 1UL << 20;
constexpr std::uint64_t kFloor = 1024 * kMiB;

RoomAtStart started(std::vector<Room> rooms) {
  return {1000, std::move(rooms)};
}

Error ended(const std::optional<DiskShare>& share) {
  return no_space("the script was ended", kFloor, share);
}

struct Blame {
  const char* name;
  std::uint64_t own;
  std::uint64_t lost;
  ErrorKind kind;
};

class NoSpaceTest : public testing::TestWithParam<Blame> {};

TEST_P(NoSpaceTest, IsTheFailureOfWhoWroteNoSmallPartOfWhatWent) {
  EXPECT_EQ(ended(DiskShare{GetParam().own, GetParam().lost, false}).kind, GetParam().kind);
}

INSTANTIATE_TEST_SUITE_P(
    Shares, NoSpaceTest,
    testing::Values(Blame{"Filler", 400 * kMiB, 401 * kMiB, ErrorKind::denied},
                    Blame{"Bystander", 3 * kMiB, 400 * kMiB, ErrorKind::unavailable},
                    Blame{"WroteNothing", 0, 1, ErrorKind::denied},
                    Blame{"WroteNothingOfMore", 0, kMiB, ErrorKind::unavailable},
                    Blame{"AQuarter", 100 * kMiB, 400 * kMiB, ErrorKind::denied},
                    Blame{"JustBelow", 100 * kMiB - 1, 400 * kMiB, ErrorKind::unavailable},
                    Blame{"OthersGaveSomethingBack", 400 * kMiB, 10 * kMiB, ErrorKind::denied},
                    Blame{"NothingWent", 0, 0, ErrorKind::denied}),
    [](const testing::TestParamInfo<Blame>& tested) { return tested.param.name; });

TEST(NoSpace, TellsTheShareAndWhatToDo) {
  const auto own = ended(DiskShare{400 * kMiB, 410 * kMiB, false});
  EXPECT_EQ(own.what,
            "the script was ended: less than 1024 MiB of disk are left on this runner, or room for "
            "fewer than 10000 files; of the 410 MiB that went since this job was prepared it wrote "
            "400 MiB");
  EXPECT_NE(own.hint.find("write less"), std::string::npos);

  const auto others = ended(DiskShare{12, 40000, true});
  EXPECT_NE(others.what.find("of the 40000 files that went since this job was prepared it wrote "
                             "only 12 files"),
            std::string::npos);
  EXPECT_NE(others.hint.find("retry: when: runner_system_failure"), std::string::npos);
}

TEST(NoSpace, CountsAsTheJobsOwnWhereNothingIsKnown) {
  const auto error = ended(std::nullopt);

  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_EQ(error.what.find("it wrote"), std::string::npos);
}

TEST(ShareOf, IsOfThePlaceThatIsShortAndLostMost) {
  const auto before = started({{9 * kFloor}, {3 * kFloor}, {2 * kFloor}});
  const std::vector<Room> now{{2 * kFloor}, {kFloor - 1}, {kFloor - 1}};

  const auto share = share_of(before, now, kFloor, {.bytes = 7, .files = 8});

  ASSERT_TRUE(share);
  EXPECT_EQ(share->own, 7U);
  EXPECT_EQ(share->lost, 2 * kFloor + 1);
  EXPECT_FALSE(share->in_files);
}

TEST(ShareOf, IsInFilesWhereThoseAreShort) {
  const auto before = started({{9 * kFloor, 50000}});

  const auto share = share_of(before, {{8 * kFloor, 9000}}, kFloor, {.bytes = 7, .files = 30000});

  ASSERT_TRUE(share);
  EXPECT_EQ(share->own, 30000U);
  EXPECT_EQ(share->lost, 41000U);
  EXPECT_TRUE(share->in_files);
}

TEST(ShareOf, IsNoneWhereNothingIsShortOrThePlacesAreOthers) {
  const auto before = started({{9 * kFloor}});

  EXPECT_FALSE(share_of(before, {{kFloor}}, kFloor, {}));
  EXPECT_FALSE(share_of(before, {{0}, {0}}, kFloor, {}));
}

TEST(ShareOf, HasLostNothingWhereMoreIsFreeThanBefore) {
  const auto share = share_of(started({{kFloor / 4}}), {{kFloor / 2}}, kFloor, {});

  ASSERT_TRUE(share);
  EXPECT_EQ(share->lost, 0U);
}

TEST(RoomAtStart, IsReadAsItWasWritten) {
  const auto before = started({{17, 18}, {19}});

  const auto read = RoomAtStart::parse(before.to_text());

  ASSERT_TRUE(read);
  EXPECT_EQ(read->since, 1000);
  ASSERT_EQ(read->rooms.size(), 2U);
  EXPECT_EQ(read->rooms[0].bytes, 17U);
  EXPECT_EQ(read->rooms[0].files, 18U);
  EXPECT_EQ(read->rooms[1].files, UINT64_MAX);
  for (const char* text : {"", "1000", "1000 1", "x 1 2", "1000 1 2 x", "1000 1 2 3"})
    EXPECT_FALSE(RoomAtStart::parse(text)) << text;
}

TEST(Room, IsShortOfBytesOrOfFilesUnlessNobodyAsks) {
  EXPECT_FALSE((Room{kFloor, 10000}.is_short(kFloor)));
  EXPECT_TRUE((Room{kFloor - 1, 10000}.is_short(kFloor)));
  EXPECT_TRUE((Room{kFloor, 9999}.is_short(kFloor)));
  EXPECT_FALSE((Room{0, 0}.is_short(0)));
  EXPECT_TRUE(Room::of("/"));
  EXPECT_FALSE(Room::of("/nowhere/at/all"));
}

} // namespace
} // namespace slipway::gitlab
