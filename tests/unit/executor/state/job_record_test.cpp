// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/state/job_record.hpp"

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>

namespace slipway::state {
namespace {

class Folders : public testing::Test {
protected:
  Folders() {
    char name[] = "/tmp/slipway-state-XXXXXX";
    dir_ = mkdtemp(name);
  }
  ~Folders() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
  JobFolders folders() const { return {dir_ / "state", dir_ / "run"}; }
};

TEST_F(Folders, RecordComesBackAsItWasSaved) {
  auto jobs = folders();
  JobRecord record;
  record.key = JobFolders::key_for(7, "token");
  record.project = "grp/äpp";
  record.containers = {"a", "b"};
  record.slot_first = 65537;
  record.runner = ProcessIdentity::parent();
  ASSERT_TRUE(jobs.create(record.key));
  ASSERT_TRUE(jobs.save(record));

  const auto loaded = jobs.load(record.key);

  ASSERT_TRUE(loaded);
  EXPECT_EQ(to_json(*loaded), to_json(record));
  EXPECT_TRUE(loaded->runner.alive());
}

TEST_F(Folders, TornRecordIsReportedAndStillListed) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  ASSERT_TRUE(replace_file(jobs.dir("j1-aa") / "record.json", "{\"key\": \"j1"));

  EXPECT_EQ(jobs.load("j1-aa").error().kind, ErrorKind::bad_input);
  ASSERT_EQ(jobs.all().size(), 1U);
  EXPECT_EQ(jobs.all()[0].key, "j1-aa");
}

TEST_F(Folders, RemoveTwiceIsNoError) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));

  EXPECT_TRUE(jobs.remove("j1-aa"));
  EXPECT_TRUE(jobs.remove("j1-aa"));
  EXPECT_EQ(jobs.load("j1-aa").error().kind, ErrorKind::not_found);
}

TEST_F(Folders, WhatIsSaidOnceAJobIsSaidByOne) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  ASSERT_TRUE(jobs.create("j2-bb"));

  EXPECT_TRUE(jobs.is_first("j1-aa", "limit-memory"));
  EXPECT_FALSE(jobs.is_first("j1-aa", "limit-memory"));
  EXPECT_TRUE(jobs.is_first("j1-aa", "limit-CPU"));
  EXPECT_TRUE(jobs.is_first("j2-bb", "limit-memory"));
}

TEST_F(Folders, WatchedSandboxesAreThoseThatLive) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  EXPECT_TRUE(jobs.watched("j1-aa").empty());
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  ASSERT_TRUE(jobs.watch("j1-aa", "job", child));
  ASSERT_TRUE(jobs.watch("j1-aa", "svc0", 0x7ffffff0));

  const auto alive = jobs.watched("j1-aa");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);

  ASSERT_EQ(alive.size(), 1U);
  EXPECT_EQ(alive[0].name, "job");
  EXPECT_EQ(alive[0].first.pid, child);
  EXPECT_TRUE(jobs.watched("j1-aa").empty());
}

TEST_F(Folders, WatchedSandboxesOfOneNameDoNotReplaceEachOther) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  ASSERT_TRUE(jobs.watch("j1-aa", "builder", child));
  ASSERT_TRUE(jobs.watch("j1-aa", "builder", ::getpid()));
  ASSERT_TRUE(jobs.watch("j1-aa", "builder", 0x7ffffff0));
  // What a write that was cut short leaves.
  const auto folder = jobs.dir("j1-aa") / "watched";
  ASSERT_TRUE(replace_file(folder / "1-1.aB3xYz", "1 1 x builder"));

  const auto alive = jobs.watched("j1-aa");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);

  ASSERT_EQ(alive.size(), 2U);
  EXPECT_EQ(alive[0].name, "builder");
  EXPECT_EQ(alive[1].name, "builder");
  EXPECT_EQ(alive[0].first.pid + alive[1].first.pid, child + ::getpid());
  EXPECT_EQ(jobs.watched("j1-aa").size(), 1U);
  const std::filesystem::directory_iterator left{folder};
  EXPECT_EQ(std::distance(begin(left), end(left)), 2) << "the dead are forgotten";
}

TEST_F(Folders, ExclusiveLockWaitsForSharedOnes) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  auto one = jobs.lock("j1-aa", JobFolders::Mode::shared, std::chrono::milliseconds{0});
  const auto two = jobs.lock("j1-aa", JobFolders::Mode::shared, std::chrono::milliseconds{0});

  ASSERT_TRUE(one && two);
  EXPECT_EQ(
      jobs.lock("j1-aa", JobFolders::Mode::exclusive, std::chrono::milliseconds{30}).error().kind,
      ErrorKind::timed_out);
}

TEST_F(Folders, ALockThatWentWithItsFolderIsNone) {
  auto jobs = folders();
  ASSERT_TRUE(jobs.create("j1-aa"));
  auto held = jobs.lock("j1-aa", JobFolders::Mode::exclusive, std::chrono::milliseconds{0});
  ASSERT_TRUE(held);
  auto waits = std::async(std::launch::async, [&] {
    return jobs.lock("j1-aa", JobFolders::Mode::exclusive, std::chrono::minutes{1});
  });
  // It waits already, or it comes too late: both find no folder.
  ASSERT_EQ(waits.wait_for(std::chrono::milliseconds{50}), std::future_status::timeout);

  ASSERT_TRUE(jobs.remove("j1-aa"));
  held->reset();

  const auto got = waits.get();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::not_found) << got.error().text();
}

TEST(ProcessIdentityTest, DeadProcessIsNotAlive) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  ProcessIdentity identity = ProcessIdentity::parent();
  identity.pid = child;

  EXPECT_FALSE(identity.alive()) << "another process's start time must not fit";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(identity.alive());
}

TEST(JobKey, IsTheSameForEveryStageAndOtherForAnotherToken) {
  EXPECT_EQ(JobFolders::key_for(5, "t"), JobFolders::key_for(5, "t"));
  EXPECT_NE(JobFolders::key_for(5, "t"), JobFolders::key_for(5, "u"));
  EXPECT_EQ(JobFolders::key_for(5, "t").find("t"), std::string::npos);
}

} // namespace
} // namespace slipway::state
