// SPDX-License-Identifier: Apache-2.0
#define OPENSSL_SUPPRESS_DEPRECATED // SHA256_Init: see below
#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"
#include "executor/sandbox/limits.hpp"
#include "executor/sandbox/podman_api.hpp"
#include "executor/sandbox/podman_call.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <openssl/sha.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

namespace slipway::sandbox {
namespace {

namespace http = boost::beast::http;
using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kMostAnswerBytes = 16UL << 20;
constexpr milliseconds kStartDeadline{20000};

Result<UniqueFd> connect_to(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto& text = path.native();
  if (text.size() >= sizeof address.sun_path)
    return Error{ErrorKind::misconfigured, "path of a socket is too long: " + text, "", {}};
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return io_error("socket", errno);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API's own shape
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return io_error("connect", errno, text);
  return fd;
}

Status wait_for(int fd, short events, Steady::time_point until) {
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Steady::now()).count();
    if (left <= 0) return Error{ErrorKind::timed_out, "podman did not answer in time", "", {}};
    pollfd one{fd, events, 0};
    const int got = ::poll(&one, 1, static_cast<int>(std::min<long>(left, 1L << 30)));
    if (got > 0) return {};
    if (got < 0 && errno != EINTR) return io_error("poll", errno);
  }
}

Error cut_off(const std::string& what) {
  return Error{ErrorKind::unavailable, "podman's service " + what, "", {}};
}

Status send_all(int fd, std::string_view bytes, Steady::time_point until) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (auto ready = wait_for(fd, POLLOUT, until); !ready) return ready;
    } else if (errno != EINTR) {
      return cut_off("took no request: " + errno_text(errno));
    }
  }
  return {};
}

Result<ApiAnswer> receive(int fd, Steady::time_point until) {
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMostAnswerBytes);
  parser.eager(true);
  std::string pending;
  std::array<char, 16384> buffer{};
  boost::beast::error_code failed;
  while (!parser.is_done()) {
    if (auto ready = wait_for(fd, POLLIN, until); !ready) return std::move(ready).error();
    const auto got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return cut_off("broke off: " + errno_text(errno));
    if (got == 0) {
      if (!parser.got_some()) return cut_off("ended without an answer");
      parser.put_eof(failed);
      break;
    }
    pending.append(buffer.data(), static_cast<std::size_t>(got));
    while (!pending.empty() && !parser.is_done()) {
      const auto used = parser.put(boost::asio::buffer(pending), failed);
      pending.erase(0, used);
      if (failed) break;
      if (used == 0) break;
    }
    if (failed == http::error::need_more) failed = {};
    if (failed) break;
  }
  if (failed || !parser.is_done()) {
    return Error{failed == http::error::body_limit ? ErrorKind::bad_input : ErrorKind::unavailable,
                 "podman's answer cannot be read: " + failed.message(),
                 "",
                 {}};
  }
  auto message = parser.release();
  return ApiAnswer{static_cast<int>(message.result_int()), std::move(message.body())};
}

/// Ends the process of this user that listens at the other end. Nobody else's: what is at the path
/// of a socket may be anything.
Status end_peer(int fd, Steady::time_point until) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return io_error("getsockopt", errno);
  const UniqueFd process{static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0))};
  if (!process) return errno == ESRCH ? Status{} : io_error("pidfd_open", errno);
  const auto name = read_file("/proc/" + std::to_string(peer.pid) + "/comm", 32);
  if (peer.uid != ::geteuid() || !name || !name->starts_with("podman")) {
    return Error{ErrorKind::unavailable,
                 "process " + std::to_string(peer.pid) + " listens there and is not Podman",
                 "",
                 {}};
  }
  if (::syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0) != 0 && errno != ESRCH)
    return io_error("kill", errno, std::to_string(peer.pid));
  return wait_for(process.get(), POLLIN, until);
}

} // namespace

PodmanService::PodmanService(Engine engine, int stop_fd)
    : engine_{std::move(engine)}, stop_fd_{stop_fd} {
  // Another Podman, store or settings file is another service.
  std::string text = engine_.podman.string() + "\n" + engine_.containers_conf.string() + "\n" +
                     engine_.first_in_path.string();
  for (const auto& argument : engine_.global_args)
    text += "\n" + argument;
  // And one that was started elsewhere, from an administrator's shell: it has no right to put a
  // sandbox into the group of ours.
  if (const auto group = sandboxes_group(); !group.empty()) text += "\n" + group;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  // Not SHA256(): it loads OpenSSL's configuration and providers, 2 ms for each process.
  SHA256_CTX context{};
  SHA256_Init(&context);
  SHA256_Update(&context, text.data(), text.size());
  SHA256_Final(hash.data(), &context);
  std::string name = "slipway-podman-";
  for (std::size_t i = 0; i < 4; ++i) {
    name += "0123456789abcdef"[hash[i] >> 4];
    name += "0123456789abcdef"[hash[i] & 15U];
  }
  socket_ = engine_.runtime_dir / (name + ".sock");
}

Result<process::ChildProcess> PodmanService::start() {
  process::Command command;
  std::vector<std::string> words{"system", "service", "--time=" + std::to_string(kIdle.count()),
                                 "unix://" + socket_.string()};
  if (!engine_.first_in_path.empty())
    words.insert(words.begin(), "--conmon=" + (engine_.first_in_path / "conmon").string());
  command.argv = podman_argv(engine_, std::move(words));
  command.env = podman_env(engine_);
  command.no_new_privileges = false; // newuidmap is setuid
  const UniqueFd log{::open(
      log_file().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!log) return io_error("open", errno, log_file());
  command.fds = {{log.get(), 1}, {log.get(), 2}};
  return process::spawn(command);
}

bool PodmanService::is_left_behind() const {
  const auto of_service = read_file(pause_file(), 32);
  if (!of_service || of_service->empty()) return false;
  const auto now = pause_process(engine_);
  return !now || *of_service != std::to_string(*now);
}

Result<UniqueFd> PodmanService::connected() {
  if (!is_left_behind()) {
    if (auto fd = connect_to(socket_)) return fd;
  }
  const auto until = Steady::now() + kStartDeadline;
  const auto locked = socket_.string() + ".lock";
  const auto lock = lock_file(locked, LOCK_EX, kStartDeadline);
  if (!lock) return Error{lock.error()};
  if (!*lock) return Error{ErrorKind::timed_out, "another process holds " + locked, "", {}};
  if (auto fd = connect_to(socket_)) {
    if (!is_left_behind()) return fd; // started by whoever held the lock
    if (auto ended = end_peer(fd->get(), until); !ended)
      return std::move(ended).error().in("ending podman's service, whose namespaces are gone");
  }
  (void)::unlink(socket_.c_str()); // of one that was killed
  (void)::unlink(pause_file().c_str());
  auto service = start();
  if (!service) return std::move(service).error().in("starting podman's service");
  for (;;) {
    if (auto fd = connect_to(socket_)) {
      service->leave();
      const auto pause = pause_process(engine_);
      const UniqueFd file{::open(pause_file().c_str(),
                                 O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
      if (!file) return io_error("open", errno, pause_file());
      if (auto told = write_all(file.get(), pause ? std::to_string(*pause) : ""); !told)
        return std::move(told).error();
      return fd;
    }
    pollfd end{service->pidfd(), POLLIN, 0};
    if (::poll(&end, 1, 2) > 0 || Steady::now() > until) {
      const auto said = read_file(log_file(), 64UL << 10);
      return Error{ErrorKind::unavailable,
                   "podman's service does not answer on " + socket_.string() +
                       (said && !said->empty() ? "; it said: " + said->substr(0, 600) : ""),
                   "see what `" + engine_.podman.string() +
                       " info` says as the service user: subordinate ids, cgroup delegation",
                   {}};
    }
  }
}

Result<ApiAnswer> PodmanService::ask(const ApiRequest& request) {
  // Who has to end begins nothing; what there is may go all the same.
  pollfd stop{stop_fd_, POLLIN, 0};
  if (stop_fd_ >= 0 && request.method != "DELETE" && ::poll(&stop, 1, 0) > 0)
    return Error{ErrorKind::unavailable, "stopped", "", {}};
  const auto until = Steady::now() + engine_.deadline;
  std::string text = request.method + " /v4.0.0/libpod" + request.target +
                     " HTTP/1.1\r\nHost: podman\r\nConnection: close\r\n";
  if (!request.body.empty()) text += "Content-Type: application/json\r\n";
  text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n\r\n" + request.body;
  // Twice, because a service that just ends for idleness may take a connection and drop it.
  std::optional<Error> failed;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto fd = connected();
    if (!fd) return std::move(fd).error();
    auto sent = send_all(fd->get(), text, until);
    auto answer = sent ? receive(fd->get(), until) : Result<ApiAnswer>{std::move(sent).error()};
    if (answer || answer.error().kind != ErrorKind::unavailable) return answer;
    failed = std::move(answer).error();
  }
  return *std::move(failed);
}

} // namespace slipway::sandbox
