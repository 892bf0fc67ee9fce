// SPDX-License-Identifier: Apache-2.0
// A streaming masker for what slipway forwards: exact values are replaced by [MASKED], also where
// they are cut across two writes. The runner masks the job's own variables; this covers what the
// runner cannot know (registry logins and their base64 forms).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slipway::gitlab {

class Masker {
public:
  /// Shorter values are not masked: they would shred ordinary output.
  static constexpr std::size_t kShortest = 8;
  explicit Masker(std::vector<std::string> values) { add(std::move(values)); }
  ~Masker();
  Masker(const Masker&) = delete;
  Masker& operator=(const Masker&) = delete;

  /// From the next byte on these too.
  void add(std::vector<std::string> values);
  /// Takes the next bytes, returns what can be shown. At most the longest value's length is held
  /// back, and only while it may still become a value.
  std::string feed(std::string_view bytes);
  /// What was held back; call at the end of the stream or when it pauses.
  std::string flush();

private:
  /// Those that may begin REST, longest first.
  const std::vector<std::string_view>& candidates(std::string_view rest) const;
  std::vector<std::string> values_; ///< longest first
  /// Of those, by their first byte, and by their first four: there may be thousands of them.
  std::array<std::vector<std::string_view>, 256> beginning_with_;
  std::unordered_map<std::uint32_t, std::vector<std::string_view>> by_four_;
  std::bitset<65536> first_two_; ///< some value begins so
  std::string held_;
};

/// The forms in which a login shows up: the password, and base64 of user:password.
std::vector<std::string> forms_of_login(const std::string& username, std::string_view password);

} // namespace slipway::gitlab
