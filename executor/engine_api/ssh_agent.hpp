// SPDX-License-Identifier: Apache-2.0
// The messages of an SSH agent, on their way from a build's steps to an agent of the job. What
// comes from either side may be hostile: messages have a limit, and steps may ask for keys and
// signatures alone.
// Source: draft-ietf-sshm-ssh-agent, 3 and 5.1.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace slipway::engine_api {

/// As OpenSSH's agent takes it. Source: OpenSSH, ssh-agent.c (AGENT_MAX_LEN).
constexpr std::size_t kMaxAgentMessage = 256UL << 10;

/// An agent that somebody lends: a question in, its answer out, both without their length. From any
/// thread. Errors: unavailable, timed_out, bad_input; the agent may not be asked again then.
using SshAgent = std::function<Result<std::string>(std::string_view question)>;

/// SSH_AGENT_FAILURE, without its length.
constexpr std::string_view kAgentFailure{"\x05", 1};

/// What a step may ask: which keys there are, and for a signature. It may add, remove and lock
/// none.
bool is_agent_question(std::string_view message);

/// The message as it is sent, with its length in front.
std::string agent_frame(std::string_view message);

/// Cuts a stream into messages.
class AgentMessages {
public:
  void add(std::string_view bytes) { bytes_ += bytes; }
  /// The next whole message, which may be empty; nothing before it is there. Errors: bad_input
  /// (above kMaxAgentMessage).
  Result<std::optional<std::string>> next();

private:
  std::string bytes_;
};

} // namespace slipway::engine_api
