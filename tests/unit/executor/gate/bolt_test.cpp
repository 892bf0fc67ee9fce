// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/gate/bolt.hpp"
#include "executor/gate/database.hpp"
#include "tests/fakes/bolt_file.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/fakes/vulnerability_db.hpp"

#include <gtest/gtest.h>

namespace slipway::gate {
namespace {

using fakes::BoltBytes;

class Bolt : public testing::Test {
protected:
  Result<bool> asks(const std::string& bytes, const std::string& bucket) {
    EXPECT_TRUE(replace_file(file_, bytes, 0600).ok());
    auto file = BoltFile::open(file_);
    if (!file) return std::move(file).error();
    return file->has_bucket(bucket);
  }
  // A tree of two levels: a branch over two leaves.
  static std::string two_levels() {
    const auto element = [](std::uint32_t position, std::uint32_t size, std::uint64_t child) {
      return BoltBytes::raw(position) + BoltBytes::raw(size) + BoltBytes::raw(child);
    };
    const auto bucket = BoltBytes::inline_bucket(1);
    return BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) + BoltBytes::page(2, 0x10, 0, "") +
           BoltBytes::page(3, 1, 2, element(32, 1, 4) + element(17, 1, 5) + "am") +
           BoltBytes::leaf(4, {{"a", bucket}, {"debian 12", bucket}}, 1) +
           BoltBytes::leaf(5, {{"m", bucket}, {"ubuntu 24.04", bucket}}, 1);
  }
  fakes::TempDir dir_;
  std::filesystem::path file_ = dir_.path() / "db";
};

TEST_F(Bolt, KnowsItsBuckets) {
  const auto bytes = fakes::bolt_file({"debian 12", "alpine 3.21"}, {"wolfi"});
  EXPECT_TRUE(*asks(bytes, "debian 12"));
  EXPECT_TRUE(*asks(bytes, "alpine 3.21"));
  EXPECT_FALSE(*asks(bytes, "debian 13"));
  EXPECT_FALSE(*asks(bytes, "aaa"));
  EXPECT_FALSE(*asks(bytes, "zzz"));
  EXPECT_FALSE(*asks(bytes, ""));
}
TEST_F(Bolt, NamesItsBucketsAndSearchesOne) {
  ASSERT_TRUE(replace_file(file_, two_levels(), 0600).ok());
  const auto file = BoltFile::open(file_);
  EXPECT_EQ(*file->buckets(), (std::vector<std::string>{"a", "debian 12", "m", "ubuntu 24.04"}));
  const auto db = fakes::advisory_db({{"alpine 3.21", 3}, {"debian 12", 2}});
  ASSERT_TRUE(replace_file(file_, db, 0600).ok());
  const auto advisories = BoltFile::open(file_);
  std::vector<std::string> seen;
  const auto look = [&](std::size_t most) {
    return [&seen, most](const std::vector<std::string>& buckets, std::string_view key,
                         std::string_view value) {
      seen.push_back(buckets.at(0) + "/" + buckets.at(1) + "/" + std::string{key} +
                     std::string{value});
      return seen.size() < most;
    };
  };
  EXPECT_TRUE(advisories->search("debian 12", look(9)).ok());
  EXPECT_EQ(seen, (std::vector<std::string>{"debian 12/openssl/CVE-2026-1000{}",
                                            "debian 12/openssl/CVE-2026-1001{}"}));
  seen.clear();
  EXPECT_TRUE(advisories->search("alpine 3.21", look(1)).ok());
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_TRUE(advisories->search("none", look(9)).ok());
  EXPECT_EQ(seen.size(), 1U);
}
TEST_F(Bolt, NamesNoBucketsOfPagesInACircle) {
  const auto element = [](std::uint64_t child) {
    return BoltBytes::raw(std::uint32_t{16}) + BoltBytes::raw(std::uint32_t{1}) +
           BoltBytes::raw(child);
  };
  const auto circle = BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) +
                      BoltBytes::page(2, 0x10, 0, "") + BoltBytes::page(3, 1, 1, element(3) + "a");
  ASSERT_TRUE(replace_file(file_, circle, 0600).ok());
  EXPECT_FALSE(BoltFile::open(file_)->buckets().ok());
}
TEST_F(Bolt, CountsABucketWithoutEntriesAsNone) {
  EXPECT_FALSE(*asks(fakes::bolt_file({"a"}, {"wolfi"}), "wolfi"));
  EXPECT_TRUE(*asks(fakes::bolt_file({"a", "wolfi"}), "wolfi"));
}
TEST_F(Bolt, DoesNotTakeAValueForABucket) {
  const auto plain = BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) +
                     BoltBytes::page(2, 0x10, 0, "") +
                     BoltBytes::leaf(3, {{"debian 12", BoltBytes::inline_bucket(1)}}, 0);
  EXPECT_FALSE(*asks(plain, "debian 12"));
}
TEST_F(Bolt, FindsItsWayThroughBranches) {
  EXPECT_TRUE(*asks(two_levels(), "debian 12"));
  EXPECT_TRUE(*asks(two_levels(), "ubuntu 24.04"));
  EXPECT_FALSE(*asks(two_levels(), "ubuntu 22.04"));
}
TEST_F(Bolt, TakesTheNewerOfTheWholeMetaPages) {
  auto bytes = fakes::bolt_file({"a"});
  bytes.replace(0, BoltBytes::kPage, BoltBytes::meta(0, 7, 99)); // newer, leads nowhere
  EXPECT_FALSE(asks(bytes, "a").ok());
  bytes[20] = 'x'; // and broken: the other one counts
  EXPECT_TRUE(*asks(bytes, "a"));
}
TEST_F(Bolt, RefusesWhatIsNone) {
  for (const auto& bytes : {std::string{}, std::string{"db of 2026"}, std::string(20000, '\0'),
                            fakes::random_bytes(20000, 1)}) {
    const auto asked = asks(bytes, "a");
    ASSERT_FALSE(asked.ok());
    EXPECT_EQ(asked.error().kind, ErrorKind::bad_input);
  }
  EXPECT_EQ(BoltFile::open(dir_.path() / "none").error().kind, ErrorKind::not_found);
  EXPECT_EQ(BoltFile::open(dir_.path()).error().kind, ErrorKind::bad_input);
}
TEST_F(Bolt, SurvivesEveryCutAndFlippedByte) {
  const auto whole = two_levels();
  for (std::size_t size = 0; size < whole.size(); size += 97)
    (void)asks(whole.substr(0, size), "debian 12").ok();
  for (const std::size_t from : {std::size_t{0}, 3 * BoltBytes::kPage, 4 * BoltBytes::kPage}) {
    for (std::size_t at = from; at < from + 96; ++at) {
      auto bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ 0xff);
      (void)asks(bytes, "debian 12").ok();
    }
  }
}
TEST_F(Bolt, DoesNotWalkInCircles) {
  const auto circle =
      BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) + BoltBytes::page(2, 0x10, 0, "") +
      BoltBytes::page(3, 1, 1,
                      BoltBytes::raw(std::uint32_t{16}) + BoltBytes::raw(std::uint32_t{1}) +
                          BoltBytes::raw(std::uint64_t{3}) + "a");
  EXPECT_EQ(asks(circle, "b").error().kind, ErrorKind::bad_input);
}

class BoltWalk : public Bolt {
protected:
  Result<std::vector<std::string>> walks(const std::string& bytes) {
    EXPECT_TRUE(replace_file(file_, bytes, 0600).ok());
    auto file = BoltFile::open(file_);
    if (!file) return std::move(file).error();
    std::vector<std::string> seen;
    auto walked = file->walk([&](const std::vector<std::string>& buckets, std::string_view key,
                                 std::string_view value) -> Status {
      std::string path;
      for (const auto& bucket : buckets)
        path += bucket + "/";
      seen.push_back(path + std::string{key} + "=" + std::string{value});
      return {};
    });
    if (!walked) return std::move(walked).error();
    return seen;
  }
  /// A branch over two leaves, the separators as given.
  static std::string branch(const std::string& separators, std::uint64_t second,
                            const fakes::Entries& left, const fakes::Entries& right) {
    const auto element = [](std::uint32_t position, std::uint64_t child) {
      return BoltBytes::raw(position) + BoltBytes::raw(std::uint32_t{1}) + BoltBytes::raw(child);
    };
    return BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) + BoltBytes::page(2, 0x10, 0, "") +
           BoltBytes::page(3, 1, 2, element(32, 4) + element(17, second) + separators) +
           BoltBytes::leaf(4, left, 0) + BoltBytes::leaf(5, right, 0);
  }
};

TEST_F(BoltWalk, TellsEveryEntryInOrder) {
  const auto seen = walks(fakes::advisory_db({{"alpine 3.21", 2}, {"debian 12", 1}}));
  ASSERT_TRUE(seen.ok()) << seen.error().text();
  EXPECT_EQ(*seen, (std::vector<std::string>{
                       "alpine 3.21/openssl/CVE-2026-1000={}",
                       "alpine 3.21/openssl/CVE-2026-1001={}",
                       R"(data-source/alpine 3.21={"ID":"alpine"})",
                       R"(data-source/debian 12={"ID":"debian"})",
                       "debian 12/openssl/CVE-2026-1000={}",
                   }));
  EXPECT_EQ(walks(branch("am", 5, {{"a", "1"}, {"b", "2"}}, {{"m", "3"}}))->size(), 3U);
}
TEST_F(BoltWalk, RefusesWhatASearchWouldNotFind) {
  const auto says = [&](const std::string& bytes) {
    const auto seen = walks(bytes);
    return seen ? "walked" : seen.error().text();
  };
  EXPECT_EQ(says(branch("am", 4, {{"a", "1"}}, {{"m", "3"}})), "a page is used twice");
  EXPECT_EQ(says(branch("am", 3, {{"a", "1"}}, {{"m", "3"}})), "a page is used twice");
  EXPECT_EQ(says(branch("ma", 5, {{"n", "1"}}, {{"a", "3"}})), "keys are not in order");
  EXPECT_EQ(says(branch("am", 5, {{"a", "1"}, {"z", "2"}}, {{"m", "3"}})), "keys are not in order");
  EXPECT_EQ(says(branch("am", 5, {{"a", "1"}}, {{"b", "3"}})), "keys are not in order");
  EXPECT_EQ(says(branch("am", 5, {{"a", "1"}, {"a", "2"}}, {{"m", "3"}})), "keys are not in order");
  EXPECT_EQ(says(branch("am", 9, {{"a", "1"}}, {{"m", "3"}})),
            "a page number lies outside of the file");
}
TEST_F(BoltWalk, RefusesBucketsInBucketsWithoutEnd) {
  auto bucket = fakes::inline_bucket_of({{"a", "b"}}, 0);
  for (int i = 0; i < 40; ++i)
    bucket = fakes::inline_bucket_of({{"a", bucket}}, 1);
  const auto seen = walks(BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) +
                          BoltBytes::page(2, 0x10, 0, "") + BoltBytes::leaf(3, {{"a", bucket}}, 1));
  EXPECT_EQ(seen.error().text(), "its buckets are nested too deep");
}
TEST_F(BoltWalk, SurvivesEveryFlippedByte) {
  const auto whole = fakes::advisory_db({{"alpine 3.21", 2}, {"debian 12", 1}});
  for (std::size_t page = 3; page < 7; ++page) {
    for (std::size_t at = page * BoltBytes::kPage; at < page * BoltBytes::kPage + 160; ++at) {
      auto bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ 0xff);
      (void)walks(bytes).ok();
    }
  }
}

TEST(BucketFor, IsTheOneThatTrivyAsks) {
  EXPECT_EQ(bucket_for("alpine", "3.21.3"), "alpine 3.21");
  EXPECT_EQ(bucket_for("alpine", "3.21"), "alpine 3.21");
  EXPECT_EQ(bucket_for("alpine", "3.23.0_alpha20251016"), "alpine edge");
  EXPECT_EQ(bucket_for("debian", "12.5"), "debian 12");
  EXPECT_EQ(bucket_for("debian", "trixie/sid"), "debian trixie/sid");
  EXPECT_EQ(bucket_for("ubuntu", "24.04"), "ubuntu 24.04");
  EXPECT_EQ(bucket_for("ubuntu", "20.04-ESM"), "ubuntu 20.04");
  EXPECT_EQ(bucket_for("rocky", "9.3"), "rocky 9");
  EXPECT_EQ(bucket_for("oracle", "8.9"), "Oracle Linux 8");
  EXPECT_EQ(bucket_for("amazon", "2 (Karoo)"), "amazon linux 2");
  EXPECT_EQ(bucket_for("amazon", "2023.3.20240108 (Amazon Linux)"), "amazon linux 2023");
  EXPECT_EQ(bucket_for("amazon", "AMI release 2018.03"), "amazon linux 1");
  EXPECT_EQ(bucket_for("azurelinux", "3.0.20240727"), "Azure Linux 3.0");
  EXPECT_EQ(bucket_for("redhat", "9.3"), "Red Hat 9");
  EXPECT_EQ(bucket_for("redhat", "10.0"), std::nullopt);
  EXPECT_EQ(bucket_for("centos", "7.9.2009"), "Red Hat 7");
  EXPECT_EQ(bucket_for("cbl-mariner", "2.0.20240123"), "CBL-Mariner 2.0");
  EXPECT_EQ(bucket_for("photon", "5.0"), "Photon OS 5.0");
  EXPECT_EQ(bucket_for("sles", "15.6"), "SUSE Linux Enterprise 15.6");
  EXPECT_EQ(bucket_for("slem", "5.5"), "SUSE Linux Enterprise Micro 5.5");
  EXPECT_EQ(bucket_for("opensuse-leap", "15.6"), "openSUSE Leap 15.6");
  EXPECT_EQ(bucket_for("opensuse-tumbleweed", "20250101"), "openSUSE Tumbleweed");
  EXPECT_EQ(bucket_for("wolfi", "20230201"), "wolfi");
  EXPECT_EQ(bucket_for("fedora", "41"), std::nullopt);
  EXPECT_EQ(bucket_for("alpine", ""), "alpine ");
}

} // namespace
} // namespace slipway::gate
