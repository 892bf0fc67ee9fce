// SPDX-License-Identifier: Apache-2.0
// Signatures by the operator's key: who signs a DB has said that this one may be taken.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"
#include "executor/signing/public_key.hpp"
#include "executor/vulndb/kind.hpp"

#include <filesystem>
#include <string>
#include <string_view>

namespace slipway::vulndb {

using signing::PublicKey;

/// The key of `[db] key_file`. Errors: misconfigured (no such file, no public key in PEM, another
/// kind of key).
Result<PublicKey> load_key(const std::filesystem::path& file);

/// What is signed of an archive or a folder: "slipway trivy-db sha256:…" and a newline. It says
/// what it is for, so that no signature made for another purpose serves here.
std::string statement(const Kind& kind, const oci::Digest& digest);

/// The digest that a payload of cosign's "simple signing" is about. Errors: bad_input.
Result<oci::Digest> signed_digest(std::string_view payload);

} // namespace slipway::vulndb
