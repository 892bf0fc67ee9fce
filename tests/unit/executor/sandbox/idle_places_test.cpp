// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/idle_places.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slipway::sandbox {
namespace {

using namespace std::chrono_literals;

const std::string kA = "00000000000000aa";
const std::string kB = "00000000000000bb";
const std::string kC = "00000000000000cc";

struct HandClock final : Clock {
  WallTime now() const override { return at; }
  WallTime at{std::chrono::seconds{1'800'000'000}};
};

class IdlePlacesTest : public testing::Test {
protected:
  void use(const std::string& id) {
    ASSERT_TRUE(places_.make(id).ok());
    ASSERT_TRUE(places_.used(id).ok());
    clock_.at += 1h;
  }
  std::vector<std::string> ids() {
    std::vector<std::string> found;
    const auto all = places_.all();
    for (const auto& one : *all)
      found.push_back(one.id);
    return found;
  }
  IdlePlaces::Erase erase() {
    return [this](const IdlePlace& one) -> Result<bool> {
      asked_.push_back(one.id);
      if (one.id == in_use_) return false;
      if (one.id == stuck_) return Error{ErrorKind::io, "it cannot be removed", "", {}};
      places_.forget(one.id);
      return true;
    };
  }

  fakes::TempDir dir_;
  HandClock clock_;
  IdlePlaces places_{dir_.path() / "places", clock_};
  std::string in_use_;
  std::string stuck_;
  std::vector<std::string> asked_;
};

TEST_F(IdlePlacesTest, OneIdleLongestIsFirst) {
  EXPECT_TRUE(ids().empty());
  use(kB);
  use(kA);
  use(kC);
  use(kB);

  EXPECT_EQ(ids(), (std::vector{kA, kC, kB}));
}

TEST_F(IdlePlacesTest, OnlyPlacesThatWereUsedAreListed) {
  use(kA);
  ASSERT_TRUE(places_.make(kB).ok());
  ASSERT_TRUE(make_directory(dir_.path() / "places/notes", 0700).ok());
  ASSERT_TRUE(replace_file(dir_.path() / "places/notes/last-used", "x").ok());
  EXPECT_EQ(ids(), std::vector{kA});

  places_.forget(kA);

  EXPECT_TRUE(ids().empty());
  EXPECT_TRUE(std::filesystem::exists(places_.dir(kA))) << "somebody may wait on its lock";
}

TEST_F(IdlePlacesTest, OneIsSpoiltUntilItIsErased) {
  use(kA);
  use(kB);
  ASSERT_TRUE(places_.spoil(kA).ok());
  EXPECT_TRUE(places_.is_spoilt(kA));
  EXPECT_FALSE(places_.is_spoilt(kB));
  use(kA); // somebody goes on with it
  EXPECT_TRUE(places_.is_spoilt(kA));

  places_.forget(kA);

  EXPECT_FALSE(places_.is_spoilt(kA));
  EXPECT_TRUE(places_.spoil(kC).ok()) << "there is none";
  EXPECT_FALSE(places_.is_spoilt(kC));
}

TEST_F(IdlePlacesTest, RoomIsMadeFromTheOneIdleLongestThatNobodyUses) {
  for (const auto& id : {kA, kB, kC})
    use(id);
  in_use_ = kA;

  const auto room = places_.make_room("00000000000000dd", 3, erase());

  EXPECT_TRUE(room.ok() && *room);
  EXPECT_EQ(asked_, (std::vector{kA, kB}));
  EXPECT_EQ(ids(), (std::vector{kA, kC}));
}

TEST_F(IdlePlacesTest, WantedOneTakesNoRoomAndIsNeverErased) {
  use(kA);
  use(kB);

  EXPECT_TRUE(*places_.make_room(kA, 2, erase()));
  EXPECT_TRUE(asked_.empty());
  EXPECT_TRUE(*places_.make_room(kA, 1, erase()));
  EXPECT_EQ(asked_, std::vector{kB});
  EXPECT_EQ(ids(), std::vector{kA});
}

TEST_F(IdlePlacesTest, NoRoomWhereAllAreInUse) {
  use(kA);
  in_use_ = kA;

  const auto room = places_.make_room(kB, 1, erase());

  ASSERT_TRUE(room.ok());
  EXPECT_FALSE(*room);
}

TEST_F(IdlePlacesTest, OneThatCannotBeRemovedIsLikeOneInUse) {
  use(kA);
  use(kB);
  stuck_ = kA;

  const auto room = places_.make_room(kC, 2, erase());
  const auto more = places_.make_room(kC, 1, erase());

  EXPECT_TRUE(room.ok() && *room);
  EXPECT_EQ(ids(), std::vector{kA});
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().what, "it cannot be removed");
}

constexpr SlotShare kTwo{7, 2};

TEST_F(IdlePlacesTest, EachHasASlotOfItsOwnUntilItIsForgotten) {
  for (const auto& id : {kA, kB, kC})
    ASSERT_TRUE(places_.make(id).ok());

  EXPECT_EQ(*places_.take_slot(kA, kTwo), 7);
  EXPECT_EQ(*places_.take_slot(kB, kTwo), 8);
  EXPECT_EQ(*places_.take_slot(kA, kTwo), 7);
  EXPECT_EQ(*places_.take_slot(kC, kTwo), 0); // none is left
  EXPECT_EQ(ids().size(), 3U);
  EXPECT_FALSE(places_.is_misplaced(kC, kTwo));

  places_.forget(kA);
  EXPECT_TRUE(places_.is_misplaced(kC, kTwo)); // one is free by now
  EXPECT_EQ(*places_.take_slot(kC, kTwo), 0);  // its files are of slot 0 as long as they are there
  places_.forget(kC);
  EXPECT_EQ(*places_.take_slot(kC, kTwo), 7);
}

TEST_F(IdlePlacesTest, OneOfAnotherShareIsMisplacedAndAnEmptyOneIsNot) {
  ASSERT_TRUE(places_.make(kA).ok());
  EXPECT_FALSE(places_.is_misplaced(kA, kTwo));
  ASSERT_EQ(*places_.take_slot(kA, kTwo), 7);

  EXPECT_FALSE(places_.is_misplaced(kA, kTwo));
  EXPECT_TRUE(places_.is_misplaced(kA, {1, 2}));
  EXPECT_TRUE(places_.is_misplaced(kA, {}));
}

TEST_F(IdlePlacesTest, OneOfTheCommonSlotIsNoOthers) {
  use(kA);
  ASSERT_TRUE(places_.make(kB).ok());
  ASSERT_EQ(*places_.take_slot(kB, kTwo), 7);

  EXPECT_TRUE(places_.is_misplaced(kA, kTwo)); // 8 is free
  EXPECT_FALSE(places_.has_anothers_slot(kA, kTwo));
  EXPECT_FALSE(places_.has_anothers_slot(kB, kTwo));
  EXPECT_TRUE(places_.has_anothers_slot(kB, {1, 2}));
  EXPECT_FALSE(places_.has_anothers_slot(kC, kTwo));
}

TEST_F(IdlePlacesTest, ASlotThatWasLeftBehindIsNobodys) {
  for (const auto& id : {kA, kB})
    ASSERT_TRUE(places_.make(id).ok());
  ASSERT_EQ(*places_.take_slot(kA, kTwo), 7);
  std::filesystem::remove(places_.dir(kA) / "last-used"); // and then it was killed

  EXPECT_EQ(*places_.take_slot(kB, kTwo), 7);
  EXPECT_EQ(*places_.take_slot(kA, kTwo), 8) << "not the one that another has by now";
}

TEST_F(IdlePlacesTest, OneFromBeforeSlotsWereKeptIsOfTheCommonOne) {
  use(kA);

  EXPECT_TRUE(places_.is_misplaced(kA, kTwo));
  EXPECT_FALSE(places_.is_misplaced(kA, {}));
  EXPECT_EQ(*places_.take_slot(kA, kTwo), 0);
}

} // namespace
} // namespace slipway::sandbox
