// SPDX-License-Identifier: Apache-2.0
// Carries out a command about the job's working containers: sends it, with files or stdin, and
// gives its output and exit code. Form: docs/broker-api.md, POST /slipway/v1/buildah.
#pragma once

#include "executor/shim/command.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/run.hpp"

#include <optional>
#include <string>

namespace slipway::shim {

/// The exit code. What the broker refuses is said in `manner`, and ends with its code.
int run_session_command(const SessionCommand& command, const Surroundings& world,
                        const BrokerClient& client, const Manner& manner);

/// What `buildah inspect` says of a working container; nothing where there is none of that name.
std::optional<std::string> inspect_working_container(const std::string& name,
                                                     const std::string& format,
                                                     const Surroundings& world,
                                                     const BrokerClient& client);

} // namespace slipway::shim
