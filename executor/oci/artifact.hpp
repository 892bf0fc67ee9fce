// SPDX-License-Identifier: Apache-2.0
// Artifacts: what lies in registries in an image's manifest and is none, such as charts, signatures
// and SBOMs. No scanner reads them, so nothing may be taken for one that some runtime would run.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace slipway::oci {

/// A layer of what has an image's config is a document of this size at most.
constexpr std::size_t kMaxArtifactDocument = 16UL << 20;

/// True for a media type that artifacts may be called by: none of an image's config, layer or
/// manifest, and none that Docker takes for a config (application/octet-stream, text/html).
bool may_be_artifact(std::string_view type);

/// What a manifest that is no image and no attestation is called: its artifactType, else its
/// config's media type, else (where that says nothing, or is an image's as cosign writes it) that
/// of all its layers. None: it is an image, an attestation, or has no such type.
std::optional<std::string> artifact_type(const ImageTree::Image& image);

/// True for a text whose first block a reader of tar takes for a header, whatever else it is too.
bool begins_as_tar(const std::string& text);

/// True for a manifest all of whose layers are in-toto statements.
bool is_statements_only(const ImageTree& tree);

/// Refuses an artifact that could be run as an image: layers of an image's types; and where its
/// config looks like an image's, by type or by content, layers that are anything but strict JSON.
/// Errors: bad_input, saying what is wrong; not_found; io.
Status verify_artifact(const Layout& layout, const ImageTree::Image& image);

} // namespace slipway::oci
