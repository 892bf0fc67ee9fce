// SPDX-License-Identifier: Apache-2.0
// One HTTP request and its answer on a connection of the broker. Boost.Beast reads; what is written
// is simple enough to be written here.
// - Every wait ends: by its deadline, by the end of the peer, or by the server's stop.
// - A peer that hangs up is noticed while the answer is still being made (`gone`).
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/broker/server.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

/// A connected socket with deadlines. Reading is for one thread, writing for several.
class Socket {
public:
  /// `stop_fd` is an eventfd that becomes readable when the server stops; lent.
  Socket(UniqueFd fd, int stop_fd, std::chrono::milliseconds idle)
      : fd_{std::move(fd)}, stop_fd_{stop_fd}, idle_{idle} {}

  /// What a read came to, where it is not a number of bytes.
  enum class ReadEnd { closed, timed_out, stopped, failed };

  /// Waits for and reads some bytes, at most until the idle deadline or `set_deadline`'s.
  Result<std::size_t> read_some(char* buffer, std::size_t capacity, ReadEnd& end);
  /// True once something can be read (or the peer has hung up); false when idle, stopped.
  bool wait_readable();
  /// An end for all reads until the next call; the epoch means the idle deadline alone.
  void set_deadline(std::chrono::steady_clock::time_point deadline) { deadline_ = deadline; }
  /// Another idle deadline from now on.
  void set_idle(std::chrono::milliseconds idle) { idle_ = idle; }
  /// Writes all, waiting for a slow reader up to the idle deadline. False: the peer is given up.
  bool write(std::string_view bytes);
  /// True when the peer has closed (either direction), a write failed or the server stops.
  bool gone() const;
  bool is_stopping() const;
  void shutdown_write();
  /// Returns once the peer has read all that was written, or after a moment (200 ms).
  void wait_until_taken();
  /// Carries bytes between the peer and UPSTREAM (lent, non-blocking) until both have ended, or one
  /// is broken, or the server stops. Has no deadline: what is carried may be silent for hours.
  /// `both_ways`: the peer may send too, and its end is told to UPSTREAM; else its end is the end.
  void relay(int upstream, bool both_ways);
  /// Throws away what the peer still sends, so that it reads our answer instead of a reset.
  void drain(std::uint64_t limit, std::chrono::milliseconds patience);
  /// Lent, for who carries the connection after an upgrade.
  int descriptor() const noexcept { return fd_.get(); }
  int stop_descriptor() const noexcept { return stop_fd_; }

private:
  std::chrono::milliseconds left() const;

  UniqueFd fd_;
  int stop_fd_;
  std::chrono::milliseconds idle_;
  std::chrono::steady_clock::time_point deadline_{};
  std::atomic<bool> failed_ = false;
};

/// The body of a request, read as it comes.
class Body {
public:
  virtual ~Body() = default;
  /// The next bytes, 0 at the end. Errors: bad_input (framing, too large); timed_out; unavailable
  /// (the client has gone).
  virtual Result<std::size_t> read(char* buffer, std::size_t capacity) = 0;
  /// The rest of the body has to arrive within `time`; without a call, and counted from its first
  /// read, within ServerLimits::stream_deadline.
  virtual void limit_time(std::chrono::milliseconds time) = 0;
  /// Overwrites what the connection's buffer still holds of bytes that were read.
  virtual void wipe() = 0;
  /// What the peer has sent beyond the request; it is taken out.
  virtual std::string take_unread() = 0;
  /// The whole body. Errors: as read; bad_input (over `limit`).
  Result<std::string> read_whole(std::size_t limit, std::chrono::milliseconds time);
};

/// A request as the routes see it.
struct Request {
  std::string method; ///< GET, HEAD, POST, DELETE, PUT …
  std::string target;
  Body* body = nullptr;
  std::string content_type = {};
  bool upgrades = false; ///< asks for a stream both ways
  std::string host = {};
  std::string content_range = {};
  std::string session = {}; ///< the id that a BuildKit client gives its session
  std::vector<std::string> session_methods = {}; ///< what it offers there
};

/// The answer: once whole, or a stream in chunks.
class Answer {
public:
  Answer(Socket& socket, bool is_head, bool http_1_0, bool keep_alive)
      : socket_{socket}, is_head_{is_head}, http_1_0_{http_1_0}, keep_alive_{keep_alive &&
                                                                             !http_1_0} {}

  /// The answer says that API 1.`minor` is the newest that is served here.
  void speak_api(unsigned minor) noexcept { api_ = minor; }
  /// One more header of the answer to come; neither holds a line end.
  void add_header(std::string_view name, std::string_view value);
  void whole(int status, std::string_view content_type, std::string_view body);
  /// `size` bytes of the file `fd` (lent) from its start.
  void file(int status, std::string_view content_type, int fd, std::uint64_t size);
  void begin_stream(int status, std::string_view content_type);
  /// False when the client has gone.
  bool chunk(std::string_view bytes);
  void end_stream();
  /// Hands the connection to what UPSTREAM (lent) answers, head and all; see Socket::relay. It ends
  /// with it. `first`: what UPSTREAM has said already.
  void relay(int upstream, bool both_ways, std::string_view first = "");
  /// From now on the connection speaks PROTOCOL; it ends with this request. False when the client
  /// has gone.
  bool upgrade(std::string_view protocol);
  Socket& socket() noexcept { return socket_; }
  bool begun() const noexcept { return begun_; }
  bool gone() const { return socket_.gone(); }
  /// True where another request may follow on the connection.
  bool can_go_on() const noexcept { return begun_ && ended_ && keep_alive_; }
  void close_after() noexcept { keep_alive_ = false; }

private:
  std::string head(int status, std::string_view content_type) const;

  Socket& socket_;
  std::string more_headers_;
  unsigned api_ = kOldestApi;
  bool is_head_;
  bool http_1_0_;
  bool keep_alive_;
  bool begun_ = false;
  bool ended_ = false;
};

/// "1.41".
std::string api_text(unsigned minor);
/// The API's error document.
std::string error_json(std::string_view message);
/// The HTTP status for a kind.
int status_of(ErrorKind kind);
/// What happened and what to do next, for people.
std::string readable(const Error& error);

/// Who answers the requests of a server. One object serves all connections; every call may come
/// from several threads.
class RequestHandler {
public:
  virtual ~RequestHandler() = default;
  /// Makes exactly one answer (whole or stream) unless the client has gone.
  virtual void answer(const Request& request, Answer& answer) = 0;
};

/// Reads requests from the connection, one after another, and lets HANDLER answer each, until the
/// peer, a deadline, an error or the server's stop ends it.
void serve_connection(Socket& socket, RequestHandler& handler, const ServerLimits& limits);

} // namespace slipway::broker
