// SPDX-License-Identifier: Apache-2.0
// `docker import` and `podman import`: an archive of files becomes an image. It is a build from
// scratch that adds the archive, so backends, cache and gate have it as any other.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/parsing.hpp"

#include <string>

namespace slipway::shim {

/// Behind the verb: SOURCE [NAME], and changes in the words of a Dockerfile. `platform`: where
/// --platform says none; "" = this machine's.
Command read_import(Tool& tool, const std::string& called, const Words& words,
                    const std::string& platform = "");

/// The archive of `source` ("-": the descriptor `input`, lent) in a new folder, as the name that
/// Import::build's Dockerfile adds. Gives the folder, which is the caller's to remove. Errors:
/// not_found, io; bad_input (no archive).
Result<std::string> folder_of_import(const std::string& source, const std::string& cwd, int input);

} // namespace slipway::shim
