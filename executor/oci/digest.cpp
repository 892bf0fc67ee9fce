// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/digest.hpp"

// Not EVP: its first digest reads OpenSSL's configuration and providers, 0.8 ms in each start of
// slipway.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace slipway::oci {

namespace {
constexpr std::string_view kPrefix = "sha256:";
}

Result<Digest> Digest::parse(std::string_view text) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (text.size() != kPrefix.size() + 64 || !text.starts_with(kPrefix) ||
      !std::all_of(text.begin() + kPrefix.size(), text.end(), is_hex)) {
    return Error{ErrorKind::bad_input,
                 "not a digest: '" + std::string{text.substr(0, 100)} + "'",
                 "a digest is sha256: and 64 lower-case hex digits",
                 {}};
  }
  return Digest{std::string{text}};
}

Digest Digest::of(std::string_view bytes) {
  Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

struct Hasher::State {
  SHA256_CTX context{};
};

Hasher::Hasher() : state_{std::make_unique<State>()} {
  SHA256_Init(&state_->context);
}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(std::string_view bytes) {
  SHA256_Update(&state_->context, bytes.data(), bytes.size());
}

Digest Hasher::finish() {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> raw{};
  SHA256_Final(raw.data(), &state_->context);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text{kPrefix};
  for (const auto byte : raw) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return Digest{std::move(text)};
}

Result<Digest> digest_of_fd(int fd) {
  Hasher hasher;
  std::array<char, 1 << 16> chunk; // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  for (;;) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno);
    if (got == 0) return hasher.finish();
    hasher.update({chunk.data(), static_cast<std::size_t>(got)});
  }
}

} // namespace slipway::oci
