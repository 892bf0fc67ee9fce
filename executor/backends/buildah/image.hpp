// SPDX-License-Identifier: Apache-2.0
// From what the store of Buildah holds to an OCI image: Docker's config with OCI's media types (as
// BuildKit makes it), so that HEALTHCHECK, SHELL and ONBUILD stay. What is read here is hostile.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"

#include <map>
#include <string>
#include <string_view>

namespace slipway::backends::buildah {

/// The layers of base images by diff id: what a build stands on is slipway's own bytes, whatever
/// became of them in the store.
using KnownLayers = std::map<std::string, oci::Descriptor>;

/// Adds those of `image`. Errors: those of the layout; bad_input (layers and diff ids differ in
/// number).
Status learn_layers(const oci::Layout& bases, const oci::Digest& image, KnownLayers& known);

/// The config without what Docker keeps for itself (container, parent, container_config, …) and
/// without empty members. Errors: bad_input.
Result<std::string> oci_config(std::string_view docker_config);

struct Converted {
  std::string config;
  std::string manifest;
  std::vector<oci::Descriptor> from_store; ///< blobs that the export holds
  std::vector<oci::Descriptor> from_bases; ///< blobs of the layout of bases
};

/// `exported`: the manifest that the tool wrote into its layout, whose config is not used. Errors:
/// bad_input (layers and diff ids differ in number, a layer has no size).
Result<Converted> convert(std::string_view docker_config, std::string_view exported,
                          const KnownLayers& known);

} // namespace slipway::backends::buildah
