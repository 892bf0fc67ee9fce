// SPDX-License-Identifier: Apache-2.0
// Manifests, indexes and image configs as values. Source: OCI image-spec v1.1; Docker schema 2
// media types are read as their OCI twins. Reading is strict: a document that two readers could
// understand differently (both `layers` and `manifests`: CVE-2021-41190; duplicate keys) is
// refused.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/flaw.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace slipway::oci {

/// A manifest or config above this is refused unread. Source: distribution-spec, 4 MiB advice.
constexpr std::size_t kMaxManifestBytes = 4UL << 20;
constexpr std::int64_t kMostManifestValues = 400000;
constexpr std::size_t kMaxConfigBytes = 8UL << 20;
/// Manifests and indexes below one digest, each as often as it is named.
constexpr std::size_t kMaxTreeReads = 128;
/// Bytes of all manifests and indexes below one digest, each as often as it is named: once parsed,
/// they cost a multiple of their bytes.
constexpr std::size_t kMaxAllManifestBytes = 8UL << 20;

inline constexpr const char* kMediaTypeOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr const char* kMediaTypeOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr const char* kMediaTypeDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr const char* kMediaTypeDockerIndex =
    "application/vnd.docker.distribution.manifest.list.v2+json";

struct Platform {
  std::string architecture;
  std::string os;
  std::string variant;
  bool operator==(const Platform&) const = default;
  std::string str() const {
    return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
  }
};

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  std::optional<Platform> platform;
  std::map<std::string, std::string> annotations;
  std::string artifact_type;
  bool has_urls = false; ///< `urls` present: foreign content, never followed
};

struct Manifest {
  std::string media_type;
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::map<std::string, std::string> annotations;
  bool has_subject = false;
};

struct Index {
  std::string media_type;
  std::string artifact_type;
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;
  bool has_subject = false; ///< a registry lists it as belonging to another manifest
};

/// The part of an image config that slipway acts on; everything else stays in the blob.
struct ImageConfig {
  Platform platform;
  std::string created;
  std::string user;
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::vector<std::string> on_build;
  std::vector<std::string> shell;
  std::vector<std::string> exposed_ports; ///< "5432/tcp"
  std::vector<std::string> volumes;
  bool has_healthcheck = false;
  std::vector<Digest> diff_ids;
  struct History {
    std::string created;
    std::string created_by;
    std::string comment;
    bool empty_layer = false;
  };
  std::vector<History> history;
};

/// What made each layer, by the history; empty where that does not tell of as many layers as the
/// config has.
std::vector<std::string> layer_commands(const ImageConfig& config);

bool is_index_type(std::string_view media_type);
bool is_manifest_type(std::string_view media_type);
/// Of an image's config.
bool is_image_config_type(std::string_view media_type);

enum class Compression { none, gzip, zstd };

/// How a layer of this media type is packed; none for types that are no layer's.
std::optional<Compression> layer_compression(const std::string& media_type);

/// Errors of the two: bad_input, naming the field; `flaw` (may be null) is then told the kind where
/// it is more than unreadable.
Result<std::variant<Manifest, Index>> parse_manifest(std::string_view json, Flaw* flaw = nullptr);
Result<ImageConfig> parse_image_config(std::string_view json, Flaw* flaw = nullptr);
/// {"mediaType":…,"digest":…,"size":…} and the optional members that are set.
std::string to_json(const Descriptor& descriptor);

} // namespace slipway::oci
