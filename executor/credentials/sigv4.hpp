// SPDX-License-Identifier: Apache-2.0
// AWS Signature Version 4 in the Authorization header, as every AWS service but S3 wants it (S3
// encodes paths differently). libcurl can sign as well, but Debian's 7.88 leaves query parameters
// in the order in which they stand, which AWS refuses.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/secret.hpp"
#include "executor/http/transport.hpp"

#include <string>

namespace slipway::credentials {

/// An access key; with a session token where it is a temporary one.
struct AwsKeys {
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;
};

/// What a signature is good for.
struct SigningScope {
  std::string region;  ///< "eu-central-1"
  std::string service; ///< "ecr", "sts"
};

/// Signs `request` as it stands: all of its headers, the host, the query and the body (not a
/// stream) are under the signature. Adds X-Amz-Date, X-Amz-Security-Token where there is one, and
/// the authorization.
void sign_v4(http::Request& request, const AwsKeys& keys, const SigningScope& scope, WallTime now);

/// The canonical request that the signature covers, and the names of its headers
/// ("host;x-amz-date").
struct CanonicalRequest {
  std::string text;
  std::string signed_headers;
};
CanonicalRequest canonical_request(const http::Request& request);

} // namespace slipway::credentials
