// SPDX-License-Identifier: Apache-2.0
// A test that cannot run says why; where everything has to run (CI), that is a failure.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

namespace slipway::tests {

inline bool everything_must_run() {
  const char* value = std::getenv("SLIPWAY_TESTS_MUST_RUN");
  return value != nullptr && std::string_view{value} == "1";
}

} // namespace slipway::tests

/// Ends the test as skipped for REASON; as failed where SLIPWAY_TESTS_MUST_RUN=1.
#define SLIPWAY_SKIP(reason)                                                                       \
  do {                                                                                             \
    if (::slipway::tests::everything_must_run()) {                                                 \
      FAIL() << "must run, but: " << (reason);                                                     \
    } else {                                                                                       \
      GTEST_SKIP() << (reason);                                                                    \
    }                                                                                              \
  } while (false)
