// SPDX-License-Identifier: Apache-2.0
// Agents of the job (docker build --ssh), led to the broker for the time of one build.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/shim/http_client.hpp"

#include <list>
#include <string>
#include <thread>

namespace slipway::shim {

class LentAgents {
public:
  /// `client` is lent.
  explicit LentAgents(const BrokerClient& client) : client_{client} {}
  LentAgents(const LentAgents&) = delete;
  LentAgents& operator=(const LentAgents&) = delete;
  ~LentAgents();

  /// Returns the name by which a build finds the agent that listens at `socket`. Errors: not_found
  /// (nobody listens there); unavailable (the broker takes none); those of BrokerClient::attach.
  Result<std::string> lend(const std::string& socket);

private:
  struct Lent {
    UniqueFd agent;
    std::thread carrier;
  };
  const BrokerClient& client_;
  std::list<Lent> lent_;
};

} // namespace slipway::shim
