// SPDX-License-Identifier: Apache-2.0
// When to try again, as a pure function: exponential backoff with jitter, Retry-After honoured up
// to a cap. Who waits and what time it is are the caller's.
#pragma once

#include "executor/base/result.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace slipway::http {

struct RetryPolicy {
  int max_attempts = 6;
  std::chrono::milliseconds base{500};
  std::chrono::milliseconds cap{std::chrono::seconds{20}};
  std::chrono::milliseconds retry_after_cap{std::chrono::seconds{60}};
};

/// True for 408, 429 and those 5xx that pass (500, 502, 503, 504).
bool is_retryable_status(int status);
/// True for `unavailable`: refused, cut, stalled.
bool is_retryable(const Error& error);

/// How long to wait after the `attempt`-th try (1 = first) failed; nullopt: give up. `retry_after`
/// is the header's text ("" = none; seconds are read, dates are not); `random` is in [0, 1). Half
/// of the backoff is fixed, half is jitter.
std::optional<std::chrono::milliseconds> delay_before_retry(const RetryPolicy& policy, int attempt,
                                                            const std::string& retry_after,
                                                            double random);

} // namespace slipway::http
