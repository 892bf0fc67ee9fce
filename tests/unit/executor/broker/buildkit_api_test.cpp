// SPDX-License-Identifier: Apache-2.0
// A BuildKit client's session while the host has no thread left.
#include "executor/broker/server.hpp"
#include "executor/grpc/connection.hpp"
#include "tests/fakes/fake_image_service.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

namespace {
/// Of the threads that one begins which has itself begun since this was set; 0: none fails.
std::atomic<int> g_failing_thread = 0;
thread_local bool g_counts = false;
thread_local int g_begun = 0;

struct Start {
  void* (*start)(void*);
  void* argument;
};
void* begin_counting(void* argument) {
  const std::unique_ptr<Start> start{static_cast<Start*>(argument)};
  g_counts = true;
  return start->start(start->argument);
}
} // namespace

// In place of the C library's: no limit of a process makes just one of them fail.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) noexcept {
  using Real = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "pthread_create"));
  if (g_failing_thread == 0) return real(thread, attributes, start, argument);
  if (g_counts && ++g_begun == g_failing_thread) return EAGAIN;
  auto counting = std::make_unique<Start>(Start{start, argument});
  const int failed = real(thread, attributes, begin_counting, counting.get());
  if (failed == 0) (void)counting.release(); // the thread's
  return failed;
}

namespace slipway::broker {
namespace {

using std::chrono::milliseconds;

class BuildkitSessions : public testing::Test {
protected:
  void SetUp() override {
    auto started = Server::start(dir_.path() / "s", images_, ServerLimits{});
    ASSERT_TRUE(started) << started.error().text();
    server_ = *std::move(started);
    fd_ = UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir_.path() / "s").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    constexpr std::string_view kAsk = "POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n"
                                      "Upgrade: h2c\r\n\r\n";
    ASSERT_EQ(::send(fd_.get(), kAsk.data(), kAsk.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(kAsk.size()));
    std::string head;
    for (char c = 0; !head.ends_with("\r\n\r\n"); head += c)
      ASSERT_EQ(::recv(fd_.get(), &c, 1, 0), 1) << head;
    ASSERT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
    ASSERT_EQ(::fcntl(fd_.get(), F_SETFL, O_NONBLOCK), 0);
    client_ = std::move(
        grpc::Connection::open(grpc::Connection::Role::client, fd_.get(), stop_.get()).value());
    frames_ = std::thread{[this] { client_->run(""); }};
  }
  void TearDown() override {
    if (client_) client_->close();
    if (frames_.joinable()) frames_.join();
    server_.reset();
  }
  std::shared_ptr<grpc::Call> open_session() {
    return std::move(client_
                         ->call("/moby.buildkit.v1.Control/Session",
                                {{"x-docker-expose-session-uuid", "session-1"}})
                         .value());
  }

  fakes::TempDir dir_;
  tests::FakeImageService images_{dir_.path() / "layout"};
  UniqueFd stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  UniqueFd fd_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<grpc::Connection> client_;
  std::thread frames_;
};

TEST_F(BuildkitSessions, AreRefusedWhereThereIsNoThreadForThem) {
  for (const int failing : {1, 2}) {
    g_failing_thread = failing;
    const auto call = open_session();
    const auto message = call->read(milliseconds{5000});
    g_failing_thread = 0;

    EXPECT_FALSE(message.ok() && *message);
    EXPECT_EQ(call->ending().code, grpc::Code::resource_exhausted) << failing;
    EXPECT_NE(call->ending().message.find("no room for a session"), std::string::npos);
  }

  // The broker lives, and the session's name is free.
  const auto call = open_session();
  const auto first = call->read(milliseconds{5000});
  ASSERT_TRUE(first.ok()) << first.error().text();
  EXPECT_TRUE(first->has_value());
}

} // namespace
} // namespace slipway::broker
