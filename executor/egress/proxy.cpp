// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/proxy.hpp"

#include "executor/base/unique_fd.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/rfc7230.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

namespace slipway::egress {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kBufferBytes = 32UL << 10;
constexpr std::size_t kStackBytes = 512UL << 10;
constexpr int kBacklog = 64;
constexpr milliseconds kEndPatience{2000};
constexpr std::uint64_t kMostBodyBytes = 1ULL << 62; // Boost 1.74 takes `none` for less than 0

enum class Waited { ready, late, stopped };

Waited wait_for(int fd, short events, Steady::time_point until, int stop) {
  for (;;) {
    const auto rest = std::chrono::ceil<milliseconds>(until - Steady::now()).count();
    if (rest <= 0) return Waited::late;
    std::array<pollfd, 2> waits{{{stop, POLLIN, 0}, {fd, events, 0}}};
    const int count = ::poll(waits.data(), waits.size(),
                             static_cast<int>(std::min<std::int64_t>(rest, 3'600'000)));
    if (count < 0 && errno != EINTR) return Waited::stopped;
    if (waits[0].revents != 0) return Waited::stopped;
    if (count > 0 && waits[1].revents != 0) return Waited::ready;
  }
}

/// Adds what comes to `data`. False: the end, an error, or too late.
bool read_more(int fd, std::string& data, Steady::time_point until, int stop) {
  std::array<char, 8192> bytes{};
  for (;;) {
    const auto got = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) {
      data.append(bytes.data(), static_cast<std::size_t>(got));
      return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    if (wait_for(fd, POLLIN, until, stop) != Waited::ready) return false;
  }
}

bool send_all(int fd, std::string_view bytes, Steady::time_point until, int stop) {
  while (!bytes.empty()) {
    const auto put = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (wait_for(fd, POLLOUT, until, stop) != Waited::ready) return false;
  }
  return true;
}

/// One way through a tunnel, with its one buffer.
struct Way {
  int from = -1;
  int to = -1;
  std::string held; ///< what was read before
  std::array<char, kBufferBytes> buffer{};
  std::size_t begin = 0;
  std::size_t end = 0;
  bool at_end = false;
  bool closed = false;

  bool wants_read() const { return !at_end && begin == end && held.empty(); }
  bool wants_write() const { return begin != end || !held.empty(); }

  // False where the connection is broken; sets `moved` where anything went on.
  bool step(bool& moved) {
    if (wants_read()) {
      const auto got = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got > 0) {
        begin = 0;
        end = static_cast<std::size_t>(got);
        moved = true;
      } else if (got == 0) {
        at_end = true;
      } else if (errno != EAGAIN && errno != EINTR) {
        return false;
      }
    }
    if (wants_write()) {
      const char* bytes = held.empty() ? buffer.data() + begin : held.data();
      const auto size = held.empty() ? end - begin : held.size();
      const auto put = ::send(to, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (put > 0) {
        moved = true;
        if (held.empty()) {
          begin += static_cast<std::size_t>(put);
        } else {
          held.erase(0, static_cast<std::size_t>(put));
        }
      }
    }
    if (at_end && !wants_write() && !closed) {
      (void)::shutdown(to, SHUT_WR);
      closed = true;
      moved = true;
    }
    return true;
  }
};

void pump(int client, int upstream, std::string held, milliseconds idle, int stop) {
  Way up{client, upstream, std::move(held)};
  Way down{upstream, client, {}};
  while (!up.closed || !down.closed) {
    bool moved = false;
    if (!up.step(moved) || !down.step(moved)) return;
    if (moved) continue;
    const auto events = [](const Way& reading, const Way& writing) {
      return static_cast<short>((reading.wants_read() ? POLLIN : 0) |
                                (writing.wants_write() ? POLLOUT : 0));
    };
    std::array<pollfd, 3> waits{
        {{stop, POLLIN, 0}, {client, events(up, down), 0}, {upstream, events(down, up), 0}}};
    // poll tells a hangup even where nothing is asked: what waits to be written to the other end
    // must not be lost for it, and not be waited for in a loop.
    for (std::size_t i = 1; i < 3; ++i)
      if (waits[i].events == 0) waits[i].fd = -1;
    const int count = ::poll(waits.data(), waits.size(), static_cast<int>(idle.count()));
    if (count == 0 || (count < 0 && errno != EINTR) || waits[0].revents != 0) return;
  }
}

UniqueFd connect_to(const std::string& address, std::uint16_t port, Steady::time_point until,
                    int stop) {
  sockaddr_storage place{};
  socklen_t size = 0;
  auto* four = reinterpret_cast<sockaddr_in*>(&place);
  auto* six = reinterpret_cast<sockaddr_in6*>(&place);
  if (::inet_pton(AF_INET, address.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    size = sizeof *four;
  } else if (::inet_pton(AF_INET6, address.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    size = sizeof *six;
  } else {
    return UniqueFd{};
  }
  UniqueFd fd{::socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return fd;
  const int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&place), size) != 0) {
    if (errno != EINPROGRESS || wait_for(fd.get(), POLLOUT, until, stop) != Waited::ready)
      return UniqueFd{};
    int cause = 0;
    socklen_t length = sizeof cause;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &cause, &length) != 0 || cause != 0)
      return UniqueFd{};
  }
  return fd;
}

using Parser = http::request_parser<http::buffer_body>;

/// A request that was understood: what to connect to, and what to send there first.
struct Request {
  Target target;
  bool connect = false;
  bool has_body = false;
  bool chunked = false;
  std::string head; ///< of what is sent on; "" for CONNECT
};

Error bad(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

constexpr std::array<const char*, 10> kOfThisConnection{"connection",
                                                        "proxy-connection",
                                                        "proxy-authorization",
                                                        "keep-alive",
                                                        "te",
                                                        "trailer",
                                                        "transfer-encoding",
                                                        "upgrade",
                                                        "expect",
                                                        "host"};

constexpr std::array<const char*, 3> kNeverOfAConnection{"content-length", "transfer-encoding",
                                                         "host"};

bool is_forwarded(beast::string_view name, const std::string& connection) {
  for (const char* own : kOfThisConnection)
    if (beast::iequals(name, own)) return false;
  for (const auto& token : http::token_list{connection})
    if (beast::iequals(name, token)) return false;
  return true;
}

/// How much of a body follows is said once and plainly, or the request is none: what another reader
/// could take for a second request must not pass.
Status read_framing(const Parser::value_type& message, Request& request) {
  const auto lengths = message.count(http::field::content_length);
  const auto codings = message.count(http::field::transfer_encoding);
  if (lengths + codings > 1) return bad("the length of the body is said twice");
  if (codings == 1) {
    if (message.version() != 11 ||
        !beast::iequals(message[http::field::transfer_encoding], "chunked"))
      return bad("a transfer coding other than chunked");
    request.chunked = true;
  }
  request.has_body = lengths + codings > 0;
  return {};
}

Status check_host(const Parser::value_type& message, const Target& target, std::uint16_t port) {
  const auto hosts = message.count(http::field::host);
  if (hosts > 1) return bad("more than one Host");
  if (hosts == 0) return {};
  const auto named = message[http::field::host];
  const auto host = Target::parse({named.data(), named.size()}, port);
  if (!host || !(*host == target)) return bad("Host is not what the request is for");
  return {};
}

Result<Request> understand(const Parser::value_type& message) {
  Request request;
  if (message.version() != 10 && message.version() != 11) return bad("not HTTP/1.1");
  if (auto framed = read_framing(message, request); !framed) return std::move(framed).error();
  const std::string_view asked{message.target().data(), message.target().size()};
  if (message.method() == http::verb::connect) {
    auto target = Target::parse(asked);
    if (!target) return std::move(target).error();
    request.target = *std::move(target);
    request.connect = true;
    if (request.has_body) return bad("CONNECT with a body");
    // Clients leave the port out of Host where it is 443.
    if (auto same = check_host(message, request.target, request.target.port); !same)
      return std::move(same).error();
    return request;
  }
  constexpr std::string_view kScheme = "http://";
  if (asked.size() < kScheme.size() ||
      !beast::iequals({asked.data(), kScheme.size()}, {kScheme.data(), kScheme.size()}))
    return bad("this is a proxy: CONNECT, or a request for http://HOST/PATH");
  const auto rest = asked.substr(kScheme.size());
  const auto end = std::min(rest.find_first_of("/?#"), rest.size());
  auto target = Target::parse(rest.substr(0, end), 80);
  if (!target) return std::move(target).error();
  request.target = *std::move(target);
  if (auto same = check_host(message, request.target, 80); !same) return std::move(same).error();
  std::string path{rest.substr(end)};
  if (path.find('#') != std::string::npos) return bad("a fragment in the request");
  if (!path.starts_with('/')) path.insert(0, "/");
  std::string connection;
  for (auto field = message.begin(); field != message.end(); ++field)
    if (field->name() == http::field::connection)
      connection += (connection.empty() ? "" : ",") + std::string{field->value()};
  // Without the length what follows could be read as another request.
  for (const auto& token : http::token_list{connection})
    for (const char* name : kNeverOfAConnection)
      if (beast::iequals(token, name)) return bad("Connection names what every request needs");
  request.head = std::string{message.method_string()} + " " + path + " HTTP/1.1\r\nHost: ";
  auto host = request.target.str();
  if (request.target.port == 80) host.resize(host.rfind(':'));
  request.head += host + "\r\n";
  for (auto field = message.begin(); field != message.end(); ++field) {
    const auto name = field->name_string();
    if (!is_forwarded(name, connection)) continue;
    request.head +=
        std::string{name.data(), name.size()} + ": " + std::string{field->value()} + "\r\n";
  }
  if (request.chunked) request.head += "Transfer-Encoding: chunked\r\n";
  request.head += "Connection: close\r\n\r\n";
  return request;
}

std::string answer(const char* status, const std::string& text) {
  return std::string{"HTTP/1.1 "} + status +
         "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " +
         std::to_string(text.size() + 1) + "\r\nConnection: close\r\n\r\n" + text + "\n";
}

} // namespace

struct Proxy::World {
  ProxyPolicy policy;
  ProxyLimits limits;
  Resolver resolver;
  ProxyEvents events;
  UniqueFd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

  struct Door {
    UniqueFd folder;
    std::string name;
    UniqueFd listener;
    std::thread thread;
  };
  std::vector<std::unique_ptr<Door>> doors;

  std::mutex telling; ///< held while `passed` is called
  std::mutex mutex;
  std::condition_variable ended;
  int open = 0;
  std::atomic<bool> over{false}; ///< no event is told any more
  std::set<std::string> refused;
  std::set<std::string> passed;

  Steady::time_point within(milliseconds time) const { return Steady::now() + time; }

  void tell_refused(const Refusal& refusal) {
    const std::lock_guard guard{mutex};
    if (over || refused.size() >= limits.told || !refused.insert(refusal.target.str()).second)
      return;
    if (events.refused) events.refused(refusal);
  }
  void tell_passed(const Target& target) {
    {
      const std::lock_guard guard{mutex};
      if (over || passed.size() >= limits.passed || !passed.insert(target.str()).second) return;
    }
    // It may wait for a file's lock: not in the way of those who come meanwhile.
    const std::lock_guard guard{telling};
    if (!over && events.passed) events.passed(target);
  }

  /// Whose name or address this is nothing may be pushed to.
  static constexpr const char* kBrokered =
      "it is a registry that slipway brokers, or shares its address: `docker push` and "
      "`docker pull` go through slipway";

  /// Why this address of a target is none to connect to; "" where it is one.
  std::string why_not(const Target& target, Listed listed, const std::string& address) const {
    const auto inner = embedded_four(address);
    if (policy.never.contains(address) || (!inner.empty() && policy.never.contains(inner)))
      return kBrokered;
    const bool exact = listed == Listed::exact || policy.learn;
    const bool is_own =
        policy.own.contains(address) || (!inner.empty() && policy.own.contains(inner));
    if (is_own && policy.on_host.find(target) != Listed::no) return "";
    switch (is_own ? Reach::this_host : reach_of(address)) {
    case Reach::everywhere:
      return "";
    case Reach::local_net:
      return exact ? ""
                   : "its address " + address +
                         " is private, and only a name that is listed itself may lead there";
    case Reach::this_host:
      if (policy.allow.find({address, target.port, true}) == Listed::exact) return "";
      return "its address " + address +
             " is the runner's own, its link's or a metadata service's, and only that address in "
             "egress_allow opens it";
    }
    return "its address cannot be judged"; // unreachable: every enumerator returns above
  }

  void refuse(int client, const Target& target, const std::string& why) {
    tell_refused({target, why});
    (void)send_all(client,
                   answer("403 Forbidden", "slipway: " + target.str() + ": " + why +
                                               (policy.what_to_change.empty() ? "" : "; ") +
                                               policy.what_to_change),
                   within(limits.header), stop.get());
  }

  /// The connection to what a request asks for; where there is none the client has heard why.
  UniqueFd reach(int client, const Target& target) {
    const auto listed = policy.allow.find(target);
    if (policy.never_named.contains(target.host)) {
      refuse(client, target, kBrokered);
      return UniqueFd{};
    }
    if (listed == Listed::no && !policy.learn) {
      refuse(client, target,
             !policy.not_listed.empty() ? policy.not_listed
             : target.literal           ? "literal addresses have to be in egress_allow themselves"
                                        : "it is not in egress_allow");
      return UniqueFd{};
    }
    const auto until = within(limits.connect);
    const auto addresses =
        target.literal ? std::vector{target.host} : resolver(target.host, limits.connect);
    std::string why;
    std::vector<std::string> good;
    for (const auto& address : addresses) {
      auto here = why_not(target, listed, address);
      if (here.empty()) {
        good.push_back(address);
      } else {
        why = std::move(here);
      }
    }
    if (good.empty() && !why.empty()) {
      refuse(client, target, why);
      return UniqueFd{};
    }
    if (!good.empty()) tell_passed(target);
    // One that does not answer leaves time for the others.
    for (std::size_t left = good.size(); left > 0; --left) {
      const auto share = std::max(until - Steady::now(), Steady::duration{}) / left;
      auto upstream =
          connect_to(good[good.size() - left], target.port, Steady::now() + share, stop.get());
      if (upstream) return upstream;
    }
    (void)send_all(client,
                   answer(good.empty() ? "502 Bad Gateway" : "504 Gateway Timeout",
                          "slipway: " + target.str() +
                              (good.empty() ? " does not resolve" : " cannot be reached")),
                   within(limits.header), stop.get());
    return UniqueFd{};
  }

  /// What of the body is in `data` already, and the rest, as the parser reads it. False where it is
  /// broken or late.
  bool send_body(int client, int upstream, Parser& parser, std::string& data, bool chunked) {
    std::array<char, kBufferBytes> bytes{};
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = bytes.data();
      body.size = bytes.size();
      beast::error_code failed;
      const auto used = parser.put(asio::buffer(data), failed);
      data.erase(0, used);
      const std::size_t count = bytes.size() - body.size;
      if (count > 0) {
        std::string piece{bytes.data(), count};
        if (chunked) {
          std::array<char, 24> size{};
          const int length = std::snprintf(size.data(), size.size(), "%zx\r\n", count);
          piece = std::string{size.data(), static_cast<std::size_t>(length)} + piece + "\r\n";
        }
        if (!send_all(upstream, piece, within(limits.idle), stop.get())) return false;
      }
      if (failed && failed != http::error::need_more && failed != http::error::need_buffer)
        return false;
      if (parser.is_done()) break;
      if (failed == http::error::need_more || (used == 0 && count == 0)) {
        if (data.size() > limits.header_bytes) return false; // a chunk's head or trailer
        if (!read_more(client, data, within(limits.idle), stop.get())) return false;
      }
    }
    return !chunked || send_all(upstream, "0\r\n\r\n", within(limits.idle), stop.get());
  }

  void serve(int client) {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(kMostBodyBytes);
    std::string data;
    const auto until = within(limits.header);
    const auto say = [&](const char* status, const std::string& text) {
      (void)send_all(client, answer(status, "slipway: " + text), within(limits.header), stop.get());
    };
    while (!parser.is_header_done()) {
      if (!read_more(client, data, until, stop.get())) {
        if (Steady::now() >= until) say("408 Request Timeout", "the request came too slowly");
        return;
      }
      beast::error_code failed;
      data.erase(0, parser.put(asio::buffer(data), failed));
      if (failed == http::error::header_limit || data.size() > limits.header_bytes)
        return say("431 Request Header Fields Too Large", "the request's head is too large");
      if (failed && failed != http::error::need_more)
        return say("400 Bad Request", "not a request: " + failed.message());
    }
    auto request = understand(parser.get());
    if (!request) return say("400 Bad Request", request.error().what);
    const auto upstream = reach(client, request->target);
    if (!upstream) return;
    if (request->connect) {
      if (send_all(client, "HTTP/1.1 200 Connection established\r\n\r\n", within(limits.header),
                   stop.get()))
        pump(client, upstream.get(), std::move(data), limits.idle, stop.get());
      return;
    }
    if (!send_all(upstream.get(), request->head, within(limits.idle), stop.get())) return;
    if (request->has_body && !send_body(client, upstream.get(), parser, data, request->chunked))
      return;
    // Nothing that comes after the request is read: a second one would have a target of its own.
    bool moved = true;
    Way down{upstream.get(), client, {}};
    while (down.step(moved) && !down.closed) {
      if (!moved && wait_for(down.wants_write() ? client : upstream.get(),
                             down.wants_write() ? POLLOUT : POLLIN, within(limits.idle),
                             stop.get()) != Waited::ready)
        return;
      moved = false;
    }
  }

  struct Accepted {
    std::shared_ptr<World> world;
    UniqueFd client;
  };

  static void* connection_main(void* argument) {
    const std::unique_ptr<Accepted> accepted{static_cast<Accepted*>(argument)};
    auto& world = *accepted->world;
    try {
      world.serve(accepted->client.get());
    } catch (const std::exception&) { // out of memory: this connection ends, no other
    }
    accepted->client.reset();
    const std::lock_guard guard{world.mutex};
    --world.open;
    world.ended.notify_all();
    return nullptr;
  }

  static bool start_thread(Accepted* accepted) {
    pthread_attr_t attributes;
    if (::pthread_attr_init(&attributes) != 0) return false;
    (void)::pthread_attr_setstacksize(&attributes, kStackBytes);
    (void)::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread{};
    const bool started = ::pthread_create(&thread, &attributes, connection_main, accepted) == 0;
    (void)::pthread_attr_destroy(&attributes);
    return started;
  }

  /// `door` lives until its thread was joined.
  static void accept_loop(const std::shared_ptr<World>& world, const Door& door) {
    const int listener = door.listener.get();
    while (wait_for(listener, POLLIN, Steady::now() + std::chrono::hours{1}, world->stop.get()) !=
           Waited::stopped) {
      UniqueFd client{::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!client) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
          std::this_thread::sleep_for(milliseconds{20}); // out of descriptors: no reason to spin
        continue;
      }
      {
        const std::lock_guard guard{world->mutex};
        if (world->open >= world->limits.connections) {
          const auto words =
              answer("503 Service Unavailable", "slipway: too many connections to the proxy");
          (void)::send(client.get(), words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
          continue;
        }
        ++world->open;
      }
      auto accepted = std::make_unique<Accepted>(Accepted{world, std::move(client)});
      if (start_thread(accepted.get())) {
        (void)accepted.release(); // connection_main owns it
        continue;
      }
      const std::lock_guard guard{world->mutex};
      --world->open;
    }
  }
};

Proxy::Proxy(ProxyPolicy policy, ProxyLimits limits, Resolver resolver, ProxyEvents events)
    : world_{std::make_shared<World>()} {
  world_->policy = std::move(policy);
  world_->limits = limits;
  world_->resolver = std::move(resolver);
  world_->events = std::move(events);
}

Proxy::~Proxy() {
  const std::uint64_t one = 1;
  (void)!::write(world_->stop.get(), &one, sizeof one);
  for (const auto& door : world_->doors) {
    door->thread.join();
    (void)::unlinkat(door->folder.get(), door->name.c_str(), 0);
  }
  std::unique_lock lock{world_->mutex};
  // One that still asks its resolver has what it needs, and nobody to tell.
  (void)world_->ended.wait_for(lock, kEndPatience, [this] { return world_->open == 0; });
  world_->over = true;
  lock.unlock();
  const std::lock_guard guard{world_->telling}; // the one that is being told has ended
}

namespace {

sockaddr_un address_in(int folder, const std::string& name) {
  // Through the folder's descriptor: sun_path holds 107 bytes only.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto path = "/proc/self/fd/" + std::to_string(folder) + "/" + name;
  std::memcpy(address.sun_path, path.c_str(),
              std::min(path.size() + 1, sizeof address.sun_path - 1));
  return address;
}

// Left by processes that were killed: a client would try each of them.
void remove_dead_sockets(int folder, const std::filesystem::path& dir) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{dir, failed}) {
    const auto name = entry.path().filename().string();
    // One that is just being made has a point before its name.
    if (!entry.is_socket(failed) || name.size() > 64 || name.starts_with('.')) continue;
    const UniqueFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const auto address = address_in(folder, name);
    if (probe &&
        ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno == ECONNREFUSED)
      (void)::unlinkat(folder, name.c_str(), 0);
  }
}

} // namespace

Status Proxy::listen(const std::filesystem::path& file) {
  auto door = std::make_unique<World::Door>();
  door->name = file.filename().string();
  if (door->name.empty() || door->name.size() > 64)
    return Error{ErrorKind::io, "the socket's name is too long: " + door->name, "", {}};
  const auto dir = file.parent_path();
  door->folder.reset(::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!door->folder) return io_error("open", errno, dir.string());
  remove_dead_sockets(door->folder.get(), dir);
  door->listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!door->listener) return io_error("socket", errno);
  // It gets its name when it listens: before, another proxy of this folder would call it dead.
  const auto early = "." + std::to_string(::getpid()) + "." + door->name;
  (void)::unlinkat(door->folder.get(), early.c_str(), 0);
  const auto address = address_in(door->folder.get(), early);
  if (::bind(door->listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
      0)
    return io_error("bind", errno, file.string());
  // Clients have other ids; who may come is decided by where the folder is mounted.
  if (::fchmodat(door->folder.get(), early.c_str(), 0666, 0) != 0)
    return io_error("chmod", errno, file.string());
  if (::listen(door->listener.get(), kBacklog) != 0)
    return io_error("listen", errno, file.string());
  if (::renameat(door->folder.get(), early.c_str(), door->folder.get(), door->name.c_str()) != 0)
    return io_error("rename", errno, file.string());
  door->thread =
      std::thread{[world = world_, raw = door.get()] { World::accept_loop(world, *raw); }};
  world_->doors.push_back(std::move(door));
  return {};
}

} // namespace slipway::egress
