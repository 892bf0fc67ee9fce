// SPDX-License-Identifier: Apache-2.0
// From the router's decision to a built image: the chosen backend builds, the next one only where
// it could not begin, and what comes out has what its Dockerfile declares.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/backends/buildah/command.hpp"
#include "executor/backends/dockerd/command.hpp"
#include "executor/backends/kaniko/command.hpp"
#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/layout.hpp"
#include "executor/router/choice.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::image {

class BuildPlace;

/// One try of a backend. `began` is false where no step of the build can have run; it `is_busy`
/// where others have all that it builds with, and may give it back at any time.
struct Attempt {
  Result<backends::Built> built;
  bool began = true;
  bool is_busy = false;
};
using TryBuild = std::function<Attempt(const backends::BuildJob& job, oci::Layout& into)>;

/// A backend that slipway builds with: what the router is to know of it, and how it is made ready
/// in a job's place.
struct WiredBackend {
  backends::Descriptor descriptor;
  std::function<TryBuild(BuildPlace& place)> make;
  std::optional<backends::buildah::Program> buildah = {}; ///< what has working containers, too
  std::optional<backends::dockerd::Program> dockerd = {}; ///< what runs containers, too
};
using WiredBackends = std::map<std::string, WiredBackend>; ///< by name

/// Rootless BuildKit, in the place's warm builder. `version` is its own word.
WiredBackend wire_buildkit(const std::string& version);
/// Buildah or `podman build`, in a sandbox of its own on the store of the place's trust domain.
WiredBackend wire_buildah(const backends::buildah::Program& program);

/// Kaniko, in a sandbox of its own on the network of the place's trust domain.
WiredBackend wire_kaniko(const backends::kaniko::Program& program);

/// Docker's own builder, in a sandbox that is made for one build.
WiredBackend wire_dockerd(const backends::dockerd::Program& program);

/// What the router may choose from.
std::vector<backends::Descriptor> descriptors_of(const WiredBackends& wired);

/// The image below `root`, or the image for each platform, against the Dockerfile that it was built
/// from; `scopes` has one for each platform. Returns what was read. Errors: internal, naming
/// backend, file and line of what vanished, or the platform that is missing or was not asked for;
/// those of oci::read_tree.
Result<oci::ImageTree> keeps_declarations(const oci::Layout& layout, const oci::Digest& root,
                                          const dockerfile::Dockerfile& dockerfile,
                                          const std::vector<dockerfile::Scope>& scopes,
                                          const std::string& backend);

/// Digest and line of each layer whose line is known (router::layer_lines); `scopes` as above.
/// Empty above 1000 layers.
std::map<std::string, int> layer_lines_of(const oci::ImageTree& tree,
                                          const dockerfile::Dockerfile& dockerfile,
                                          const std::vector<dockerfile::Scope>& scopes);

struct BuiltBy {
  backends::Built built;
  oci::ImageTree tree; ///< below built.manifest
  std::string backend; ///< its name
  std::string version;
  std::string because; ///< "" where it is the default's first choice
};

/// What a build by the decision is made with.
struct Building {
  const router::Decision& decision; ///< has chosen one
  const dockerfile::Dockerfile& file;
  const std::vector<dockerfile::Scope>& scopes; ///< one for each platform
  const backends::BuildJob& job;
  std::function<Result<TryBuild>(const std::string& backend)> make;
  std::vector<backends::Descriptor> set_up;
  /// Writes down that `next` takes over from `failed`, before it begins. Its error ends the build.
  std::function<Status(const std::string& failed, const std::string& next, const Error& why)>
      note_fallback;
};

/// Builds with the chosen backend. Where it could not begin, for a reason that is not the job's,
/// the next capable one that policy allows takes over, in the time that is left, and the job is
/// told so. One that is busy is waited for, in that time: how much else is built at the moment
/// does not change what builds. Errors: those of the backend that was tried last, of
/// keeps_declarations and of Building::note_fallback.
Result<BuiltBy> build_by_decision(const Building& building, oci::Layout& into);

} // namespace slipway::image
