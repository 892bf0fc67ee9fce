// SPDX-License-Identifier: Apache-2.0
// slipway-init: PID 1 of a sandbox. It
//   - takes run requests on a listening unix socket: descriptor 3, or what slipway hands over;
//   - starts each program in a session of its own, as the asked user, with nothing of init's;
//   - reaps every orphan, and ends what a program left behind;
//   - serves the job's Docker endpoints (SLIPWAY_DOCKER=sandbox or network) and puts the shim in
//     place (SLIPWAY_SHIM);
//   - leads the names of brokered registries to slipway's endpoint (SLIPWAY_REGISTRIES);
//   - leads port 3128 to the proxy of a closed network (SLIPWAY_EGRESS=sandbox or network), whose
//     socket is in SLIPWAY_EGRESS_FOLDER where that is not /run/slipway/egress; as
//     `slipway-init with-proxy PROGRAM ARGS…` it does only that, beside the program, which is PID
//     1;
//   - as `slipway-init print FILE…` it only prints files;
//   - as `slipway-init ssh-agent SOCKET` it only stands for an SSH agent that slipway leads it to;
//   - as `slipway-init program NAME ARGS…` it becomes the program that slipway hands over, sealed;
//   - cannot be traced or ended by what it runs, short of the kernel's own means.
// Protocol: docs/script-protocol.md.
#include "executor/init/agent_relay.hpp"
#include "executor/init/image_setup.hpp"
#include "executor/init/print_files.hpp"
#include "executor/init/relay.hpp"
#include "executor/init/server.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace {

constexpr int kListener = 3;
constexpr const char* kHandover = "/run/slipway/handover/s";
constexpr const char* kDockerSocket = "/run/slipway/sock/docker.sock";
constexpr const char* kRegistrySocket = "/run/slipway/sock/registry.sock";
constexpr const char* kRegistryFolder = "/run/slipway/registry";
constexpr const char* kTlsFolder = "/run/slipway/tls";
constexpr const char* kProxyFolder = "/run/slipway/egress";
constexpr int kProxyPort = 3128;

void say(const std::string& line) {
  (void)!::write(STDERR_FILENO, ("slipway-init: " + line + "\n").c_str(), line.size() + 15);
}

// The descriptor that slipway hands over to this process alone; -1 where there is none.
int take_over(std::chrono::seconds deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::strncpy(address.sun_path, kHandover, sizeof address.sun_path - 1);
  const slipway::UniqueFd peer{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const timeval patience{static_cast<time_t>(deadline.count()), 0};
  if (!peer || ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      ::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return -1;
  int fd = -1;
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)]{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(peer.get(), &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof fd))
    return -1;
  ::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  // Until slipway has closed its end, the host's path is among this network namespace's sockets.
  (void)!::recv(peer.get(), &byte, 1, 0);
  return fd;
}

bool is_listening_unix_socket(int fd) {
  int domain = 0;
  int listening = 0;
  socklen_t size = sizeof domain;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
         ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

void hold_standard_descriptors() {
  int fd = -1;
  do { // NOLINT(cppcoreguidelines-avoid-do-while): the lowest free number comes each time
    fd = ::open("/dev/null", O_RDWR); // NOLINT(android-cloexec-open): 0 to 2 are to stay
  } while (fd >= 0 && fd < 3);
  if (fd >= 0) (void)::close(fd);
}

// "" where it is not set.
const char* variable(const char* name) {
  const char* value = ::getenv(name); // NOLINT(concurrency-mt-unsafe): no thread yet
  return value != nullptr ? value : "";
}

slipway::init::From who_may_come(const char* word) {
  return ::strcmp(word, "network") == 0 ? slipway::init::From::its_network
                                        : slipway::init::From::this_sandbox;
}

void serve_docker(slipway::init::From from) {
  slipway::init::link_docker_socket("/", kDockerSocket);
  auto plain = slipway::init::start_relay(2375, kDockerSocket, "", from, {});
  if (!plain) say(plain.error().text() + ", continuing without port 2375");
  if (::access((std::string{kTlsFolder} + "/cert.pem").c_str(), R_OK) != 0) return;
  auto tls = slipway::init::start_relay(2376, kDockerSocket, kTlsFolder, from, {});
  if (!tls) say(tls.error().text() + ", continuing without port 2376");
}

void serve_registries(std::string_view named) {
  const auto registries = slipway::init::parse_registries(named);
  slipway::init::trust_registries("/", kRegistryFolder, registries);
  std::set<std::uint16_t> ports;
  for (const auto& registry : registries) {
    if (!ports.insert(registry.port).second) continue;
    auto started = slipway::init::start_registry_relay(registry.port, kRegistrySocket,
                                                       registry.plain_http ? "" : kRegistryFolder);
    if (!started)
      say(started.error().text() + ", continuing without port " + std::to_string(registry.port) +
          " of the registry endpoint");
  }
}

void serve_proxy(slipway::init::From from) {
  const char* other = ::getenv("SLIPWAY_EGRESS_FOLDER"); // NOLINT(concurrency-mt-unsafe)
  auto started =
      slipway::init::start_proxy_relay(kProxyPort, other != nullptr ? other : kProxyFolder, from);
  if (!started) say(started.error().text() + ", continuing without the proxy: nothing gets out");
}

// The child ends with the sandbox, whose PID 1 the program is.
int run_with_proxy(char** argv) {
  const pid_t child = ::fork();
  if (child == 0) {
    (void)::setsid();
    (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    serve_proxy(slipway::init::From::its_network);
    for (;;)
      (void)::pause();
  }
  if (child < 0) say("no process is left for the proxy's port: nothing gets out");
  (void)::execv(argv[0], argv);
  say(std::string{argv[0]} + " cannot be executed");
  return 126;
}

// The descriptor is closed by the exec, as all others are.
int become_program(char** argv) {
  const int program = take_over(std::chrono::minutes{5}); // it is copied and hashed meanwhile
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  const int seals = program < 0 ? -1 : ::fcntl(program, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    say(std::string{kHandover} + " gave no sealed program");
    return 126;
  }
  (void)::syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
  say(std::string{argv[0]} +
      " cannot be executed: " + ::strerror(errno)); // NOLINT(concurrency-mt-unsafe)
  return 126;
}

} // namespace

int main(int argc, char** argv) {
  if (argc > 1 && ::strcmp(argv[1], "print") == 0)
    return slipway::init::print_files(argv + 2, argc - 2);
  if (argc == 3 && ::strcmp(argv[1], "ssh-agent") == 0) return slipway::init::relay_agent(argv[2]);
  if (argc > 2 && ::strcmp(argv[1], "with-proxy") == 0 && ::getpid() == 1)
    return run_with_proxy(argv + 2);
  if (argc > 2 && ::strcmp(argv[1], "program") == 0 && ::getpid() == 1)
    return become_program(argv + 2);
  if (::getpid() != 1) {
    say("runs only as PID 1 of a sandbox");
    return 2;
  }
  slipway::UniqueFd listener{
      is_listening_unix_socket(kListener) ? kListener : take_over(std::chrono::seconds{30})};
  if (!listener || !is_listening_unix_socket(listener.get())) {
    say("neither descriptor 3 nor " + std::string{kHandover} + " gave a listening unix socket");
    return 2;
  }
  (void)::fcntl(listener.get(), F_SETFD, FD_CLOEXEC);
  (void)::fcntl(listener.get(), F_SETFL, O_NONBLOCK);
  hold_standard_descriptors();
  (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  (void)::umask(0022);
  (void)!::chdir("/");
  sigset_t all;
  ::sigfillset(&all);
  // Before the first thread: all inherit it.
  (void)::sigprocmask(SIG_BLOCK, &all, nullptr); // NOLINT(concurrency-mt-unsafe)

  // The environment of PID 1 is the image's, and slipway's own two names.
  if (const char* shim = variable("SLIPWAY_SHIM"); *shim != '\0') {
    (void)slipway::init::install_shim("/", shim, {variable("PATH"), variable("HOME")});
  }
  if (const char* from = variable("SLIPWAY_DOCKER"); *from != '\0')
    serve_docker(who_may_come(from));
  if (const char* registries = variable("SLIPWAY_REGISTRIES"); *registries != '\0')
    serve_registries(registries);
  if (const char* from = variable("SLIPWAY_EGRESS"); *from != '\0') serve_proxy(who_may_come(from));

  auto served = slipway::init::serve(std::move(listener), {});
  if (served) return 0;
  say(served.error().text());
  return 1;
}
