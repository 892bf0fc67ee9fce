// SPDX-License-Identifier: Apache-2.0
// SSH agents of the job, as sockets in the build sandbox for the time of one build. Steps ask
// there for signatures; no key comes near a builder.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/ssh_agent.hpp"
#include "executor/sandbox/programs.hpp"

#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace slipway::backends::buildkit {

class LentAgents {
public:
  /// Both are lent. `home`: a folder of the sandbox's own.
  LentAgents(const sandbox::ScriptRunner& run, const sandbox::BuildClock& clock, std::string home);
  LentAgents(const LentAgents&) = delete;
  LentAgents& operator=(const LentAgents&) = delete;
  /// Ends what listens; waits for the answer to one question at most.
  ~LentAgents();

  /// Returns once a client may connect to `socket` (a path inside the sandbox). Errors:
  /// unavailable (it cannot listen, with its words); io.
  Status lend(engine_api::SshAgent agent, const std::string& socket);

private:
  /// One socket, and what is at its other end.
  struct Lent {
    engine_api::SshAgent agent;
    UniqueFd answers; ///< our end of what the sandbox reads
    engine_api::AgentMessages questions;
    bool broken = false; ///< the carrier's
    std::mutex mutex;
    std::condition_variable changed;
    bool listens = false;
    std::optional<Error> ended;
    std::thread carrier;
  };
  void carry(Lent& lent, UniqueFd theirs, const std::string& socket);
  void take(Lent& lent, std::string_view bytes) const;

  const sandbox::ScriptRunner& run_;
  const sandbox::BuildClock& clock_;
  std::string home_;
  UniqueFd stop_; ///< readable at the end
  std::atomic<bool> over_ = false;
  std::list<Lent> lent_;
};

} // namespace slipway::backends::buildkit
