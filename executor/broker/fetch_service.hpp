// SPDX-License-Identifier: Apache-2.0
// What the broker's HTTP edge needs to have a build's sources fetched for a job whose image has no
// program for it: in a sandbox of the job's, never by the broker. Implemented in stages/image,
// faked in the broker's tests. Calls may come from several threads at once.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/session_service.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::broker {

/// Who is at the other end of the broker's socket, as the host counts ids and processes. Through
/// the ports of a sandbox's init that is init, not its client. Source: unix(7), SO_PEERCRED.
struct Peer {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t pid = 0; ///< 0: none that the host sees
};

/// One program of the host's, run as the job would run its own.
struct FetchOrder {
  std::string program; ///< "git", "curl", an unpacker: which may be is for the service to say
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> env; ///< the job's own
  std::string folder; ///< in which it runs: absolute, of the workspace
  std::string input;  ///< a file there that is its stdin; "": nothing
  Peer peer;          ///< who asks: it runs with these ids, and what it makes is theirs
};

/// What `POST /build?remote=` names.
struct RemoteContext {
  std::string address;    ///< as the client said it: it may hold a login
  std::string dockerfile; ///< what a file that is no archive is called in the context
};

class FetchService {
public:
  virtual ~FetchService() = default;
  /// Runs it and gives its exit code. Errors: denied (the operator lends none; who asks is not one
  /// of the job's users, or asks at a port); bad_input (no such program is lent; a folder outside
  /// of the workspace); misconfigured (this host has no such program); timed_out; unavailable
  /// (cancelled; the sandbox does not start, or has ended).
  virtual Result<int> run(const FetchOrder& order, const SessionStreams& streams) = 0;
  /// Fetches it and gives it to `use` as a tar, with what was said of it. `use` is not called where
  /// nothing came; the tar ends with an error where it did not come whole, and where `use` returns
  /// early the program ends. Errors: bad_input (with what the fetching program said, without
  /// logins); those of run.
  using Use = std::function<void(
      const std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>& tar,
      const std::string& said)>;
  virtual Status context(const RemoteContext& wanted, const Use& use,
                         const Cancelled& cancelled) = 0;
};

} // namespace slipway::broker
