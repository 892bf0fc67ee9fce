// SPDX-License-Identifier: Apache-2.0
// Signatures of compact JWS (RFC 7515), verified by libcjose with one algorithm that the operator
// fixed: what a token's header says about algorithm and key is compared, never obeyed.
#pragma once

#include "executor/base/result.hpp"

#include <map>
#include <string>
#include <string_view>

namespace slipway::identity {

/// A public key set above this is refused unread.
inline constexpr std::size_t kMaxKeySetBytes = 128UL << 10;
inline constexpr std::size_t kMaxTokenBytes = 16UL << 10;

enum class Algorithm { rs256, es256 };

/// The payload of `token` if `key` (a JWK) signed it. Errors: denied (not signed by this key, not
/// with this algorithm, no compact JWS).
Result<std::string> verified_payload(std::string_view token, const std::string& key,
                                     Algorithm algorithm);

/// Public keys of one algorithm, by their ids.
class KeySet {
public:
  /// Keys of other types, uses and algorithms, keys without an id, RSA keys under 2048 bits and
  /// keys that show their private half are left out. Errors: bad_input (no JWK set, an id twice,
  /// no key left).
  static Result<KeySet> parse(std::string_view jwks, Algorithm algorithm);

  bool has(const std::string& id) const { return keys_.count(id) != 0; }
  /// Errors: denied (unknown key; as verified_payload).
  Result<std::string> payload_of(std::string_view token) const;

private:
  explicit KeySet(Algorithm algorithm) : algorithm_{algorithm} {}
  Algorithm algorithm_;
  std::map<std::string, std::string> keys_; ///< id → JWK
};

/// The key id in a token's header, unverified; "" where there is none.
std::string key_id_of(std::string_view token);

} // namespace slipway::identity
