// SPDX-License-Identifier: Apache-2.0
// `slipway backends`: which tools that build are on this host, in which version, which of them
// slipway builds with, and how to get the others.
#pragma once

#include "config/config.hpp"
#include "executor/process/process.hpp"

#include <filesystem>
#include <iosfwd>
#include <set>
#include <string>
#include <vector>

namespace slipway::cli {

struct Tool {
  std::string backend;
  std::string program;  ///< path; "" where there is none
  std::string version;  ///< as it says itself; "" where it says none
  bool is_used = false; ///< slipway builds with it
  std::string problem;  ///< why it is not used; "" = it is
  std::string hint;     ///< how to get it
};

/// Asks each backend's program for its version: where its key says, else in the folder of
/// [buildkit] buildkitd, then in the host's. `wired`: names of the backends that this slipway
/// builds with.
std::vector<Tool> probe_backends(const config::Config& config, process::ProcessRunner& runner,
                                 const std::set<std::string>& wired,
                                 const std::vector<std::filesystem::path>& host_folders = {
                                     "/usr/local/bin", "/usr/bin", "/usr/sbin"});

/// The first "1.2", "v1.2.3" of TEXT; "" where there is none.
std::string version_in(const std::string& text);

/// A table, or JSON. Returns the exit code: 0 where one is used, else 1.
int print_backends(const std::vector<Tool>& tools, bool json, std::ostream& out);

} // namespace slipway::cli
