// SPDX-License-Identifier: Apache-2.0
// A key that signs what an operator or a policy owner would.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>
#include <string>
#include <string_view>

namespace slipway::fakes {

/// A private key.
class SigningKey {
public:
  static SigningKey ed25519() {
    return SigningKey{::EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")};
  }
  static SigningKey ec(const char* curve) { return SigningKey{EVP_EC_gen(curve)}; }

  std::string sign(std::string_view message) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)> context{::EVP_MD_CTX_new(),
                                                                            &::EVP_MD_CTX_free};
    const bool hashes = ::EVP_PKEY_is_a(key_.get(), "ED25519") == 1;
    ::EVP_DigestSignInit(context.get(), nullptr, hashes ? nullptr : ::EVP_sha256(), nullptr,
                         key_.get());
    const auto* bytes = reinterpret_cast<const unsigned char*>(message.data());
    std::size_t size = 0;
    ::EVP_DigestSign(context.get(), nullptr, &size, bytes, message.size());
    std::string signature(size, '\0');
    ::EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     bytes, message.size());
    signature.resize(size);
    return signature;
  }
  std::string public_pem() const {
    return pem([this](BIO* bio) { ::PEM_write_bio_PUBKEY(bio, key_.get()); });
  }
  std::string private_pem() const {
    return pem([this](BIO* bio) {
      ::PEM_write_bio_PrivateKey(bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }

private:
  explicit SigningKey(EVP_PKEY* key) : key_{key, &::EVP_PKEY_free} {}
  template <typename Write> static std::string pem(const Write& write) {
    const std::unique_ptr<BIO, decltype(&::BIO_free)> bio{::BIO_new(::BIO_s_mem()), &::BIO_free};
    write(bio.get());
    char* bytes = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<std::size_t>(size)};
  }
  std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key_;
};

} // namespace slipway::fakes
