// SPDX-License-Identifier: Apache-2.0
// From what Buildah, Podman or Kaniko has exported to an OCI image: Docker's config with OCI's
// media types (as BuildKit makes it), so that HEALTHCHECK, SHELL and ONBUILD stay. What is read
// here is hostile.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::oci {

/// The layers of base images by diff id: what a build stands on is slipway's own bytes, whatever
/// became of them in the store.
using BaseLayers = std::map<std::string, Descriptor>;

/// Adds those of `image`. Errors: those of the layout; bad_input (layers and diff ids differ in
/// number).
Status learn_layers(const Layout& bases, const Digest& image, BaseLayers& known);

/// The config without what Docker keeps for itself (container, parent, container_config, …) and
/// without empty members. Errors: bad_input.
Result<std::string> oci_config(std::string_view docker_config);

/// The one image that the index of an export names. Errors: bad_input (more, or none).
Result<Digest> only_image(std::string_view index);

struct ExportedImage {
  std::string config;
  std::string manifest;
  std::vector<Descriptor> from_store; ///< blobs that the export holds
  std::vector<Descriptor> from_bases; ///< blobs of the layout of bases
};

/// `exported`: the manifest that the tool wrote into its layout, whose config is not used. Errors:
/// bad_input (layers and diff ids differ in number, a layer has no size).
Result<ExportedImage> convert_exported(std::string_view docker_config, std::string_view exported,
                                       const BaseLayers& known);

constexpr std::uint64_t kMaxExportedBytes = 64ULL << 30;

/// Has blobs printed one after the other to a descriptor, which `consume` reads (lent).
using PrintBlobs = std::function<Status(const std::vector<Digest>& blobs,
                                        const std::function<Status(int fd)>& consume)>;

/// Stores it, and names its manifest. Blobs of bases are linked, those that are there already are
/// not printed again. Errors: bad_input (larger than kMaxExportedBytes, wrong bytes); io; those of
/// `print`.
Result<Digest> store_exported(Layout& into, const Layout& bases, const ExportedImage& image,
                              const PrintBlobs& print);

} // namespace slipway::oci
