// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/signed_files.hpp"

#include "executor/gate/operator_file.hpp"
#include "executor/oci/digest.hpp"
#include "executor/signing/public_key.hpp"

#include <algorithm>
#include <utility>

namespace slipway::gate {
namespace {

constexpr std::size_t kMaxSignatureBytes = 16UL << 10;

struct OwnersKey {
  std::string file; ///< its name without the folder
  signing::PublicKey key;
};

} // namespace

std::vector<SignedFile> read_signed_files(const SignedFiles& policy, const std::string& name,
                                          std::size_t limit, const Complain& complain,
                                          std::string& identity) {
  const auto files = name + "_files";
  const auto keys = name + "_keys";
  const auto read = [&](const std::filesystem::path& file, std::size_t most) {
    auto text = read_operator_file(file, most);
    if (text) identity += " " + oci::Digest::of(*text).str();
    return text;
  };

  std::vector<OwnersKey> owners;
  for (const auto& file : policy.keys) {
    auto pem = read(file, signing::kMaxPublicKeyBytes);
    auto key = pem ? signing::PublicKey::parse(*pem) : Result<signing::PublicKey>{pem.error()};
    if (!key) {
      complain(keys, file, key.error().text());
      continue;
    }
    owners.push_back({file.filename().string(), *std::move(key)});
  }
  std::vector<SignedFile> verified;
  for (const auto& file : policy.files) {
    auto text = read(file, limit);
    if (!text) {
      complain(files, file, text.error().text());
      continue;
    }
    auto signature = read(file.string() + ".sig", kMaxSignatureBytes);
    if (!signature) {
      complain(files, file, "its signature: " + signature.error().text());
      continue;
    }
    const auto signer = std::find_if(owners.begin(), owners.end(), [&](const OwnersKey& owner) {
      return owner.key.verifies(*text, *signature);
    });
    if (signer == owners.end()) {
      complain(files, file,
               "its signature (" + file.filename().string() + ".sig) is of none of " + keys +
                   ", or of another content");
      continue;
    }
    verified.push_back({file, *std::move(text), signer->file});
  }
  return verified;
}

} // namespace slipway::gate
