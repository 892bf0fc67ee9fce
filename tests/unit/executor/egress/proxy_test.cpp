// SPDX-License-Identifier: Apache-2.0
#include "executor/base/unique_fd.hpp"
#include "executor/egress/proxy.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

namespace slipway::egress {
namespace {

using namespace std::chrono_literals;

/// Keeps what each connection sent up to a blank line and what `more` bytes follow, answers, and
/// closes. Bytes that come later are kept too.
class Server {
public:
  explicit Server(std::size_t more = 0) : more_{more} {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread{[this] { serve(); }};
  }
  ~Server() {
    (void)::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::string at() const { return "127.0.0.1:" + std::to_string(port_); }
  /// Waits for the end of the first connection.
  bool was_asked() {
    for (int i = 0; i < 5000 && seen().empty(); ++i)
      std::this_thread::sleep_for(1ms);
    return !seen().empty();
  }
  std::vector<std::string> seen() {
    const std::lock_guard guard{mutex_};
    return seen_;
  }

private:
  void serve() {
    for (;;) {
      const UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (!client) return;
      const timeval patience{5, 0};
      (void)::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      std::string got;
      std::array<char, 4096> bytes{};
      for (;;) {
        const auto end = got.find("\r\n\r\n");
        if (end != std::string::npos && got.size() >= end + 4 + more_) break;
        const auto count = ::recv(client.get(), bytes.data(), bytes.size(), 0);
        if (count <= 0) break;
        got.append(bytes.data(), static_cast<std::size_t>(count));
      }
      const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
      (void)::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      (void)::shutdown(client.get(), SHUT_WR);
      for (;;) {
        const auto count = ::recv(client.get(), bytes.data(), bytes.size(), 0);
        if (count <= 0) break;
        got.append(bytes.data(), static_cast<std::size_t>(count));
      }
      const std::lock_guard guard{mutex_};
      seen_.push_back(got);
    }
  }
  std::size_t more_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> seen_;
  std::thread thread_;
};

class ProxyTest : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "proxy-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override {
    proxy_.reset();
    std::filesystem::remove_all(dir_);
  }

  void start(const std::vector<std::string>& allow) {
    policy_.allow = *Allowlist::parse(allow);
    policy_.what_to_change = "ask for egress_allow";
    ProxyEvents events;
    events.refused = [this](const Refusal& refusal) {
      const std::lock_guard guard{mutex_};
      refused_.push_back(refusal.target.str());
    };
    events.passed = [this](const Target& target) {
      const std::lock_guard guard{mutex_};
      passed_.push_back(target.str());
    };
    proxy_ = std::make_unique<Proxy>(
        policy_, limits_,
        [this](const std::string& host, std::chrono::milliseconds) {
          ++resolved_;
          const auto found = names_.find(host);
          return found == names_.end() ? std::vector<std::string>{} : found->second;
        },
        std::move(events));
    ASSERT_TRUE(proxy_->listen(dir_ / "proxy").ok());
  }

  UniqueFd connect() {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = (dir_ / "proxy").string();
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval patience{10, 0};
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
  }
  static void send(const UniqueFd& fd, const std::string& text) {
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  /// Until the end, or until `until` has come.
  static std::string read(const UniqueFd& fd, const std::string& until = "") {
    std::string got;
    std::array<char, 4096> bytes{};
    while (until.empty() || got.find(until) == std::string::npos) {
      const auto count = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
      if (count <= 0) break;
      got.append(bytes.data(), static_cast<std::size_t>(count));
    }
    return got;
  }
  std::string ask(const std::string& request) {
    const auto fd = connect();
    send(fd, request);
    return read(fd);
  }
  static std::string connect_request(const std::string& to) {
    return "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n";
  }

  std::filesystem::path dir_;
  ProxyPolicy policy_;
  ProxyLimits limits_;
  std::map<std::string, std::vector<std::string>> names_;
  std::atomic<int> resolved_{0};
  std::mutex mutex_;
  std::vector<std::string> refused_;
  std::vector<std::string> passed_;
  std::unique_ptr<Proxy> proxy_;
};

TEST_F(ProxyTest, TunnelsBothWaysToWhatIsListed) {
  Server server;
  start({server.at()});

  const auto fd = connect();
  send(fd, connect_request(server.at()) + "first "); // bytes that come too early are the tunnel's
  const auto established = read(fd, "\r\n\r\n");
  send(fd, "second\r\n\r\n");

  EXPECT_EQ(established, "HTTP/1.1 200 Connection established\r\n\r\n");
  EXPECT_NE(read(fd).find("hello"), std::string::npos);
  proxy_.reset();
  ASSERT_TRUE(server.was_asked());
  EXPECT_EQ(server.seen().front(), "first second\r\n\r\n");
  EXPECT_EQ(passed_, std::vector<std::string>{server.at()});
}

TEST_F(ProxyTest, RefusesWhatIsNotListedAndTellsOnce) {
  Server server;
  start({"host.example"});

  const auto said = ask(connect_request("other.example:443"));
  (void)ask(connect_request("other.example:443"));

  EXPECT_EQ(said.find("HTTP/1.1 403 Forbidden"), 0U);
  EXPECT_NE(said.find("other.example:443: it is not in egress_allow; ask for egress_allow"),
            std::string::npos);
  EXPECT_EQ(refused_, std::vector<std::string>{"other.example:443"});
  EXPECT_EQ(resolved_, 0) << "a name that is not listed is a message to whoever answers for it";
}

TEST_F(ProxyTest, RefusesLiteralsThatAreNotListed) {
  Server server;
  start({"localhost:*", "*.example"});

  EXPECT_NE(ask(connect_request(server.at())).find("literal addresses have to be in egress_allow"),
            std::string::npos);
  EXPECT_NE(ask("GET http://" + server.at() + "/ HTTP/1.1\r\n\r\n").find(" 403 "),
            std::string::npos);
  EXPECT_TRUE(server.seen().empty());
}

TEST_F(ProxyTest, ListedNamesDoNotLeadToTheHostItself) {
  start({"name.example:80", "*.below.example:80"});
  for (const char* address : {"127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1",
                              "64:ff9b::7f00:1", "fe80::1", "0.0.0.0", "fd00:ec2::254"}) {
    names_["name.example"] = {address};

    const auto said = ask(connect_request("name.example:80"));

    EXPECT_EQ(said.find("HTTP/1.1 403"), 0U) << address << ": " << said;
  }
}

TEST_F(ProxyTest, PrivateAddressesNeedTheirNameInTheList) {
  limits_.connect = 100ms; // whether anybody is there is all the same
  limits_.idle = 100ms;
  start({"name.example:80", "*.below.example:80"});
  names_["name.example"] = {"10.255.255.1"};
  names_["x.below.example"] = {"10.255.255.1"};

  EXPECT_EQ(ask(connect_request("x.below.example:80")).find("HTTP/1.1 403"), 0U);
  EXPECT_EQ(ask(connect_request("name.example:80")).find(" 403 "), std::string::npos);
  EXPECT_EQ(passed_, std::vector<std::string>{"name.example:80"});
}

TEST_F(ProxyTest, NeverConnectsToABrokeredRegistry) {
  Server server;
  policy_.never = {"127.0.0.1", "198.51.100.7"};
  names_["registry.example"] = {"198.51.100.7"};
  names_["mapped.example"] = {"::ffff:198.51.100.7"};
  start({server.at(), "registry.example", "mapped.example"});

  for (const auto& to :
       {server.at(), std::string{"registry.example:443"}, std::string{"mapped.example:443"}})
    EXPECT_NE(ask(connect_request(to)).find("a registry that slipway brokers"), std::string::npos)
        << to;
  EXPECT_TRUE(server.seen().empty());
}

// Its addresses may be others than those that were known when the script began.
TEST_F(ProxyTest, NeverConnectsToARegistrysName) {
  policy_.never_named = {"registry.example"};
  names_["registry.example"] = {"203.0.113.9"};
  start({"*.example"});

  for (const char* to : {"registry.example:443", "REGISTRY.example.:8443"})
    EXPECT_NE(ask(connect_request(to)).find("a registry that slipway brokers"), std::string::npos)
        << to;
  EXPECT_EQ(resolved_, 0);
}

TEST_F(ProxyTest, AddressesOfTheHostsInterfacesAreTheHost) {
  limits_.connect = 100ms;
  limits_.idle = 100ms;
  policy_.own = {"10.255.255.1", "198.51.100.1"};
  names_["name.example"] = {"10.255.255.1"};
  names_["public.example"] = {"198.51.100.1"};
  names_["mapped.example"] = {"::ffff:198.51.100.1"};
  names_["gitlab.example"] = {"198.51.100.1"};
  policy_.on_host = *Allowlist::parse({"gitlab.example"});
  start({"name.example", "*.example", "gitlab.example", "10.255.255.1:8443"});

  for (const char* to : {"name.example:443", "public.example:443", "mapped.example:443"})
    EXPECT_NE(ask(connect_request(to)).find("is the runner's own"), std::string::npos) << to;
  for (const char* to : {"gitlab.example:443", "10.255.255.1:8443"})
    EXPECT_EQ(ask(connect_request(to)).find(" 403 "), std::string::npos) << to;
  start({"name.example:8443", "10.255.255.1:8443"});
  EXPECT_EQ(ask(connect_request("name.example:8443")).find(" 403 "), std::string::npos)
      << "its address is listed too";
}

TEST_F(ProxyTest, OneAddressThatDoesNotAnswerLeavesTimeForTheOthers) {
  Server server;
  limits_.connect = 2s;
  names_["two.example"] = {"10.255.255.1", "127.0.0.1"};
  const auto port = server.at().substr(server.at().rfind(':'));
  start({"two.example:*", "127.0.0.1:*"});

  EXPECT_EQ(ask("GET http://two.example" + port + "/ HTTP/1.1\r\n\r\n").find("HTTP/1.1 200"), 0U);
}

TEST_F(ProxyTest, AsksPlainHttpForTheClient) {
  Server server{5};
  start({server.at()});

  const auto said = ask("POST http://" + server.at() + "/a?b=c HTTP/1.1\r\nHost: " + server.at() +
                        "\r\nConnection: X-Own, close\r\nX-Own: 1\r\nX-Kept: 2\r\n"
                        "Proxy-Authorization: Basic eA==\r\nContent-Length: 5\r\n\r\nthere");

  EXPECT_NE(said.find("hello"), std::string::npos) << said;
  proxy_.reset();
  ASSERT_TRUE(server.was_asked());
  EXPECT_EQ(server.seen().front(), "POST /a?b=c HTTP/1.1\r\nHost: " + server.at() +
                                       "\r\nX-Kept: 2\r\nContent-Length: 5\r\nConnection: "
                                       "close\r\n\r\nthere");
}

TEST_F(ProxyTest, FramesAChunkedBodyAnew) {
  Server server{15};
  start({server.at()});

  const auto said = ask("PUT http://" + server.at() +
                        "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "5;ignored=\"x\"\r\nthere\r\n0\r\nX-Trailer: 1\r\n\r\n");

  EXPECT_NE(said.find("hello"), std::string::npos) << said;
  proxy_.reset();
  ASSERT_TRUE(server.was_asked());
  EXPECT_NE(server.seen().front().find("\r\n\r\n5\r\nthere\r\n0\r\n\r\n"), std::string::npos)
      << server.seen().front();
}

TEST_F(ProxyTest, NothingFollowsTheOneRequest) {
  Server server;
  start({server.at()});

  const auto said = ask("GET http://" + server.at() + "/first HTTP/1.1\r\n\r\n" +
                        "GET http://evil.example/second HTTP/1.1\r\nHost: evil.example\r\n\r\n");

  EXPECT_NE(said.find("hello"), std::string::npos);
  proxy_.reset();
  ASSERT_TRUE(server.was_asked());
  ASSERT_EQ(server.seen().size(), 1U);
  EXPECT_EQ(server.seen().front().find("second"), std::string::npos);
}

TEST_F(ProxyTest, RefusesRequestsThatTwoReadersReadDifferently) {
  Server server;
  start({server.at(), "name.example"});
  const auto at = server.at();
  const std::string get = "GET http://" + at + "/ HTTP/1.1\r\n";
  const std::map<std::string, std::string> attacks{
      {"another Host", get + "Host: other.example\r\n\r\n"},
      {"Host with another port", get + "Host: 127.0.0.1:1\r\n\r\n"},
      {"two Hosts", get + "Host: " + at + "\r\nHost: other.example\r\n\r\n"},
      {"CONNECT with another Host", "CONNECT " + at + " HTTP/1.1\r\nHost: other.example\r\n\r\n"},
      {"two lengths", get + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nthere"},
      {"length and coding",
       get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"coding and length",
       get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
      {"two codings", get + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
      {"an unknown coding", get + "Transfer-Encoding: xchunked\r\n\r\n"},
      {"coding of HTTP/1.0",
       "GET http://" + at + "/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"a length with a sign", get + "Content-Length: +5\r\n\r\nthere"},
      {"a blank before the colon", get + "Content-Length : 5\r\n\r\nthere"},
      {"a bare line feed", "GET http://" + at + "/ HTTP/1.1\nHost: " + at + "\n\n"},
      {"Connection names the length",
       "POST http://" + at +
           "/ HTTP/1.1\r\nConnection: close, Content-Length\r\nContent-Length: 5\r\n\r\nthere"},
      {"Connection names Host", get + "Host: " + at + "\r\nConnection: host\r\n\r\n"},
      {"CONNECT with a body", "CONNECT " + at + " HTTP/1.1\r\nContent-Length: 5\r\n\r\nthere"},
      {"user info", "GET http://name.example@" + at + "/ HTTP/1.1\r\n\r\n"},
      {"a server's form", "GET / HTTP/1.1\r\nHost: " + at + "\r\n\r\n"},
      {"https in the clear", "GET https://" + at + "/ HTTP/1.1\r\n\r\n"},
      {"another scheme", "GET ftp://" + at + "/ HTTP/1.1\r\n\r\n"},
      {"a fragment", "GET http://" + at + "/#x HTTP/1.1\r\n\r\n"},
      {"CONNECT without a port", "CONNECT name.example HTTP/1.1\r\n\r\n"},
      {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {"no HTTP at all", std::string("\x16\x03\x01\x02\0", 5) + "\r\n\r\n"}};
  for (const auto& [name, request] : attacks) {
    const auto said = ask(request);
    EXPECT_EQ(said.find("HTTP/1.1 400"), 0U) << name << ": " << said;
  }
  EXPECT_TRUE(server.seen().empty());
  EXPECT_NE(ask(get + "Host: " + at + "\r\n\r\n").find("hello"), std::string::npos) << "control";
}

TEST_F(ProxyTest, RefusesAHeadThatIsTooLarge) {
  limits_.header_bytes = 2048;
  Server server;
  start({server.at()});
  const std::string get = "GET http://" + server.at() + "/";

  EXPECT_EQ(ask(get + std::string(8192, 'x')).find("HTTP/1.1 431"), 0U) << "an endless line";
  std::string fields;
  for (int i = 0; i < 500; ++i)
    fields += "X-" + std::to_string(i) + ": y\r\n";
  EXPECT_EQ(ask(get + " HTTP/1.1\r\n" + fields + "\r\n").find("HTTP/1.1 431"), 0U);
  EXPECT_NE(ask(get + std::string(1000, 'x') + " HTTP/1.1\r\n\r\n").find("hello"),
            std::string::npos)
      << "control";
}

TEST_F(ProxyTest, GivesASlowClientUp) {
  limits_.header = 200ms;
  start({"name.example"});

  EXPECT_EQ(ask("CONNECT name.exa").find("HTTP/1.1 408"), 0U);
}

TEST_F(ProxyTest, AnIdleTunnelEnds) {
  limits_.idle = 200ms;
  Server server;
  start({server.at()});

  const auto fd = connect();
  send(fd, connect_request(server.at()));

  EXPECT_EQ(read(fd), "HTTP/1.1 200 Connection established\r\n\r\n");
}

TEST_F(ProxyTest, HasAMostOfConnections) {
  limits_.connections = 2;
  start({"name.example"});
  const auto first = connect();
  const auto second = connect();
  send(first, "C");
  send(second, "C");

  EXPECT_EQ(ask("CONNECT name.example:443 HTTP/1.1\r\n\r\n").find("HTTP/1.1 503"), 0U);
}

TEST_F(ProxyTest, WhatIsToldHasAnEnd) {
  limits_.told = 3;
  start({});
  for (int i = 0; i < 10; ++i)
    (void)ask(connect_request("h" + std::to_string(i) + ".example:443"));

  EXPECT_EQ(refused_.size(), 3U);
}

TEST_F(ProxyTest, LearnsMoreThanItTells) {
  limits_.told = 3;
  limits_.connect = 100ms;
  limits_.idle = 100ms;
  policy_.learn = true;
  start({});
  for (int i = 0; i < 10; ++i) {
    const auto name = "h" + std::to_string(i) + ".example";
    names_[name] = {"10.255.255.1"};
    (void)ask(connect_request(name + ":443"));
  }

  EXPECT_EQ(passed_.size(), 10U);
}

TEST_F(ProxyTest, LearningLetsNamesPassAndTellsThem) {
  policy_.learn = true;
  policy_.never = {"198.51.100.7"};
  limits_.connect = 100ms;
  limits_.idle = 100ms;
  names_["any.example"] = {"10.255.255.1"};
  names_["registry.example"] = {"198.51.100.7"};
  names_["self.example"] = {"127.0.0.1"};
  start({});

  EXPECT_EQ(ask(connect_request("any.example:8443")).find(" 403 "), std::string::npos);
  EXPECT_EQ(ask(connect_request("registry.example:443")).find("HTTP/1.1 403"), 0U);
  EXPECT_EQ(ask(connect_request("self.example:443")).find("HTTP/1.1 403"), 0U);
  EXPECT_EQ(passed_, std::vector<std::string>{"any.example:8443"});
}

TEST_F(ProxyTest, ItsEndEndsTunnelsAndTheSocket) {
  Server server;
  start({server.at()});
  const auto fd = connect();
  send(fd, connect_request(server.at()));
  ASSERT_FALSE(read(fd, "\r\n\r\n").empty());

  proxy_.reset();

  EXPECT_EQ(read(fd), "");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "proxy"));
}

TEST_F(ProxyTest, ClearsSocketsAwayThatNobodyListensAt) {
  start({"name.example"});
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto path = (dir_ / "127.1.2.3").string();
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  {
    const UniqueFd dead{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }

  ASSERT_TRUE(proxy_->listen(dir_ / "127.9.9.9").ok());

  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "proxy")) << "somebody listens here";
  struct stat facts {};
  ASSERT_EQ(::stat((dir_ / "127.9.9.9").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0666U) << "clients have other ids";
}

} // namespace
} // namespace slipway::egress
