// SPDX-License-Identifier: Apache-2.0
// Who signs: a key in a file, or a program that keeps the key to itself. ECDSA on P-256 with
// SHA-256, which is what cosign's own key pairs are.
#pragma once

#include "executor/base/result.hpp"
#include "executor/process/process.hpp"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::signing {

class Signer {
public:
  virtual ~Signer() = default;
  /// The signature of `message`, ASN.1 DER. Errors: misconfigured, unavailable, timed_out.
  virtual Result<std::string> sign(std::string_view message) = 0;
  /// Whether `signature` is this key's on `message`: one that was made before.
  virtual bool verifies(std::string_view message, std::string_view signature) const = 0;
  /// Names the public key: base64 of the SHA-256 of its DER form, as cosign writes it.
  virtual const std::string& hint() const = 0;
};

/// The key of a PEM file (PKCS #8 or SEC 1, no password). The file's bytes are wiped once it is
/// read. Errors: misconfigured, naming the file and what kind of key it holds, or that there is
/// none; io.
Result<std::unique_ptr<Signer>> open_key_file(const std::filesystem::path& file);

/// A program that signs, and all of its environment.
struct Program {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env = {};
  /// slipway-pkcs11, whose exit status says whose fault it is, and stderr why. Of another one that
  /// stays unread: it may be about its key.
  bool is_own = false;
};

/// A program: it gets the message on stdin and prints the DER signature in base64. What it prints
/// is checked with `public_key_file` before anybody uses it. `runner` outlives the signer. Errors:
/// as open_key_file.
Result<std::unique_ptr<Signer>> open_command(Program program,
                                             const std::filesystem::path& public_key_file,
                                             std::chrono::milliseconds deadline,
                                             process::ProcessRunner& runner);

} // namespace slipway::signing
