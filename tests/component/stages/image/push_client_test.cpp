// SPDX-License-Identifier: Apache-2.0
// The parent's side of slipway-push with the real program, and with programs that are not it.
#include "executor/base/unique_fd.hpp"
#include "stages/image/push_client.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <sys/socket.h>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;

fs::path worker() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin/slipway-push";
}

/// A server that takes connections and never says anything.
UniqueFd silent_server(int& port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
  ::listen(fd.get(), 4);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  port = ntohs(address.sin_port);
  return fd;
}

engine_api::PullRequest pull_from(int port) {
  engine_api::PullRequest request;
  request.registry.host = "127.0.0.1:" + std::to_string(port);
  request.repository = "grp/app";
  request.target = "v1";
  request.manifest_only = true;
  request.deadline_seconds = 30;
  return request;
}

TEST(PushClient, GivesTheWorkersErrorWithItsKind) {
  auto request = pull_from(1);
  request.target = "not/a/tag";

  const auto answer = PushClient{worker()}.pull(request, nullptr, nullptr);

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::bad_input) << answer.error().text();
}

TEST(PushClient, EndsTheWorkerWhenCancelled) {
  int port = 0;
  const auto server = silent_server(port);
  int asked = 0;

  const auto began = std::chrono::steady_clock::now();
  const auto answer =
      PushClient{worker()}.pull(pull_from(port), nullptr, [&] { return ++asked > 3; });

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::timed_out);
  EXPECT_NE(answer.error().what.find("cancelled"), std::string::npos) << answer.error().what;
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds{8});
}

TEST(PushClient, SaysThatTheWorkerDied) {
  const auto answer = PushClient{"/bin/true"}.pull(pull_from(1), nullptr, nullptr);

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::internal) << answer.error().text();
}

TEST(PushClient, SaysThatThereIsNoWorker) {
  const auto answer = PushClient{"/nonexistent/slipway-push"}.pull(pull_from(1), nullptr, nullptr);

  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().text().find("starting slipway-push"), std::string::npos)
      << answer.error().text();
}

} // namespace
} // namespace slipway::image
