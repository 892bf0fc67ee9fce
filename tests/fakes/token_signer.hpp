// SPDX-License-Identifier: Apache-2.0
// Signs tokens with OpenSSL, as GitLab would and as an attacker would: header and claims are the
// test's own, well-formed or not.
#pragma once

#include <nlohmann/json.hpp>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::fakes {

/// RFC 4648, 5, without padding.
inline std::string base64url(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  for (char& c : text)
    c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text.substr(0, text.find('='));
}

/// One key pair.
class TokenSigner {
public:
  static TokenSigner rsa(std::string id, unsigned bits = 2048) {
    return {std::move(id), EVP_RSA_gen(bits)};
  }
  static TokenSigner p256(std::string id) { return {std::move(id), EVP_EC_gen("P-256")}; }

  const std::string& id() const { return id_; }

  /// The public half as a JWK.
  nlohmann::json jwk() const {
    if (is_rsa())
      return {{"kty", "RSA"},
              {"kid", id_},
              {"use", "sig"},
              {"alg", "RS256"},
              {"n", number(OSSL_PKEY_PARAM_RSA_N)},
              {"e", number(OSSL_PKEY_PARAM_RSA_E)}};
    return {{"kty", "EC"},
            {"kid", id_},
            {"use", "sig"},
            {"alg", "ES256"},
            {"crv", "P-256"},
            {"x", number(OSSL_PKEY_PARAM_EC_PUB_X, 32)},
            {"y", number(OSSL_PKEY_PARAM_EC_PUB_Y, 32)}};
  }
  /// The public half as attackers get it.
  std::string pem() const {
    const std::unique_ptr<BIO, decltype(&BIO_free)> memory{BIO_new(BIO_s_mem()), BIO_free};
    PEM_write_bio_PUBKEY(memory.get(), key_.get());
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &text);
    return {text, static_cast<std::size_t>(size)};
  }

  /// A token with the header that such a key's tokens have.
  std::string sign(const nlohmann::json& claims) const {
    return sign_as({{"alg", is_rsa() ? "RS256" : "ES256"}, {"kid", id_}, {"typ", "JWT"}}, claims);
  }
  /// The same signature under any header.
  std::string sign_as(const nlohmann::json& header, const nlohmann::json& claims) const {
    const std::string signed_text = base64url(header.dump()) + "." + base64url(claims.dump());
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free};
    EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get());
    std::size_t size = 0;
    const auto* bytes = reinterpret_cast<const unsigned char*>(signed_text.data());
    EVP_DigestSign(context.get(), nullptr, &size, bytes, signed_text.size());
    std::vector<unsigned char> signature(size);
    EVP_DigestSign(context.get(), signature.data(), &size, bytes, signed_text.size());
    signature.resize(size);
    if (!is_rsa()) signature = raw(signature);
    return signed_text + "." + base64url(text(signature));
  }
  /// HMAC-SHA256 with `secret`.
  static std::string sign_hs256(const nlohmann::json& header, const nlohmann::json& claims,
                                std::string_view secret) {
    const std::string signed_text = base64url(header.dump()) + "." + base64url(claims.dump());
    std::vector<unsigned char> code(32);
    unsigned int size = 0;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(signed_text.data()), signed_text.size(),
         code.data(), &size);
    return signed_text + "." + base64url(text(code));
  }

private:
  TokenSigner(std::string id, EVP_PKEY* key) : id_{std::move(id)}, key_{key, EVP_PKEY_free} {}
  bool is_rsa() const { return EVP_PKEY_get_base_id(key_.get()) == EVP_PKEY_RSA; }
  static std::string_view text(const std::vector<unsigned char>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string number(const char* name, int width = 0) const {
    BIGNUM* held = nullptr;
    EVP_PKEY_get_bn_param(key_.get(), name, &held);
    std::vector<unsigned char> bytes(static_cast<std::size_t>(width ? width : BN_num_bytes(held)));
    BN_bn2binpad(held, bytes.data(), static_cast<int>(bytes.size()));
    BN_free(held);
    return base64url(text(bytes));
  }
  /// r and s of a DER signature, 32 bytes each (RFC 7518, 3.4).
  static std::vector<unsigned char> raw(const std::vector<unsigned char>& der) {
    const unsigned char* at = der.data();
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair{
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())), ECDSA_SIG_free};
    std::vector<unsigned char> bytes(64);
    BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), bytes.data(), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), bytes.data() + 32, 32);
    return bytes;
  }
  std::string id_;
  std::shared_ptr<EVP_PKEY> key_;
};

} // namespace slipway::fakes
