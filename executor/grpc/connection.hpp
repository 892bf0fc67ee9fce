// SPDX-License-Identifier: Apache-2.0
// gRPC over one HTTP/2 connection on a socket that somebody else opened: as the server of its
// calls, or as their client. The peer may be hostile.
// - What a peer can make us hold has limits: calls at once, headers of a call, a message, messages
//   that nobody has read yet (HTTP/2's windows).
// - Every wait ends: by its deadline, by the end of the connection, or by the stop event.
// - Compressed messages are refused: nothing here unpacks.
// Source: RFC 9113; grpc/grpc doc/PROTOCOL-HTTP2.md.
#pragma once

#include "executor/base/result.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::grpc {

constexpr std::size_t kMaxMessageBytes = 1UL << 20;
constexpr std::size_t kMaxCallHeaderBytes = 64UL << 10; ///< received, of one call
constexpr std::size_t kMaxSentHeaderBytes = 512UL << 10;
/// That a peer may have open at once; a bake has three for each target.
constexpr std::uint32_t kMaxCalls = 128;
constexpr std::size_t kMaxOwnCalls = 128; ///< that a client may have open at once
/// That serve calls in this process, of all connections.
constexpr std::size_t kMaxThreads = 512;
/// A connection without an open call ends after this time.
constexpr std::chrono::minutes kMaxSilence{10};
/// A peer that takes nothing for this long is given up.
constexpr std::chrono::seconds kMaxUnread{60};

using Metadata = std::vector<std::pair<std::string, std::string>>;

/// The statuses of gRPC that are used here.
enum class Code : std::uint8_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
};
Code code_of(ErrorKind kind);

/// How a call ended.
struct Ending {
  Code code = Code::ok;
  std::string message;
};

class Core;       // connection.cpp
struct CallState; // connection.cpp

/// One call. Its reading is for one thread at a time, the rest for any. May outlive its connection;
/// then it is gone.
class Call {
public:
  Call(std::shared_ptr<Core> core, std::shared_ptr<CallState> state)
      : core_{std::move(core)}, state_{std::move(state)} {}
  /// Client: ends the call where it is still open; nothing of it is kept, whatever the peer sends.
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  const std::string& method() const;                             ///< "/package.Service/Method"
  std::string header(std::string_view name) const;               ///< the first one's value; ""
  std::vector<std::string> headers(std::string_view name) const; ///< all values
  /// The peer's next message; nothing once it has sent its last. Errors: timed_out; unavailable
  /// (the call is gone); bad_input (compressed, above kMaxMessageBytes).
  Result<std::optional<std::string>> read(std::chrono::milliseconds deadline);
  /// Waits while the peer takes nothing. Errors: unavailable.
  Status write(std::string_view message);
  /// Client: nothing more will be written.
  void end_writing();
  /// Server: the call's last word.
  void finish(const Ending& ending);
  /// Client: how the server ended the call; once read() has returned nothing or an error.
  Ending ending() const;
  /// True once nobody waits for this call any more, or the connection is to stop.
  bool gone() const;
  /// Tells the peer that the call is over, whatever has not been sent yet.
  void cancel();

private:
  std::shared_ptr<Core> core_;
  std::shared_ptr<CallState> state_;
};

class Connection {
public:
  enum class Role { server, client };
  /// Answers a call: reads, writes, finishes. Runs on a thread of its own.
  using Serve = std::function<void(Call&)>;

  /// `fd` (a connected, non-blocking socket) and `stop_fd` (readable once all has to end) are lent.
  /// `serve`: for servers. Errors: io, internal.
  static Result<std::unique_ptr<Connection>> open(Role role, int fd, int stop_fd, Serve serve = {});
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Carries frames until the peer hangs up, breaks the protocol or is too silent, or the stop
  /// event has come and those who serve have ended. `first`: what the peer had sent already. At the
  /// end all calls are gone and no thread serves any more.
  void run(std::string_view first);
  /// Client: begins a call. From any thread. Errors: unavailable (the connection has ended).
  Result<std::shared_ptr<Call>> call(const std::string& method, const Metadata& metadata);
  /// From any thread: run() ends.
  void close();

private:
  explicit Connection(std::shared_ptr<Core> core) : core_{std::move(core)} {}

  std::shared_ptr<Core> core_;
};

} // namespace slipway::grpc
