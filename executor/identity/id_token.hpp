// SPDX-License-Identifier: Apache-2.0
// Judges a GitLab ID token: whether it is this instance's word about exactly this job. A token that
// passes admits; it gives no power to push. Source: GitLab docs,
// ci/secrets/id_token_authentication.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/identity/jws.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway::identity {

/// What the token must say; all but issuer and audience from the job payload.
struct Expected {
  std::string issuer;   ///< "https://gitlab.example"
  std::string audience; ///< one of the token's
  std::int64_t job_id = 0;
  std::int64_t project_id = 0;
  std::string project; ///< full path
  std::string ref;     ///< "" = not compared: merge request pipelines name their source branch
  bool ref_protected = false;
};

/// What a token that was accepted says beside.
struct Claims {
  std::string pipeline_source; ///< "push", "merge_request_event", …; "" where it has none
};

/// Clocks of GitLab and runner may differ by so much.
inline constexpr std::chrono::seconds kLeeway{60};

/// Errors: denied (signature, iss, aud, exp, nbf, job_id, project_id, project_path, ref,
/// ref_protected, sub: names which, and never the token).
Result<Claims> judge(std::string_view token, const KeySet& keys, const Expected& expected,
                     WallTime now);

} // namespace slipway::identity
