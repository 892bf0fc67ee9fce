// SPDX-License-Identifier: Apache-2.0
// What slipway knows of a job's secrets: from the payload alone, so that nothing that a script sets
// adds to it or takes from it.
#pragma once

#include "executor/gitlab/job_response.hpp"
#include "executor/leaks/secrets.hpp"

#include <string>
#include <vector>

namespace slipway::gitlab {

/// The job token and whatever GitLab names as one, ID tokens, logins (of the payload and in
/// DOCKER_AUTH_CONFIG), masked variables, file variables that are not public. `began`: when the job
/// came to this runner (RFC 3339), before which nobody knew its own tokens.
std::vector<leaks::KnownSecret> known_secrets(const JobResponse& response,
                                              const std::string& began);

} // namespace slipway::gitlab
