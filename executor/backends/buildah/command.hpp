// SPDX-License-Identifier: Apache-2.0
// The command lines of Buildah and of `podman build`, and the files beside them, as pure functions.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::buildah {

/// One engine, two programs: their options are nearly the same, their defaults are not.
enum class Tool { buildah, podman };

/// Of Buildah; Podman carries one inside.
struct Version {
  int major = 0;
  int minor = 0;
  auto operator<=>(const Version&) const = default;
  std::string str() const { return std::to_string(major) + "." + std::to_string(minor); }
};

/// What the host's program is.
struct Program {
  Tool tool = Tool::buildah;
  std::string path = "/usr/bin/buildah"; ///< inside the builder sandbox
  std::string version;                   ///< as it says itself: "1.28.2"
  Version engine;                        ///< the Buildah that it is or carries
  bool layers = false; ///< a layer for each step, and a cache of them: Podman's default
  /// check_dockerfile is asked. False only where a test records what it keeps from happening.
  bool is_checked = true;
};

/// "buildah version 1.28.2 (…)" or "podman version 4.3.1". Errors: misconfigured (other words; a
/// Buildah older than 1.28).
Result<Program> parse_version(Tool tool, std::string_view said);

/// Where things are in the builder sandbox, and what the build sandbox has.
struct Places {
  std::string store = "/var/lib/containers"; ///< the volume: graph root, temporary files
  std::string bases = "/bases";              ///< OCI layout of the base images, read-only
  std::string work = "/build";               ///< the sandbox's own, gone with it
  std::string workspace = "/builds";         ///< of the build sandbox: contexts are below it,
  std::string unpacked = "/out";             ///< or here

  std::string graph_root() const { return store + "/storage"; }
  std::string temporary() const { return store + "/tmp"; }
  std::string context() const { return work + "/context"; }
  std::string dockerfile() const { return work + "/Dockerfile"; }
  std::string ignore_file() const { return work + "/ignore"; }
  std::string image_id() const { return work + "/image-id"; }
  std::string named_bases() const { return work + "/bases"; }
  std::string layout() const { return work + "/layout"; }
  /// The config blob of an image in the store: its ID is the blob's digest. Source:
  /// containers/storage, images.go, makeBigDataBaseName.
  std::string config_blob(const oci::Digest& image) const;
};

/// A base image under the name by which the Dockerfile finds it in the store.
struct NamedBase {
  std::string name; ///< "docker.io/library/debian:12"
  oci::Digest digest;
  bool operator==(const NamedBase&) const = default;
};

/// What can be told without the Dockerfile. Errors: bad_input, denied, naming the argument;
/// `host_platform` is the only platform.
Status check(const BuildJob& job, const std::string& host_platform);

/// Instructions and flags that this version does not know, or would get wrong without a word.
/// `shells`: bases (familiar names) whose config has a SHELL of its own. Errors: bad_input, naming
/// the line and what can build it. Source: docs/backends.md.
Status check_dockerfile(const dockerfile::Dockerfile& file, const Program& program,
                        const dockerfile::Scope& scope, const std::set<std::string>& shells);

/// The text to build and the names of the bases in it. An image that FROM names by digest is given
/// a name of slipway's own, since the store knows other digests. Errors: bad_input (COPY --from or
/// RUN --mount names one by digest), denied.
Result<std::string> dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file,
                                   const std::string& text, std::vector<NamedBase>& bases);

/// The `build` of `job`. Nothing is split or interpreted by a shell. Golden-tested.
std::vector<std::string> argv_for(const BuildJob& job, const Program& program,
                                  const Places& places);
/// The `push` of an image into the layout at Places::layout.
std::vector<std::string> export_argv(const Program& program, const Places& places,
                                     const std::string& image_id);

/// index.json of the layout from which bases are imported: each under "b0", "b1", ….
std::string bases_index(const std::vector<NamedBase>& bases,
                        const std::vector<oci::Descriptor>& manifests);

/// Where the tool is inside a sandbox when it is not below /usr.
inline constexpr const char* kProgramTarget = "/tools";

/// Files of /etc/containers. No registry is ever asked; short names mean Docker Hub, as with
/// Docker, and never what some image called itself ("localhost/…").
std::string storage_conf(const Places& places);
std::string registries_conf(const std::vector<NamedBase>& bases);
std::string containers_conf();
std::string policy_json();

} // namespace slipway::backends::buildah
