// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/exchange.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

namespace slipway::broker {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using Millis = std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kBufferSlack = 16UL << 10;
constexpr std::uint64_t kDrainBytes = 64UL << 20;
constexpr std::size_t kUnwantedBody = 64UL << 10;

int to_poll_timeout(Millis wait) {
  return static_cast<int>(std::clamp<std::int64_t>(wait.count(), 0, 1 << 30));
}

const char* reason(int status) {
  return http::obsolete_reason(static_cast<http::status>(status)).data();
}

/// What Beast needs of a stream to read from.
class BeastStream {
public:
  explicit BeastStream(Socket& socket) : socket_{socket} {}

  template <typename Buffers> std::size_t read_some(const Buffers& buffers, error_code& ec) {
    for (auto it = boost::asio::buffer_sequence_begin(buffers);
         it != boost::asio::buffer_sequence_end(buffers); ++it) {
      const boost::asio::mutable_buffer buffer = *it;
      if (buffer.size() == 0) continue;
      const auto got = socket_.read_some(static_cast<char*>(buffer.data()), buffer.size(), end_);
      if (got) {
        ec = {};
        return *got;
      }
      break;
    }
    ec = end_ == Socket::ReadEnd::closed      ? error_code{boost::asio::error::eof}
         : end_ == Socket::ReadEnd::timed_out ? error_code{boost::asio::error::timed_out}
                                              : error_code{boost::asio::error::connection_aborted};
    return 0;
  }
  template <typename Buffers> std::size_t read_some(const Buffers& buffers) {
    error_code ec;
    const auto got = read_some(buffers, ec);
    if (ec) BOOST_THROW_EXCEPTION(boost::system::system_error{ec});
    return got;
  }

private:
  Socket& socket_;
  Socket::ReadEnd end_ = Socket::ReadEnd::failed;
};

using Parser = http::request_parser<http::buffer_body>;

class BeastBody final : public Body {
public:
  BeastBody(BeastStream& stream, boost::beast::flat_buffer& buffer, Parser& parser, Socket& socket,
            bool expects_continue, Millis patience)
      : stream_{stream}, buffer_{buffer}, parser_{parser}, socket_{socket},
        expects_continue_{expects_continue}, patience_{patience} {}

  Result<std::size_t> read(char* into, std::size_t capacity) override {
    if (failed_) return Error{ErrorKind::bad_input, "the request body ended early", "", {}};
    if (expects_continue_ && !parser_.is_done()) socket_.write("HTTP/1.1 100 Continue\r\n\r\n");
    expects_continue_ = false;
    if (!is_limited_) limit_time(patience_);
    auto& body = parser_.get().body();
    while (!parser_.is_done()) {
      body.data = into;
      body.size = capacity;
      body.more = true;
      error_code ec;
      http::read_some(stream_, buffer_, parser_, ec);
      if (ec == http::error::need_buffer) ec = {};
      if (ec) {
        failed_ = true;
        return body_error(ec);
      }
      if (body.size < capacity) return capacity - body.size;
    }
    return std::size_t{0};
  }

  void limit_time(Millis time) override {
    is_limited_ = true;
    socket_.set_deadline(SteadyClock::now() + time);
  }

  void wipe() override {
    // prepare() moves what is unread to the front and gives all that lies behind it.
    const auto free = buffer_.prepare(buffer_.max_size() - buffer_.size());
    ::explicit_bzero(free.data(), free.size());
  }

  std::string take_unread() override {
    socket_.set_deadline({}); // no request any more
    const auto unread = buffer_.data();
    std::string bytes{static_cast<const char*>(unread.data()), unread.size()};
    buffer_.consume(bytes.size());
    return bytes;
  }

private:
  static Error body_error(const error_code& ec) {
    if (ec == http::error::body_limit) {
      return Error{ErrorKind::bad_input, "the request body is too large", "", {}};
    }
    if (ec == boost::asio::error::timed_out) {
      return Error{ErrorKind::timed_out, "the client stopped sending the request body", "", {}};
    }
    if (ec == boost::asio::error::connection_aborted) {
      return Error{ErrorKind::unavailable, "the connection ended", "", {}};
    }
    return Error{ErrorKind::bad_input, "the request body cannot be read: " + ec.message(), "", {}};
  }

  BeastStream& stream_;
  boost::beast::flat_buffer& buffer_;
  Parser& parser_;
  Socket& socket_;
  bool expects_continue_;
  Millis patience_;
  bool is_limited_ = false;
  bool failed_ = false;
};

/// What Beast lets through and an intermediary could read differently: request smuggling needs two
/// readers that disagree, so a request that allows it is refused. Source: RFC 9112, 6.1 and 6.3.
const char* framing_problem(const Parser& parser) {
  const auto& fields = parser.get();
  const auto count = [&](http::field name) {
    const auto range = fields.equal_range(name);
    return std::distance(range.first, range.second);
  };
  if (count(http::field::content_length) > 1) return "more than one Content-Length";
  if (count(http::field::transfer_encoding) > 1) return "more than one Transfer-Encoding";
  if (count(http::field::host) > 1) return "more than one Host";
  const bool has_encoding = count(http::field::transfer_encoding) == 1;
  if (has_encoding && count(http::field::content_length) == 1) {
    return "both Content-Length and Transfer-Encoding";
  }
  if (has_encoding && !boost::beast::iequals(fields[http::field::transfer_encoding], "chunked")) {
    return "a Transfer-Encoding other than chunked";
  }
  if (has_encoding && fields.version() < 11) return "Transfer-Encoding in HTTP/1.0";
  return nullptr;
}

} // namespace

Millis Socket::left() const {
  if (deadline_ == SteadyClock::time_point{}) return idle_;
  const auto rest = std::chrono::duration_cast<Millis>(deadline_ - SteadyClock::now());
  return std::clamp(rest, Millis{0}, idle_);
}

bool Socket::is_stopping() const {
  pollfd polled{stop_fd_, POLLIN, 0};
  return ::poll(&polled, 1, 0) > 0;
}

bool Socket::wait_readable() {
  const auto until = SteadyClock::now() + left();
  for (;;) {
    std::array<pollfd, 2> polled{pollfd{fd_.get(), POLLIN, 0}, pollfd{stop_fd_, POLLIN, 0}};
    const auto rest = std::chrono::ceil<Millis>(until - SteadyClock::now());
    const int ready = ::poll(polled.data(), polled.size(), to_poll_timeout(rest));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || polled[1].revents != 0) return false;
    return true;
  }
}

Result<std::size_t> Socket::read_some(char* buffer, std::size_t capacity, ReadEnd& end) {
  const auto until = SteadyClock::now() + left();
  for (;;) {
    if (is_stopping()) {
      end = ReadEnd::stopped;
      return Error{ErrorKind::unavailable, "stopped", "", {}};
    }
    const ssize_t got = ::recv(fd_.get(), buffer, capacity, MSG_DONTWAIT);
    const int cause = errno;
    if (got > 0) return static_cast<std::size_t>(got);
    if (got == 0) {
      end = ReadEnd::closed;
      return Error{ErrorKind::unavailable, "closed", "", {}};
    }
    if (cause == EINTR) continue;
    if (cause != EAGAIN && cause != EWOULDBLOCK) {
      end = ReadEnd::failed;
      return io_error("recv", cause);
    }
    std::array<pollfd, 2> polled{pollfd{fd_.get(), POLLIN, 0}, pollfd{stop_fd_, POLLIN, 0}};
    const auto rest = std::chrono::ceil<Millis>(until - SteadyClock::now());
    const int ready = ::poll(polled.data(), polled.size(), to_poll_timeout(rest));
    if (ready == 0) {
      end = ReadEnd::timed_out;
      return Error{ErrorKind::timed_out, "idle", "", {}};
    }
    if (ready > 0 && polled[1].revents != 0) {
      end = ReadEnd::stopped;
      return Error{ErrorKind::unavailable, "stopped", "", {}};
    }
  }
}

bool Socket::write(std::string_view bytes) {
  auto until = SteadyClock::now() + idle_;
  while (!bytes.empty()) {
    if (failed_) return false;
    const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    const int cause = errno;
    if (put > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      until = SteadyClock::now() + idle_;
      continue;
    }
    if (cause == EINTR) continue;
    if (cause == EAGAIN || cause == EWOULDBLOCK) {
      // A stop does not cut an answer short: the last words of a cancelled build are worth having.
      // A reader that does not read ends by the idle deadline, and at once when we are stopping.
      std::array<pollfd, 2> polled{pollfd{fd_.get(), POLLOUT, 0}, pollfd{stop_fd_, POLLIN, 0}};
      const auto rest = std::chrono::ceil<Millis>(until - SteadyClock::now());
      const int ready = ::poll(polled.data(), polled.size(), to_poll_timeout(rest));
      if (ready < 0 && errno == EINTR) continue;
      if (ready > 0 && polled[0].revents != 0) continue;
    }
    failed_ = true;
    return false;
  }
  return true;
}

bool Socket::gone() const {
  if (failed_) return true;
  std::array<pollfd, 2> polled{pollfd{fd_.get(), POLLRDHUP, 0}, pollfd{stop_fd_, POLLIN, 0}};
  if (::poll(polled.data(), polled.size(), 0) <= 0) return false;
  return (polled[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 || polled[1].revents != 0;
}

namespace {

/// One direction of a relay: bytes that were read and are not written yet.
struct Pipe {
  std::array<char, 65536> bytes; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  std::size_t begin = 0;
  std::size_t end = 0;
  bool source_ended = false;
  bool told = false; ///< the sink knows that nothing more comes

  bool wants_to_read() const { return !source_ended && begin == end; }
  bool wants_to_write() const { return begin < end; }

  /// False where the connection is broken.
  bool read_from(int fd) {
    const ssize_t got = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    begin = 0;
    end = static_cast<std::size_t>(got);
    source_ended = got == 0;
    return true;
  }
  bool write_to(int fd) {
    const ssize_t put = ::send(fd, bytes.data() + begin, end - begin, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    begin += static_cast<std::size_t>(put);
    return true;
  }
  void tell_end(int fd) {
    if (!source_ended || wants_to_write() || told) return;
    told = true;
    ::shutdown(fd, SHUT_WR);
  }
};

constexpr short kBroken = POLLERR | POLLNVAL;

} // namespace

void Socket::relay(int upstream, bool both_ways) {
  const auto up = std::make_unique<Pipe>();
  const auto down = std::make_unique<Pipe>();
  for (;;) {
    up->tell_end(upstream);
    down->tell_end(fd_.get());
    if (down->told && (up->told || !both_ways)) return;
    // A peer that has said its last word is not polled for more: it would be readable for ever.
    short peer = down->wants_to_write() ? POLLOUT : 0;
    if (both_ways ? up->wants_to_read() : !up->source_ended)
      peer = static_cast<short>(peer | (both_ways ? POLLIN : POLLRDHUP));
    short engine = up->wants_to_write() ? POLLOUT : 0;
    if (down->wants_to_read()) engine = static_cast<short>(engine | POLLIN);
    // Who has hung up is told of it again and again: not while that changes nothing.
    const int asked_peer = peer == 0 && up->wants_to_write() ? -1 : fd_.get();
    const int asked_engine = engine == 0 ? -1 : upstream;
    std::array<pollfd, 3> polled{pollfd{asked_peer, peer, 0}, pollfd{asked_engine, engine, 0},
                                 pollfd{stop_fd_, POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    const short from_peer = polled[0].revents;
    const short from_engine = polled[1].revents;
    if (polled[2].revents != 0 || ((from_peer | from_engine) & kBroken) != 0) return;
    if (!both_ways && (from_peer & (POLLRDHUP | POLLHUP)) != 0) return;
    bool good = true;
    if (up->wants_to_read() && both_ways && (from_peer & (POLLIN | POLLHUP)) != 0)
      good = up->read_from(fd_.get());
    if (good && (from_engine & (POLLIN | POLLHUP)) != 0 && down->wants_to_read())
      good = down->read_from(upstream);
    if (good && up->wants_to_write()) good = up->write_to(upstream);
    if (good && down->wants_to_write()) good = down->write_to(fd_.get());
    if (!good) return;
    // Both ends have hung up and nothing can be written any more.
    if ((from_peer & POLLHUP) != 0 && up->source_ended && !up->wants_to_write()) return;
  }
}

void Socket::wait_until_taken() {
  constexpr int kMostTries = 200;
  for (int tries = 0; tries < kMostTries; ++tries) {
    int waiting = 0;
    if (::ioctl(fd_.get(), SIOCOUTQ, &waiting) != 0 || waiting == 0) return;
    pollfd stop{stop_fd_, POLLIN, 0};
    if (::poll(&stop, 1, 1) > 0) return;
  }
}

void Socket::shutdown_write() {
  ::shutdown(fd_.get(), SHUT_WR);
}

void Socket::drain(std::uint64_t limit, Millis patience) {
  set_deadline(SteadyClock::now() + patience);
  std::array<char, 16384> trash; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  ReadEnd end{};
  for (std::uint64_t seen = 0; seen < limit;) {
    const auto got = read_some(trash.data(), trash.size(), end);
    if (!got) return;
    seen += *got;
  }
}

Result<std::string> Body::read_whole(std::size_t limit, Millis time) {
  limit_time(time);
  std::string whole;
  std::array<char, 8192> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  for (;;) {
    const auto got = read(part.data(), part.size());
    if (!got) return got.error();
    if (*got == 0) return whole;
    if (whole.size() + *got > limit) {
      return Error{ErrorKind::bad_input,
                   "the request body is larger than " + std::to_string(limit) + " bytes",
                   "",
                   {}};
    }
    whole.append(part.data(), *got);
  }
}

std::string api_text(unsigned minor) {
  return "1." + std::to_string(minor);
}

std::string Answer::head(int status, std::string_view content_type) const {
  std::string text = http_1_0_ ? "HTTP/1.0 " : "HTTP/1.1 ";
  text += std::to_string(status) + " " + reason(status) + "\r\n";
  text += "Api-Version: " + api_text(api_) +
          "\r\nBuilder-Version: 1\r\nDocker-Experimental: false\r\nOstype: linux\r\n"
          "Swarm: inactive\r\nServer: slipway/" SLIPWAY_VERSION " (linux)\r\n"
          "Cache-Control: no-cache, no-store, must-revalidate\r\n";
  if (!content_type.empty()) text += "Content-Type: " + std::string{content_type} + "\r\n";
  if (!keep_alive_) text += "Connection: close\r\n";
  return text + more_headers_;
}

void Answer::whole(int status, std::string_view content_type, std::string_view body) {
  if (begun_) return;
  begun_ = true;
  std::string text = head(status, content_type);
  const bool may_have_body = status != 204 && status != 304;
  if (may_have_body) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  text += "\r\n";
  if (!is_head_ && may_have_body) text += body;
  ended_ = socket_.write(text);
}

void Answer::add_header(std::string_view name, std::string_view value) {
  more_headers_ += std::string{name} + ": " + std::string{value} + "\r\n";
}

void Answer::file(int status, std::string_view content_type, int fd, std::uint64_t size) {
  if (begun_) return;
  begun_ = true;
  bool written = socket_.write(head(status, content_type) +
                               "Content-Length: " + std::to_string(size) + "\r\n\r\n");
  std::array<char, 65536> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  for (std::uint64_t sent = 0; written && !is_head_ && sent < size;) {
    const auto room = std::min<std::uint64_t>(part.size(), size - sent);
    const ssize_t got = ::pread(fd, part.data(), room, static_cast<off_t>(sent));
    if (got < 0 && errno == EINTR) continue;
    written = got > 0 && socket_.write({part.data(), static_cast<std::size_t>(got)});
    if (got > 0) sent += static_cast<std::uint64_t>(got);
  }
  ended_ = written; // else the connection ends, and the client sees that bytes are missing
}

void Answer::begin_stream(int status, std::string_view content_type) {
  if (begun_) return;
  begun_ = true;
  std::string text = head(status, content_type);
  if (!http_1_0_) text += "Transfer-Encoding: chunked\r\n";
  text += "\r\n";
  socket_.write(text);
}

bool Answer::chunk(std::string_view bytes) {
  if (bytes.empty() || is_head_) return !socket_.gone();
  if (http_1_0_) return socket_.write(bytes);
  std::array<char, 24> size{};
  const int length = ::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  std::string text{size.data(), static_cast<std::size_t>(length)};
  text += bytes;
  text += "\r\n";
  return socket_.write(text);
}

void Answer::end_stream() {
  if (!begun_ || ended_) return;
  ended_ = http_1_0_ || is_head_ || socket_.write("0\r\n\r\n");
}

void Answer::relay(int upstream, bool both_ways, std::string_view first) {
  begun_ = true;
  keep_alive_ = false;
  // docker-py reads from the socket itself once it has the head: what its HTTP library has read
  // ahead by then is lost to it.
  const auto end = first.find("\r\n\r\n");
  const auto head = first.substr(0, end == std::string_view::npos ? end : end + 4);
  if (!head.empty() && !socket_.write(head)) return;
  if (both_ways && !head.empty()) socket_.wait_until_taken();
  if (const auto rest = first.substr(head.size()); !rest.empty() && !socket_.write(rest)) return;
  socket_.relay(upstream, both_ways);
}

bool Answer::upgrade(std::string_view protocol) {
  begun_ = true;
  keep_alive_ = false;
  return socket_.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " +
                       std::string{protocol} + "\r\n\r\n");
}

std::string error_json(std::string_view message) {
  return nlohmann::json{{"message", message}}.dump(-1, ' ', false,
                                                   nlohmann::json::error_handler_t::replace);
}

int status_of(ErrorKind kind) {
  switch (kind) {
  case ErrorKind::bad_input:
    return 400;
  case ErrorKind::denied:
  case ErrorKind::gate_rejected:
    return 403;
  case ErrorKind::not_found:
    return 404;
  case ErrorKind::timed_out:
    return 504;
  case ErrorKind::unavailable:
    return 503;
  case ErrorKind::backend_failed:
  case ErrorKind::misconfigured:
  case ErrorKind::io:
  case ErrorKind::internal:
    return 500;
  }
  return 500; // unreachable: every enumerator returns above
}

std::string readable(const Error& error) {
  std::string text = error.text();
  if (!error.hint.empty())
    text += (text.find('\n') == std::string::npos ? ": " : "\n") + error.hint;
  return text;
}

void serve_connection(Socket& socket, RequestHandler& handler, const ServerLimits& limits) {
  BeastStream stream{socket};
  // Reserved once and never grown, so that a credential that passed through can be wiped.
  boost::beast::flat_buffer buffer{limits.header_bytes + kBufferSlack};
  buffer.reserve(buffer.max_size());
  bool first = true;
  for (;;) {
    if (socket.is_stopping()) return; // a client that never rests would keep us for ever
    socket.set_deadline({});
    if (buffer.size() == 0) {
      // A client that connects and says nothing has the header's time; one that has been served
      // may rest for the idle time.
      if (first) socket.set_deadline(SteadyClock::now() + limits.header_deadline);
      if (!socket.wait_readable()) return;
    }
    first = false;
    socket.set_deadline(SteadyClock::now() + limits.header_deadline);
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.stream_body_bytes);
    error_code ec;
    http::read_header(stream, buffer, parser, ec);
    const auto refuse = [&](int status, std::string_view why) {
      Answer answer{socket, false, false, false};
      answer.whole(status, "application/json", error_json(why));
      socket.shutdown_write();
      socket.drain(kDrainBytes, Millis{2000});
    };
    if (ec == http::error::end_of_stream || ec == boost::asio::error::eof ||
        ec == http::error::partial_message || ec == boost::asio::error::connection_aborted) {
      return;
    }
    if (ec == boost::asio::error::timed_out)
      return refuse(408, "the request's header did not arrive in time");
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
      return refuse(431, "the request's header is larger than " +
                             std::to_string(limits.header_bytes) + " bytes");
    }
    if (ec == http::error::body_limit) return refuse(413, "the request body is too large");
    if (ec) return refuse(400, "malformed request: " + ec.message());
    if (const char* problem = framing_problem(parser)) {
      return refuse(400, std::string{"malformed request: "} + problem);
    }

    socket.set_deadline({});
    const auto& head = parser.get();
    const bool asks_first = boost::beast::iequals(head[http::field::expect], "100-continue");
    BeastBody body{stream, buffer, parser, socket, asks_first, limits.stream_deadline};
    Request request{std::string{head.method_string()},
                    std::string{head.target()},
                    &body,
                    std::string{head[http::field::content_type]},
                    !head[http::field::upgrade].empty(),
                    std::string{head[http::field::host]},
                    std::string{head[http::field::content_range]}};
    request.session = std::string{head["X-Docker-Expose-Session-Uuid"]};
    for (const auto& field : head)
      if (boost::beast::iequals(field.name_string(), "X-Docker-Expose-Session-Grpc-Method"))
        request.session_methods.emplace_back(std::string{field.value()});
    Answer answer{socket, head.method() == http::verb::head, head.version() < 11,
                  head.keep_alive()};
    handler.answer(request, answer);
    if (!answer.begun()) {
      answer.close_after();
      answer.whole(500, "application/json", error_json("no answer was made"));
    }
    // A small body that nobody wanted, the end of one: the answer's head said that the connection
    // goes on, and the client may have sent its next request.
    if (!parser.is_done() && answer.can_go_on() && !asks_first)
      (void)body.read_whole(kUnwantedBody, Millis{1000});
    if (!parser.is_done() || !answer.can_go_on()) {
      if (!answer.gone()) {
        socket.shutdown_write();
        if (!parser.is_done()) socket.drain(kDrainBytes, Millis{5000});
      }
      return;
    }
  }
}

} // namespace slipway::broker
