// SPDX-License-Identifier: Apache-2.0
// The registry logins of a job: those of its author (DOCKER_AUTH_CONFIG, for pulls only), then
// those that GitLab sends (its registry, its dependency proxy). Source: GitLab docs, "Access an
// image from a private container registry"; docker/cli, config.json.
#pragma once

#include "executor/gitlab/job_response.hpp"
#include "executor/policy/logins.hpp"

#include <string>
#include <vector>

namespace slipway::gitlab {

constexpr std::size_t kMaxAuthConfigBytes = 1UL << 20;
constexpr std::size_t kMaxAuthEntries = 200;

struct JobLogins {
  std::vector<policy::Login> logins; ///< in the order in which they count
  std::vector<std::string> notes;    ///< what of DOCKER_AUTH_CONFIG cannot be used and why
};

/// Never fails: a login that cannot be read is told, and the pull that needs it will say the rest.
JobLogins job_logins(const JobResponse& response);

} // namespace slipway::gitlab
