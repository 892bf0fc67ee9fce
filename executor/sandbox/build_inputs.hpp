// SPDX-License-Identifier: Apache-2.0
// What a build takes out of the job's build sandbox: Dockerfile, ignore file, context. The job may
// change all of it at any time; it is read once, with limits, by programs that have the job's ids.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/programs.hpp"

#include <string>
#include <vector>

namespace slipway::sandbox {

/// "linux/amd64", of this machine.
std::string host_platform();

/// The text of DIR/NAME, 2 MiB at most. Errors: bad_input; those of read_program.
Result<std::string> read_dockerfile(const ScriptRunner& client, const std::string& dir,
                                    const std::string& name, const BuildClock& clock);

/// Where the context really is. Errors: bad_input (there is none; links lead out of `roots`, whose
/// first one the message names); those of read_program.
Result<std::string> find_context(const ScriptRunner& client, const std::string& dir,
                                 const std::vector<std::string>& roots, const BuildClock& clock);

/// The one ignore file that docker would take ("" where there is none), never a .containerignore:
/// the Dockerfile's own, else the context's. Errors: bad_input (above 1 MiB); those of
/// read_program.
Result<std::string> read_ignore_file(const ScriptRunner& client, const std::string& dockerfile,
                                     const std::string& context, const BuildClock& clock);

/// Prints the context as a tar, as root of the build sandbox: owners are left behind, as with
/// BuildKit; modes and xattrs stay. `compress`: by gzip, in the least time.
engine_api::ScriptRequest pack_context(const std::string& context, bool compress = false);

/// Of a program that pack_context asked for. Errors: bad_input.
Status packed_well(const engine_api::ScriptEnding& ending);

} // namespace slipway::sandbox
