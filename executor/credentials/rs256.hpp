// SPDX-License-Identifier: Apache-2.0
// JSON Web Tokens that slipway signs itself, with an RSA key from a file: how it logs in where an
// issuer knows it by its public key. Source: RFC 7515, RFC 7518 (3.3).
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"

#include <string>
#include <string_view>

namespace slipway::credentials {

/// A token with `claims`, a JSON object, under alg RS256. `pem`: an RSA key of 2048 bits or more,
/// PKCS #1 or #8, without a password. Errors: misconfigured.
Result<Secret> sign_rs256(std::string_view claims, const Secret& pem);

/// The signature alone, of "HEADER.CLAIMS", in base64url. Errors: as sign_rs256.
Result<std::string> rs256_signature(std::string_view signed_text, const Secret& pem);

} // namespace slipway::credentials
