// SPDX-License-Identifier: Apache-2.0
// SSH agents that the job lends to its builds: each is a connection that the shim opened and led to
// an agent, and that a build finds by the name that the shim gave it.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/exchange.hpp"
#include "executor/engine_api/ssh_agent.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace slipway::broker {

/// At a time, of one job.
constexpr std::size_t kMostLentAgents = 16;

class LentAgents {
public:
  /// POST …/ssh-agents/NAME with an upgrade: keeps the connection until the client hangs up, the
  /// agent talks nonsense, or the server stops. Errors, instead of an answer: bad_input (the name,
  /// one that is taken, no upgrade); unavailable (too many).
  Status serve(const Request& request, const std::string& name, Answer& answer);
  /// May be asked for longer than the connection lasts; it fails then. Errors: not_found.
  Result<engine_api::SshAgent> find(const std::string& name);

private:
  struct Lent;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Lent>> lent_;
};

} // namespace slipway::broker
