// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/signature.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

namespace slipway::vulndb {
namespace {

constexpr const char* kSimpleSigning = "cosign container image signature";

} // namespace

Result<PublicKey> load_key(const std::filesystem::path& file) {
  const auto refused = [&](const std::string& why) {
    return Error{ErrorKind::misconfigured,
                 "[db] key_file " + file.string() + " " + why,
                 "it takes the public half in PEM: openssl pkey -in KEY.pem -pubout",
                 {}};
  };
  auto text = read_file(file, signing::kMaxPublicKeyBytes);
  if (!text) return refused("cannot be read: " + text.error().text());
  auto key = PublicKey::parse(*text);
  if (!key) return refused(key.error().what);
  return key;
}

std::string statement(const Kind& kind, const oci::Digest& digest) {
  return std::string{"slipway "} + kind.name + " " + digest.str() + "\n";
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
