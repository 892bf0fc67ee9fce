// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/quick_kill.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>

namespace slipway::sandbox {
namespace {

// A script of the name NAME, called as conmon is; it has one child, and ends when that has ended.
class Keeper {
public:
  explicit Keeper(const std::string& name) {
    std::string dir = testing::TempDir() + "keeper-XXXXXX";
    EXPECT_NE(::mkdtemp(dir.data()), nullptr);
    dir_ = dir;
    const auto program = dir_ / name;
    EXPECT_TRUE(
        replace_file(program, "#!/bin/sh\nsleep 600 &\necho $!\nexec >&-\nwait\n", 0700).ok());
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd from{ends[0]};
    UniqueFd to{ends[1]};
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to.get(), 1);
      ::execl(program.c_str(), program.c_str(), "--api-version", "1", "-c", "0123abc", "-u",
              "0123abc", nullptr);
      ::_exit(127);
    }
    to.reset();
    std::array<char, 32> text{};
    EXPECT_GT(::read(from.get(), text.data(), text.size() - 1), 0);
    child_ = std::stol(text.data());
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() {
    if (!ended()) ::kill(static_cast<pid_t>(child_), SIGKILL);
    while (!ended()) {
    }
    std::filesystem::remove_all(dir_);
  }
  std::int64_t child() const { return child_; }
  bool ended() {
    if (!ended_) ended_ = ::waitpid(pid_, nullptr, WNOHANG) == pid_;
    return ended_;
  }

private:
  std::filesystem::path dir_;
  pid_t pid_ = -1;
  std::int64_t child_ = 0;
  bool ended_ = false;
};

TEST(QuickKill, EndsAContainerAndWaitsForItsConmon) {
  Keeper conmon{"conmon"};

  EXPECT_TRUE(quick_kill("0123abc", conmon.child()));

  EXPECT_TRUE(conmon.ended());
}

TEST(QuickKill, LeavesWhatIsNotThatContainers) {
  Keeper conmon{"conmon"};
  Keeper other{"konmon"};

  EXPECT_FALSE(quick_kill("0123ab", conmon.child())) << "another container's";
  EXPECT_FALSE(quick_kill("0123abc", other.child())) << "not conmon's child";
  EXPECT_FALSE(quick_kill("0123abc", 0));
  EXPECT_FALSE(quick_kill("0123abc", -1));
  EXPECT_FALSE(quick_kill("", conmon.child()));

  EXPECT_FALSE(conmon.ended());
  EXPECT_FALSE(other.ended());
}

TEST(EndOrphans, KillsWhatItsPodmanDoesNotKnowAnyMoreAndNothingElse) {
  const auto conf = testing::TempDir() + "containers.conf";
  ASSERT_EQ(::setenv("CONTAINERS_CONF", conf.c_str(), 1), 0);
  Keeper orphan{"conmon"};
  Keeper named_otherwise{"konmon"};
  ASSERT_EQ(::setenv("CONTAINERS_CONF", "/elsewhere", 1), 0);
  Keeper of_another_podman{"conmon"};
  ::unsetenv("CONTAINERS_CONF");
  std::string asked;
  const auto known = [&](bool answer) {
    return [&asked, answer](const std::string& id) {
      asked = id;
      return answer;
    };
  };

  EXPECT_EQ(end_orphans(conf, known(true)), 0);
  EXPECT_FALSE(orphan.ended());
  EXPECT_EQ(end_orphans(conf, known(false)), 1);
  EXPECT_EQ(asked, "0123abc");
  EXPECT_TRUE(orphan.ended());
  EXPECT_FALSE(named_otherwise.ended());
  EXPECT_FALSE(of_another_podman.ended());
}

} // namespace
} // namespace slipway::sandbox
