// SPDX-License-Identifier: Apache-2.0
// A value that must not be printed, compared, copied or left in memory.
#pragma once

#include <string.h>

#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

/// Owns secret bytes and overwrites them at the end of its life. `reveal()` is the one way out.
/// A heap vector, not a string: a moved-from short string keeps its characters.
class Secret {
public:
  Secret() = default;
  explicit Secret(std::vector<char> bytes) : bytes_{std::move(bytes)} {}
  explicit Secret(std::string_view bytes) : bytes_{bytes.begin(), bytes.end()} {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&& other) noexcept {
    wipe();
    bytes_ = std::move(other.bytes_);
    return *this;
  }
  ~Secret() { wipe(); }

  std::string_view reveal() const noexcept { return {bytes_.data(), bytes_.size()}; }
  bool empty() const noexcept { return bytes_.empty(); }
  /// A second owner of the same value; spelled out because each copy is one more to wipe.
  Secret clone() const { return Secret{reveal()}; }

private:
  void wipe() noexcept {
    if (!bytes_.empty()) ::explicit_bzero(bytes_.data(), bytes_.size());
  }
  std::vector<char> bytes_;
};

} // namespace slipway
