// SPDX-License-Identifier: Apache-2.0
// Carries out what is about containers: `docker run` with its streams and exit codes, and the rest.
// Source: docker run's documentation, "Exit status"; Engine API v1.41, ContainerAttach.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/run.hpp"

#include <functional>
#include <string>

namespace slipway::shim {

/// Prints rows (a JSON list) under headings, in the layout or as was asked; returns the exit code.
using PrintRows = std::function<int(const std::string& headings, const std::string& rows,
                                    const std::string& layout, const std::string& asked)>;

int run_container_command(const ContainerCommand& command, const Surroundings& world,
                          const BrokerClient& client, const PrintRows& print_rows);

/// The body of POST /containers/create for `docker run` and `docker create`. Errors: bad_input (a
/// value that docker would refuse too; a file of variables that cannot be read).
Result<std::string> create_container_body(const ContainerCommand& command, const std::string& cwd);

/// The body of POST /networks/create for `docker network create`. Errors: bad_input.
Result<std::string> create_network_body(const ContainerCommand& command);

/// What the engine is asked for in the place of --since and --until: seconds since 1970, with
/// nanoseconds where a time was said. Read are durations before `now` (Unix seconds) as Go writes
/// them, times as RFC 3339 writes them, cut off behind day, hour or minute too (in the zone of this
/// machine where none is named), and Unix seconds. Errors: bad_input. Source: GetTimestamp of
/// api/types/time in moby 27.
Result<std::string> log_time(const std::string& text, std::int64_t now);

/// --filter KEY=VALUE and KEY!=VALUE of a command line as "filters=…" of a query, or "".
std::string filter_query(const Line& line);

/// Takes a container's output apart: frames of an 8 byte header and that many bytes. Source: Engine
/// API v1.41, "Stream format".
class OutputFrames {
public:
  OutputFrames(Write out, Write err) : out_{std::move(out)}, err_{std::move(err)} {}
  void feed(std::string_view bytes);

private:
  Write out_;
  Write err_;
  std::string header_;
  std::size_t left_ = 0;
  bool to_err_ = false;
};

} // namespace slipway::shim
