// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/handover.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <future>

namespace slipway::sandbox {
namespace {

class HandedOver : public testing::Test {
protected:
  UniqueFd connect() const {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (handover_.dir() + "/s").c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // What comes: bytes, and a descriptor or none.
  static std::pair<ssize_t, UniqueFd> receive(int peer) {
    char byte = 1;
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = ::recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
    int fd = -1;
    if (const auto* header = CMSG_FIRSTHDR(&message); header != nullptr)
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return {got, UniqueFd{fd}};
  }
  fakes::TempDir dir_;
  Handover handover_ = *Handover::make(dir_.path());
  UniqueFd over_{::eventfd(0, EFD_CLOEXEC)};
};

TEST_F(HandedOver, GoesToTheFirstWhoAsks) {
  const auto peer = connect();
  EXPECT_TRUE(
      handover_.give_to_first([&]() -> Result<int> { return over_.get(); }, over_.get()).ok());
  const auto [got, fd] = receive(peer.get());
  EXPECT_EQ(got, 1);
  ASSERT_TRUE(fd);
  EXPECT_EQ(::eventfd_write(fd.get(), 1), 0);
  eventfd_t count = 0;
  EXPECT_EQ(::eventfd_read(over_.get(), &count), 0);
}

TEST_F(HandedOver, IsNothingWhereItCannotBeHad) {
  const auto peer = connect();
  const auto given = handover_.give_to_first(
      []() -> Result<int> {
        return Error{ErrorKind::misconfigured, "not the pinned one", "", {}};
      },
      over_.get());
  EXPECT_EQ(given.error().kind, ErrorKind::misconfigured);
  const auto [got, fd] = receive(peer.get());
  EXPECT_EQ(got, 0);
  EXPECT_FALSE(fd);
}

TEST_F(HandedOver, WaitsForNobodyWhereNobodyWillCome) {
  auto waiting = std::async(std::launch::async, [&] {
    return handover_
        .give_to_first(
            []() -> Result<int> {
              ADD_FAILURE() << "nobody asked";
              return -1;
            },
            over_.get())
        .ok();
  });
  EXPECT_EQ(::eventfd_write(over_.get(), 1), 0);
  EXPECT_FALSE(waiting.get());
}

TEST_F(HandedOver, IsLeftByADeadMakerOnly) {
  const auto dead = dir_.path() / "slipway-handover-aaaaaa";
  const auto other = dir_.path() / "other";
  for (const auto& dir : {dead, other}) {
    std::filesystem::create_directory(dir);
    ASSERT_TRUE(replace_file(dir / "s", "").ok());
  }

  remove_dead_handovers(dir_.path());

  EXPECT_FALSE(std::filesystem::exists(dead));
  EXPECT_TRUE(std::filesystem::exists(other / "s"));
  connect(); // the living one's is there
}

} // namespace
} // namespace slipway::sandbox
