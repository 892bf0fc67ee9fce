// SPDX-License-Identifier: Apache-2.0
// What tells a builder's daemon that answers from one that does not.
#pragma once

#include "executor/base/unique_fd.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

namespace slipway::fakes {

/// A socket on which somebody answers as an HTTP/2 server would.
class Http2Server {
public:
  explicit Http2Server(const std::filesystem::path& path,
                       std::string answer = std::string("\0\0\0\4\0\0\0\0\0", 9))
      : answer_{std::move(answer)} {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::thread{[this] {
      for (;;) {
        const UniqueFd client{::accept(listener_.get(), nullptr, nullptr)};
        if (client.get() < 0) return;
        if (answer_.empty()) {
          std::this_thread::sleep_for(std::chrono::milliseconds{400});
          continue;
        }
        char hello[33]; // preface and SETTINGS; a socket closed with unread bytes loses the answer
        (void)!::recv(client.get(), hello, sizeof hello, MSG_WAITALL);
        (void)!::send(client.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
      }
    }};
  }
  ~Http2Server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

private:
  std::string answer_;
  UniqueFd listener_;
  std::thread thread_;
};

} // namespace slipway::fakes
