// SPDX-License-Identifier: Apache-2.0
// The buildctl command line and the files beside it, as pure functions.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::buildkit {

/// BuildKit's limit for one secret. Source: session/secrets/secrets.go.
constexpr std::size_t kMaxSecretBytes = 500UL << 10;

/// Where things are inside the build sandbox.
struct Places {
  std::string buildctl = "/tools/bin/buildctl";
  std::string socket = "/run/slipway-builder/buildkitd.sock";
  std::string bases = "/bases"; ///< OCI layout of the base images, read-only; in the sandbox's spec
                                ///< the folder above it
  std::string workspace = "/builds";            ///< contexts have to be below it
  std::string out = "/out";                     ///< a writable folder of the sandbox's own
  std::string secrets = "/run/slipway-secrets"; ///< a tmpfs of the sandbox's own
};

/// The paths of one build, below Places::out.
struct BuildPaths {
  std::string dir;
  std::string secrets = ""; ///< below Places::secrets
  std::string dockerfile_dir() const { return dir + "/dockerfile"; }
  std::string layout() const { return dir + "/layout"; }
  std::string metadata() const { return dir + "/metadata.json"; }
  std::string policy() const { return dir + "/policy.json"; }
  std::string secret(std::size_t number) const {
    return secrets + "/secret-" + std::to_string(number);
  }
  std::string ssh_key(std::size_t number) const {
    return secrets + "/key-" + std::to_string(number);
  }
  std::string ssh_agent(std::size_t number) const {
    return secrets + "/agent-" + std::to_string(number);
  }
};

/// The name by which BuildKit looks for a named context: the familiar name without ":latest".
/// Source: BuildKit, frontend/dockerui/config.go, NamedContext. Errors: bad_input.
Result<std::string> context_key(const std::string& reference);

/// Errors: bad_input, denied (build args that would steer the frontend), naming the argument.
Status check(const BuildJob& job);

/// The `buildctl build` of `job`. Arguments are not split or interpreted by any shell.
/// Golden-tested.
Result<std::vector<std::string>> argv_for(const BuildJob& job, const Places& places,
                                          const BuildPaths& paths);

/// A source policy under which buildkitd asks no registry: what is not a base that slipway gave
/// fails at once, and says so. Source: BuildKit, docs of source policies.
std::string source_policy();

/// The Dockerfile to build. BuildKit takes a named context for a stage of that name too, so
/// `FROM node AS node` would lose the stage's own instructions in silence; such a FROM is made to
/// name its base by digest, and the context of that name is added to `bases`. Errors: bad_input,
/// denied.
Result<std::string> dockerfile_for(const BuildJob& job, const std::string& text,
                                   std::vector<BaseImage>& bases);

} // namespace slipway::backends::buildkit
