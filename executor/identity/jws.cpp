// SPDX-License-Identifier: Apache-2.0
#include "executor/identity/jws.hpp"

#include <nlohmann/json.hpp>

#include <cjose/cjose.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

namespace slipway::identity {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxKeys = 32;
constexpr std::size_t kMaxKeyIdBytes = 256;
constexpr std::size_t kLeastRsaText = 342; // base64url of 2048 bits
constexpr std::size_t kMostRsaText = 1366; // of 8192 bits: larger ones cost too much time

struct ReleaseJws {
  void operator()(cjose_jws_t* jws) const { cjose_jws_release(jws); }
};
struct ReleaseJwk {
  void operator()(cjose_jwk_t* jwk) const { cjose_jwk_release(jwk); }
};
struct Free {
  void operator()(char* text) const { std::free(text); }
};
using Jws = std::unique_ptr<cjose_jws_t, ReleaseJws>;
using Jwk = std::unique_ptr<cjose_jwk_t, ReleaseJwk>;

const char* name_of(Algorithm algorithm) {
  switch (algorithm) {
  case Algorithm::rs256:
    return "RS256";
  case Algorithm::es256:
    return "ES256";
  }
  return ""; // unreachable: every enumerator returns above
}

Error denied(const std::string& why) {
  return Error{ErrorKind::denied, "the ID token is not accepted: " + why, "", {}};
}

/// nullptr where `token` is no compact JWS of three parts in base64url.
Jws import(std::string_view token) {
  if (token.size() > kMaxTokenBytes || std::count(token.begin(), token.end(), '.') != 2)
    return nullptr;
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  cjose_err error{};
  return plain ? Jws{cjose_jws_import(token.data(), token.size(), &error)} : nullptr;
}

/// A text of the header; "" where it is not there or no text.
std::string header_of(const Jws& jws, const char* name) {
  cjose_err error{};
  const char* value = cjose_header_get(cjose_jws_get_protected(jws.get()), name, &error);
  return value == nullptr ? "" : value;
}

/// The whole header: libcjose shows texts and objects of it alone.
json header_of(std::string_view token) {
  std::uint8_t* bytes = nullptr;
  std::size_t size = 0;
  cjose_err error{};
  if (!cjose_base64url_decode(token.data(), token.find('.'), &bytes, &size, &error)) return nullptr;
  const std::unique_ptr<char, Free> owned{reinterpret_cast<char*>(bytes)};
  return json::parse(owned.get(), owned.get() + size, nullptr, false);
}

std::string text_of(const json& key, const char* name) {
  const auto found = key.find(name);
  return found == key.end() || !found->is_string() ? "" : found->get<std::string>();
}

bool is_usable(const json& key, Algorithm algorithm) {
  if (!key.is_object() || key.contains("d") || key.contains("k")) return false;
  if (key.contains("use") && text_of(key, "use") != "sig") return false;
  if (key.contains("alg") && text_of(key, "alg") != name_of(algorithm)) return false;
  if (algorithm == Algorithm::es256)
    return text_of(key, "kty") == "EC" && text_of(key, "crv") == "P-256";
  const auto modulus = text_of(key, "n").size();
  return text_of(key, "kty") == "RSA" && modulus >= kLeastRsaText && modulus <= kMostRsaText;
}

} // namespace

Result<std::string> verified_payload(std::string_view token, const std::string& key,
                                     Algorithm algorithm) {
  const Jws jws = import(token);
  if (!jws || header_of(jws, "alg") != name_of(algorithm))
    return denied(std::string{"it is not signed with "} + name_of(algorithm));
  // RFC 7515, 4.1.11: what must be understood, and is not.
  const json header = header_of(token);
  if (!header.is_object() || header.contains("crit"))
    return denied("its header asks for extensions");
  cjose_err error{};
  const Jwk jwk{cjose_jwk_import(key.data(), key.size(), &error)};
  const auto wanted = algorithm == Algorithm::rs256 ? CJOSE_JWK_KTY_RSA : CJOSE_JWK_KTY_EC;
  if (!jwk || cjose_jwk_get_kty(jwk.get(), &error) != wanted)
    return denied("its key cannot be read");
  if (!cjose_jws_verify(jws.get(), jwk.get(), &error))
    return denied("its signature is not that of the key it names");
  std::uint8_t* bytes = nullptr; // owned by jws
  std::size_t size = 0;
  if (!cjose_jws_get_plaintext(jws.get(), &bytes, &size, &error))
    return denied("it has no payload");
  return std::string{reinterpret_cast<const char*>(bytes), size};
}

Result<KeySet> KeySet::parse(std::string_view jwks, Algorithm algorithm) {
  const auto refused = [](const std::string& why) {
    return Error{ErrorKind::bad_input,
                 "the key set cannot be used: " + why,
                 "is keys_url of [identity] that of GitLab's keys, and algorithm theirs?",
                 {}};
  };
  if (jwks.size() > kMaxKeySetBytes) return refused("it is above 128 KiB");
  const json set = json::parse(jwks, nullptr, false);
  if (!set.is_object() || !set.contains("keys") || !set["keys"].is_array())
    return refused("it is no JSON Web Key set");
  if (set["keys"].size() > kMaxKeys) return refused("it holds more than 32 keys");
  KeySet keys{algorithm};
  for (const auto& key : set["keys"]) {
    if (!is_usable(key, algorithm)) continue;
    const std::string id = text_of(key, "kid");
    if (id.empty() || id.size() > kMaxKeyIdBytes) continue;
    if (!keys.keys_.emplace(id, key.dump(-1, ' ', true, json::error_handler_t::replace)).second)
      return refused("it holds two keys of one id");
  }
  if (keys.keys_.empty()) return refused(std::string{"it holds no key for "} + name_of(algorithm));
  return keys;
}

Result<std::string> KeySet::payload_of(std::string_view token) const {
  const Jws jws = import(token);
  if (!jws) return denied(std::string{"it is not signed with "} + name_of(algorithm_));
  const auto found = keys_.find(header_of(jws, "kid"));
  if (found == keys_.end()) return denied("it names no key of this GitLab");
  return verified_payload(token, found->second, algorithm_);
}

std::string key_id_of(std::string_view token) {
  const Jws jws = import(token);
  return jws ? header_of(jws, "kid") : "";
}

} // namespace slipway::identity
