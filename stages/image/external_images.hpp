// SPDX-License-Identifier: Apache-2.0
// What a build takes from outside: one walk over its Dockerfile, for the build itself and for
// whoever asks before it. What the Dockerfile says is hostile.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"
#include "executor/router/requirements.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::image {

/// What a named context begins with that is an image: `docker-image://REFERENCE`.
inline constexpr std::string_view kImageContext = "docker-image://";
/// `--build-context`: names and what they stand for, an image or any folder or address.
using NamedContexts = std::vector<std::pair<std::string, std::string>>;

/// As many as the other limits let one index have with room to spare.
constexpr std::size_t kMostPlatforms = 16;

/// Each once, in the spelling that all others are made of. Errors: bad_input (no platform, none of
/// Linux, more than kMostPlatforms).
Result<std::vector<std::string>> platforms_wanted(const std::vector<std::string>& given);

/// What the Dockerfile is read with: `scope`, for each platform where some are given.
std::vector<dockerfile::Scope> scopes_of(const dockerfile::Scope& scope,
                                         const std::vector<std::string>& platforms);

/// BuildKit would put the context in the place of the stage, and what the stage says would be lost.
/// Errors: bad_input, also for a name that no context can have.
Status replaces_no_stage(const NamedContexts& contexts, const dockerfile::Dockerfile& file);

struct ExternalImage {
  std::string written;   ///< as the Dockerfile has it, variables resolved
  oci::Reference name;   ///< the same
  oci::Reference source; ///< where it is to be had: the same, or what a named context says
  std::string asked;     ///< the platform that a FROM or the build asks for; "" = the default
  std::string platform;  ///< the same, the default by its name
  bool is_base = false;  ///< of a FROM: its config says how the image built on it behaves
};
/// The configs of an image; empty where they are not known.
using TakeImage = std::function<Result<std::vector<oci::ImageConfig>>(const ExternalImage& image)>;

/// Calls `take` for each image that the scopes, one for each platform, take from outside, also by
/// the triggers of images that it gave: once for each name and platform, in order of first use.
/// What is a folder by a named context is passed over. Returns the configs for each scope, and adds
/// triggers to the scopes. Errors: bad_input (no image's name; as dockerfile::external_images);
/// those of `take`, with file and line.
Result<std::vector<router::BaseConfigs>> walk_images(const dockerfile::Dockerfile& parsed,
                                                     std::vector<dockerfile::Scope>& scopes,
                                                     const NamedContexts& contexts,
                                                     const TakeImage& take);

/// The configs below a manifest or an index of a layout that need not hold layers, attestations
/// left out. Errors: bad_input (more than oci::kMaxTreeReads manifests); not_found; io.
Result<std::vector<oci::ImageConfig>> configs_below(const oci::Layout& layout,
                                                    const oci::Digest& root);

} // namespace slipway::image
