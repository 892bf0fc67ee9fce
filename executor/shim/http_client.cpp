// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/http_client.hpp"

#include "executor/base/unique_fd.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>

namespace slipway::shim {
namespace {

namespace http = boost::beast::http;
using Milliseconds = std::chrono::milliseconds;

constexpr std::size_t kMaxAnswerBytes = 64UL << 20;
constexpr std::size_t kMaxHeaderBytes = 64UL << 10;
constexpr std::size_t kChunkBytes = 256UL << 10;

/// Waits until one of `events` is there. Errors: timed_out; io.
Result<short> wait_for(int fd, short events, Milliseconds deadline, const char* doing) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<Milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return Error{
          ErrorKind::timed_out, std::string{"the broker was silent while "} + doing, "", {}};
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::min<long long>(left, 1 << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return io_error("poll", errno);
    if (ready > 0) return one.revents;
  }
}

Result<UniqueFd> connect_to(const std::string& path, Milliseconds deadline) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path)
    return Error{ErrorKind::bad_input, "socket path is too long", "", {path}};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return io_error("socket", errno);
  const auto end = std::chrono::steady_clock::now() + deadline;
  // A unix socket with a full backlog answers EAGAIN and cannot be polled for (unix(7)).
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int cause = errno;
    if (cause != EAGAIN && cause != EINTR) return io_error("connect", cause, path);
    if (std::chrono::steady_clock::now() >= end)
      return Error{ErrorKind::timed_out, "the broker accepts no connection", "", {path}};
    ::poll(nullptr, 0, 20);
  }
  return fd;
}

/// One exchange: the descriptor and what was read of the answer while still sending.
class Exchange {
public:
  Exchange(UniqueFd fd, const Deadlines& deadlines) : fd_{std::move(fd)}, deadlines_{deadlines} {}

  /// False where the peer has answered with a refusal or hung up: go and read why.
  Result<bool> send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto ready = wait_for(fd_.get(), POLLOUT | POLLIN, deadlines_.write, "a request was sent");
      if (!ready) return std::move(ready).error();
      if ((*ready & POLLIN) != 0 && early_.size() < kMaxHeaderBytes) {
        if (auto status = read_early(); !status) return std::move(status).error();
        if (refused()) return false;
      }
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) {
          // Readable but not writable, and no room to keep what is readable: do not spin.
          if (early_.size() >= kMaxHeaderBytes) ::poll(nullptr, 0, 20);
          continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) return false;
        return io_error("send", errno);
      }
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  Result<int> receive(const BodySink& sink, Milliseconds idle) {
    http::response_parser<http::buffer_body> parser;
    // Not boost::none: 1.74 takes it for less than any length when the header comes by itself.
    parser.body_limit(std::numeric_limits<std::uint64_t>::max());
    parser.header_limit(static_cast<std::uint32_t>(kMaxHeaderBytes));
    parser.eager(true);
    std::vector<char> out(kChunkBytes);
    std::string pending = std::move(early_);
    bool ended = false;
    parser.get().body().more = true;
    for (;;) {
      boost::system::error_code cause;
      for (;;) { // feed what is there
        auto& body = parser.get().body();
        body.data = out.data();
        body.size = out.size();
        std::size_t used = 0;
        if (!pending.empty() && !parser.is_done())
          used = parser.put(boost::asio::buffer(pending.data(), pending.size()), cause);
        else if (ended && !parser.is_done())
          parser.put_eof(cause);
        pending.erase(0, used);
        const std::size_t filled = out.size() - body.size;
        const bool progressed = used > 0 || filled > 0;
        if (cause == http::error::need_buffer || cause == http::error::need_more) cause = {};
        if (cause)
          return Error{ended ? ErrorKind::unavailable : ErrorKind::bad_input,
                       ended ? "the broker closed the connection before its answer was complete"
                             : "the broker's answer is not HTTP: " + cause.message(),
                       "",
                       {}};
        if (filled > 0)
          if (auto taken = sink(static_cast<int>(parser.get().result_int()), {out.data(), filled});
              !taken)
            return std::move(taken).error();
        if (parser.is_done()) return static_cast<int>(parser.get().result_int());
        if (!progressed) break;
      }
      if (ended)
        return Error{ErrorKind::unavailable,
                     "the broker closed the connection before its answer was complete",
                     "",
                     {}};
      auto ready = wait_for(fd_.get(), POLLIN, idle, "its answer was awaited");
      if (!ready) return std::move(ready).error();
      std::array<char, 65536>
          buffer; // NOLINT(cppcoreguidelines-pro-type-member-init): read() fills it
      const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        if (errno != ECONNRESET) return io_error("recv", errno);
      }
      if (got <= 0)
        ended = true;
      else
        pending.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }

private:
  Status read_early() {
    std::array<char, 8192>
        buffer; // NOLINT(cppcoreguidelines-pro-type-member-init): read() fills it
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) early_.append(buffer.data(), static_cast<std::size_t>(got));
    if (got == 0) hung_up_ = true;
    return {};
  }
  bool refused() const {
    if (hung_up_) return true;
    constexpr std::string_view kVersion = "HTTP/1.1 ";
    return early_.size() > kVersion.size() && early_[kVersion.size()] != '2' &&
           early_[kVersion.size()] != '1';
  }

  UniqueFd fd_;
  Deadlines deadlines_;
  std::string early_;
  bool hung_up_ = false;
};

std::string header_of(const Request& request) {
  std::string header = request.method + " " + request.target +
                       " HTTP/1.1\r\nHost: docker\r\nUser-Agent: slipway-shim/" SLIPWAY_VERSION
                       "\r\nAccept: */*\r\n";
  header += request.upgrades ? "Connection: Upgrade\r\nUpgrade: tcp\r\n" : "Connection: close\r\n";
  if (!request.content_type.empty()) header += "Content-Type: " + request.content_type + "\r\n";
  if (request.source)
    header += "Transfer-Encoding: chunked\r\n";
  else if (!request.body.empty() || request.method == "POST")
    header += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return header + "\r\n";
}

/// Sends a streamed body in chunks. False: the peer has said no already.
Result<bool> send_chunked(Exchange& exchange, const BodySource& source) {
  std::string buffer(kChunkBytes, '\0');
  for (;;) {
    auto got = source(buffer.data(), buffer.size());
    if (!got) return std::move(got).error();
    std::array<char, 24> size{};
    const int length = ::snprintf(size.data(), size.size(), "%zx\r\n", *got);
    std::string frame{size.data(), static_cast<std::size_t>(length)};
    frame.append(buffer, 0, *got);
    frame += "\r\n";
    auto sent = exchange.send(frame);
    if (!sent) return std::move(sent).error();
    if (!*sent) return false;
    if (*got == 0) return true;
  }
}

} // namespace

Result<UniqueFd> BrokerClient::connected() const {
  Error last{ErrorKind::unavailable, "no socket is configured", "", {}};
  for (const auto& path : sockets_) {
    auto connected = connect_to(path, deadlines_.connect);
    if (connected) return connected;
    last = std::move(connected).error();
  }
  return Error{ErrorKind::unavailable,
               "Cannot connect to the slipway broker at unix://" +
                   (sockets_.empty() ? std::string{"?"} : sockets_.front()) +
                   ". Is a job running? (" + last.what + ")",
               "",
               {}};
}

Result<Answer> BrokerClient::attach(const Request& request, int input,
                                    const std::function<Status()>& begun,
                                    const std::function<Status(std::string_view)>& sink) const {
  auto fd = connected();
  if (!fd) return std::move(fd).error();
  Exchange exchange{UniqueFd{::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0)}, deadlines_};
  auto sent = exchange.send(header_of(request) + request.body);
  if (!sent) return std::move(sent).error();
  std::vector<char> buffer(kChunkBytes);
  std::string head;
  std::size_t end = std::string::npos;
  const auto more = [&](Milliseconds patience) -> Result<std::size_t> {
    for (;;) {
      const ssize_t got = ::recv(fd->get(), buffer.data(), buffer.size(), 0);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno == ECONNRESET) return std::size_t{0};
      if (errno != EINTR && errno != EAGAIN) return io_error("recv", errno);
      if (auto ready = wait_for(fd->get(), POLLIN, patience, "its answer was awaited"); !ready)
        return std::move(ready).error();
    }
  };
  while ((end = head.find("\r\n\r\n")) == std::string::npos) {
    // The first use of the job's engine starts it.
    auto got = more(deadlines_.answer);
    if (!got) return std::move(got).error();
    if (*got == 0 || head.size() > kMaxHeaderBytes)
      return Error{ErrorKind::unavailable, "the broker's answer is not HTTP", "", {}};
    head.append(buffer.data(), *got);
  }
  std::string rest = head.substr(end + 4);
  head.resize(end);
  Answer answer;
  constexpr std::size_t kStatusAt = 9;
  for (std::size_t i = kStatusAt; i < std::min(head.size(), kStatusAt + 3); ++i)
    answer.status = answer.status * 10 + (head[i] - '0');
  if (answer.status != 101 && answer.status != 200) {
    std::size_t length = std::string::npos;
    constexpr std::string_view kLength = "\r\ncontent-length: ";
    const auto at = std::search(head.begin(), head.end(), kLength.begin(), kLength.end(),
                                [](char a, char b) { return ::tolower(a) == b; });
    if (at != head.end())
      length = static_cast<std::size_t>(std::strtoul(&*at + kLength.size(), nullptr, 10));
    while (rest.size() < std::min(length, kMaxHeaderBytes)) {
      auto got = more(deadlines_.answer);
      if (!got || *got == 0) break;
      rest.append(buffer.data(), *got);
    }
    answer.body = std::move(rest);
    return answer;
  }
  if (auto status = begun(); !status) return std::move(status).error();
  if (!rest.empty())
    if (auto taken = sink(rest); !taken) return std::move(taken).error();
  std::vector<char> typed(kChunkBytes);
  std::string_view unsent;
  for (;;) {
    std::array<pollfd, 2> polled{
        pollfd{fd->get(), static_cast<short>(unsent.empty() ? POLLIN : POLLIN | POLLOUT), 0},
        pollfd{unsent.empty() ? input : -1, POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return io_error("poll", errno);
    }
    if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      auto got = more(deadlines_.answer);
      if (!got) return std::move(got).error();
      if (*got == 0) return answer;
      if (auto taken = sink({buffer.data(), *got}); !taken) return std::move(taken).error();
    }
    if (!unsent.empty() && (polled[0].revents & POLLOUT) != 0) {
      const ssize_t put = ::send(fd->get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (put > 0) unsent.remove_prefix(static_cast<std::size_t>(put));
      if (put < 0 && errno != EAGAIN && errno != EINTR) {
        unsent = {};
        input = -1;
      }
    }
    if (polled[1].revents != 0) {
      const ssize_t got = ::read(input, typed.data(), typed.size());
      if (got > 0) {
        unsent = {typed.data(), static_cast<std::size_t>(got)};
      } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
        input = -1;
        ::shutdown(fd->get(), SHUT_WR);
      }
    }
  }
}

Result<int> BrokerClient::call(const Request& request, const BodySink& sink) const {
  auto fd = connected();
  if (!fd) return std::move(fd).error();
  Exchange exchange{std::move(*fd), deadlines_};
  auto sent = exchange.send(header_of(request));
  if (!sent) return std::move(sent).error();
  if (*sent) {
    auto body =
        request.source ? send_chunked(exchange, request.source) : exchange.send(request.body);
    if (!body) return std::move(body).error();
  }
  return exchange.receive(sink, request.long_running ? deadlines_.stream_idle : deadlines_.answer);
}

Result<Answer> BrokerClient::ask(const Request& request) const {
  Answer answer;
  auto status = call(request, [&answer](int, std::string_view bytes) -> Status {
    if (answer.body.size() + bytes.size() > kMaxAnswerBytes)
      return Error{ErrorKind::bad_input, "the broker's answer is larger than 64 MiB", "", {}};
    answer.body += bytes;
    return {};
  });
  if (!status) return std::move(status).error();
  answer.status = *status;
  return answer;
}

} // namespace slipway::shim
