// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/session_routes.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <string>
#include <thread>

namespace slipway::broker {
namespace {

constexpr const char* kStreamType = "application/vnd.slipway.session";
constexpr const char* kProtocol = "slipway-session";
constexpr std::size_t kChunk = 64UL << 10;

/// What a frame holds: the streams have Docker's numbers.
enum class Kind : char { out = 1, err = 2, ended = 3, failed = 4 };

/// Docker's header of a stream's frame. Source: Engine API v1.41, ContainerAttach.
std::string frame_of(Kind kind, std::string_view bytes) {
  const auto size = bytes.size();
  std::string frame{static_cast<char>(kind), 0, 0, 0};
  for (const unsigned shift : {24U, 16U, 8U, 0U})
    frame += static_cast<char>(size >> shift & 0xffU);
  return frame.append(bytes);
}

using Send = std::function<void(std::string_view frame)>;

SessionStreams streams_to(const Send& send) {
  SessionStreams streams;
  streams.out = [&send](std::string_view bytes) { send(frame_of(Kind::out, bytes)); };
  streams.err = [&send](std::string_view bytes) { send(frame_of(Kind::err, bytes)); };
  return streams;
}

void send_ending(const Send& send, const Result<int>& ended) {
  send(ended ? frame_of(Kind::ended, std::to_string(*ended))
             : frame_of(Kind::failed, readable(ended.error())));
}

/// Carries what the peer sends to a pipe, until its end, that of the pipe's reader, or its own.
class InputPump {
public:
  /// `peer` and `stop` are lent. Errors: io.
  static Result<std::unique_ptr<InputPump>> start(int peer, int stop, std::string first) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io_error("pipe", errno);
    std::unique_ptr<InputPump> pump{new InputPump};
    pump->reader_ = UniqueFd{ends[0]};
    UniqueFd writer{ends[1]};
    pump->done_ = UniqueFd{::eventfd(0, EFD_CLOEXEC)};
    if (!pump->done_ || ::fcntl(writer.get(), F_SETFL, O_NONBLOCK) != 0)
      return io_error("eventfd", errno);
    pump->thread_ = std::thread{[peer, stop, done = pump->done_.get(), pending = std::move(first),
                                 writer = std::move(writer)]() mutable {
      carry(peer, stop, done, std::move(pending), writer.get());
    }};
    return pump;
  }
  InputPump(const InputPump&) = delete;
  InputPump& operator=(const InputPump&) = delete;
  ~InputPump() {
    const std::uint64_t one = 1;
    (void)!::write(done_.get(), &one, sizeof one);
    reader_.reset();
    if (thread_.joinable()) thread_.join();
  }
  int reader() const { return reader_.get(); }

private:
  InputPump() = default;
  static void carry(int peer, int stop, int done, std::string pending, int writer) {
    std::array<char, kChunk> buffer; // NOLINT(cppcoreguidelines-pro-type-member-init)
    bool ended = false;
    while (!ended || !pending.empty()) {
      std::array<pollfd, 4> polled{pollfd{done, POLLIN, 0}, pollfd{stop, POLLIN, 0},
                                   pollfd{pending.empty() ? peer : -1, POLLIN, 0},
                                   pollfd{pending.empty() ? -1 : writer, POLLOUT, 0}};
      if (::poll(polled.data(), polled.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return;
      }
      if (polled[0].revents != 0 || polled[1].revents != 0) return;
      if (polled[2].revents != 0) {
        const ssize_t got = ::recv(peer, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got > 0) pending.assign(buffer.data(), static_cast<std::size_t>(got));
        ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
      }
      if (polled[3].revents != 0) {
        const ssize_t put = ::write(writer, pending.data(), pending.size());
        if (put > 0) pending.erase(0, static_cast<std::size_t>(put));
        if (put < 0 && errno != EINTR && errno != EAGAIN) return; // nobody reads any more
      }
    }
  }

  UniqueFd reader_;
  UniqueFd done_;
  std::thread thread_;
};

} // namespace

void SessionRoutes::serve(const Request& request, const Target& target, Answer& answer) {
  const auto refuse = [&](const Error& error) {
    answer.whole(status_of(error.kind), "application/json", error_json(readable(error)) + "\n");
  };
  // Where files follow they are the body.
  const auto in_query = target.query.get("order");
  auto text = in_query.empty()
                  ? request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline)
                  : Result<std::string>{in_query};
  if (!text) return refuse(text.error());
  auto order = parse_session_json(*text);
  if (!order) return refuse(order.error());
  if (request.upgrades) return serve_both_ways(*order, request, answer);

  std::mutex sending;
  const Send send = [&](std::string_view frame) {
    const std::lock_guard lock{sending};
    answer.begin_stream(200, kStreamType);
    answer.chunk(frame);
  };
  auto streams = streams_to(send);
  streams.cancelled = [&] { return answer.gone(); };
  if (!in_query.empty())
    streams.files = [body = request.body](char* buffer, std::size_t capacity) {
      return body->read(buffer, capacity);
    };
  const auto ended = service_.run(*order, streams);
  if (!ended && !answer.begun()) return refuse(ended.error());
  send_ending(send, ended);
  answer.end_stream();
}

void SessionRoutes::serve_both_ways(const SessionOrder& order, const Request& request,
                                    Answer& answer) {
  auto& socket = answer.socket();
  if (!answer.upgrade(kProtocol)) return;
  std::mutex sending;
  const Send send = [&](std::string_view frame) {
    const std::lock_guard lock{sending};
    (void)socket.write(frame);
  };
  auto pump =
      InputPump::start(socket.descriptor(), socket.stop_descriptor(), request.body->take_unread());
  if (!pump) return send_ending(send, std::move(pump).error());
  auto streams = streams_to(send);
  streams.input = (*pump)->reader();
  // The end of its stdin is not yet that of the client.
  streams.cancelled = [&socket] {
    pollfd peer{socket.descriptor(), 0, 0};
    return socket.is_stopping() ||
           (::poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLERR)) != 0);
  };
  send_ending(send, service_.run(order, streams));
}

} // namespace slipway::broker
