// SPDX-License-Identifier: Apache-2.0
// What is known of the images that a job built, for its later scripts: each is a process of its
// own, and pushes what an earlier one built. A folder of slipway's own; no sandbox sees it.
#pragma once

#include "executor/base/result.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace slipway::state {

struct BuildNote {
  std::string line;                                       ///< for people: "buildkit v0.34.2, 1.2 s"
  std::string backend;                                    ///< "buildkit v0.34.2"
  std::string dockerfile_digest;                          ///< "sha256:…"
  std::vector<std::pair<std::string, std::string>> bases; ///< name, digest
  std::string dockerfile;                                 ///< its name in messages
  std::map<std::string, int> layer_lines; ///< digest, and the line that made it, where known
};

class BuildNotes {
public:
  explicit BuildNotes(std::filesystem::path folder) : folder_{std::move(folder)} {}

  /// Of the image with this manifest digest, in the place of an earlier one. The oldest goes where
  /// there are too many. Errors: io; bad_input (no digest).
  Status keep(const std::string& digest, const BuildNote& note) const;
  /// Errors: not_found; bad_input (it cannot be read, no digest).
  Result<BuildNote> find(const std::string& digest) const;

private:
  std::filesystem::path folder_;
};

} // namespace slipway::state
