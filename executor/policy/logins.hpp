// SPDX-License-Identifier: Apache-2.0
// Registry logins that came with a job, and which of them is for an image.
#pragma once

#include "executor/base/secret.hpp"
#include "executor/oci/reference.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace slipway::policy {

/// A registry login of the job's own.
struct Login {
  std::string host; ///< as login_place() gives it
  std::string path; ///< repositories at and below it; "" = all of the registry
  std::string username;
  Secret password;
  bool pull_only = false; ///< the author's own (DOCKER_AUTH_CONFIG): never pushed with
};

struct LoginPlace {
  std::string host; ///< "docker.io", "reg.example:5000"; lower case, without ":443"
  std::string path; ///< "" | "grp/app"
};
/// What a key of a Docker config.json or a URL of GitLab's `credentials` names. Docker Hub has many
/// names; "https://reg/v2/" and "reg:443" are "reg". Source: docker/cli, cli/config/credentials.
LoginPlace login_place(std::string_view key);

enum class LoginUse { pull, push };

/// The login for an image: of those of its registry the one with the longest path, the first of
/// equals; null where there is none.
const Login* login_for(const std::vector<Login>& logins, const oci::Reference& image, LoginUse use);

} // namespace slipway::policy
