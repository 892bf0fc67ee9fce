// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/rs256.hpp"

#include "executor/base/base64.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>
#include <vector>

namespace slipway::credentials {

namespace {

constexpr int kLeastBits = 2048;

Error wrong_key(const std::string& what) {
  ERR_clear_error(); // nothing of a key is to be read there later
  return {ErrorKind::misconfigured,
          "the private key cannot be used: " + what,
          "give an RSA key in PEM, 2048 bits or more, without a password",
          {}};
}

/// Else OpenSSL would ask at the terminal.
int no_password(char*, int, int, void*) {
  return -1;
}

std::string base64url(std::string_view bytes) {
  std::string text = base64(bytes);
  while (!text.empty() && text.back() == '=')
    text.pop_back();
  for (char& c : text)
    c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

} // namespace

Result<std::string> rs256_signature(std::string_view signed_text, const Secret& pem) {
  const auto bytes = pem.reveal();
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory{
      BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())), BIO_free};
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{
      PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr), EVP_PKEY_free};
  if (!key) return wrong_key("it is no PEM, or has a password");
  if (EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_RSA) return wrong_key("it is not RSA");
  if (EVP_PKEY_get_bits(key.get()) < kLeastBits)
    return wrong_key("it has " + std::to_string(EVP_PKEY_get_bits(key.get())) + " bits");
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free};
  std::size_t size = static_cast<std::size_t>(EVP_PKEY_get_size(key.get()));
  std::string signature(size, '\0');
  if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     reinterpret_cast<const unsigned char*>(signed_text.data()),
                     signed_text.size()) != 1)
    return wrong_key("OpenSSL does not sign with it");
  signature.resize(size);
  return base64url(signature);
}

Result<Secret> sign_rs256(std::string_view claims, const Secret& pem) {
  const std::string signed_text =
      base64url(R"({"alg":"RS256","typ":"JWT"})") + "." + base64url(claims);
  auto signature = rs256_signature(signed_text, pem);
  if (!signature) return std::move(signature).error();
  return Secret{std::string_view{signed_text + "." + *signature}};
}

} // namespace slipway::credentials
