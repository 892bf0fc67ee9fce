// SPDX-License-Identifier: Apache-2.0
// slipway-gate: reads one image, or archive of images, for the request at descriptor 3, answers
// there and ends. Confined before the first byte is read; ends when its parent hangs up.
#include "executor/base/clock.hpp"
#include "executor/base/file.hpp"
#include "executor/confine/confine.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/gate_worker/image_files.hpp"
#include "executor/gate_worker/protocol.hpp"
#include "executor/gate_worker/unpacker.hpp"

#include <openssl/crypto.h>

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <thread>

namespace {

constexpr int kSocket = 3;
constexpr std::chrono::seconds kFrameDeadline{10};

bool is_our_socket() {
  int domain = 0;
  socklen_t length = sizeof domain;
  return ::getsockopt(kSocket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

/// Nobody waits for the answer any more: unpacking has no end that could be waited for.
void end_with_parent() {
  for (;;) {
    pollfd peer{kSocket, POLLRDHUP, 0};
    if (::poll(&peer, 1, -1) > 0 && (peer.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0)
      ::_exit(3);
  }
}

slipway::confine::Profile profile_of(const slipway::gate_worker::Request& request) {
  slipway::confine::Profile profile{"slipway-gate", {}, {}};
  if (request.unpack)
    profile.most_memory = 256UL << 20; // each of a job's connections may ask for one
  else
    profile.read.push_back(request.layout_dir);
  if (request.known_layers) profile.write.push_back(request.known_layers->dir());
  if (request.search && !request.search->settings.cache_dir.empty())
    profile.write.push_back(request.search->settings.cache_dir);
  return profile;
}

/// Errors: those of the unpacker; io.
slipway::Status unpack(int input, int output) {
  using namespace slipway;
  gate_worker::Unpacker unpacker{
      [input](char* buffer, std::size_t capacity) -> Result<std::size_t> {
        for (;;) {
          const ssize_t got = ::read(input, buffer, capacity);
          if (got >= 0) return static_cast<std::size_t>(got);
          if (errno != EINTR) return io_error("read", errno, "the image archive");
        }
      }};
  std::vector<char> part(64UL << 10);
  for (;;) {
    auto got = unpacker.read(part.data(), part.size());
    if (!got) return std::move(got).error();
    if (*got == 0) return {};
    if (auto written = write_all(output, {part.data(), *got}); !written) return written;
  }
}

/// How many descriptors come with a request.
std::size_t descriptors_of(const slipway::gate_worker::Request& request) {
  return request.unpack ? 2 : request.most_file_bytes ? 1 : 0;
}

/// `fds` are those that came with the request; what is written goes into the last one.
std::string answer(slipway::gate_worker::Request& request,
                   const std::vector<slipway::UniqueFd>& fds) {
  using namespace slipway;
  const SystemClock clock;
  gate_worker::ReadsHere reader{clock};
  auto flaw = oci::Flaw::unreadable;
  const auto failed = [&](Error error) {
    if (request.most_file_bytes || request.unpack)
      return gate_worker::encode(Status{std::move(error)});
    if (request.executables_in)
      return gate_worker::encode(Result<std::vector<oci::Executable>>{std::move(error)});
    if (request.package_changes_in)
      return gate_worker::encode(Result<std::vector<oci::PackageChange>>{std::move(error)});
    return request.search ? gate_worker::encode(Result<leaks::Report>{std::move(error)})
                          : gate_worker::encode(Result<oci::Tolerated>{std::move(error)}, flaw);
  };
  if (auto confined = confine::confine(profile_of(request)); !confined)
    return failed(std::move(confined).error());
  std::thread{end_with_parent}.detach();
  if (request.unpack) return gate_worker::encode(unpack(fds[0].get(), fds[1].get()));
  auto layout = oci::Layout::open(request.layout_dir);
  if (!layout) return failed(std::move(layout).error());
  if (request.search)
    return gate_worker::encode(reader.search(*layout, request.root, *request.search));
  if (request.most_file_bytes)
    return gate_worker::encode(gate_worker::write_image_files(
        *layout, request.root, *request.most_file_bytes,
        [&](std::string_view bytes) { return write_all(fds[0].get(), bytes); }));
  if (request.executables_in)
    return gate_worker::encode(reader.executables(*layout, request.root, *request.executables_in));
  if (request.package_changes_in)
    return gate_worker::encode(
        reader.package_changes(*layout, request.root, *request.package_changes_in));
  if (request.known_layers) request.verify->known = &*request.known_layers;
  const auto verified = reader.verify(*layout, request.root, *request.verify, &flaw);
  return gate_worker::encode(verified, flaw);
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
    std::fputs("slipway-gate is started by slipway: it takes no arguments and wants a socket as "
               "descriptor 3\n",
               stderr);
    return 2;
  }
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || ::fcntl(kSocket, F_SETFD, FD_CLOEXEC) != 0 ||
      ::close_range(kSocket + 1, ~0U, 0) != 0 ||
      // Its configuration would be a file to read.
      ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) != 1)
    return 2;
  ::signal(SIGPIPE, SIG_IGN);

  auto frame = engine_api::receive_frame(kSocket, kFrameDeadline, gate_worker::kMaxRequestBytes);
  if (!frame) return 2;
  auto request = gate_worker::decode_request(frame->body);
  ::explicit_bzero(frame->body.data(), frame->body.size());
  if (!request || frame->fds.size() != descriptors_of(*request)) return 2;
  const auto said = answer(*request, frame->fds);
  frame->fds.clear(); // the end of the files, for who reads them
  const bool sent =
      engine_api::send_frame(kSocket, said, {}, kFrameDeadline, gate_worker::kMaxAnswerBytes).ok();
  std::fflush(nullptr);
  ::_exit(sent ? 0 : 2); // the other thread waits on
}
