// SPDX-License-Identifier: Apache-2.0
// A key in a token: a security module, a smart card, a cloud's key store, whatever has a PKCS #11
// module. The module is the vendor's code, and runs in who calls this.
#pragma once

#include "executor/base/result.hpp"

#include <string>
#include <string_view>

namespace slipway::pkcs11 {

/// Signs with ECDSA P-256 and SHA-256; the signature in ASN.1 DER. `module` is the absolute path of
/// a shared library, `uri` names one private key in one of its tokens; the file of its pin-source
/// holds the PIN, without it nobody logs in. Errors: misconfigured (no such module, token or key,
/// several keys, another kind of key, the PIN); unavailable (what the module says). No error holds
/// the PIN. Source: PKCS #11 2.40; RFC 7512.
Result<std::string> sign(const std::string& module, const std::string& uri,
                         std::string_view message);

} // namespace slipway::pkcs11
