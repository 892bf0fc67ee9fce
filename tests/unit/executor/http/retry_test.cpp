// SPDX-License-Identifier: Apache-2.0
#include "executor/http/retry.hpp"

#include <gtest/gtest.h>

namespace slipway::http {
namespace {

using std::chrono::milliseconds;

struct DelayCase {
  const char* name;
  int attempt;
  const char* retry_after;
  double random;
  std::optional<milliseconds> expected;
};

class Delay : public ::testing::TestWithParam<DelayCase> {};

TEST_P(Delay, IsAsTheTableSays) {
  const RetryPolicy policy{6, milliseconds{500}, milliseconds{4000}, milliseconds{60000}};
  const auto& given = GetParam();

  EXPECT_EQ(delay_before_retry(policy, given.attempt, given.retry_after, given.random),
            given.expected);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Delay,
    ::testing::Values(
        DelayCase{"FirstLowest", 1, "", 0.0, milliseconds{250}},
        DelayCase{"FirstMiddle", 1, "", 0.5, milliseconds{375}},
        DelayCase{"SecondDoubles", 2, "", 0.0, milliseconds{500}},
        DelayCase{"FifthIsCapped", 5, "", 1.0, milliseconds{4000}},
        DelayCase{"LastGivesUp", 6, "", 0.0, std::nullopt},
        DelayCase{"ZeroGivesUp", 0, "", 0.0, std::nullopt},
        DelayCase{"RetryAfterLonger", 1, "7", 0.0, milliseconds{7000}},
        DelayCase{"RetryAfterShorter", 4, "1", 0.0, milliseconds{2000}},
        DelayCase{"RetryAfterCapped", 1, "86400", 0.0, milliseconds{60000}},
        DelayCase{"RetryAfterHuge", 1, "99999999999999999999", 0.0, milliseconds{250}},
        DelayCase{"RetryAfterDate", 1, "Tue, 24 Nov 2026 17:00:00 GMT", 0.0, milliseconds{250}},
        DelayCase{"RetryAfterNegative", 1, "-5", 0.0, milliseconds{250}}),
    [](const auto& tested) { return tested.param.name; });

TEST(RetryableStatus, IsWhatPassesByItself) {
  for (const int status : {408, 429, 500, 502, 503, 504})
    EXPECT_TRUE(is_retryable_status(status)) << status;
  for (const int status : {200, 400, 401, 403, 404, 416, 501})
    EXPECT_FALSE(is_retryable_status(status)) << status;
}

} // namespace
} // namespace slipway::http
