// SPDX-License-Identifier: Apache-2.0
// Carries a parsed command out: talks to the broker, prints what the tool would print.
#pragma once

#include "executor/shim/command.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/output.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

/// Everything of the outside world that a command may touch.
struct Surroundings {
  std::vector<std::string> sockets{"/run/slipway/sock/docker.sock", "/var/run/docker.sock"};
  Deadlines deadlines;
  std::string cwd = "/";
  std::vector<std::string> workspaces{
      "/builds"};          ///< folders that the builder sees under the same path
  Environment environment; ///< of the programs of the image that are run
  std::vector<std::string>
      remover; ///< what removes the folder that is its last word when stdin ends; empty: nothing
  std::string report_dir; ///< where reports on pushes are written; "" = nowhere
  int input = 0;          ///< lent
  bool input_is_terminal = false;
  bool output_is_terminal = false;
  std::int64_t now = 0;                          ///< unix seconds, for ages
  std::vector<std::string> compose_programs;     ///< where the image's own Compose may be, in order
  std::vector<std::string> old_compose_programs; ///< what stood under the name docker-compose
  /// Becomes another program, with the socket of slipway as its DOCKER_HOST; where it is to build
  /// as Docker did before BuildKit, with that set. Returns errno.
  std::function<int(const std::vector<std::string>& argv, const std::string& socket,
                    bool classic_builds)>
      become;
  Write out;
  Write err;
};

/// Returns the exit code.
int run(const Invocation& invocation, const Surroundings& world);

} // namespace slipway::shim
