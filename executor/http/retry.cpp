// SPDX-License-Identifier: Apache-2.0
#include "executor/http/retry.hpp"

#include <algorithm>

namespace slipway::http {

using std::chrono::milliseconds;

bool is_retryable_status(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

bool is_retryable(const Error& error) {
  return error.kind == ErrorKind::unavailable;
}

std::optional<milliseconds> delay_before_retry(const RetryPolicy& policy, int attempt,
                                               const std::string& retry_after, double random) {
  if (attempt < 1 || attempt >= policy.max_attempts) return std::nullopt;
  milliseconds backoff = policy.base;
  for (int i = 1; i < attempt && backoff < policy.cap; ++i)
    backoff *= 2;
  backoff = std::min(backoff, policy.cap);
  const double share = std::clamp(random, 0.0, 1.0);
  milliseconds delay{
      static_cast<milliseconds::rep>(static_cast<double>(backoff.count()) * (0.5 + share / 2))};
  const bool digits = !retry_after.empty() && retry_after.size() <= 9 &&
                      std::all_of(retry_after.begin(), retry_after.end(),
                                  [](char c) { return c >= '0' && c <= '9'; });
  if (digits) {
    const milliseconds asked = std::chrono::seconds{std::stol(retry_after)};
    delay = std::max(delay, std::min(asked, policy.retry_after_cap));
  }
  return delay;
}

} // namespace slipway::http
