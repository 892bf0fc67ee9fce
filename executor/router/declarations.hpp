// SPDX-License-Identifier: Apache-2.0
// What a Dockerfile declares has to be in the config of the image that was built from it. Holds for
// every backend, also where the table of capabilities is wrong.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/manifest.hpp"

#include <string>
#include <vector>

namespace slipway::router {

/// Something declared that the image does not have.
struct Vanished {
  int line = 0;
  std::string what; ///< "HEALTHCHECK", "LABEL team"
};

/// Compares the stages from the target down to its base with the image's config: HEALTHCHECK,
/// SHELL, ONBUILD, USER, CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL, WORKDIR, and the keys of
/// LABEL and ENV. Values are compared where no variable is in them. `config_json` is the blob that
/// `config` was read from. Errors: bad_input (as dockerfile::plan_of; the blob cannot be read).
Result<std::vector<Vanished>> vanished(const dockerfile::Dockerfile& dockerfile,
                                       const dockerfile::Scope& scope,
                                       const oci::ImageConfig& config,
                                       const std::string& config_json);

/// Errors: internal, naming backend, file and line of what vanished; those of vanished.
Status check_declarations(const dockerfile::Dockerfile& dockerfile, const dockerfile::Scope& scope,
                          const oci::ImageConfig& config, const std::string& config_json,
                          const std::string& backend);

} // namespace slipway::router
