// SPDX-License-Identifier: Apache-2.0
// A program of the operator's that hands out credentials: what is asked goes in at stdin, JSON
// comes out. Arguments and environment are the configuration's own: nothing of a job and no secret
// is in them. It has the entry's timeout and 64 KiB; what it says besides is not shown, since that
// may be the credential.
#pragma once

#include "executor/credentials/providers/issuer.hpp"

#include <string>
#include <utility>
#include <vector>

namespace slipway::credentials {

/// Runs `argv` with the entry's `environment` ("NAME=value"). What it printed is to be wiped. Exit
/// code 75 (EX_TEMPFAIL) means that another try may help. Errors: denied (any other exit code, a
/// signal), unavailable (75), timed_out, bad_input (too much output), misconfigured (it cannot be
/// run).
Result<std::string> run_program(const Issuer& issuer, const std::vector<std::string>& argv,
                                const std::string& input, const std::string& action);

/// As run_program(), for a program that prints JSON. Errors: bad_input (it is none), and those.
Result<Answer> ask_program(const Issuer& issuer, const std::vector<std::string>& argv,
                           const std::string& input, const std::string& action);

/// All that the provider of this entry can start: program and arguments.
std::vector<std::vector<std::string>> programs_of(const engine_api::IssuerSpec& spec);

/// The whole environment that they get.
std::vector<std::pair<std::string, std::string>> environment_of(const engine_api::IssuerSpec& spec);

/// What can be said about `argv` and `environment` before the first run. Errors: misconfigured.
Status check_program(const Issuer& issuer, const std::vector<std::string>& argv);

} // namespace slipway::credentials
