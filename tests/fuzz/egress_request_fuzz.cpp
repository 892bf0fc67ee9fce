// SPDX-License-Identifier: Apache-2.0
// What a client sends to the egress proxy, up to the end of its half. "@P" stands for the port of a
// server that is listed. What reaches the server is one request with one Host, whose body has one
// length: no second request hides in it.
#include "executor/base/unique_fd.hpp"
#include "executor/egress/proxy.hpp"
#include "tests/fakes/sample_image.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace slipway;

std::string read_to_end(int fd) {
  std::string all;
  std::array<char, 8192> bytes{};
  for (;;) {
    const auto got = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (got <= 0) return all;
    all.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

/// The proxy, and a server on 127.0.0.1 that takes one connection after the other.
struct World {
  fakes::TempDir dir;
  UniqueFd server{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  std::string port;
  std::unique_ptr<egress::Proxy> proxy;

  World() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    if (::bind(server.get(), plain, size) != 0 || ::listen(server.get(), 8) != 0 ||
        ::getsockname(server.get(), plain, &size) != 0)
      std::abort();
    port = std::to_string(ntohs(address.sin_port));
    egress::ProxyPolicy policy;
    egress::ProxyLimits limits;
    limits.idle = std::chrono::seconds{2};
    policy.allow = *egress::Allowlist::parse({"127.0.0.1:" + port});
    proxy = std::make_unique<egress::Proxy>(
        policy, limits,
        [](const std::string&, std::chrono::milliseconds) { return std::vector<std::string>{}; },
        egress::ProxyEvents{});
    if (!proxy->listen(dir.path() / "p")) std::abort();
  }

  UniqueFd connect() const {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir.path() / "p").c_str(), sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      std::abort();
    const timeval patience{5, 0};
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
  }
};

bool is_field(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':') return false;
  for (std::size_t i = 0; i < name.size(); ++i)
    if (std::tolower(static_cast<unsigned char>(line[i])) != name[i]) return false;
  return true;
}

void check_one_request(std::string_view bytes) {
  const auto end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) std::abort();
  auto rest = bytes.substr(0, end + 2);
  const auto body = bytes.substr(end + 4);
  int hosts = 0;
  int framings = 0;
  std::size_t most = 0;
  while (!rest.empty()) {
    const auto line = rest.substr(0, rest.find("\r\n"));
    rest.remove_prefix(line.size() + 2);
    if (line.find_first_of("\r\n") != std::string_view::npos) std::abort();
    if (is_field(line, "host")) ++hosts;
    if (is_field(line, "content-length")) {
      ++framings;
      most = std::strtoull(std::string{line.substr(15)}.c_str(), nullptr, 10);
    }
    if (is_field(line, "transfer-encoding")) {
      ++framings;
      most = body.size();
    }
  }
  if (hosts != 1 || framings > 1 || body.size() > most) std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size > 32768) return 0;
  std::string text{reinterpret_cast<const char*>(data), size};
  for (auto at = text.find("@P"); at != std::string::npos; at = text.find("@P", at))
    text.replace(at, 2, world.port);
  const auto client = world.connect();
  (void)::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
  (void)::shutdown(client.get(), SHUT_WR);
  // Nothing comes to the server, or one connection before the proxy is done with the client.
  std::string said;
  std::array<char, 1> first{};
  UniqueFd reached;
  for (int wait = 0; wait < 5000; ++wait) {
    reached.reset(::accept4(world.server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (reached || ::recv(client.get(), first.data(), 1, MSG_PEEK | MSG_DONTWAIT) >= 0) break;
    ::usleep(20);
  }
  // A tunnel says that it stands before the server is asked here.
  if (!reached) reached.reset(::accept4(world.server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (reached) {
    (void)::shutdown(reached.get(), SHUT_WR);
    said = read_to_end(reached.get());
  }
  const auto answer = read_to_end(client.get());
  if (!reached || said.empty()) return 0;
  if (!answer.starts_with("HTTP/1.1 200 Connection established")) check_one_request(said);
  return 0;
}
