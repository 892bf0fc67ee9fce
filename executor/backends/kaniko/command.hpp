// SPDX-License-Identifier: Apache-2.0
// The command line of Kaniko's executor, and the Dockerfile that it is given, as pure functions.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::backends::kaniko {

/// What the host's program is.
struct Program {
  std::string version; ///< as it says itself: "v1.24.0"
};

/// "Kaniko version :  v1.24.0". Errors: misconfigured (other words; not a 1.24: what later ones, of
/// other people, get right and wrong is not known here).
Result<Program> parse_version(std::string_view said);

/// Where things are in the builder sandbox, whose root is the image that is being built. All that
/// is slipway's is below `home`, which Kaniko leaves out of images.
struct Places {
  std::string home = "/.slipway";    ///< not /kaniko: a step may look for that one
  std::string workspace = "/builds"; ///< of the build sandbox: contexts are below it,
  std::string unpacked = "/out";     ///< or here

  std::string executor() const { return home + "/executor"; }
  std::string init() const { return home + "/init"; }
  std::string certificates() const { return home + "/certs"; }
  std::string inputs() const { return home + "/in"; }
  std::string dockerfile() const { return inputs() + "/" + kDockerfile; }
  std::string bases() const { return inputs() + "/" + kBases; }
  std::string layout() const { return home + "/layout"; }
  std::string cache() const { return home + "/cache"; }
  std::string egress() const {
    return home + "/egress";
  } ///< the proxy's socket, where there is one

  /// Names in the folder of inputs.
  static constexpr const char* kDockerfile = "Dockerfile";
  static constexpr const char* kIgnoreFile = "Dockerfile.dockerignore";
  static constexpr const char* kBases = "bases";
};

/// What can be told without the Dockerfile. Errors: bad_input, denied, naming the argument;
/// `host_platform` is the only platform.
Status check(const BuildJob& job, const std::string& host_platform);

/// The text to build. Images stand in it by digest, under a name of slipway's own, since Kaniko
/// asks a registry for every other; stages that the target does not need are empty, since Kaniko
/// builds them all; what COPY takes from an image has a stage of its own. `triggers`: ONBUILD of
/// the bases, by familiar name. Errors: bad_input, naming the line (an image that slipway did not
/// fetch; a trigger that Kaniko would take from elsewhere).
Result<std::string> dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file,
                                   const std::string& text,
                                   const std::map<std::string, std::vector<std::string>>& triggers);

/// Nothing is split or interpreted by a shell. Golden-tested.
std::vector<std::string> argv_for(const BuildJob& job, const Places& places);
/// Kaniko's own variables; steps do not get them.
std::vector<std::pair<std::string, std::string>> environment(const Places& places);

} // namespace slipway::backends::kaniko
