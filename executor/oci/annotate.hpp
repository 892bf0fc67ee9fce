// SPDX-License-Identifier: Apache-2.0
// Annotations on an image that is there already: a manifest is written anew, and what names it.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::oci {

struct Annotation {
  enum class Of {
    manifest,   ///< an image's
    descriptor, ///< what the index says of an image
    index,
  };
  Of of = Of::manifest;
  std::optional<Platform> platform; ///< of images, or what is said of them; none: of all
  std::string key;
  std::string value;
};

/// The image or index with `annotations`, as further blobs of the layout, where what it was stays.
/// Of one key the last counts, and an image alone has no descriptor. Errors: bad_input (annotations
/// of an index, and `root` is none; for a platform that is not there; Docker's manifests, which
/// have none; larger than a manifest may be); those of the layout. Source: OCI image-spec,
/// annotations.md; BuildKit exporter/containerimage/writer.go.
Result<Digest> annotate(Layout& layout, const Digest& root,
                        const std::vector<Annotation>& annotations);

/// What of it can be seen before there is an image: for `platforms`, as parse_platform writes them.
/// Errors: those of annotate.
Status check_annotations(const std::vector<Annotation>& annotations,
                         const std::vector<Platform>& platforms);

} // namespace slipway::oci
