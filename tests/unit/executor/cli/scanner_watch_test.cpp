// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/gate_check.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

namespace slipway::cli {
namespace {

constexpr std::size_t kMiB = 1UL << 20;

/// A process that has so many bytes and waits.
class Hog {
public:
  explicit Hog(std::size_t bytes) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      void* memory =
          ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      for (std::size_t at = 0; at < bytes; at += 4096)
        static_cast<volatile char*>(memory)[at] = 1;
      (void)!::write(ends[1], "x", 1);
      for (;;)
        ::pause();
    }
    char ready = 0;
    EXPECT_EQ(::read(ends[0], &ready, 1), 1);
    ::close(ends[0]);
    ::close(ends[1]);
  }
  Hog(const Hog&) = delete;
  Hog& operator=(const Hog&) = delete;
  ~Hog() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    (void)status();
  }
  int status() {
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    return status;
  }
  sandbox::ContainerFacts as_scanner(const std::vector<std::string>& not_enforced) const {
    sandbox::ContainerFacts facts;
    facts.host_pid = pid_;
    facts.limits.emplace();
    for (const auto& what : not_enforced)
      facts.limits->missing.push_back({what, "no controller"});
    return facts;
  }
  bool lives() const { return ::kill(pid_, 0) == 0; }

private:
  pid_t pid_ = 0;
};

TEST(ScannerWatch, EndsAScannerWithTooMuchMemoryWhereTheHostDoesNot) {
  Hog limited{100 * kMiB};
  Hog small{1 * kMiB};
  Hog large{100 * kMiB};
  std::string said;
  {
    ScannerWatch watch{50 * kMiB, [&](std::string_view line) { said += line; },
                       std::chrono::milliseconds{5}};
    watch.started()(limited.as_scanner({"disk"}));
    watch.started()(small.as_scanner({"disk", "memory"}));
    watch.started()(large.as_scanner({"disk", "memory"}));
    EXPECT_TRUE(WIFSIGNALED(large.status()));
  }
  EXPECT_NE(said.find("the sandbox scanner had"), std::string::npos) << said;
  EXPECT_NE(said.find("more than the limit of 50 MiB"), std::string::npos) << said;
  EXPECT_TRUE(limited.lives()) << "the host sees to it";
  EXPECT_TRUE(small.lives());
}

} // namespace
} // namespace slipway::cli
