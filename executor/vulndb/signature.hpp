// SPDX-License-Identifier: Apache-2.0
// Signatures by the operator's key: who signs a DB has said that this one may be taken.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace slipway::vulndb {

/// A public key: Ed25519, or ECDSA on P-256 with SHA-256.
class PublicKey {
public:
  /// Errors: misconfigured (no such file, no public key in PEM, another kind of key).
  static Result<PublicKey> load(const std::filesystem::path& file);
  /// Whether `signature` (as the algorithm makes it, for ECDSA in DER; or that in base64) is this
  /// key's on `message`.
  bool verifies(std::string_view message, std::string_view signature) const;

private:
  struct Key;
  bool verifies_bytes(std::string_view message, std::string_view signature) const;
  explicit PublicKey(std::shared_ptr<const Key> key) : key_{std::move(key)} {}
  std::shared_ptr<const Key> key_;
};

/// What is signed of an archive or a folder: "slipway trivy-db sha256:…" and a newline. It says
/// what it is for, so that no signature made for another purpose serves here.
std::string statement(const oci::Digest& digest);

/// The digest that a payload of cosign's "simple signing" is about. Errors: bad_input.
Result<oci::Digest> signed_digest(std::string_view payload);

} // namespace slipway::vulndb
