// SPDX-License-Identifier: Apache-2.0
// Content digests: sha256 only, canonical form only. Source: OCI image-spec, descriptor.md,
// Digests.
#pragma once

#include "executor/base/result.hpp"

#include <compare>
#include <memory>
#include <string>
#include <string_view>

namespace slipway::oci {

/// "sha256:" and 64 lower-case hex digits; anything else does not become a Digest.
class Digest {
public:
  /// Errors: bad_input (other algorithm, upper case, wrong length).
  static Result<Digest> parse(std::string_view text);
  /// The digest of `bytes`.
  static Digest of(std::string_view bytes);

  const std::string& str() const noexcept { return text_; }
  /// The 64 hex digits: the blob's file name in a layout.
  std::string hex() const { return text_.substr(7); }
  auto operator<=>(const Digest&) const = default;

private:
  friend class Hasher;
  explicit Digest(std::string text) : text_{std::move(text)} {}
  std::string text_;
};

/// Computes a digest over a stream.
class Hasher {
public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void update(std::string_view bytes);
  /// Ends the computation; the Hasher is spent.
  Digest finish();

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The digest of everything behind `fd` from its current offset. Errors: io.
Result<Digest> digest_of_fd(int fd);

} // namespace slipway::oci
