// SPDX-License-Identifier: Apache-2.0
// The process that serves the broker has to stay small, whatever streams through it.
#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/broker/server.hpp"
#include "tests/fakes/fake_image_service.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <fstream>

namespace slipway::broker {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::size_t peak_kib() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6));
  }
  return 0;
}

TEST(BrokerMemory, StaysBelowThirtyMebibytesWithSixtyContextsAtOnce) {
  if (kSanitized) GTEST_SKIP() << "sanitizers have memory of their own";
  std::string name = (std::filesystem::temp_directory_path() / "slipway-broker-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const std::filesystem::path dir = name;
  tests::FakeImageService images{dir / "layout"};
  auto server = Server::start(dir / "docker.sock", images, ServerLimits{});
  ASSERT_TRUE(server);

  std::vector<UniqueFd> clients;
  for (int i = 0; i < 60; ++i) {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir / "docker.sock").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_TRUE(write_all(
        fd.get(),
        "POST /build HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 4194304\r\n\r\n"));
    clients.push_back(std::move(fd));
  }
  const std::string part(65536, 'x');
  for (int i = 0; i < 64; ++i) {
    for (const auto& fd : clients)
      ASSERT_TRUE(write_all(fd.get(), part));
  }
  std::size_t built = 0;
  for (const auto& fd : clients) {
    auto answer = read_all(fd.get(), 1 << 20, "answer");
    if (answer && answer->find("Successfully built") != std::string::npos) ++built;
  }

  EXPECT_EQ(built, 60U);
  EXPECT_LT(peak_kib(), 30U * 1024U);
  RecordProperty("peak_kib", std::to_string(peak_kib()));
  std::printf("peak %zu KiB\n", peak_kib());
  server->reset();
  std::filesystem::remove_all(dir);
}

} // namespace
} // namespace slipway::broker
