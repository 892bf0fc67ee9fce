// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/digest.hpp"

#include <openssl/evp.h>

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
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher() : state_{std::make_unique<State>()} {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(std::string_view bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

Digest Hasher::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned length = 0;
  EVP_DigestFinal_ex(state_->context, raw.data(), &length);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text{kPrefix};
  for (unsigned i = 0; i < length; ++i) {
    text += kHex[raw[i] >> 4];
    text += kHex[raw[i] & 15];
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
