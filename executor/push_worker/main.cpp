// SPDX-License-Identifier: Apache-2.0
// slipway-push: serves one request from the socket at descriptor 3 and ends.
// - leaves no core dump and cannot be traced by others of its user;
// - gains no privileges; keeps no descriptor but 0-3; heeds no environment and no arguments;
// - is confined to what the request needs before it talks to anybody (profile.hpp);
// - ends when its parent hangs up, at SIGTERM and at its deadline.
#include "executor/base/clock.hpp"
#include "executor/confine/confine.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/http/curl_transport.hpp"
#include "executor/push_worker/profile.hpp"
#include "executor/push_worker/programs.hpp"
#include "executor/push_worker/worker.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

namespace {

constexpr int kSocket = 3;
constexpr std::chrono::seconds kFrameDeadline{10};
volatile std::sig_atomic_t terminated = 0;

bool is_our_socket() {
  int domain = 0;
  int type = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(kSocket, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return false;
  length = sizeof type;
  if (::getsockopt(kSocket, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return false;
  return domain == AF_UNIX && type == SOCK_STREAM;
}

bool lock_down() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return false;
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return false;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (::fcntl(kSocket, F_SETFD, FD_CLOEXEC) != 0) return false;
  return ::close_range(kSocket + 1, ~0U, 0) == 0;
}

/// True once nobody waits for the answer any more.
bool cancelled() {
  if (terminated != 0) return true;
  pollfd peer{kSocket, POLLRDHUP, 0};
  return ::poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

std::unique_ptr<slipway::http::Transport> to_issuer(const slipway::engine_api::IssuerSpec& spec) {
  slipway::http::CurlOptions options;
  options.ca_file = spec.text("ca_file");
  options.client_cert_file = spec.text("client_cert_file");
  options.client_key_file = spec.text("client_key_file");
  options.proxy = spec.text("proxy");
  options.plain_http = spec.is_on("plain_http");
  options.entry = "[[credential]] entry \"" + spec.name + "\"";
  return std::make_unique<slipway::http::CurlTransport>(std::move(options));
}

void tell(const std::string& frame) {
  (void)slipway::engine_api::send_frame(kSocket, frame, {}, kFrameDeadline).ok();
}

slipway::engine_api::WorkerAnswer work(slipway::engine_api::WorkerRequest request,
                                       slipway::process::ProcessRunner& runner) {
  using namespace slipway;
  http::CurlOptions options;
  std::chrono::seconds deadline{};
  if (request.issuer) {
    deadline = std::chrono::seconds{request.issuer->deadline_seconds};
  } else if (request.keys) {
    options.ca_file = request.keys->ca_file;
    options.proxy = request.keys->proxy;
    options.plain_http = request.keys->plain_http;
    options.entry = "section [identity]";
    deadline = std::chrono::seconds{request.keys->deadline_seconds};
  } else {
    const auto& access = request.push ? request.push->registry : request.pull->registry;
    options.ca_file = access.ca_file;
    options.plain_http = access.plain_http;
    deadline = std::chrono::seconds{request.push ? request.push->deadline_seconds
                                                 : request.pull->deadline_seconds};
  }
  options.cancelled = cancelled;
  http::CurlTransport transport{std::move(options)};
  const SystemClock clock;
  push_worker::World world{
      transport,
      to_issuer,
      clock,
      runner,
      registry::real_pacing(deadline, cancelled),
      [](std::chrono::milliseconds wait) { std::this_thread::sleep_for(wait); },
      [](const std::string& line) { tell(engine_api::encode_progress(line)); },
      [](const engine_api::LeaseNote& note) { tell(engine_api::encode(note)); },
      [] {
        engine_api::LeaseNote note;
        note.state = engine_api::LeaseNote::State::renewing;
        tell(engine_api::encode(note));
        return engine_api::receive_frame(kSocket, kFrameDeadline).ok();
      }};
  return push_worker::serve(std::move(request), world);
}

slipway::engine_api::WorkerAnswer answer_to(slipway::engine_api::WorkerRequest request) {
  using namespace slipway;
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  auto programs = push_worker::Programs::start(self, push_worker::programs_of(request));
  if (!programs) return engine_api::answer_of(programs.error());
  if (auto confined = confine::confine(push_worker::profile_of(request)); !confined)
    return engine_api::answer_of(confined.error());
  return work(std::move(request), **programs);
}

} // namespace

#ifdef __SANITIZE_ADDRESS__
// Its look for leaks at the end wants a process of its own.
extern "C" const char* __asan_default_options() { // NOLINT(bugprone-reserved-identifier)
  return "detect_leaks=0";
}
#endif

int main(int argc, char**) {
  using namespace slipway;
  if (argc != 1 || !is_our_socket()) {
    std::fputs("slipway-push is started by slipway: it takes no arguments and wants a socket as "
               "descriptor 3\n",
               stderr);
    return 2;
  }
  if (!lock_down()) {
    std::fputs("slipway-push: cannot lock itself down\n", stderr);
    return 2;
  }
  struct sigaction on_term {};
  on_term.sa_handler = [](int) { terminated = 1; };
  ::sigaction(SIGTERM, &on_term, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  auto frame =
      engine_api::receive_frame(kSocket, kFrameDeadline, engine_api::kMaxWorkerRequestBytes);
  if (!frame) return 2;
  if (const auto programs = push_worker::decode_programs(frame->body)) {
    push_worker::serve_programs(kSocket, *programs);
    return 0;
  }
  auto request = engine_api::decode_worker_request(frame->body);
  ::explicit_bzero(frame->body.data(), frame->body.size());
  const auto answer =
      request ? answer_to(*std::move(request)) : engine_api::answer_of(request.error());
  return engine_api::send_frame(kSocket, engine_api::encode(answer), {}, kFrameDeadline).ok() ? 0
                                                                                              : 2;
}
