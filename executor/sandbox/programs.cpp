// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/programs.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <utility>

namespace slipway::sandbox {

namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kMaxLine = 64UL << 10;
constexpr std::size_t kFeedBytes = 64UL << 10;
constexpr std::size_t kTail = 16UL << 10;
constexpr std::size_t kMaxWords = 4096; ///< of a program's stderr

/// A build tool's own logger, which says nothing about the build.
bool is_log_line(std::string_view line) {
  return line.starts_with("time=\"") && line.find(" level=") != std::string_view::npos;
}

} // namespace

BuildClock::BuildClock(std::function<bool()> cancelled, std::chrono::milliseconds deadline)
    : cancelled_{std::move(cancelled)}, deadline_{Steady::now() + deadline},
      fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  if (!cancelled_) return;
  watcher_ = std::thread{[this] {
    std::unique_lock lock{mutex_};
    while (!done_) {
      if (cancelled_()) {
        const std::uint64_t one = 1;
        (void)!::write(fd_.get(), &one, sizeof one);
        return;
      }
      ended_.wait_for(lock, 100ms);
    }
  }};
}

BuildClock::~BuildClock() {
  {
    const std::lock_guard lock{mutex_};
    done_ = true;
  }
  ended_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

bool BuildClock::is_cancelled() const {
  return cancelled_ && cancelled_();
}

std::chrono::milliseconds BuildClock::left() const {
  return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Steady::now()),
                  std::chrono::milliseconds{1000});
}

engine_api::ScriptRequest program_request(std::vector<std::string> argv, const std::string& home) {
  engine_api::ScriptRequest request;
  request.argv = std::move(argv);
  // Build tools turn SOURCE_DATE_EPOCH, DOCKER_CONFIG and proxies of their environment into parts
  // of the build.
  request.env = {{"HOME", home}, {"PATH", "/usr/bin:/bin"}, {"LC_ALL", "C.UTF-8"}};
  request.user = "0:0";
  request.cwd = "/";
  request.umask = 0077;
  request.grace = 5s;
  request.keep_others = true; // builds run side by side
  return request;
}

std::string describe(const engine_api::ScriptEnding& ending) {
  if (!ending.error.empty()) return "could not start: " + ending.error;
  if (ending.signal) return "was ended by signal " + std::to_string(*ending.signal);
  return "ended with exit code " + std::to_string(ending.exit_code.value_or(-1));
}

bool succeeded(const engine_api::ScriptEnding& ending) {
  return ending.error.empty() && !ending.signal && ending.exit_code == 0;
}

Error build_cancelled() {
  return Error{ErrorKind::backend_failed, "the build was cancelled", "", {}};
}

Result<std::string> read_program(const ScriptRunner& run, const engine_api::ScriptRequest& request,
                                 std::size_t limit, const BuildClock& clock, ProgramInput input,
                                 std::chrono::milliseconds deadline) {
  std::string out;
  std::string err;
  ScriptIo io;
  io.input = input.text;
  io.input_fd = input.fd;
  io.stop_fd = clock.stop_fd();
  io.deadline = std::min(clock.left(), deadline);
  io.out = [&](std::string_view bytes) {
    if (out.size() <= limit) out += bytes.substr(0, limit + 1 - std::min(limit, out.size()));
  };
  io.err = [&](std::string_view bytes) {
    err += bytes.substr(0, kMaxWords - std::min(kMaxWords, err.size()));
  };
  auto ran = run(request, io);
  if (!ran) return std::move(ran).error();
  if (ran->stopped) return build_cancelled();
  if (!succeeded(ran->ending)) {
    while (!err.empty() && err.back() == '\n')
      err.pop_back();
    return Error{ran->ending.error.empty() ? ErrorKind::bad_input : ErrorKind::unavailable,
                 request.argv[0] + " " + describe(ran->ending) + (err.empty() ? "" : ": " + err),
                 "",
                 {}};
  }
  if (out.size() > limit)
    return Error{ErrorKind::bad_input,
                 request.argv[0] + " said more than " + std::to_string(limit) + " bytes",
                 "",
                 {}};
  return out;
}

Result<engine_api::ScriptEnding> stream_program(const ScriptRunner& run,
                                                const engine_api::ScriptRequest& request,
                                                const BuildClock& clock,
                                                const std::function<Status(int fd)>& consume) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return io_error("socketpair", errno);
  UniqueFd source{pair[0]};
  UniqueFd sink{pair[1]};
  Result<ScriptResult> ran{ScriptResult{}};
  std::thread writer{[&] {
    ScriptIo io;
    io.stop_fd = clock.stop_fd();
    io.deadline = clock.left();
    io.out = [&](std::string_view bytes) {
      while (!bytes.empty()) { // the other end closes early where it does not like what it reads
        const ssize_t sent = ::send(sink.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return;
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      }
    };
    io.err = [](std::string_view) {};
    ran = run(request, io);
    sink.reset();
  }};
  Status consumed;
  std::exception_ptr thrown;
  try {
    consumed = consume(source.get());
  } catch (...) {
    thrown = std::current_exception();
  }
  source.reset();
  writer.join();
  if (thrown) std::rethrow_exception(thrown);
  if (!ran) return std::move(ran).error();
  if (ran->stopped) return build_cancelled();
  if (!consumed) return consumed.error();
  return ran->ending;
}

Status feed(const ByteSource& source, const std::function<void(int fd)>& consume) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io_error("pipe", errno);
  UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  Status fed;
  std::thread feeder{[&] {
    std::vector<char> buffer(kFeedBytes);
    for (;;) {
      const auto got = source(buffer.data(), buffer.size());
      if (!got) fed = got.error();
      if (!got || *got == 0) break;
      if (!write_all(write_end.get(), {buffer.data(), *got})) break; // the reader says why
    }
    write_end.reset();
  }};
  consume(read_end.get());
  read_end.reset(); // or what was not read would hold the feeder for ever
  feeder.join();
  return fed;
}

void ProgressLines::take(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view part =
        bytes.substr(0, end == std::string_view::npos ? bytes.size() : end + 1);
    bytes.remove_prefix(part.size());
    pending_ += part;
    if (end != std::string_view::npos || pending_.size() > kMaxLine) {
      line(pending_);
      pending_.clear();
    }
  }
}

void ProgressLines::finish() {
  if (!pending_.empty()) line(pending_ + "\n");
  pending_.clear();
}

void ProgressLines::line(std::string_view text) {
  if (is_log_line(text)) return;
  tail_ += text;
  if (tail_.size() > 2 * kTail) tail_.erase(0, tail_.size() - kTail);
  if (sink_) sink_(text);
}

} // namespace slipway::sandbox
