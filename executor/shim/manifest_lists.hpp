// SPDX-License-Identifier: Apache-2.0
// Command lines about indexes (manifest lists): images of several platforms under one name.
// Sources: docker-manifest(1), docker buildx imagetools create, podman-manifest(1) and
// buildah-manifest(1).
#pragma once

#include "executor/shim/parsing.hpp"

namespace slipway::shim {

/// `words` are those behind `docker manifest`.
Command read_docker_manifest(const Words& words);

/// `words` are those behind `docker buildx imagetools create`.
Command read_imagetools_create(const Words& words);

/// The image that a source of `imagetools create` names: a reference; a digest, or a descriptor in
/// JSON, of the one repository that `tags` are of. None: it is none of these.
std::optional<std::string> source_image(const std::string& text,
                                        const std::vector<std::string>& tags);

/// `words` are those behind `podman manifest` or `buildah manifest`.
Command read_containers_manifest(Tool& tool, const Words& words, Style style);

} // namespace slipway::shim
