// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/limits.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

namespace slipway::sandbox {
namespace {

class ReadLimits : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "limits-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    put("proc/cgroup", "8:pids:/\n0::/ci/job\n");
    put("proc/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max file size             unlimited            unlimited            bytes     \n"
        "Max processes             500                  500                  processes \n");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void put(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((dir_ / file).parent_path());
    std::ofstream(dir_ / file) << text;
  }
  LimitsReport read(const Limits& asked) {
    auto report = read_limits(dir_ / "proc", dir_ / "cgroup", asked);
    EXPECT_TRUE(report.ok());
    return report.ok() ? *report : LimitsReport{};
  }
  std::filesystem::path dir_;
};

TEST_F(ReadLimits, FindsWhatTheGroupEnforces) {
  put("cgroup/ci/job/pids.max", "500\n");
  put("cgroup/ci/job/memory.max", "1073741824\n");
  put("cgroup/ci/job/cpu.max", "150000 100000\n");

  const auto report = read({500, 1UL << 30, 1.5, 0, 0});

  EXPECT_TRUE(report.pids_enforced);
  EXPECT_TRUE(report.memory_enforced);
  EXPECT_TRUE(report.cpu_enforced);
  EXPECT_NE(limits_notice(report.missing).find("does not enforce: disk ("), std::string::npos);
}

TEST_F(ReadLimits, TakesATighterLimitFromAbove) {
  put("cgroup/ci/job/pids.max", "max\n");
  put("cgroup/ci/pids.max", "100\n");

  EXPECT_TRUE(read({500, 0, 0, 0, 0}).pids_enforced);
}

TEST_F(ReadLimits, DoesNotTakeMaxOrAWiderLimitForOne) {
  put("cgroup/ci/job/pids.max", "501\n");
  put("cgroup/ci/job/memory.max", "max\n");
  put("cgroup/ci/job/cpu.max", "max 100000\n");

  const auto report = read({500, 1UL << 30, 1.5, 0, 0});

  EXPECT_FALSE(report.pids_enforced);
  EXPECT_FALSE(report.memory_enforced);
  EXPECT_FALSE(report.cpu_enforced);
}

TEST_F(ReadLimits, FindsTheGroupOfSandboxesBesideItsOwn) {
  put("proc/cgroup", "8:pids:/\n0::/system.slice/gitlab-runner.service/runner\n");
  EXPECT_EQ(sandboxes_group(dir_ / "proc", dir_ / "cgroup"), "");

  std::filesystem::create_directories(dir_ / "cgroup/system.slice/gitlab-runner.service/sandboxes");
  EXPECT_EQ(sandboxes_group(dir_ / "proc", dir_ / "cgroup"),
            "/system.slice/gitlab-runner.service/sandboxes");
  put("proc/cgroup", "0::/runner\n");
  std::filesystem::create_directories(dir_ / "cgroup/sandboxes");
  EXPECT_EQ(sandboxes_group(dir_ / "proc", dir_ / "cgroup"), "/sandboxes");
}

TEST_F(ReadLimits, FindsNoGroupOfSandboxesAboveItsViewOrBehindALink) {
  std::filesystem::create_directories(dir_ / "cgroup/ci");
  std::filesystem::create_directories(dir_ / "sandboxes");
  std::filesystem::create_directory_symlink(dir_ / "sandboxes", dir_ / "cgroup/ci/sandboxes");
  for (const char* own : {"0::/ci/job\n", "0::/../job\n", "0::/\n", "4:memory:/ci/job\n"}) {
    put("proc/cgroup", own);
    EXPECT_EQ(sandboxes_group(dir_ / "proc", dir_ / "cgroup"), "") << own;
  }
}

TEST_F(ReadLimits, SaysWhatIsInForceInsteadWithoutControllers) {
  const auto report = read({500, 1UL << 30, 0, 0, 0});

  EXPECT_FALSE(report.pids_enforced);
  EXPECT_NE(limits_notice(report.missing).find("does not enforce: processes, memory"),
            std::string::npos);
  EXPECT_NE(limits_notice(report.missing).find("at most 500 processes per user id (RLIMIT_NPROC)"),
            std::string::npos);
}

TEST_F(ReadLimits, DoesNotClaimAFallbackThatIsNotThere) {
  const auto notice = limits_notice(read({400, 0, 0, 0, 0}).missing);
  EXPECT_NE(notice.find("does not enforce: processes, disk ("), std::string::npos);
  EXPECT_EQ(notice.find("RLIMIT_NPROC"), std::string::npos);
}

TEST_F(ReadLimits, NeverCallsAFileSizeLimitADiskQuota) {
  put("proc/limits",
      "Max file size             1000                 1000                 bytes     \n");

  const auto report = read({0, 0, 0, 1000, 0});

  EXPECT_NE(limits_notice(report.missing).find("files of at most 1000 bytes"), std::string::npos);
}

TEST_F(ReadLimits, IsAnErrorForAProcessThatHasEnded) {
  auto report = read_limits(dir_ / "gone", dir_ / "cgroup", {});

  EXPECT_EQ(report.error().kind, ErrorKind::not_found);
}

} // namespace
} // namespace slipway::sandbox
