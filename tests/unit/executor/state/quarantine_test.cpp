// SPDX-License-Identifier: Apache-2.0
#include "executor/state/quarantine.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace slipway::state {
namespace {

class QuarantineTest : public testing::Test {
protected:
  Quarantine& open(const QuarantineLimits& limits = {}) {
    held_.reset();
    auto opened = Quarantine::open(dir_.path() / "q", limits);
    EXPECT_TRUE(opened.ok()) << opened.error().text();
    held_ = *std::move(opened);
    return *held_;
  }
  static oci::Layout::Source text(std::string bytes) {
    return [bytes = std::move(bytes), at = std::size_t{0}](char* buffer,
                                                           std::size_t capacity) mutable {
      const auto count = std::min(capacity, bytes.size() - at);
      std::copy_n(bytes.data() + at, count, buffer);
      at += count;
      return Result<std::size_t>{count};
    };
  }
  static Status upload(Quarantine& quarantine, const std::string& repository,
                       const std::string& bytes) {
    auto id = quarantine.begin(repository);
    if (!id) return std::move(id).error();
    if (auto size = quarantine.append(repository, *id, std::nullopt, text(bytes)); !size)
      return std::move(size).error();
    return quarantine.finish(repository, *id, oci::Digest::of(bytes));
  }

  fakes::TempDir dir_;
  std::unique_ptr<Quarantine> held_;
};

TEST_F(QuarantineTest, KeepsWhatWasSentInParts) {
  auto& quarantine = open();
  const auto id = *quarantine.begin("grp/app");

  EXPECT_EQ(*quarantine.append("grp/app", id, 0, text("first ")), 6U);
  EXPECT_EQ(*quarantine.append("grp/app", id, 6, text("second")), 12U);
  EXPECT_EQ(*quarantine.size_of("grp/app", id), 12U);
  ASSERT_TRUE(quarantine.finish("grp/app", id, oci::Digest::of("first second")).ok());

  EXPECT_EQ(*quarantine.layout().read_blob(oci::Digest::of("first second"), 100), "first second");
  EXPECT_EQ(quarantine.size_of("grp/app", id).error().kind, ErrorKind::not_found);
}

TEST_F(QuarantineTest, APartThatBeginsElsewhereIsRefusedAndNothingIsLost) {
  auto& quarantine = open();
  const auto id = *quarantine.begin("grp/app");
  ASSERT_TRUE(quarantine.append("grp/app", id, 0, text("abc")).ok());

  EXPECT_EQ(quarantine.append("grp/app", id, 5, text("x")).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(*quarantine.size_of("grp/app", id), 3U);
}

TEST_F(QuarantineTest, ComputesTheDigestItself) {
  auto& quarantine = open();
  const auto id = *quarantine.begin("grp/app");
  ASSERT_TRUE(quarantine.append("grp/app", id, 0, text("evil")).ok());

  const auto done = quarantine.finish("grp/app", id, oci::Digest::of("good"));

  EXPECT_EQ(done.error().kind, ErrorKind::bad_input);
  EXPECT_FALSE(quarantine.layout().has_blob(oci::Digest::of("good")));
  EXPECT_FALSE(quarantine.layout().has_blob(oci::Digest::of("evil")));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path() / "q/layout/blobs/sha256"));
  EXPECT_TRUE(upload(quarantine, "grp/app", "good").ok());
}

TEST_F(QuarantineTest, AnUploadBelongsToItsRepository) {
  auto& quarantine = open();
  const auto id = *quarantine.begin("grp/app");

  for (const auto* other : {"grp/other", "", "grp/app/"}) {
    EXPECT_EQ(quarantine.append(other, id, 0, text("x")).error().kind, ErrorKind::not_found);
    EXPECT_EQ(quarantine.finish(other, id, oci::Digest::of("")).error().kind, ErrorKind::not_found);
    EXPECT_EQ(quarantine.abandon(other, id).error().kind, ErrorKind::not_found);
  }
  EXPECT_TRUE(quarantine.append("grp/app", id, 0, text("x")).ok());
}

TEST_F(QuarantineTest, AnIdIsNoPath) {
  auto& quarantine = open();
  for (const auto* id : {"", ".", "../names", "../../q/layout/index.json", "/etc/passwd"})
    EXPECT_EQ(quarantine.finish("grp/app", id, oci::Digest::of("")).error().kind,
              ErrorKind::not_found)
        << id;
}

TEST_F(QuarantineTest, TwoRequestsDoNotWriteToOneUpload) {
  auto& quarantine = open();
  const auto id = *quarantine.begin("grp/app");
  int asked = 0;

  const auto size =
      quarantine.append("grp/app", id, 0, [&](char* buffer, std::size_t) -> Result<std::size_t> {
        if (asked++ > 0) return std::size_t{0};
        EXPECT_EQ(quarantine.append("grp/app", id, 0, text("y")).error().kind,
                  ErrorKind::bad_input);
        EXPECT_EQ(quarantine.finish("grp/app", id, oci::Digest::of("")).error().kind,
                  ErrorKind::bad_input);
        *buffer = 'x';
        return std::size_t{1};
      });

  EXPECT_EQ(*size, 1U);
  EXPECT_TRUE(quarantine.finish("grp/app", id, oci::Digest::of("x")).ok());
}

TEST_F(QuarantineTest, HoldsNoMoreBytesThanItMay) {
  QuarantineLimits limits;
  limits.bytes = 10;
  auto& quarantine = open(limits);
  ASSERT_TRUE(upload(quarantine, "grp/app", "sixsix").ok());

  EXPECT_EQ(upload(quarantine, "grp/app", "fiver").error().kind, ErrorKind::denied);
  EXPECT_EQ(quarantine.keep("fiver").error().kind, ErrorKind::denied);
  EXPECT_TRUE(upload(quarantine, "grp/app", "sixsix").error().kind == ErrorKind::denied);

  // Over in the next script too; and what is given up counts no longer.
  auto& next = open(limits);
  const auto id = *next.begin("grp/app");
  ASSERT_TRUE(next.append("grp/app", id, 0, text("four")).ok());
  EXPECT_EQ(next.append("grp/app", id, 4, text("x")).error().kind, ErrorKind::denied);
  ASSERT_TRUE(next.abandon("grp/app", id).ok());
  EXPECT_TRUE(upload(next, "grp/app", "four").ok());

  // The control: the same without the limit.
  EXPECT_TRUE(upload(open(), "grp/app", "fiver").ok());
}

TEST_F(QuarantineTest, WhatHoldsMoreThanItMayTakesNothingMore) {
  ASSERT_TRUE(upload(open(), "grp/app", "sixsix").ok());
  QuarantineLimits limits;
  limits.bytes = 4;
  auto& quarantine = open(limits); // the limit was lowered

  EXPECT_EQ(upload(quarantine, "grp/app", "x").error().kind, ErrorKind::denied);
  EXPECT_EQ(quarantine.keep("x").error().kind, ErrorKind::denied);
}

TEST_F(QuarantineTest, HoldsNoMoreBlobsAndNamesThanItMay) {
  QuarantineLimits limits;
  limits.blobs = 2;
  limits.names = 1;
  auto& quarantine = open(limits);
  ASSERT_TRUE(upload(quarantine, "a", "1").ok());
  ASSERT_TRUE(upload(quarantine, "a", "2").ok());
  EXPECT_TRUE(upload(quarantine, "b", "2").ok()) << "it is there already";

  EXPECT_EQ(upload(quarantine, "a", "3").error().kind, ErrorKind::denied);
  EXPECT_EQ(quarantine.keep("3").error().kind, ErrorKind::denied);
  ASSERT_TRUE(quarantine.name("a", "1", oci::Digest::of("1")).ok());
  EXPECT_TRUE(quarantine.name("a", "1", oci::Digest::of("2")).ok());
  EXPECT_EQ(quarantine.name("a", "2", oci::Digest::of("2")).error().kind, ErrorKind::denied);

  auto& unlimited = open(); // the control
  EXPECT_TRUE(upload(unlimited, "a", "3").ok());
  EXPECT_TRUE(unlimited.name("a", "2", oci::Digest::of("2")).ok());
}

TEST_F(QuarantineTest, EndsTheLongestIdleUploadWhereThereAreTooMany) {
  QuarantineLimits limits;
  limits.uploads = 3;
  limits.bytes = 12;
  auto& quarantine = open(limits);
  const auto first = *quarantine.begin("a");
  const auto dropped = *quarantine.begin("b");
  const auto third = *quarantine.begin("a");
  ASSERT_TRUE(quarantine.append("b", dropped, 0, text("gone")).ok());
  ASSERT_TRUE(quarantine.append("a", first, 0, text("stay")).ok());
  ASSERT_TRUE(quarantine.append("a", third, 0, text("stay")).ok());

  const auto next = quarantine.begin("a");

  ASSERT_TRUE(next.ok()) << next.error().text();
  EXPECT_EQ(quarantine.size_of("b", dropped).error().kind, ErrorKind::not_found);
  EXPECT_EQ(*quarantine.size_of("a", first), 4U);
  EXPECT_EQ(*quarantine.size_of("a", third), 4U);
  EXPECT_TRUE(quarantine.append("a", *next, 0, text("room")).ok()) << "its bytes count no longer";
  EXPECT_EQ(
      std::distance(std::filesystem::directory_iterator{dir_.path() / "q/layout/blobs/sha256"},
                    std::filesystem::directory_iterator{}),
      3)
      << "nor is its file there";
}

TEST_F(QuarantineTest, EndsNoUploadThatIsBeingWrittenTo) {
  QuarantineLimits limits;
  limits.uploads = 1;
  auto& quarantine = open(limits);
  const auto id = *quarantine.begin("a");
  bool is_over = false;

  const auto size =
      quarantine.append("a", id, 0, [&](char* buffer, std::size_t) -> Result<std::size_t> {
        if (is_over) return std::size_t{0};
        is_over = true;
        EXPECT_EQ(quarantine.begin("a").error().kind, ErrorKind::denied);
        *buffer = 'x';
        return std::size_t{1};
      });

  EXPECT_EQ(*size, 1U);
  EXPECT_TRUE(quarantine.finish("a", id, oci::Digest::of("x")).ok());
}

TEST_F(QuarantineTest, LeavesTheDiskItsFloorHoweverSmallTheParts) {
  std::uint64_t free = 100;
  QuarantineLimits limits;
  limits.disk_floor = 100;
  limits.free_bytes = [&free] { return free; };
  auto& quarantine = open(limits);
  const auto id = *quarantine.begin("a");
  ASSERT_TRUE(quarantine.append("a", id, 0, text("x")).ok());
  free = 99;

  EXPECT_EQ(quarantine.append("a", id, 1, text("y")).error().kind, ErrorKind::denied);
  EXPECT_EQ(quarantine.keep("{}").error().kind, ErrorKind::denied);
  EXPECT_EQ(quarantine.begin("a").error().kind, ErrorKind::denied);

  EXPECT_EQ(*quarantine.size_of("a", id), 1U);
  free = 100;
  EXPECT_EQ(*quarantine.append("a", id, 1, text("y")), 2U);
}

TEST_F(QuarantineTest, LeavesTheDiskItsFloor) {
  QuarantineLimits limits;
  limits.disk_floor = 1ULL << 60;

  const auto begun = open(limits).begin("a");

  ASSERT_FALSE(begun.ok());
  EXPECT_EQ(begun.error().kind, ErrorKind::denied);
  EXPECT_NE(begun.error().what.find("of disk are left"), std::string::npos);
  limits.disk_floor = 0; // the control
  EXPECT_TRUE(open(limits).begin("a").ok());
}

TEST_F(QuarantineTest, RemovesWhatAKilledScriptHadBegun) {
  (void)open();
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  (void)::waitpid(gone, nullptr, 0);
  const auto blobs = dir_.path() / "q/layout/blobs/sha256";
  const auto left = blobs / (".new." + std::to_string(gone) + ".0");
  const auto other = blobs / (".new." + std::to_string(::getppid()) + ".0");
  std::ofstream{left} << "x";
  std::ofstream{other} << "x";

  (void)open();

  EXPECT_FALSE(std::filesystem::exists(left));
  EXPECT_TRUE(std::filesystem::exists(other));
}

TEST_F(QuarantineTest, KnowsItsManifestsByNameInTheNextScript) {
  const auto digest = *open().keep("{}");
  ASSERT_TRUE(held_->name("grp/app", "1", digest).ok());

  auto& next = open();

  EXPECT_EQ(*next.named("grp/app", "1"), digest);
  ASSERT_TRUE(next.name("grp/app", digest.str(), digest).ok());
  ASSERT_TRUE(next.name("grp/other", "2", digest).ok());
  EXPECT_EQ(*next.tags("grp/app"), std::vector<std::string>{"1"});
  EXPECT_EQ(next.named("grp/other", "1").error().kind, ErrorKind::not_found);
  EXPECT_EQ(next.named("grp", "app\n1").error().kind, ErrorKind::not_found);
  struct stat facts {};
  ASSERT_EQ(::stat((dir_.path() / "q").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0700U);
}

} // namespace
} // namespace slipway::state
