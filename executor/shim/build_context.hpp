// SPDX-License-Identifier: Apache-2.0
// What a build is made from, found on the file system: the context folder, where its Dockerfile
// lies, and whether the builder can reach both by path or has to be sent a tar.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/run.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::shim {

/// Either `path` is set (below a workspace), or `tar` gives the context.
struct BuildContext {
  std::string path;       ///< absolute, canonical
  std::string dockerfile; ///< relative to the context, or absolute in a workspace
  std::optional<std::string> dockerfile_text; ///< wins over `dockerfile`; only with `path`
  std::optional<std::string> ignore_text;     ///< only with `dockerfile_text`
  BodySource tar;
};

/// Errors: not_found, bad_input, io: with the words docker uses.
Result<BuildContext> find_context(const Build& build, const Surroundings& world);

/// Plain tar, gzip, bzip2, xz or zstd, by its first bytes.
bool looks_like_archive(std::string_view head);

/// A folder as typed, canonical, where the builder reaches it by path. Errors: not_found,
/// bad_input (no folder, outside of the workspaces).
Result<std::string> workspace_folder(const std::string& typed, const Surroundings& world);

} // namespace slipway::shim
