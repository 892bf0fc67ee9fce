// SPDX-License-Identifier: Apache-2.0
// What the broker's HTTP edge needs from the rest: builds, names, pushes. Implemented in
// stages/image, faked in the broker's tests. All calls may come from several threads at once.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/ssh_agent.hpp"
#include "executor/oci/annotate.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::broker {

/// A build as the job asked for it, in no dialect. Paths are the job's own.
struct BuildRequest {
  /// Exactly one of the two: a path of the job's workspace (resolved inside the builder sandbox),
  /// or a stream of a tar (plain, gzip) context.
  std::string context_path;
  std::function<Result<std::size_t>(char* buffer, std::size_t capacity)> context_tar;
  std::string dockerfile = "Dockerfile"; ///< relative to the context, or absolute in the workspace
  std::optional<std::string> dockerfile_text; ///< `-f -`: wins over `dockerfile`
  /// Beside `dockerfile_text`: the ignore file of its own that it has, which wins over the
  /// context's.
  std::optional<std::string> ignore_text;
  std::vector<oci::Reference> tags;
  std::vector<std::pair<std::string, std::string>> build_args;
  std::vector<std::pair<std::string, std::string>> labels;
  std::vector<oci::Annotation> annotations;
  std::string target;
  std::vector<std::string> platforms; ///< empty: the host's
  bool no_cache = false;
  bool pull = false;
  bool squash = false;      ///< what is built becomes one layer on the base's …
  bool squash_base = false; ///< … or with them
  bool every_stage = false; ///< the tool that was asked runs also those that the target needs not
  std::string network;      ///< "" | "default" | "none"
  std::vector<std::pair<std::string, std::string>> extra_hosts;
  /// What steps may mount by its id (RUN --mount=type=secret), and keys that they may use without
  /// seeing them (RUN --mount=type=ssh).
  std::vector<std::pair<std::string, Secret>> secrets;
  std::vector<std::pair<std::string, Secret>> ssh_keys;
  std::vector<std::pair<std::string, engine_api::SshAgent>> ssh_agents; ///< the same, lent
  /// In place of an image of that name: an absolute path of the workspace, or
  /// docker-image://REFERENCE.
  std::vector<std::pair<std::string, std::string>> named_contexts;
  /// The same for folders that come as a stream of a tar.
  std::vector<std::pair<std::string, std::function<Result<std::size_t>(char*, std::size_t)>>>
      named_tars;
  std::string dialect; ///< "docker", "buildx", "api": for log and audit
};

struct BuildOutcome {
  oci::Digest image_id;        ///< config digest: Docker's image ID
  oci::Digest manifest_digest; ///< what a push would send
};

struct ImageSummary {
  oci::Digest image_id;
  oci::Digest manifest_digest;
  std::vector<oci::Reference> tags;
  std::vector<std::string> repo_digests; ///< "reg/app@sha256:…", set by a push or pull
  std::uint64_t size = 0;                ///< sum of the layers as stored
  std::string created;                   ///< RFC 3339
  std::string config_json;               ///< the config blob
  oci::ImageConfig config;
  std::vector<std::uint64_t> layer_sizes;
  std::string media_type = oci::kMediaTypeOciManifest; ///< of what has manifest_digest
  /// Of a pull: what the name means in the registry, an index or the image itself.
  std::optional<oci::Digest> pulled = {};
};

struct PushOutcome {
  oci::Digest digest;
  std::uint64_t manifest_size = 0;
  std::vector<oci::Digest> layers;
};

/// A child of an index, as a job names it.
struct IndexPart {
  enum class Take {
    manifest, ///< the image itself, which must be no index
    platform, ///< of an index the one image for `platform`, else for this machine
    all,      ///< every child of an index
  };
  std::string image; ///< a name or ID in the job's store, else what a registry has under the name
  Take take = Take::manifest;
  oci::Platform platform; ///< members that are not empty are written in place of the image's own
  std::string os_version = {}; ///< the same
  std::vector<std::pair<std::string, std::string>> annotations;
};

/// A change to an index of the job's store, or a new one: `docker manifest`, `podman manifest`,
/// `docker buildx imagetools create`.
struct IndexRequest {
  enum class Start {
    fresh,    ///< a new one; what has the names loses them
    absent,   ///< a new one, refused where the name is an index already
    amend,    ///< the one of that name, else a new one
    existing, ///< the one of that name
  };
  std::vector<oci::Reference> names; ///< the first is the one that is begun with
  Start start = Start::fresh;
  std::vector<IndexPart> add;                ///< one that is there already is changed
  std::vector<IndexPart> annotate;           ///< `image` may also be the digest of a child
  std::vector<oci::Digest> remove;           ///< children
  std::vector<oci::Platform> platforms = {}; ///< children for others do not stay; empty: all do
  std::vector<std::pair<std::string, std::string>> annotations = {}; ///< of the index
  bool copy_index = false; ///< an index that is the only part is taken as it is, with its digest
  bool dry_run = false;    ///< nothing gets a name
};

struct Manifest {
  oci::Digest digest;
  std::string media_type;
  std::string json; ///< the bytes that have the digest
};

/// What the gate said of a push, in one of the formats that other tools read.
struct Report {
  std::string format; ///< "gitlab", "sarif", …
  std::string file;   ///< the name that its users expect
  std::string text;
};

/// Progress: plain text for people, already free of secrets. `stderr`-like lines are the same
/// stream.
using Progress = std::function<void(std::string_view text)>;
/// True when the client has gone or the job ends; long calls look at it.
using Cancelled = std::function<bool()>;

/// As `docker login` sends it.
struct RegistryLogin {
  std::string server; ///< as a client names it; "" = Docker Hub
  std::string username;
  Secret password;
};

class ImageService {
public:
  virtual ~ImageService() = default;
  virtual Result<BuildOutcome> build(BuildRequest request, const Progress& progress,
                                     const Cancelled& cancelled) = 0;
  /// Verifies, scans, judges, pushes. Errors: gate_rejected (text is the verdict for people), …
  virtual Result<PushOutcome> push(const oci::Reference& reference, const Progress& progress,
                                   const Cancelled& cancelled) = 0;
  /// What the gate said last of a push under this name, in every format. Errors: not_found (this
  /// job has not pushed it since its script began, or it came to no verdict).
  virtual Result<std::vector<Report>> reports(const oci::Reference& reference) = 0;
  /// Makes a remote image known under its name (verified, stored). Errors: not_found, denied,
  /// unavailable.
  virtual Result<ImageSummary> pull(const oci::Reference& reference, const std::string& platform,
                                    const Progress& progress, const Cancelled& cancelled) = 0;
  /// Without `config_json`, and of `config` what a list shows: created, labels, platform.
  virtual Result<std::vector<ImageSummary>> list() = 0;
  /// A login that the job gives. For a registry that slipway does not broker it is tried there, and
  /// is what this service's pulls from there use from now on: true. Else, and without a user name,
  /// nothing is kept of it: false. Errors: denied (of no use to the job; not taken); unavailable,
  /// timed_out, misconfigured.
  virtual Result<bool> log_in(RegistryLogin login) = 0;
  /// By reference, image ID (full or unique prefix, with or without sha256:) or repo digest.
  /// Errors: not_found, bad_input (ambiguous).
  virtual Result<ImageSummary> find(const std::string& name) = 0;
  virtual Status tag(const std::string& source, const oci::Reference& target) = 0;
  /// What `docker rmi` prints: {"Untagged: …", "Deleted: …"}.
  virtual Result<std::vector<std::string>> remove(const std::string& name, bool force) = 0;
  /// Whom an image's bytes go to: the job, as far as policy lets it have them, or the container
  /// engine that policy gave it.
  enum class Taker { job, engine };
  /// Writes a docker-archive tar (manifest.json + OCI layout) of the named images. Errors: denied
  /// (policy), not_found; those of `sink`.
  virtual Status save(const std::vector<std::string>& names, Taker taker,
                      const std::function<Status(std::string_view)>& sink) = 0;
  /// Writes the files of an image as a tar, its layers applied one over the other; of an index
  /// those of the image for this machine. Errors: denied (policy); not_found; bad_input (layers
  /// that make no tree of files); unavailable (cancelled); those of `sink`.
  virtual Status files(const std::string& name, const std::function<Status(std::string_view)>& sink,
                       const Cancelled& cancelled) = 0;
  /// An empty file for a while, where this job's images are; it goes with its descriptor. Errors:
  /// io.
  virtual Result<UniqueFd> unnamed_file() = 0;
  /// Reads a docker-archive or OCI archive (plain, gzip); returns the loaded names or ids. The
  /// image is untrusted like any.
  virtual Result<std::vector<std::string>>
  load(const std::function<Result<std::size_t>(char*, std::size_t)>& source) = 0;
  /// Makes or changes an index in the job's store. Nothing of it is pushed or judged by that.
  /// Errors: not_found (an image, a child); bad_input (a child that is an index, two for nothing,
  /// an index where Start::absent wants none); those of pull.
  virtual Result<Manifest> edit_index(const IndexRequest& request, const Progress& progress,
                                      const Cancelled& cancelled) = 0;
  /// The manifest or index of a name: of the job's store, or with `remote` of the registry.
  /// INDEX@DIGEST is what an index of the store has below it, too.
  /// Errors: not_found; those of pull; bad_input (a remote one above 256 KiB).
  virtual Result<Manifest> manifest(const std::string& name, bool remote) = 0;
  /// For which platforms steps of builds run here: the machine's own first.
  virtual std::vector<oci::Platform> platforms() = 0;
  /// manifest descriptor and platforms of a remote reference (`distribution/…/json`).
  virtual Result<std::pair<oci::Descriptor, std::vector<oci::Platform>>>
  remote(const oci::Reference& reference) = 0;
};

} // namespace slipway::broker
