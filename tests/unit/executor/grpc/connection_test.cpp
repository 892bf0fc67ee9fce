// SPDX-License-Identifier: Apache-2.0
// Two ends of a connection, and a server with clients that mean no good.
#include "executor/base/unique_fd.hpp"
#include "executor/grpc/connection.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <functional>
#include <thread>

namespace slipway::grpc {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLong{5000};

class GrpcConnection : public testing::Test {
protected:
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), 0);
    server_end = UniqueFd{ends[0]};
    client_end = UniqueFd{ends[1]};
    stop = UniqueFd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  }
  void TearDown() override {
    if (client) client->close();
    if (client_thread.joinable()) client_thread.join();
    if (server) server->close();
    if (server_thread.joinable()) server_thread.join();
  }
  void serve(Connection::Serve answer) {
    server = std::move(Connection::open(Connection::Role::server, server_end.get(), stop.get(),
                                        std::move(answer)))
                 .value();
    server_thread = std::thread{[this] {
      server->run("");
      server_ended = true;
      ::shutdown(server_end.get(), SHUT_RDWR);
    }};
  }
  void connect() {
    client =
        std::move(Connection::open(Connection::Role::client, client_end.get(), stop.get())).value();
    client_thread = std::thread{[this] { client->run(""); }};
  }
  std::shared_ptr<Call> call(const std::string& method, const Metadata& metadata = {}) {
    return std::move(client->call(method, metadata)).value();
  }
  void send_raw(std::string_view bytes) const {
    ASSERT_EQ(::send(client_end.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  bool eventually(const std::function<bool()>& condition) const {
    const auto until = std::chrono::steady_clock::now() + kLong;
    while (std::chrono::steady_clock::now() < until) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds{5});
    }
    return false;
  }

  UniqueFd server_end;
  UniqueFd client_end;
  UniqueFd stop;
  UniqueFd never;
  std::unique_ptr<Connection> server;
  std::unique_ptr<Connection> client;
  std::thread server_thread;
  std::thread client_thread;
  std::atomic<bool> server_ended = false;
};

TEST_F(GrpcConnection, CarriesMessagesAndMetadataBothWays) {
  serve([](Call& call) {
    auto message = call.read(kLong);
    while (message && *message) {
      if (!call.write(call.method() + " " + call.header("who") + " " + **message)) return;
      message = call.read(kLong);
    }
    call.finish({});
  });
  connect();

  const auto made = call("/a.B/C", {{"who", "me"}});
  ASSERT_TRUE(made->write("one"));
  ASSERT_TRUE(made->write(""));
  made->end_writing();

  EXPECT_EQ(**made->read(kLong), "/a.B/C me one");
  EXPECT_EQ(**made->read(kLong), "/a.B/C me ");
  EXPECT_FALSE(made->read(kLong)->has_value());
  EXPECT_EQ(made->ending().code, Code::ok);
}

TEST_F(GrpcConnection, CarriesMoreThanAllWindowsTogether) {
  serve([](Call& call) {
    std::size_t total = 0;
    auto message = call.read(kLong);
    for (; message && *message; message = call.read(kLong))
      total += (*message)->size();
    if (call.write(std::to_string(total))) call.finish({});
  });
  connect();

  const auto made = call("/a.B/C");
  const std::string part(kMaxMessageBytes, 'x');
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(made->write(part));
  made->end_writing();

  EXPECT_EQ(**made->read(kLong), std::to_string(20 * part.size()));
}

TEST_F(GrpcConnection, TellsHowACallEnded) {
  serve([](Call& call) { call.finish({Code::permission_denied, "no: 100 % \xc3\xa9\nsure"}); });
  connect();

  const auto made = call("/a.B/C");
  made->end_writing();

  const auto read = made->read(kLong);
  EXPECT_TRUE(!read || !*read);
  EXPECT_EQ(made->ending().code, Code::permission_denied);
  EXPECT_EQ(made->ending().message, "no: 100 % \xc3\xa9\nsure");
}

TEST_F(GrpcConnection, ServerSeesThatACallWasTakenBack) {
  std::atomic<bool> noticed = false;
  std::atomic<bool> began = false;
  serve([&](Call& call) {
    began = true;
    noticed = eventually([&] { return call.gone(); });
  });
  connect();

  const auto made = call("/a.B/C");
  ASSERT_TRUE(made->write("x"));
  ASSERT_TRUE(eventually([&] { return began.load(); }));
  made->cancel();

  EXPECT_TRUE(eventually([&] { return noticed.load(); }));
}

TEST_F(GrpcConnection, KeepsNothingOfCallsThatNobodyHas) {
  std::atomic<int> open = 0;
  serve([&](Call& call) {
    ++open;
    (void)call.write("x"); // and does not end
    (void)eventually([&] { return call.gone(); });
    --open;
  });
  connect();

  for (std::uint32_t i = 0; i < 3 * kMaxOwnCalls; ++i) { // more than may be open
    const auto made = call("/a.B/C");
    ASSERT_TRUE(made->write("x"));
    made->end_writing();
    ASSERT_TRUE(made->read(kLong)) << i;
  }
  EXPECT_TRUE(eventually([&] { return open == 0; }));
}

TEST_F(GrpcConnection, MakesOnlySoManyCallsAtOnce) {
  serve([&](Call& call) { (void)eventually([&] { return call.gone(); }); });
  connect();
  std::vector<std::shared_ptr<Call>> held;
  for (std::size_t i = 0; i < kMaxOwnCalls; ++i)
    held.push_back(call("/a.B/C"));

  EXPECT_EQ(client->call("/a.B/C", {}).error().kind, ErrorKind::unavailable);
}

TEST_F(GrpcConnection, EndOfThePeerEndsCallsAndThreads) {
  std::atomic<bool> noticed = false;
  std::atomic<bool> began = false;
  serve([&](Call& call) {
    began = true;
    noticed = eventually([&] { return call.gone(); });
  });
  connect();
  const auto made = call("/a.B/C");
  ASSERT_TRUE(made->write("x"));
  ASSERT_TRUE(eventually([&] { return began.load(); }));

  client->close();
  client_thread.join();
  ::shutdown(client_end.get(), SHUT_RDWR);

  EXPECT_TRUE(eventually([&] { return server_ended.load(); }));
  EXPECT_TRUE(noticed);
  EXPECT_EQ(made->read(kLong).error().kind, ErrorKind::unavailable);
}

TEST_F(GrpcConnection, StopLetsTheLastWordsOut) {
  std::atomic<bool> began = false;
  serve([&](Call& call) {
    began = true;
    (void)eventually([&] { return call.gone(); });
    call.finish({Code::unavailable, "the job ends"});
  });
  // The client has a stop event of its own: it is another program.
  never = UniqueFd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  client =
      std::move(Connection::open(Connection::Role::client, client_end.get(), never.get())).value();
  client_thread = std::thread{[this] { client->run(""); }};
  const auto made = call("/a.B/C");
  ASSERT_TRUE(made->write("x"));
  ASSERT_TRUE(eventually([&] { return began.load(); }));

  const std::uint64_t one = 1;
  ASSERT_EQ(::write(stop.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));

  const auto read = made->read(kLong);
  EXPECT_TRUE(!read || !*read);
  EXPECT_EQ(made->ending().message, "the job ends");
  EXPECT_TRUE(eventually([&] { return server_ended.load(); }));
}

TEST_F(GrpcConnection, RefusesAMessageAboveTheLimit) {
  std::atomic<bool> refused = false;
  serve([&](Call& call) {
    const auto message = call.read(kLong);
    refused = !message && message.error().kind == ErrorKind::bad_input;
  });
  connect();

  const auto made = call("/a.B/C");
  ASSERT_TRUE(made->write(std::string(kMaxMessageBytes + 1, 'x')));

  EXPECT_TRUE(eventually([&] { return refused.load(); }));
}

TEST_F(GrpcConnection, RefusesHeadersAboveTheLimit) {
  std::atomic<int> served = 0;
  serve([&](Call& call) {
    ++served;
    call.finish({});
  });
  connect();

  const auto large = call("/a.B/C", {{"x", std::string(kMaxCallHeaderBytes, 'x')}});
  large->end_writing();

  EXPECT_FALSE(large->read(kLong).ok());
  EXPECT_EQ(served, 0);
  const auto small = call("/a.B/C", {{"x", std::string(kMaxCallHeaderBytes / 2, 'x')}});
  small->end_writing();
  EXPECT_TRUE(small->read(kLong).ok());
  EXPECT_EQ(served, 1);
}

TEST_F(GrpcConnection, RefusesWhatSpeaksNoHttp2) {
  serve([](Call&) {});

  send_raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n");

  EXPECT_TRUE(eventually([&] { return server_ended.load(); }));
}

TEST_F(GrpcConnection, RefusesACallThatIsNoGrpc) {
  std::atomic<int> served = 0;
  serve([&](Call&) { ++served; });
  // POST / without a content type, HPACK without Huffman and without a table.
  std::string head;
  for (const auto& [name, value] :
       Metadata{{":method", "POST"}, {":scheme", "http"}, {":path", "/"}})
    head += std::string{'\0'} + static_cast<char>(name.size()) + name +
            static_cast<char>(value.size()) + value;
  std::string frame{"\0\0\0\x01\x05\0\0\0\x01", 9};
  frame[2] = static_cast<char>(head.size());
  send_raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string{"\0\0\0\x04\0\0\0\0\0", 9} + frame +
           head);

  // :status 415, as it stands in no static table of HPACK
  std::string answer;
  EXPECT_TRUE(eventually([&] {
    std::array<char, 4096> part{};
    const auto got = ::recv(client_end.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (got > 0) answer.append(part.data(), static_cast<std::size_t>(got));
    return answer.size() > 52;
  }));
  EXPECT_EQ(served, 0);
}

TEST_F(GrpcConnection, BoundsTheThreadsOfAClientThatTakesCallsBackAtOnce) {
  std::atomic<int> at_once = 0;
  std::atomic<int> most = 0;
  std::atomic<bool> let_go = false;
  serve([&](Call&) {
    const int now = ++at_once;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    (void)eventually([&] { return let_go.load(); });
    --at_once;
  });
  connect();

  const auto first = call("/a.B/C");
  EXPECT_TRUE(eventually([&] { return most > 0; }));
  for (std::size_t i = 0; i < kMaxThreads + 100; ++i) {
    // The peer's limit of open calls holds this one up meanwhile, and its own ends some.
    const auto made = client->call("/a.B/C", {});
    std::this_thread::sleep_for(milliseconds{1});
    if (made) (*made)->cancel();
  }
  let_go = true;

  EXPECT_LE(most, static_cast<int>(kMaxThreads));
}

} // namespace
} // namespace slipway::grpc
