// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/script_client.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace slipway::sandbox {
namespace {

using Steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

// init's one answer is small; what the job could make of it is not worth more memory.
constexpr std::size_t kAnswerLimit = 64UL << 10;
constexpr milliseconds kConnectDeadline{5000};
// Over the grace period: for SIGKILL to take effect and the answer to come.
constexpr milliseconds kAfterGrace{10000};

Result<sockaddr_un> address_of(const std::filesystem::path& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& path = socket.native();
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorKind::bad_input,
                 "the path of the script socket is over 107 bytes: " + path,
                 "use a shorter runtime folder",
                 {}};
  }
  ::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

// The sandbox's users are not the owner of the pipe; with mode 0666 they can open /dev/stdout and
// /dev/stderr anew, as scripts do. (conmon does the same.)
Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error("pipe2", errno);
  Pipe pipe{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
  if (::fchmod(pipe.writing.get(), 0666) != 0) return io_error("fchmod", errno, "pipe");
  if (::fcntl(pipe.reading.get(), F_SETFL, O_NONBLOCK) != 0)
    return io_error("fcntl", errno, "pipe");
  return pipe;
}

// A sealed memory file rather than a pipe: nothing to feed while the script runs, no SIGPIPE, and a
// shell reads a script that it can seek in by blocks, not byte by byte.
Result<UniqueFd> make_input(std::string_view bytes) {
  UniqueFd writing{::memfd_create("script", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!writing) return io_error("memfd_create", errno);
  auto written = write_all(writing.get(), bytes);
  if (!written) return std::move(written).error();
  if (::fchmod(writing.get(), 0444) != 0) return io_error("fchmod", errno, "script");
  if (::fcntl(writing.get(), F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return io_error("sealing", errno, "script");
  }
  const std::string again = "/proc/self/fd/" + std::to_string(writing.get());
  UniqueFd reading{::open(again.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!reading) return io_error("open", errno, again);
  return reading;
}

Result<UniqueFd> connect_to(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return address.error();
  UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!socket) return io_error("socket", errno);
  const timeval limit{kConnectDeadline.count() / 1000,
                      0}; // bounds connect where the backlog is full
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    const int cause = errno;
    return Error{ErrorKind::unavailable,
                 "the sandbox's init does not answer: " + errno_text(cause),
                 "the sandbox has ended, or the job has killed its own PID 1",
                 {path.string()}};
  }
  return socket;
}

// Reads what is there, at most some rounds so that one busy stream does not starve the others.
// False at the end of the stream.
bool forward(int fd, const OutputSink& sink) {
  std::array<char, 65536> bytes; // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  for (int round = 0; round < 4; ++round) {
    const auto count = ::read(fd, bytes.data(), bytes.size());
    if (count > 0) {
      if (sink) sink({bytes.data(), static_cast<std::size_t>(count)});
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    return count < 0 && errno == EAGAIN;
  }
  return true;
}

/// A run under way: what is still open and what is still awaited.
class Conversation {
public:
  Conversation(UniqueFd socket, Pipe out, Pipe err, const engine_api::ScriptRequest& request,
               const ScriptIo& io)
      : socket_{std::move(socket)}, out_{std::move(out.reading)}, err_{std::move(err.reading)},
        request_{request}, io_{io}, until_{Steady::now() + io.deadline}, stop_fd_{io.stop_fd} {}

  Result<ScriptResult> listen() {
    for (;;) {
      if (answer_ && !out_ && !err_) return ScriptResult{*answer_, stopped_};
      std::array<pollfd, 4> waits{{{answer_ ? -1 : socket_.get(), POLLIN, 0},
                                   {out_.get(), POLLIN, 0},
                                   {err_.get(), POLLIN, 0},
                                   {answer_ ? -1 : stop_fd_, POLLIN, 0}}};
      const auto rest = std::chrono::ceil<milliseconds>(until_ - Steady::now()).count();
      const int timeout = static_cast<int>(std::clamp<std::int64_t>(rest, 0, 1L << 30));
      if (::poll(waits.data(), waits.size(), timeout) < 0) {
        const int cause = errno;
        if (cause != EINTR) return io_error("poll", cause, "script");
        continue;
      }
      if (waits[1].revents != 0 && !forward(out_.get(), io_.out)) out_.reset();
      if (waits[2].revents != 0 && !forward(err_.get(), io_.err)) err_.reset();
      if (waits[3].revents != 0) stop();
      if (waits[0].revents != 0) {
        auto heard = hear();
        if (!heard) return std::move(heard).error();
      }
      if (Steady::now() < until_) continue;
      if (answer_) return ScriptResult{*answer_, stopped_}; // something holds the pipes: leave it
      if (terminating_) {
        return Error{ErrorKind::timed_out,
                     "the sandbox's init did not end the script",
                     "the sandbox will be removed with its job",
                     {}};
      }
      timed_out_ = true;
      terminate();
    }
  }

private:
  void stop() {
    stopped_ = true;
    stop_fd_ = -1; // it stays readable
    if (!terminating_) terminate();
  }

  void terminate() {
    terminating_ = true;
    until_ = Steady::now() + request_.grace + kAfterGrace;
    // Where init does not take the frame any more, the hangup says the same or the deadline ends
    // it.
    (void)engine_api::send_frame(socket_.get(), engine_api::encode_terminate(), {},
                                 milliseconds{1000});
  }

  Status hear() {
    auto frame = reader_.read(socket_.get());
    if (!frame) {
      auto error = std::move(frame).error();
      if (error.kind != ErrorKind::unavailable) return error;
      return Error{ErrorKind::unavailable,
                   "the sandbox's init went away while a script ran",
                   "the sandbox has ended, or the job has killed its own PID 1",
                   {}};
    }
    if (!*frame) return {};
    auto ending = engine_api::decode_ending((*frame)->body);
    if (!ending) return std::move(ending).error();
    if (timed_out_) {
      return Error{ErrorKind::timed_out,
                   "the script did not end within " + std::to_string(io_.deadline.count() / 1000) +
                       " s",
                   "",
                   {}};
    }
    answer_ = *std::move(ending);
    until_ = Steady::now() + io_.drain;
    return {};
  }

  UniqueFd socket_;
  UniqueFd out_;
  UniqueFd err_;
  const engine_api::ScriptRequest& request_;
  const ScriptIo& io_;
  Steady::time_point until_;
  int stop_fd_;
  engine_api::FrameReader reader_{kAnswerLimit};
  std::optional<engine_api::ScriptEnding> answer_;
  bool stopped_ = false;
  bool terminating_ = false;
  bool timed_out_ = false;
};

} // namespace

Result<UniqueFd> listen_for_scripts(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return address.error();
  UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return io_error("socket", errno);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return io_error("unlink", errno, path.string());
  // The mode of the socket's file is the descriptor's mode at bind, less the umask.
  if (::fchmod(socket.get(), 0600) != 0) return io_error("fchmod", errno, path.string());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return io_error("bind", errno, path.string());
  }
  if (::listen(socket.get(), 16) != 0) return io_error("listen", errno, path.string());
  return socket;
}

Result<ScriptResult> run_script(const std::filesystem::path& path,
                                const engine_api::ScriptRequest& request, const ScriptIo& io) {
  auto socket = connect_to(path);
  if (!socket) return std::move(socket).error();
  auto out = make_pipe();
  if (!out) return std::move(out).error();
  auto err = make_pipe();
  if (!err) return std::move(err).error();
  UniqueFd own_input;
  int input = io.input_fd;
  if (input < 0) {
    auto made = make_input(io.input);
    if (!made) return std::move(made).error();
    own_input = *std::move(made);
    input = own_input.get();
  }
  auto sent =
      engine_api::send_frame(socket->get(), engine_api::encode(request),
                             {input, out->writing.get(), err->writing.get()}, kConnectDeadline);
  if (!sent) return std::move(sent).error().in("asking the sandbox's init to run a program");
  own_input.reset();
  out->writing.reset();
  err->writing.reset();
  return Conversation{*std::move(socket), *std::move(out), *std::move(err), request, io}.listen();
}

} // namespace slipway::sandbox
