// SPDX-License-Identifier: Apache-2.0
// Detached signatures by somebody's key: whether these bytes are what its owner signed.
#pragma once

#include "executor/base/result.hpp"

#include <memory>
#include <string_view>
#include <utility>

namespace slipway::signing {

/// A public key: Ed25519, or ECDSA on P-256 with SHA-256.
class PublicKey {
public:
  /// Errors: misconfigured (no public key in PEM, a private one, another kind of key), worded to
  /// follow the name of where the text is from.
  static Result<PublicKey> parse(std::string_view pem);
  /// Whether `signature` (as the algorithm makes it, for ECDSA in DER; or that in base64) is this
  /// key's on `message`.
  bool verifies(std::string_view message, std::string_view signature) const;

private:
  struct Key;
  bool verifies_bytes(std::string_view message, std::string_view signature) const;
  explicit PublicKey(std::shared_ptr<const Key> key) : key_{std::move(key)} {}
  std::shared_ptr<const Key> key_;
};

/// What a file of a public key holds at most.
inline constexpr std::size_t kMaxPublicKeyBytes = 64UL << 10;

} // namespace slipway::signing
