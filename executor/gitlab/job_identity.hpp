// SPDX-License-Identifier: Apache-2.0
// The job's ID token: found in the payload, judged, and taken out of what scripts see.
#pragma once

#include "config/config.hpp"
#include "executor/gitlab/job_response.hpp"
#include "executor/identity/id_token.hpp"
#include "executor/identity/key_cache.hpp"

#include <string>

namespace slipway::gitlab {

/// Where the instance of [identity] shows its public keys.
std::string keys_url(const config::Identity& section);

/// Judges the token that the job brought, and says what it said. Without an issuer nothing is
/// judged; a job without a token passes unless one is required; then nothing is said. Errors:
/// denied (missing though required, shadowed by a variable of the same name, not accepted); those
/// of KeyCache.
Result<identity::Claims> check_identity(const JobResponse& response,
                                        const config::Identity& section,
                                        const identity::KeyCache& keys, WallTime now);

/// Overwrites the token wherever it stands in a script, if [identity] says so: the runner writes
/// it there as an export, and in whatever variable the job expanded it into.
void hide_identity(std::string& script, const JobResponse& response,
                   const config::Identity& section);

} // namespace slipway::gitlab
