// SPDX-License-Identifier: Apache-2.0
// An SSH agent's socket in a build sandbox, whose agent is at the other end of two pipes.
#pragma once

namespace slipway::init {

/// Listens at SOCKET (0600), then writes an empty message to standard output. From then on carries
/// the questions of all that connect there, one at a time, and the answers from standard input.
/// Returns the exit code once standard input has ended: 0, or 1 where it cannot listen.
int relay_agent(const char* socket);

} // namespace slipway::init
