// SPDX-License-Identifier: Apache-2.0
// The public keys of a GitLab instance, kept in a file between jobs: fetched anew when they are an
// hour old, or when a token names a key that is not among them (but then at most once a minute, so
// that made-up names cost GitLab nothing). Where GitLab does not answer, keys of at most a day
// serve.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/identity/jws.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace slipway::identity {

class KeyCache {
public:
  static constexpr std::chrono::seconds kFresh{3600};
  static constexpr std::chrono::seconds kLongest{24 * 3600};
  static constexpr std::chrono::seconds kBetweenFetches{60};
  /// Gets the key set from `url`, at most kMaxKeySetBytes.
  using Fetch = std::function<Result<std::string>(const std::string& url)>;

  KeyCache(std::filesystem::path file, std::string url, Algorithm algorithm, Fetch fetch,
           const Clock& clock)
      : file_{std::move(file)}, url_{std::move(url)},
        algorithm_{algorithm}, fetch_{std::move(fetch)}, clock_{clock} {}

  /// The keys to judge a token with that names key `id`; it may be missing in them. Errors: those
  /// of `fetch`; bad_input (what was fetched is no key set).
  Result<KeySet> keys_for(const std::string& id) const;

private:
  struct Kept;
  std::optional<Kept> kept() const;
  std::filesystem::path file_;
  std::string url_;
  Algorithm algorithm_;
  Fetch fetch_;
  const Clock& clock_;
};

} // namespace slipway::identity
