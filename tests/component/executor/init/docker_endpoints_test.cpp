// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/docker_tls.hpp"
#include "tests/component/executor/init/init_sandbox.hpp"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <filesystem>
#include <memory>
#include <thread>

namespace slipway::init {
namespace {

using namespace std::chrono_literals;

struct Free {
  void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
};

// Answers each connection, once its client has ended its half, with all it was sent and "!".
class EchoServer {
public:
  explicit EchoServer(const std::filesystem::path& socket)
      : listener_{sandbox::listen_for_scripts(socket).value()}, thread_{[this] { serve(); }} {}
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;
  ~EchoServer() {
    (void)::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

private:
  void serve() {
    for (;;) {
      pollfd ready{listener_.get(), POLLIN, 0};
      (void)::poll(&ready, 1, 10000);
      const UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (!client) return;
      std::string all;
      char bytes[65536];
      for (ssize_t n = 0; (n = ::recv(client.get(), bytes, sizeof bytes, 0)) > 0;) {
        all.append(bytes, static_cast<std::size_t>(n));
      }
      all += "!";
      for (std::size_t sent = 0; sent < all.size();) {
        const auto n = ::send(client.get(), all.data() + sent, all.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<std::size_t>(n);
      }
    }
  }
  UniqueFd listener_;
  std::thread thread_;
};

class DockerEndpoints : public testing::Test {
protected:
  void SetUp() override {
    if (!sandbox.problem().empty()) GTEST_SKIP() << sandbox.problem();
    // The first answer of init says that its endpoints stand.
    ASSERT_TRUE(run(sandbox, shell_request(), "true\n").result);
  }

  UniqueFd connect_to(std::uint16_t port) const {
    return sandbox.in_network([port] {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const int small = 4096; // so that an unread answer backs up into the relay
      (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
      const timeval limit{5, 0};
      (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
      (void)::close(fd);
      return -1;
    });
  }

  // What comes back through TLS for "ping"; "" where the server hung up.
  std::string tls_ping(bool with_client_certificate) const {
    const auto client = sandbox.folder() / "tls/client";
    const std::unique_ptr<SSL_CTX, Free> context{::SSL_CTX_new(::TLS_client_method())};
    EXPECT_EQ(::SSL_CTX_load_verify_file(context.get(), (client / "ca.pem").c_str()), 1);
    ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    if (with_client_certificate) {
      EXPECT_EQ(::SSL_CTX_use_certificate_chain_file(context.get(), (client / "cert.pem").c_str()),
                1);
      EXPECT_EQ(::SSL_CTX_use_PrivateKey_file(context.get(), (client / "key.pem").c_str(),
                                              SSL_FILETYPE_PEM),
                1);
    }
    const UniqueFd socket = connect_to(2376);
    const std::unique_ptr<SSL, Free> ssl{::SSL_new(context.get())};
    ::SSL_set_fd(ssl.get(), socket.get());
    EXPECT_EQ(::SSL_set1_host(ssl.get(), "docker"), 1);
    if (::SSL_connect(ssl.get()) != 1) return "";
    (void)::SSL_write(ssl.get(), "ping", 4);
    (void)::SSL_shutdown(ssl.get());
    std::string all;
    char bytes[4096];
    for (int n = 0; (n = ::SSL_read(ssl.get(), bytes, sizeof bytes)) > 0;) {
      all.append(bytes, static_cast<std::size_t>(n));
    }
    return all;
  }

  InitSandbox sandbox{{.docker = true, .tls = true}};
};

TEST_F(DockerEndpoints, RelayThePlainPortWithHalfClosedConnections) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};
  const UniqueFd client = connect_to(2375);
  ASSERT_TRUE(client);
  const std::string large(2'000'000, 'x');

  std::thread sender{[&] {
    for (std::size_t sent = 0; sent < large.size();) {
      const auto n = ::send(client.get(), large.data() + sent, large.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    (void)::shutdown(client.get(), SHUT_WR);
  }};
  std::string all;
  char bytes[65536];
  for (ssize_t n = 0; (n = ::recv(client.get(), bytes, sizeof bytes, 0)) > 0;) {
    all.append(bytes, static_cast<std::size_t>(n));
  }
  sender.join();

  EXPECT_EQ(all.size(), large.size() + 1);
  EXPECT_TRUE(all.ends_with("x!"));
}

TEST_F(DockerEndpoints, KeepWhatAServerSentBeforeItClosedForASlowClient) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};
  const UniqueFd client = connect_to(2375);
  ASSERT_TRUE(client);
  const std::string large(4'200'000, 'x');
  for (std::size_t sent = 0; sent < large.size();) {
    const auto n = ::send(client.get(), large.data() + sent, large.size() - sent, MSG_NOSIGNAL);
    ASSERT_GT(n, 0);
    sent += static_cast<std::size_t>(n);
  }
  (void)::shutdown(client.get(), SHUT_WR);

  std::this_thread::sleep_for(500ms); // the server has closed, its last bytes wait in the relay
  std::size_t all = 0;
  std::vector<char> bytes(1U << 20);
  for (ssize_t n = 0; (n = ::recv(client.get(), bytes.data(), bytes.size(), 0)) > 0;) {
    all += static_cast<std::size_t>(n);
  }

  EXPECT_EQ(all, large.size() + 1);
}

TEST_F(DockerEndpoints, RelayTheTlsPortForAClientWithItsCertificate) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};

  EXPECT_EQ(tls_ping(true), "ping!");
}

TEST_F(DockerEndpoints, RefuseTheTlsPortWithoutAClientCertificate) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};

  EXPECT_EQ(tls_ping(false), "");
}

TEST_F(DockerEndpoints, CloseWhenNoRunServesTheSocket) {
  const UniqueFd client = connect_to(2375);
  ASSERT_TRUE(client);
  char byte = 0;

  EXPECT_EQ(::recv(client.get(), &byte, 1, 0), 0);
}

TEST_F(DockerEndpoints, OutliveTheEndOfAScript) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};
  ASSERT_TRUE(run(sandbox, shell_request(), "sleep 300 & true\n").result);

  EXPECT_EQ(tls_ping(true), "ping!");
}

TEST_F(DockerEndpoints, CloseConnectionsAboveTheLimit) {
  const EchoServer server{sandbox.folder() / "run/sock/docker.sock"};
  std::vector<UniqueFd> kept; // gone before the server, which waits for their end
  for (int i = 0; i < 64; ++i)
    kept.push_back(connect_to(2375));
  std::this_thread::sleep_for(100ms);

  const UniqueFd surplus = connect_to(2375);

  char byte = 0;
  EXPECT_EQ(::recv(surplus.get(), &byte, 1, 0), 0);
}

TEST_F(DockerEndpoints, StandWhereClientsLookForTheSocket) {
  const auto said =
      run(sandbox, shell_request(), "readlink /var/run/docker.sock /run/docker.sock\n");

  EXPECT_EQ(said.out, "/run/slipway/sock/docker.sock\n/run/slipway/sock/docker.sock\n") << said.err;
}

} // namespace
} // namespace slipway::init
