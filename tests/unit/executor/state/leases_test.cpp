// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/state/leases.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>

#include <set>

namespace slipway::state {
namespace {

class LeaseJournalTest : public testing::Test {
protected:
  ~LeaseJournalTest() override { std::filesystem::remove_all(dir_); }
  static std::filesystem::path fresh_folder() {
    char name[] = "/tmp/slipway-journal-XXXXXX";
    return mkdtemp(name);
  }
  std::filesystem::path dir_ = fresh_folder();
  LeaseJournal journal_{dir_};
};

TEST_F(LeaseJournalTest, KeepsWhatWasWritten) {
  LeaseRecord record;
  record.name = *LeaseJournal::new_name("j12-0a1b2c3d");
  record.issuer = "prod";
  record.job = "j12-0a1b2c3d";
  record.registry = "reg:5000";
  record.repository = "grp/app";
  record.created = "2026-11-24T16:00:00Z";
  record.owner = ProcessIdentity::self();
  record.id = "accessor\"\xff";
  record.tries = 3;
  record.until_end = true;

  ASSERT_TRUE(journal_.write(record));

  const auto read = journal_.load(record.name);
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->issuer, "prod");
  EXPECT_EQ(read->repository, "grp/app");
  EXPECT_TRUE(read->owner.alive());
  EXPECT_EQ(read->id.substr(0, 9), "accessor\"");
  EXPECT_EQ(read->tries, 3);
  EXPECT_TRUE(read->until_end);
  struct stat found {};
  ASSERT_EQ(::stat((dir_ / "leases").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0700U);
  EXPECT_TRUE(journal_.remove(record.name));
  EXPECT_TRUE(journal_.remove(record.name)) << "gone already";
  EXPECT_EQ(journal_.load(record.name).error().kind, ErrorKind::not_found);
}

TEST_F(LeaseJournalTest, NamesAreUniqueAndFitForIssuers) {
  std::set<std::string> names;
  for (int i = 0; i < 100; ++i) {
    const auto name = LeaseJournal::new_name("j9223372036854775807-0a1b2c3d");
    ASSERT_TRUE(name);
    EXPECT_LE(name->size(), 63U);
    names.insert(*name);
  }
  EXPECT_EQ(names.size(), 100U);
  EXPECT_FALSE(LeaseJournal::new_name("../x"));
}

TEST_F(LeaseJournalTest, RefusesNamesThatLeaveTheFolder) {
  for (const char* name : {"", "../x", "a/b", "A", "."}) {
    EXPECT_EQ(journal_.load(name).error().kind, ErrorKind::bad_input) << name;
    EXPECT_FALSE(journal_.remove(name)) << name;
  }
}

TEST_F(LeaseJournalTest, ListsTheOldestFirstAndWhatCannotBeRead) {
  LeaseRecord record;
  record.name = "slipway-b";
  record.created = "2026-11-24T16:00:01Z";
  ASSERT_TRUE(journal_.write(record));
  record.name = "slipway-c";
  record.created = "2026-11-24T16:00:00Z";
  ASSERT_TRUE(journal_.write(record));
  ASSERT_TRUE(replace_file(dir_ / "leases/slipway-a.json", "{torn"));
  ASSERT_TRUE(replace_file(dir_ / "leases/slipway-d.json.Xabcde", "left by a crash"));

  const auto all = journal_.all();

  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].name, "slipway-a");
  EXPECT_NE(all[0].problem, "");
  EXPECT_EQ(all[1].name, "slipway-c");
  EXPECT_EQ(all[2].name, "slipway-b");
}

} // namespace
} // namespace slipway::state
