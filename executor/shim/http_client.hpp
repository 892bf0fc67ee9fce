// SPDX-License-Identifier: Apache-2.0
// The shim's side of the broker's HTTP: one request per connection over a unix socket, bodies
// streamed both ways, every wait with a deadline.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

/// How long each kind of silence may last. A build's step may be silent for hours, and the job's
/// own timeout ends it; a plain question is answered at once or something is broken.
struct Deadlines {
  std::chrono::milliseconds connect{5000};
  std::chrono::milliseconds write{120000};
  std::chrono::milliseconds answer{60000};
  std::chrono::milliseconds stream_idle{std::chrono::hours{6}};
};

/// Gives the next bytes of a request body; 0 = end.
using BodySource = std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>;
/// Takes the next bytes of an answer's body; an error ends the exchange.
using BodySink = std::function<Status(int status, std::string_view bytes)>;

struct Request {
  std::string method = "GET";
  std::string target = "/";
  std::string content_type{};
  std::string body{};        ///< sent with a Content-Length where `source` is empty
  BodySource source{};       ///< sent chunked
  bool long_running = false; ///< waits for answers are `stream_idle`, not `answer`
  bool upgrades = false;     ///< asks for a stream both ways
};

struct Answer {
  int status = 0;
  std::string body;
};

/// Speaks to the first of the sockets that somebody listens on.
class BrokerClient {
public:
  explicit BrokerClient(std::vector<std::string> sockets, Deadlines deadlines = {})
      : sockets_{std::move(sockets)}, deadlines_{deadlines} {}

  /// Sends and streams the answer's body to `sink`; returns the HTTP status. An answer that comes
  /// while the body is still being sent (a refusal) ends the sending.
  /// Errors: unavailable (nobody listens, connection cut); timed_out; bad_input (not HTTP); io.
  Result<int> call(const Request& request, const BodySink& sink) const;

  /// The same with the body collected. Errors: as call; bad_input (more than 64 MiB).
  Result<Answer> ask(const Request& request) const;

  /// Sends, and carries the stream that the broker agrees to: `begun` is called first, then what
  /// comes goes to `sink`, and INPUT (lent; -1: none) to the broker, until the broker ends it. An
  /// answer that is no stream is returned as it is; of a stream the status is 101 or 200.
  /// Errors: as call; those of `begun` and `sink`.
  Result<Answer> attach(const Request& request, int input, const std::function<Status()>& begun,
                        const std::function<Status(std::string_view)>& sink) const;

private:
  /// Errors: unavailable.
  Result<UniqueFd> connected() const;
  std::vector<std::string> sockets_;
  Deadlines deadlines_;
};

} // namespace slipway::shim
