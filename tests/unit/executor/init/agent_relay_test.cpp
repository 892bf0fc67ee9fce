// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/ssh_agent.hpp"
#include "executor/init/agent_relay.hpp"
#include "tests/fakes/packed.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

namespace slipway::init {
namespace {

using engine_api::agent_frame;

/// The relay in a process of its own, as in a sandbox; this one is its agent.
class AgentRelay : public testing::Test {
protected:
  void SetUp() override {
    int to[2];
    int from[2];
    ASSERT_EQ(::pipe2(to, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(from, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      for (const int fd : {to[0], to[1], from[0], from[1]})
        ::close(fd);
      ::_exit(relay_agent(path_.c_str()));
    }
    ::close(to[0]);
    ::close(from[1]);
    answers_.reset(to[1]);
    questions_.reset(from[0]);
    ASSERT_EQ(question(), "");
  }
  void TearDown() override {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  /// How the relay ended.
  int ended() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// The next whole message behind FD; "gone" at its end.
  static std::string message(int fd, engine_api::AgentMessages& messages) {
    for (;;) {
      auto next = messages.next();
      if (!next) return next.error().text();
      if (*next) return **next;
      char buffer[4096];
      const ssize_t got = ::read(fd, buffer, sizeof buffer);
      if (got <= 0) return "gone";
      messages.add({buffer, static_cast<std::size_t>(got)});
    }
  }
  std::string question() { return message(questions_.get(), asked_); }
  void answer(std::string_view text) {
    EXPECT_TRUE(write_all(answers_.get(), agent_frame(text)).ok());
  }
  UniqueFd client() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  const fakes::TempDir dir_;
  const std::string path_ = (dir_.path() / "agent").string();
  pid_t pid_ = -1;
  UniqueFd answers_;
  UniqueFd questions_;
  engine_api::AgentMessages asked_;
};

TEST_F(AgentRelay, CarriesQuestionsOfSeveralClientsOneAtATime) {
  struct stat facts {};
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0600U);

  const auto one = client();
  const auto two = client();
  EXPECT_TRUE(write_all(one.get(), agent_frame("first") + agent_frame("second")).ok());
  EXPECT_EQ(question(), "first");
  EXPECT_TRUE(write_all(two.get(), agent_frame("other")).ok());
  answer("to first");
  EXPECT_EQ(question(), "second");
  answer("to second");
  EXPECT_EQ(question(), "other");
  answer("to other");

  engine_api::AgentMessages of_one;
  engine_api::AgentMessages of_two;
  EXPECT_EQ(message(one.get(), of_one), "to first");
  EXPECT_EQ(message(one.get(), of_one), "to second");
  EXPECT_EQ(message(two.get(), of_two), "to other");
}

TEST_F(AgentRelay, DropsAClientThatTalksNonsenseAndServesTheOthers) {
  const auto broken = client();
  const auto empty = client();
  EXPECT_TRUE(write_all(broken.get(), std::string{"\xff\xff\xff\xff", 4}).ok());
  EXPECT_TRUE(write_all(empty.get(), agent_frame("")).ok());
  engine_api::AgentMessages none;
  EXPECT_EQ(message(broken.get(), none), "gone");
  EXPECT_EQ(message(empty.get(), none), "gone");

  { // asks, and does not wait for its answer
    const auto hasty = client();
    EXPECT_TRUE(write_all(hasty.get(), agent_frame("hasty")).ok());
    EXPECT_EQ(question(), "hasty");
  }
  answer("nobody reads this");
  const auto good = client();
  EXPECT_TRUE(write_all(good.get(), agent_frame("good")).ok());
  EXPECT_EQ(question(), "good");
  answer("to good");
  engine_api::AgentMessages of_good;
  EXPECT_EQ(message(good.get(), of_good), "to good");
}

TEST_F(AgentRelay, EndsWithItsAgentAlsoWhileItIsAsked) {
  const auto one = client();
  EXPECT_TRUE(write_all(one.get(), agent_frame("first")).ok());
  EXPECT_EQ(question(), "first");
  answers_.reset();

  EXPECT_EQ(ended(), 0);
  engine_api::AgentMessages none;
  EXPECT_EQ(message(one.get(), none), "gone");
}

TEST(AgentRelayAt, APathThatCannotBeSaysSo) {
  EXPECT_EQ(relay_agent("/nonexistent/folder/agent"), 1);
  EXPECT_EQ(relay_agent(std::string(200, 'x').c_str()), 1);
}

} // namespace
} // namespace slipway::init
