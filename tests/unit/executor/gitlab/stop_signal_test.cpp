// SPDX-License-Identifier: Apache-2.0
// In processes of their own: a StopSignal blocks the signals of the whole process.
#include "executor/gitlab/stages.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

namespace slipway::gitlab {
namespace {

/// The code of a process whose stage does this and returns `code`.
[[noreturn]] void end_after(const std::function<void()>& last_step, int code) {
  StopSignal stop;
  ::_exit(code_at_end(StageEnvironment{}, stop, [&] {
    last_step();
    return code;
  }));
}

const std::function<void()> kNothing = [] {};

class StopSignalDeathTest : public testing::TestWithParam<int> {};

TEST_P(StopSignalDeathTest, InAStagesVeryLastStepIsASystemFailure) {
  const std::function<void()> last_step = [] { (void)::kill(::getpid(), GetParam()); };

  EXPECT_EXIT(end_after(last_step, 0), testing::ExitedWithCode(2), "");
  EXPECT_EXIT(end_after(last_step, 1), testing::ExitedWithCode(1), "") << "the job failed already";
}

INSTANTIATE_TEST_SUITE_P(Signals, StopSignalDeathTest, testing::Values(SIGTERM, SIGINT, SIGHUP));

TEST(Repeated, WorksAgainAndAgainUntilItIsGoneAndTellsEachErrorOnce) {
  std::atomic<int> times{0};
  std::vector<std::string> told;
  {
    const Repeated repeated{std::chrono::milliseconds{1}, std::chrono::milliseconds{1},
                            [&]() -> Status {
                              ++times;
                              return Error{ErrorKind::io, times < 3 ? "one" : "other", "", {}};
                            },
                            [&](const Error& error) { told.push_back(error.what); }};
    while (times < 6)
      std::this_thread::yield();
  }
  const int at_its_end = times;

  EXPECT_EQ(told, (std::vector<std::string>{"one", "other"}));
  std::this_thread::yield();
  EXPECT_EQ(times, at_its_end);
}

TEST(Repeated, GoesWithoutHavingWorkedWhereItsTimeDidNotCome) {
  const Repeated repeated{std::chrono::hours{24}, std::chrono::milliseconds{0},
                          []() -> Status {
                            ADD_FAILURE() << "not yet";
                            return {};
                          },
                          [](const Error&) {}};
}

TEST(Repeated, WorksForTheFirstTimeAfterATimeOfItsOwn) {
  std::atomic<int> times{0};
  const Repeated repeated{std::chrono::milliseconds{0}, std::chrono::hours{24},
                          [&]() -> Status {
                            ++times;
                            return {};
                          },
                          [](const Error&) {}};
  while (times == 0)
    std::this_thread::yield();
}

TEST(UntilNext, IsWhatIsLeftOfTheTimeBetweenTwoLooks) {
  using std::chrono::seconds;
  EXPECT_EQ(until_next(seconds{20}, seconds{15}), seconds{5});
  EXPECT_EQ(until_next(seconds{20}, seconds{0}), seconds{20});
  EXPECT_EQ(until_next(seconds{20}, seconds{20}), seconds{0});
  EXPECT_EQ(until_next(seconds{20}, seconds{3600}), seconds{0});
  EXPECT_EQ(until_next(seconds{20}, std::nullopt), seconds{0}) << "nothing is known of a look";
  EXPECT_EQ(until_next(seconds{20}, -seconds{1}), seconds{0}) << "the clock was set back";
}

TEST(StageDeathTest, EndsWithItsOwnCodeWhereNobodyStopsIt) {
  EXPECT_EXIT(end_after(kNothing, 0), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(end_after(kNothing, 2), testing::ExitedWithCode(2), "");
}

/// 0 where the end of work is to be read from its descriptor and is no stop, and a raised one is
/// both.
[[noreturn]] void end_work_and_raise() {
  StopSignal stop;
  pollfd end{stop.fd(), POLLIN, 0};
  const bool before = ::poll(&end, 1, 0) > 0;
  stop.end_work();
  const bool ends = ::poll(&end, 1, 0) > 0 && !stop.raised();
  stop.raise();
  ::_exit(!before && ends && stop.raised() ? 0 : 1);
}

TEST(StageDeathTest, TheEndOfItsWorkIsNoStop) {
  EXPECT_EXIT(end_work_and_raise(), testing::ExitedWithCode(0), "");
}

TEST(RunnerHasGone, IsTrueOfAnOrphanAlone) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t runner = ::fork();
  if (runner == 0) {
    ::setsid(); // as under a service manager
    const pid_t parent = ::getpid();
    if (::fork() == 0) {
      const bool before = runner_has_gone();
      ::kill(parent, SIGKILL);
      while (::getppid() == parent)
        ::usleep(1000);
      const char found[] = {before ? 'y' : 'n', runner_has_gone() ? 'y' : 'n'};
      (void)!::write(ends[1], found, sizeof found);
      ::_exit(0);
    }
    for (;;)
      ::pause();
  }
  ::close(ends[1]);
  char found[3] = {};
  EXPECT_EQ(::read(ends[0], found, 2), 2);
  EXPECT_STREQ(found, "ny");
  ::close(ends[0]);
  ::waitpid(runner, nullptr, 0);
}

} // namespace
} // namespace slipway::gitlab
