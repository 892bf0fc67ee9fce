// SPDX-License-Identifier: Apache-2.0
// The facts of one build, as a list of what its backend has to be able to do: from the Dockerfile,
// the configs of its base images, its context and its flags. Nothing is run and nothing is read.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/router/capabilities.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace slipway::router {

/// What a build asks for beside its Dockerfile.
struct Flags {
  dockerfile::Scope scope; ///< build args, target, platforms
  std::vector<std::string> platforms;
  std::vector<std::string> secrets; ///< ids
  std::vector<std::string> ssh;     ///< ids
  std::string network;              ///< "" | "default" | "none" | "host"
  std::vector<std::string> named_contexts;
  std::vector<std::string> caches; ///< --cache-from and --cache-to as given
  std::vector<std::string> extra_hosts;
  std::vector<std::string> labels; ///< keys of --label
  bool squash = false;
  bool squash_base = false;
};

enum class SourceKind { file, folder, link };
/// Of what is there, links not followed.
SourceKind kind_of(const std::filesystem::file_status& status);

/// What is known of the context.
struct Context {
  bool ignore_file = false;            ///< .dockerignore
  bool dockerfile_ignore_file = false; ///< <Dockerfile>.dockerignore
  bool container_ignore_file = false;  ///< .containerignore
  bool dockerfile_outside = false;     ///< the Dockerfile is no file of the context
  /// What literal_sources are; one that is missing is judged by its name.
  std::map<std::string, SourceKind> sources = {};
};

/// What COPY and ADD take from the context by a plain name, without "./" and "/" around it ("." is
/// the context itself): each once, at most 200 of them.
std::vector<std::string> literal_sources(const dockerfile::Dockerfile& dockerfile);

/// Configs of base images, by the name that the Dockerfile gives them, variables resolved. One that
/// is missing is taken for one without ONBUILD, SHELL, HEALTHCHECK, VOLUME and USER.
using BaseConfigs = std::map<std::string, oci::ImageConfig>;

struct Requirement {
  Feature feature;
  std::string where; ///< "Dockerfile:12", "base image node:20 (Dockerfile:1)", "--network"
  int line = 0;      ///< 0 = not from a line
  std::string what;  ///< "RUN --mount=type=cache"
};

/// Each feature once, with the first place that asks for it, in the order of the file; then what
/// flags and context ask for. Stages that the target does not need ask for nothing. Errors:
/// bad_input (as dockerfile::plan_of; a trigger of a base image that cannot be read).
Result<std::vector<Requirement>> requirements(const dockerfile::Dockerfile& dockerfile,
                                              const BaseConfigs& bases, const Context& context,
                                              const Flags& flags);

/// The same for a build of all of `flags.platforms`: what any of them needs. `bases` has the
/// configs of each platform, or none at all. Errors: as requirements.
Result<std::vector<Requirement>> requirements_of_all(const dockerfile::Dockerfile& dockerfile,
                                                     const std::vector<BaseConfigs>& bases,
                                                     const Context& context, const Flags& flags);

} // namespace slipway::router
