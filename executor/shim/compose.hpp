// SPDX-License-Identifier: Apache-2.0
// Compose files: which images they say are built, pushed and pulled, and how. Read is what matters
// for that; what matters only when containers run is left alone.
// - A key of a `build` is honoured, or refused with file, line and name.
// - Files of one call are merged by the specification's rules; `extends` and `include` are
// followed. Source: spec.md, build.md, merge.md of the Compose specification; compose-go.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace slipway::shim {

constexpr std::size_t kMaxComposeBytes = 1UL << 20; ///< of a file
constexpr std::size_t kMaxComposeFiles = 256;
constexpr std::size_t kMaxComposeServices = 1024;
constexpr int kMaxComposeDepth = 32; ///< of `extends`, `include`

/// A file's text by its absolute path; "-" is stdin. not_found where there is none, or
/// a folder (a `.env` of Python's).
using ReadText = std::function<Result<std::string>(const std::string& path)>;

struct ComposeService {
  std::string name;
  std::string image;      ///< by its own word, else the project's and the service's name
  bool has_image = false; ///< by its own word
  bool has_build = false;
  std::vector<std::string> names; ///< what a push pushes
  std::string platform;
  std::string pull_policy;
  Build build; ///< filled in where builds were asked for
};

struct ComposeProject {
  std::string name;
  std::vector<ComposeService> services; ///< those asked for; a build after those it needs
  std::string shown;                    ///< what `config` prints
  std::vector<std::string> notes;
};

/// Errors: not_found (no file, no such service), bad_input, with file, line and key.
Result<ComposeProject> load_compose(const Compose& compose, const std::string& cwd,
                                    const ReadText& read);

/// The words behind `docker compose` or, with `old_name`, behind `docker-compose`.
Invocation read_compose(const std::vector<std::string>& words, const Environment& env,
                        bool old_name);

} // namespace slipway::shim
