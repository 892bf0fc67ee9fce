// SPDX-License-Identifier: Apache-2.0
// Programs of the runner's host in place of those that the job's image has not: the broker runs
// them in a sandbox of the job's, with its ids, its network and its workspace. What they need of
// the job's own files outside of that is copied. Form: docs/broker-api.md, POST /slipway/v1/fetch.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/run.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

struct LentCall {
  std::string program;
  std::vector<std::string> arguments;
  Environment env;              ///< of lent_environment
  std::filesystem::path folder; ///< in which it runs
  std::filesystem::path input;  ///< its stdin; "": nothing
};

struct LentEnding {
  int exit_code = 0;
  bool is_late = false; ///< its time was over
};

/// A text in one word of a shell.
std::string shell_word(const std::string& text);

/// By its words: below a folder that such a program has under the same path.
bool is_in_workspace(const std::string& path, const Surroundings& world);

/// Whether there is a broker to ask.
bool can_borrow(const Surroundings& world);

/// Runs it with this process's user, and until `until`. What `out` says ends it. Errors: not_found
/// (the broker lends none, with why); bad_input (words that are not UTF-8); io (it could not be run
/// to its end); those of `out`.
Result<LentEnding> run_lent(const LentCall& call, const Surroundings& world,
                            std::chrono::steady_clock::time_point until,
                            const std::function<Status(std::string_view)>& out, const Write& err);

/// The job's variables as such a program needs them. What they name of the image, and what git and
/// curl look for in HOME (settings, logins, SSH keys, the certificates that the image trusts), is
/// copied into FOLDER, which is made, for nobody else to read; but what cannot be read, or has more
/// than 1 MiB. What slipway itself sets is the least of git's and ssh's settings. Errors: io.
Result<Environment> lent_environment(const Surroundings& world,
                                     const std::filesystem::path& folder);

/// ssh knows the job by this key alone, which lies in the workspace, unless the job's settings say
/// how it is called. `folder`: of lent_environment. Errors: io.
Status lend_ssh_key(const std::filesystem::path& folder, const std::filesystem::path& key);

} // namespace slipway::shim
