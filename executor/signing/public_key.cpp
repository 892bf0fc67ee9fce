// SPDX-License-Identifier: Apache-2.0
#include "executor/signing/public_key.hpp"

#include "executor/base/base64.hpp"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <string>

namespace slipway::signing {
namespace {

const unsigned char* openssl_bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

} // namespace

struct PublicKey::Key {
  std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key{nullptr, &::EVP_PKEY_free};
  const EVP_MD* hash = nullptr; ///< none for Ed25519, which hashes by itself
};

Result<PublicKey> PublicKey::parse(std::string_view pem) {
  const auto refused = [](const char* why) { return Error{ErrorKind::misconfigured, why, "", {}}; };
  if (pem.find("PRIVATE KEY") != std::string_view::npos) return refused("holds a private key");
  if (pem.size() > kMaxPublicKeyBytes) return refused("is too long for a key");
  const std::unique_ptr<BIO, decltype(&::BIO_free)> bio{
      ::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &::BIO_free};
  auto key = std::make_shared<Key>();
  // Else OpenSSL would ask for a password at the terminal.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  key->key.reset(::PEM_read_bio_PUBKEY(bio.get(), nullptr, no_password, nullptr));
  if (!key->key) return refused("holds no public key");
  if (::EVP_PKEY_is_a(key->key.get(), "ED25519") == 1) return PublicKey{std::move(key)};
  std::string group(64, '\0');
  std::size_t length = 0;
  if (::EVP_PKEY_is_a(key->key.get(), "EC") != 1 ||
      ::EVP_PKEY_get_group_name(key->key.get(), group.data(), group.size(), &length) != 1 ||
      group.substr(0, length) != "prime256v1")
    return refused("holds neither an Ed25519 key nor one of ECDSA P-256");
  key->hash = ::EVP_sha256();
  return PublicKey{std::move(key)};
}

bool PublicKey::verifies(std::string_view message, std::string_view signature) const {
  if (verifies_bytes(message, signature)) return true;
  std::string text{signature};
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r'; });
  const auto decoded = base64_decode(text);
  return decoded && verifies_bytes(message, *decoded);
}

bool PublicKey::verifies_bytes(std::string_view message, std::string_view signature) const {
  const std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)> context{::EVP_MD_CTX_new(),
                                                                          &::EVP_MD_CTX_free};
  return ::EVP_DigestVerifyInit(context.get(), nullptr, key_->hash, nullptr, key_->key.get()) ==
             1 &&
         ::EVP_DigestVerify(context.get(), openssl_bytes(signature), signature.size(),
                            openssl_bytes(message), message.size()) == 1;
}

} // namespace slipway::signing
