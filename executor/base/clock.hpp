// SPDX-License-Identifier: Apache-2.0
// Time as a seam: wall clock for what is written down, so that expiry can be tested.
#pragma once

#include <chrono>
#include <string>

namespace slipway {

using WallTime = std::chrono::sys_seconds;

/// Where "now" comes from. Deadlines of waits use std::chrono::steady_clock directly.
class Clock {
public:
  virtual ~Clock() = default;
  virtual WallTime now() const = 0;
};

/// The machine's own clock.
class SystemClock final : public Clock {
public:
  WallTime now() const override;
};

/// A clock that stands still until told otherwise.
class FixedClock final : public Clock {
public:
  explicit FixedClock(WallTime at) : at_{at} {}
  WallTime now() const override { return at_; }
  void advance(std::chrono::seconds by) { at_ += by; }

private:
  WallTime at_;
};

/// RFC 3339 in UTC, whole seconds ("2026-11-24T16:00:00Z").
std::string rfc3339(WallTime time);

/// Reads RFC 3339 in UTC or with offset; fractions are cut. False where it is none.
bool parse_rfc3339(const std::string& text, WallTime& time);

} // namespace slipway
