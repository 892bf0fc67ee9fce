// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/signature.hpp"

#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>

namespace slipway::vulndb {
namespace {

constexpr std::size_t kMaxKeyBytes = 64UL << 10;
constexpr const char* kSimpleSigning = "cosign container image signature";

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>( // NOLINT(*-reinterpret-cast): OpenSSL's bytes
      text.data());
}

} // namespace

struct PublicKey::Key {
  std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key{nullptr, &::EVP_PKEY_free};
  const EVP_MD* hash = nullptr; ///< none for Ed25519, which hashes by itself
};

Result<PublicKey> PublicKey::load(const std::filesystem::path& file) {
  const auto refused = [&](const std::string& why) {
    return Error{ErrorKind::misconfigured,
                 "[db] key_file " + file.string() + " " + why,
                 "it takes the public half in PEM: openssl pkey -in KEY.pem -pubout",
                 {}};
  };
  auto text = read_file(file, kMaxKeyBytes);
  if (!text) return refused("cannot be read: " + text.error().text());
  if (text->find("PRIVATE KEY") != std::string::npos) return refused("holds a private key");
  const std::unique_ptr<BIO, decltype(&::BIO_free)> bio{
      ::BIO_new_mem_buf(text->data(), static_cast<int>(text->size())), &::BIO_free};
  auto key = std::make_shared<Key>();
  key->key.reset(::PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
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
         ::EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message),
                            message.size()) == 1;
}

std::string statement(const oci::Digest& digest) {
  return "slipway trivy-db " + digest.str() + "\n";
}

Result<oci::Digest> signed_digest(std::string_view payload) {
  const auto refused = [](const std::string& why) {
    return Error{ErrorKind::bad_input, "the signed payload " + why, "", {}};
  };
  if (auto fine = oci::check_json(payload, "the signed payload"); !fine)
    return std::move(fine).error();
  const auto document = nlohmann::json::parse(payload, nullptr, false);
  try {
    const auto& critical = document.at("critical");
    if (critical.at("type") != kSimpleSigning) return refused("is of another type");
    return oci::Digest::parse(critical.at("image").at("docker-manifest-digest").get<std::string>());
  } catch (const nlohmann::json::exception&) {
    return refused("names no digest");
  }
}

} // namespace slipway::vulndb
