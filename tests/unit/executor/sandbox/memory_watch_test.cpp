// SPDX-License-Identifier: Apache-2.0
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/memory_watch.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMiB = 1UL << 20;

void fill(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (std::size_t at = 0; at < bytes; at += 4096)
    static_cast<volatile char*>(memory)[at] = 1;
}

/// A process as a sandbox's first, with a child. It passes on how the child ended.
class Family {
public:
  Family(std::size_t of_first, std::size_t of_child) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd from{ends[0]};
    UniqueFd to{ends[1]};
    first_ = ::fork();
    if (first_ == 0) {
      fill(of_first);
      const pid_t child = ::fork();
      if (child == 0) {
        fill(of_child);
        (void)!::write(to.get(), "x", 1);
        ::pause();
      }
      int status = 0;
      ::waitpid(child, &status, 0);
      ::_exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    to.reset();
    char ready = 0;
    EXPECT_EQ(::read(from.get(), &ready, 1), 1);
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;
  ~Family() {
    if (ended_) return;
    (void)end_above(ProcessTree::read(), first_, 0);
    (void)end();
  }
  std::int64_t first() const { return first_; }
  int end() {
    int status = 0;
    ::waitpid(first_, &status, 0);
    ended_ = true;
    return status;
  }

private:
  pid_t first_ = 0;
  bool ended_ = false;
};

TEST(Memory, IsThatOfAllBelowAndSharedPagesCountOnce) {
  std::uint64_t of_this_program = 0; // which a sanitizer makes large
  {
    const Family small{1 * kMiB, 1 * kMiB};
    of_this_program = memory_below(small.first());
  }
  const Family family{60 * kMiB, 40 * kMiB}; // the child has the first's 60 too, as the same pages

  const auto all = memory_below(family.first());

  ASSERT_GT(all, of_this_program);
  const auto bytes = all - of_this_program;
  EXPECT_GT(bytes, 90 * kMiB);
  EXPECT_LT(bytes, 140 * kMiB);
  EXPECT_EQ(memory_below(0x7ffffff0), 0U);
}

TEST(EndAbove, KillsTheChildAndLeavesTheFirstToTellOfIt) {
  Family family{1 * kMiB, 100 * kMiB};

  const auto bytes = end_above(ProcessTree::read(), family.first(), 50 * kMiB);

  ASSERT_TRUE(bytes.has_value());
  EXPECT_GT(*bytes, 100 * kMiB);
  const int status = family.end();
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), SIGKILL);
}

TEST(ProcessTree, IsOfOneMomentHoweverManyAreLookedAtInIt) {
  const Family one{1 * kMiB, 1 * kMiB};
  const Family another{1 * kMiB, 1 * kMiB};
  const auto tree = ProcessTree::read();
  const Family later{1 * kMiB, 1 * kMiB};

  EXPECT_EQ(tree.below(one.first()).size(), 2U);
  EXPECT_EQ(tree.below(another.first()).size(), 2U);
  EXPECT_EQ(tree.below(one.first()).front().pid, one.first());
  EXPECT_TRUE(tree.below(later.first()).empty());
  EXPECT_EQ(tree.below(::getpid()).size(), 5U);
}

TEST(EndAbove, LeavesThoseThatHaveLess) {
  Family family{1 * kMiB, 100 * kMiB};

  EXPECT_FALSE(end_above(ProcessTree::read(), family.first(), 300 * kMiB).has_value());

  EXPECT_EQ(::kill(static_cast<pid_t>(family.first()), 0), 0);
  EXPECT_GT(memory_below(family.first()), 95 * kMiB);
}

TEST(EndAbove, KillsAFirstThatHasTooMuchByItself) {
  Family family{100 * kMiB, 0};

  EXPECT_TRUE(end_above(ProcessTree::read(), family.first(), 20 * kMiB)
                  .has_value()); // half of the shared pages are its

  const int status = family.end(); // by then it may have noticed its child's end
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == SIGKILL);
}

TEST(MemoryWatch, TellsWhomItEnded) {
  Family family{1 * kMiB, 100 * kMiB};
  std::atomic<int> told{0};
  {
    const MemoryWatch watch{50 * kMiB,
                            [&] {
                              return std::vector<WatchedProcess>{{"job", family.first()}};
                            },
                            [&](const std::string& name, std::uint64_t, std::uint64_t) {
                              told += name == "job" ? 1 : 100;
                            },
                            std::chrono::milliseconds{5}};
    (void)family.end();
  }
  EXPECT_EQ(told, 1);
}

TEST(MemoryWatch, LeavesOneThatMayHaveMore) {
  Family family{1 * kMiB, 100 * kMiB};
  Family larger{1 * kMiB, 100 * kMiB};
  {
    const MemoryWatch watch{50 * kMiB,
                            [&] {
                              return std::vector<WatchedProcess>{
                                  {"scanner", larger.first(), 400 * kMiB}, {"job", family.first()}};
                            },
                            [](const std::string&, std::uint64_t, std::uint64_t) {},
                            std::chrono::milliseconds{5}};
    (void)family.end();
  }
  EXPECT_GT(memory_below(larger.first()), 95 * kMiB);
}

TEST(MemoryWatch, WithoutALimitWatchesNothing) {
  bool asked = false;
  {
    const MemoryWatch watch{0,
                            [&] {
                              asked = true;
                              return std::vector<WatchedProcess>{};
                            },
                            [](const std::string&, std::uint64_t, std::uint64_t) {},
                            std::chrono::milliseconds{1}};
    ::usleep(20000);
  }
  EXPECT_FALSE(asked);
}

} // namespace
} // namespace slipway::sandbox
