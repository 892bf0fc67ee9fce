// SPDX-License-Identifier: Apache-2.0
// What Docker's builder is told: settings of its daemon, names of base images, the Dockerfile and
// the command line, as pure functions.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/layout.hpp"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::dockerd {

/// What the host's program is.
struct Program {
  std::string version; ///< as it says itself: "20.10.24"
  /// The operator's folder with it (`tools` of [dind]); "" = it is in /usr. What the folder does
  /// not have is taken from /usr.
  std::filesystem::path tools = {};
  bool has_client = false; ///< `docker` is in that folder too
};

/// "Docker version 20.10.24+dfsg1, build 5d6db84". Errors: misconfigured (other words; older than
/// 20.10; 29 and later, which keep images in another way).
Result<Program> parse_version(std::string_view said);

/// N of the newest Docker Engine API 1.N that a dockerd of this version serves: 41 for 20.10.
/// Source: moby, API version history.
unsigned api_of(const Program& program);

/// Its `docker`, in a sandbox.
std::string client_of(const Program& program);

/// Where sandboxes have Program::tools.
inline constexpr const char* kToolsPlace = "/tools";
/// PATH of the daemon and of all that it starts.
std::string path_for(const std::filesystem::path& tools);

/// Where things are in the builder sandbox.
struct Places {
  std::string work = "/build";
  std::string bases = "/bases"; ///< the layout of base images, read-only
  std::string data = "/var/lib/docker";
  std::string workspace = "/builds"; ///< of the build sandbox: contexts are below it,
  std::string unpacked = "/out";     ///< or here

  std::string socket() const { return work + "/docker.sock"; }
  std::string runtime() const { return work + "/runtime"; }
  std::string settings() const { return work + "/daemon.json"; }
  std::string seccomp() const { return work + "/seccomp.json"; }
  std::string context() const { return work + "/context"; }
  std::string dockerfile() const { return work + "/Dockerfile"; } ///< where it is not the context's
  std::string image_id() const { return work + "/image-id"; }
  std::string exported() const { return work + "/export"; }
  std::string layers() const { return work + "/layers"; }
};

/// The daemon's daemon.json: no bridge, no packet filter, limits for logs and cores. Unlike the
/// engine of a job's containers it lets steps use setuid programs, as every backend does: a step is
/// root anyway, and Dockerfiles call sudo. Golden-tested.
std::string builder_json(const Places& places = {});

/// The daemon's runtime: runc, for which the host's network is the sandbox's. To the daemon it
/// would be its own, which leads nowhere. Source: moby libnetwork/osl, GenerateKey("default").
std::string runtime_script();

/// What can be told without the Dockerfile. Errors: bad_input, denied, naming the argument;
/// `host_platform` is the only platform.
Status check(const BuildJob& job, const std::string& host_platform);

/// The Dockerfile as the daemon gets it.
struct Text {
  std::string text;
  /// False where it is the author's own, which then lies at its place in the context. Else stages
  /// that the target does not need are empty: Docker's builder builds all that come before it.
  bool is_changed = false;
  std::string target; ///< for --target; "" = the last stage
};
/// Errors: bad_input, naming the line (an image that slipway did not fetch), denied (a frontend).
Result<Text> dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file,
                            const std::string& text);

/// A base image as `docker load` takes it: blobs of the layout under one name or more.
struct LoadedImage {
  std::string config;              ///< hex of its digest, which is the image's ID
  std::vector<std::string> layers; ///< hex
  std::vector<std::string> tags;   ///< "docker.io/library/busybox:latest"
};
/// One for each of `bases`, the same image once. Errors: those of the layout; bad_input;
/// unavailable (a layer packed in a way that this version does not know).
Result<std::vector<LoadedImage>> images_to_load(const std::vector<BaseImage>& bases,
                                                const oci::Layout& layout,
                                                const oci::Platform& platform,
                                                const Program& program);
/// manifest.json of the archive. Source: moby image/tarexport.
std::string load_manifest(const std::vector<LoadedImage>& images);
/// The daemon's own list of names: what is known by digest, which no archive can say. "" where
/// there is none. Source: moby reference/store.go.
Result<std::string> names_by_digest(const std::vector<BaseImage>& bases, const oci::Layout& layout,
                                    const oci::Platform& platform);

/// Nothing is split or interpreted by a shell. `file`: of the Dockerfile, in the sandbox. `more`:
/// arguments that no config and no history has. Golden-tested.
std::vector<std::string> argv_for(const BuildJob& job, const Text& text, const std::string& file,
                                  const std::vector<std::pair<std::string, std::string>>& more,
                                  const Places& places, const Program& program = {});

/// What `docker save` wrote about the one image. Errors: bad_input.
struct Saved {
  std::string config;              ///< path in the archive
  std::vector<std::string> layers; ///< paths
};
Result<Saved> parse_saved(std::string_view manifest);

} // namespace slipway::backends::dockerd
