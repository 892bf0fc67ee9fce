// SPDX-License-Identifier: Apache-2.0
// `docker stats` and `docker events`: what goes on in the job's own engine, for as long as is
// asked. Source: docker/cli 28, cli/command/container/stats_helpers.go, formatter_stats.go and
// cli/command/system/events.go.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/container_run.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/run.hpp"

#include <string>

namespace slipway::shim {

/// `docker stats`: a table, or one after the other until the containers that were named have gone.
/// Returns the exit code.
int show_stats(const ContainerCommand& command, const Surroundings& world,
               const BrokerClient& client, const PrintRows& print_rows);

/// `docker events`: a line for each, until --until or the end of the engine. Returns the exit code.
int show_events(const ContainerCommand& command, const Surroundings& world,
                const BrokerClient& client);

/// A row of the table, as JSON, of the engine's answer to GET /containers/NAME/stats; NAMED is what
/// the container was asked for by. The shares of CPU are of one processor, memory is without the
/// pages of files that can go at once. Errors: bad_input (no JSON object).
/// Source: Engine API v1.41, ContainerStats: the formulas of `docker stats`.
Result<std::string> stats_row(const std::string& sample, const std::string& named, bool whole_id);

/// One event as docker prints it: "TIME TYPE ACTION ID (KEY=VALUE, …)", the time in the zone of
/// this machine. Errors: bad_input (no JSON object).
Result<std::string> event_line(const std::string& event);

/// The event for templates, whose fields are Go's; `json` of the whole prints the engine's own.
/// Errors: bad_input (no JSON object).
Result<std::string> event_fields(const std::string& event);

} // namespace slipway::shim
