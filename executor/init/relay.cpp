// SPDX-License-Identifier: Apache-2.0
#include "executor/init/relay.hpp"

#include "executor/base/unique_fd.hpp"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>

namespace slipway::init {
namespace {

using Steady = std::chrono::steady_clock;

constexpr std::size_t kStackBytes = 512UL << 10;
constexpr std::size_t kBufferBytes = 32UL << 10;

struct SslFree {
  void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
};
using SslHandle = std::unique_ptr<SSL, SslFree>;

enum class Moved { some, nothing_yet, end, broken };

/// One end of a relayed connection, plain or TLS, never blocking.
struct Side {
  int fd = -1;
  SSL* ssl = nullptr;
  short read_needs = POLLIN;
  short write_needs = POLLOUT;

  Moved read(char* bytes, std::size_t most, std::size_t& count) {
    if (ssl != nullptr) return tls(::SSL_read_ex(ssl, bytes, most, &count), read_needs);
    const auto got = ::recv(fd, bytes, most, MSG_DONTWAIT);
    return plain(got, count, true);
  }
  Moved write(const char* bytes, std::size_t most, std::size_t& count) {
    if (ssl != nullptr) return tls(::SSL_write_ex(ssl, bytes, most, &count), write_needs);
    const auto put = ::send(fd, bytes, most, MSG_DONTWAIT | MSG_NOSIGNAL);
    return plain(put, count, false);
  }
  void end_writing() {
    if (ssl != nullptr) (void)::SSL_shutdown(ssl); // the close_notify; the other way stays open
    (void)::shutdown(fd, SHUT_WR);
  }

private:
  static Moved plain(ssize_t result, std::size_t& count, bool reading) {
    if (result > 0) {
      count = static_cast<std::size_t>(result);
      return Moved::some;
    }
    if (result == 0) return reading ? Moved::end : Moved::nothing_yet;
    return errno == EAGAIN || errno == EINTR ? Moved::nothing_yet : Moved::broken;
  }
  Moved tls(int result, short& needs) {
    if (result == 1) return Moved::some;
    switch (::SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
      needs = POLLIN;
      return Moved::nothing_yet;
    case SSL_ERROR_WANT_WRITE:
      needs = POLLOUT;
      return Moved::nothing_yet;
    case SSL_ERROR_ZERO_RETURN:
      return Moved::end;
    default:
      return Moved::broken;
    }
  }
};

/// One way through a relayed connection, with its one buffer.
struct Way {
  Side& from;
  Side& to;
  std::array<char, kBufferBytes> buffer{};
  std::size_t begin = 0;
  std::size_t end = 0;
  bool at_end = false;
  bool closed = false;

  bool wants_read() const { return !at_end && begin == end; }
  bool wants_write() const { return begin != end; }

  // Returns false where the connection is broken; sets `moved` where anything went on.
  bool step(bool& moved) {
    if (wants_read()) {
      std::size_t count = 0;
      switch (from.read(buffer.data(), buffer.size(), count)) {
      case Moved::some:
        begin = 0;
        end = count;
        moved = true;
        break;
      case Moved::nothing_yet:
        break;
      case Moved::end:
        at_end = true;
        break;
      case Moved::broken:
        return false;
      }
    }
    if (wants_write()) {
      std::size_t count = 0;
      switch (to.write(buffer.data() + begin, end - begin, count)) {
      case Moved::some:
        begin += count;
        moved = true;
        break;
      case Moved::nothing_yet:
        break;
      case Moved::end:
      case Moved::broken:
        return false;
      }
    }
    if (at_end && begin == end && !closed) {
      to.end_writing();
      closed = true;
      moved = true;
    }
    return true;
  }
};

short events_for(const Side& side, const Way& reading, const Way& writing) {
  int events = 0;
  if (reading.wants_read()) events |= side.read_needs;
  if (writing.wants_write()) events |= side.write_needs;
  return static_cast<short>(events);
}

void pump(Side& client, Side& upstream, std::chrono::milliseconds idle) {
  Way up{.from = client, .to = upstream};
  Way down{.from = upstream, .to = client};
  while (!up.closed || !down.closed) {
    bool moved = false;
    if (!up.step(moved) || !down.step(moved)) return;
    if (moved) continue;
    std::array<pollfd, 2> waits{{{client.fd, events_for(client, up, down), 0},
                                 {upstream.fd, events_for(upstream, down, up), 0}}};
    // poll reports a hangup even where nothing is asked. While bytes of that end still wait to be
    // written it would spin, and ending there would lose what the end sent before it closed.
    const std::array<const Way*, 2> out_of{&up, &down};
    for (std::size_t i = 0; i < 2; ++i) {
      if (waits[i].events == 0 && out_of[i]->wants_write()) waits[i].fd = -1;
    }
    const int count = ::poll(waits.data(), waits.size(), static_cast<int>(idle.count()));
    if (count == 0 || (count < 0 && errno != EINTR)) return;
    for (const auto& wait : waits) {
      if ((wait.revents & POLLNVAL) != 0) return;
      if ((wait.revents & (POLLERR | POLLHUP)) != 0 && wait.events == 0) return;
    }
  }
}

bool shake_hands(SSL* ssl, int fd, std::chrono::milliseconds deadline) {
  const auto until = Steady::now() + deadline;
  for (;;) {
    const int result = ::SSL_accept(ssl);
    if (result == 1) return true;
    const int error = ::SSL_get_error(ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return false;
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(until - Steady::now()).count();
    if (rest <= 0) return false;
    pollfd ready{fd, static_cast<short>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
    if (::poll(&ready, 1, static_cast<int>(rest)) < 0 && errno != EINTR) return false;
  }
}

// For a socket that comes with the next script.
constexpr std::chrono::seconds kProxyPatience{10};
constexpr int kProxyConnections = 256;
constexpr in_addr_t kRegistryAddress = 0x7F005201; // 127.0.82.1

struct Relay {
  UniqueFd listener;
  sockaddr_un upstream{};
  std::filesystem::path proxies; ///< instead of `upstream`: a folder of sockets
  std::unique_ptr<SSL_CTX, SslFree> tls;
  RelayLimits limits;
  std::atomic<int> open{0};
};

sockaddr_un unix_address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() < sizeof address.sun_path)
    ::memcpy(address.sun_path, path.c_str(), path.native().size() + 1);
  return address;
}

UniqueFd connect_unix(const sockaddr_un& address) {
  UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (socket &&
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return UniqueFd{};
  return socket;
}

UniqueFd connect_to_proxy(const std::filesystem::path& dir, int client_fd) {
  sockaddr_in own{};
  socklen_t size = sizeof own;
  std::array<char, INET_ADDRSTRLEN> name{};
  if (::getsockname(client_fd, reinterpret_cast<sockaddr*>(&own), &size) != 0 ||
      ::inet_ntop(AF_INET, &own.sin_addr, name.data(), name.size()) == nullptr)
    return UniqueFd{};
  const auto until = Steady::now() + kProxyPatience;
  for (;;) {
    if (auto socket = connect_unix(unix_address(dir / name.data()))) return socket;
    std::error_code failed;
    for (const auto& entry : std::filesystem::directory_iterator{dir, failed}) {
      if (auto socket = connect_unix(unix_address(entry.path()))) return socket;
    }
    if (Steady::now() > until) return UniqueFd{};
    const timespec pause{0, 50'000'000};
    (void)::nanosleep(&pause, nullptr);
  }
}

struct Accepted {
  Relay* relay;
  UniqueFd client;
};

void serve(const Relay& relay, int client_fd) {
  SslHandle ssl;
  if (relay.tls) {
    ssl.reset(::SSL_new(relay.tls.get()));
    if (!ssl || ::SSL_set_fd(ssl.get(), client_fd) != 1) return;
    if (!shake_hands(ssl.get(), client_fd, relay.limits.handshake)) return;
  }
  const auto socket = relay.proxies.empty() ? connect_unix(relay.upstream)
                                            : connect_to_proxy(relay.proxies, client_fd);
  if (!socket) return; // no `run`: nobody home
  Side client{.fd = client_fd, .ssl = ssl.get()};
  Side upstream{.fd = socket.get()};
  pump(client, upstream, relay.limits.idle);
}

void* connection_main(void* argument) {
  const std::unique_ptr<Accepted> accepted{static_cast<Accepted*>(argument)};
  serve(*accepted->relay, accepted->client.get());
  accepted->client.reset();
  --accepted->relay->open;
  return nullptr;
}

bool start_thread(void* (*body)(void*), void* argument) {
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return false;
  (void)::pthread_attr_setstacksize(&attributes, kStackBytes);
  (void)::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread{};
  const bool started = ::pthread_create(&thread, &attributes, body, argument) == 0;
  (void)::pthread_attr_destroy(&attributes);
  return started;
}

void* listener_main(void* argument) {
  auto* relay = static_cast<Relay*>(argument);
  for (;;) {
    UniqueFd client{
        ::accept4(relay->listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!client) {
      const timespec pause{0, 20'000'000}; // out of descriptors: no reason to spin
      (void)::nanosleep(&pause, nullptr);
      continue;
    }
    const int on = 1; // small frames go out at once, or each waits for a delayed acknowledgement
    (void)::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (++relay->open > relay->limits.connections) {
      --relay->open;
      continue;
    }
    auto accepted = std::make_unique<Accepted>(Accepted{relay, std::move(client)});
    if (start_thread(connection_main, accepted.get())) {
      (void)accepted.release(); // connection_main owns it
    } else {
      --relay->open; // the sandbox's process limit is used up: the client sees a closed socket
    }
  }
}

enum class Clients { show_certificates, are_anybody };

Result<std::unique_ptr<SSL_CTX, SslFree>> make_tls(const std::filesystem::path& dir,
                                                   Clients clients) {
  // Without the configuration file: it would be the image's.
  (void)::OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  std::unique_ptr<SSL_CTX, SslFree> context{::SSL_CTX_new(::TLS_server_method())};
  const std::string ca = dir / "ca.pem";
  if (!context || ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1 ||
      ::SSL_CTX_use_certificate_chain_file(context.get(), (dir / "cert.pem").c_str()) != 1 ||
      ::SSL_CTX_use_PrivateKey_file(context.get(), (dir / "key.pem").c_str(), SSL_FILETYPE_PEM) !=
          1 ||
      ::SSL_CTX_check_private_key(context.get()) != 1 ||
      (clients == Clients::show_certificates &&
       ::SSL_CTX_load_verify_file(context.get(), ca.c_str()) != 1)) {
    return Error{ErrorKind::misconfigured,
                 "the certificates of an endpoint cannot be used",
                 "cert.pem, key.pem and ca.pem have to belong together",
                 {dir.string()}};
  }
  if (clients == Clients::show_certificates)
    ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  (void)::SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  (void)::SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  (void)::SSL_CTX_set_num_tickets(context.get(), 0);
  (void)::SSL_CTX_set_mode(context.get(),
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

in_addr_t address_of(From from) {
  return from == From::its_network ? INADDR_ANY : INADDR_LOOPBACK;
}

/// Listens, and starts the thread that has the relay from then on.
Status start_listening(std::unique_ptr<Relay> relay, std::uint16_t port, in_addr_t from) {
  relay->listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  (void)::setsockopt(relay->listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(from);
  if (::bind(relay->listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      ::listen(relay->listener.get(), 64) != 0) {
    return io_error("listen", errno, "port " + std::to_string(port));
  }
  if (!start_thread(listener_main, relay.get())) return io_error("pthread_create", EAGAIN, "relay");
  (void)relay.release(); // lives as long as the process
  return {};
}

Status start_relay_at(in_addr_t from, std::uint16_t port, const std::filesystem::path& upstream,
                      const std::filesystem::path& tls_dir, const RelayLimits& limits,
                      Clients clients) {
  auto relay = std::make_unique<Relay>();
  relay->limits = limits;
  relay->upstream = unix_address(upstream);
  if (relay->upstream.sun_path[0] == '\0') {
    return Error{ErrorKind::misconfigured, "socket path too long: " + upstream.string(), "", {}};
  }
  if (!tls_dir.empty()) {
    auto tls = make_tls(tls_dir, clients);
    if (!tls) return std::move(tls).error();
    relay->tls = *std::move(tls);
  }
  return start_listening(std::move(relay), port, from);
}

} // namespace

Status start_relay(std::uint16_t port, const std::filesystem::path& upstream,
                   const std::filesystem::path& tls_dir, From from, const RelayLimits& limits) {
  return start_relay_at(address_of(from), port, upstream, tls_dir, limits,
                        Clients::show_certificates);
}

Status start_registry_relay(std::uint16_t port, const std::filesystem::path& upstream,
                            const std::filesystem::path& tls_dir) {
  return start_relay_at(kRegistryAddress, port, upstream, tls_dir, {}, Clients::are_anybody);
}

Status start_proxy_relay(std::uint16_t port, const std::filesystem::path& dir, From from) {
  auto relay = std::make_unique<Relay>();
  relay->proxies = dir;
  relay->limits.connections = kProxyConnections;
  return start_listening(std::move(relay), port, address_of(from));
}

} // namespace slipway::init
