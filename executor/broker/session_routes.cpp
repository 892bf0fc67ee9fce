// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/session_routes.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>

namespace slipway::broker {
namespace {

constexpr std::chrono::hours kReaderPauses{24}; ///< at most
constexpr const char* kStreamType = "application/vnd.slipway.session";
constexpr const char* kFilesType = "application/vnd.slipway.session+tar";
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

/// The first line of BODY, without its end; what else was read is in `rest`. Errors: those of the
/// body; bad_input (no line, a longer one than a JSON body may be).
Result<std::string> read_line(Body& body, const ServerLimits& limits, std::string& rest) {
  body.limit_time(limits.header_deadline);
  std::string line;
  for (std::size_t end = std::string::npos; end == std::string::npos;) {
    const auto before = line.size();
    line.resize(before + kChunk);
    auto got = body.read(line.data() + before, kChunk);
    if (!got) return std::move(got).error();
    line.resize(before + *got);
    end = line.find('\n', before);
    if ((end == std::string::npos && *got == 0) ||
        std::min(end, line.size()) > limits.json_body_bytes)
      return Error{ErrorKind::bad_input, "there is no order before the files", "", {}};
    if (end == std::string::npos) continue;
    rest = line.substr(end + 1);
    line.resize(end);
  }
  body.limit_time(limits.stream_deadline);
  return line;
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

void refuse(Answer& answer, const Error& error) {
  answer.whole(status_of(error.kind), "application/json", error_json(readable(error)) + "\n");
}

/// Does `run` with streams that are the answer's frames, and says how it ended.
void serve_frames(Answer& answer, const ServerLimits& limits,
                  const std::function<Result<int>(SessionStreams& streams)>& run) {
  std::mutex sending;
  const Send send = [&](std::string_view frame) {
    const std::lock_guard lock{sending};
    answer.begin_stream(200, kStreamType);
    answer.chunk(frame);
  };
  auto streams = streams_to(send);
  streams.cancelled = [&] { return answer.gone(); };
  const auto ended = run(streams);
  answer.socket().set_idle(limits.idle_deadline);
  if (!ended && !answer.begun()) return refuse(answer, ended.error());
  send_ending(send, ended);
  answer.end_stream();
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

void SessionRoutes::serve(const Request& request, Answer& answer) {
  const bool has_files = request.content_type == kFilesType;
  std::string read_too_far;
  auto text = has_files
                  ? read_line(*request.body, limits_, read_too_far)
                  : request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline);
  if (!text) return refuse(answer, text.error());
  auto order = parse_session_json(*text);
  if (!order) return refuse(answer, order.error());
  // As at a terminal, whoever reads what a command prints may pause: it waits, and goes on.
  if (order->verb == "run") answer.socket().set_idle(kReaderPauses);
  if (request.upgrades) return serve_both_ways(*order, request, answer);

  serve_frames(answer, limits_, [&](SessionStreams& streams) {
    if (has_files)
      streams.files = [&, body = request.body](char* buffer,
                                               std::size_t capacity) -> Result<std::size_t> {
        if (read_too_far.empty()) return body->read(buffer, capacity);
        const auto count = read_too_far.copy(buffer, capacity);
        read_too_far.erase(0, count);
        return count;
      };
    return service_.run(*order, streams);
  });
}

void serve_fetch(FetchService& service, const ServerLimits& limits, const Request& request,
                 Answer& answer) {
  auto text = request.body->read_whole(limits.json_body_bytes, limits.header_deadline);
  if (!text) return refuse(answer, text.error());
  auto order = parse_fetch_json(*text);
  ::explicit_bzero(text->data(), text->size()); // it may hold the job's logins
  request.body->wipe();
  if (!order) return refuse(answer, order.error());
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(answer.socket().descriptor(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return refuse(answer, io_error("getsockopt", errno, "who asks"));
  order->peer = {peer.uid, peer.gid, peer.pid};
  answer.socket().set_idle(kReaderPauses); // a reader may write what it takes to a slow disk
  serve_frames(answer, limits, [&](SessionStreams& streams) {
    auto ran = service.run(*order, streams);
    for (auto& word : order->arguments)
      ::explicit_bzero(word.data(), word.size());
    for (auto& [name, value] : order->env)
      ::explicit_bzero(value.data(), value.size());
    return ran;
  });
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
