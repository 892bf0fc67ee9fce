// SPDX-License-Identifier: Apache-2.0
// In processes of their own: a StopSignal blocks the signals of the whole process.
#include "executor/gitlab/stages.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <csignal>

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

TEST(StageDeathTest, EndsWithItsOwnCodeWhereNobodyStopsIt) {
  EXPECT_EXIT(end_after(kNothing, 0), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(end_after(kNothing, 2), testing::ExitedWithCode(2), "");
}

} // namespace
} // namespace slipway::gitlab
