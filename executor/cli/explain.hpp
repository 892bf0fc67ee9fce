// SPDX-License-Identifier: Apache-2.0
// `slipway explain DOCKERFILE|CONTEXT`: what the router would choose for a build, and why. Nothing
// is built.
#pragma once

#include "config/config.hpp"
#include "executor/backends/build_backend.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace slipway::cli {

/// The configs of an image, of a platform ("" = the default): as a rule one. Errors: io where that
/// is a failure of slipway's own; any other is of the image or its registry.
using ReadBase = std::function<Result<std::vector<oci::ImageConfig>>(
    const oci::Reference& reference, const std::string& platform)>;

struct ExplainOptions {
  std::filesystem::path path; ///< a Dockerfile, or a folder that holds one
  std::string project;        ///< "" = rules for all projects only
  std::string ref = {};       ///< as config::full_ref() takes it; says nothing of protection
  bool ref_protected = false;
  std::string source = {}; ///< of the pipeline; "" = not known
  std::string backend;     ///< what a pin of it would do; "" = policy's own choice
  std::vector<std::pair<std::string, std::string>> build_args;
  std::vector<std::pair<std::string, std::string>> build_contexts = {}; ///< as docker build's
  std::string target;
  std::string platform;         ///< one, or several with commas between them
  ReadBase read_base = nullptr; ///< none: no registry is asked
  bool json = false;
};

constexpr int kExplainChosen = 0;
constexpr int kExplainDenied = 1;
constexpr int kExplainBadInput = 2;

/// `set_up`: the backends that this slipway builds with. Returns the exit code: 1 where policy
/// forbids a base image or a platform, or nothing that is allowed can build it; 2 where the input,
/// or slipway's own store, cannot be read.
int explain(const ExplainOptions& options, const config::Config& config,
            const std::vector<backends::Descriptor>& set_up, std::ostream& out, std::ostream& err);

} // namespace slipway::cli
