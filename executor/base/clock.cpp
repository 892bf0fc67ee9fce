// SPDX-License-Identifier: Apache-2.0
#include "executor/base/clock.hpp"

#include <cstdio>
#include <ctime>

namespace slipway {

WallTime SystemClock::now() const {
  return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string rfc3339(WallTime time) {
  const std::time_t seconds = time.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, length};
}

bool parse_rfc3339(const std::string& text, WallTime& time) {
  std::tm parts{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return false;
  if (*rest == '.') {
    ++rest;
    while (*rest >= '0' && *rest <= '9')
      ++rest;
  }
  long offset = 0;
  if (*rest == '+' || *rest == '-') {
    int hours = 0;
    int minutes = 0;
    // NOLINTNEXTLINE(cert-err34-c): two digits cannot overflow
    if (std::sscanf(rest + 1, "%2d:%2d", &hours, &minutes) != 2) return false;
    offset = (*rest == '-' ? -1L : 1L) * (hours * 3600L + minutes * 60L);
  } else if (*rest != 'Z' || rest[1] != '\0') {
    return false;
  }
  time = WallTime{std::chrono::seconds{::timegm(&parts) - offset}};
  return true;
}

} // namespace slipway
