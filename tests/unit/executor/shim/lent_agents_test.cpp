// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/shim/lent_agents.hpp"
#include "tests/fakes/packed.hpp"

#include <gtest/gtest.h>

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <future>
#include <optional>
#include <string>
#include <utility>

namespace slipway::shim {
namespace {

/// A broker and an agent, both played by the test.
class LentAgentsTest : public testing::Test {
protected:
  static UniqueFd listen_at(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 4), 0);
    return fd;
  }
  static UniqueFd accepted(const UniqueFd& listener) {
    return UniqueFd{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  }
  static std::string head_of(const UniqueFd& fd) {
    std::string head;
    for (char c = 0; !head.ends_with("\r\n\r\n"); head += c)
      if (::recv(fd.get(), &c, 1, 0) != 1) return head;
    return head;
  }
  static std::string next(const UniqueFd& fd, std::size_t size) {
    std::string text(size, '\0');
    const ssize_t got = ::recv(fd.get(), text.data(), size, MSG_WAITALL);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  const fakes::TempDir dir_;
  const std::string broker_path_ = (dir_.path() / "broker").string();
  const std::string agent_path_ = (dir_.path() / "agent").string();
  const UniqueFd broker_ = listen_at(broker_path_);
  const BrokerClient client_{{broker_path_}};
};

TEST_F(LentAgentsTest, LeadTheBrokerToTheAgentForTheTimeOfTheBuild) {
  const UniqueFd agent_listener = listen_at(agent_path_);
  std::optional<LentAgents> agents{std::in_place, client_};
  auto lending = std::async(std::launch::async, [&] { return agents->lend(agent_path_); });
  const UniqueFd agent = accepted(agent_listener);
  const UniqueFd broker = accepted(broker_);
  const std::string head = head_of(broker);
  ASSERT_TRUE(write_all(broker.get(), "HTTP/1.1 101 Switching Protocols\r\n\r\n").ok());
  const auto name = lending.get();

  ASSERT_TRUE(name.ok()) << name.error().text();
  EXPECT_TRUE(head.starts_with("POST /slipway/v1/ssh-agents/" + *name + " ")) << head;
  EXPECT_EQ(name->size(), 32U);
  EXPECT_TRUE(write_all(broker.get(), "question").ok());
  EXPECT_EQ(next(agent, 8), "question");
  EXPECT_TRUE(write_all(agent.get(), "answer").ok());
  EXPECT_EQ(next(broker, 6), "answer");

  // The build is over: the broker hears so, and hangs up.
  auto ending = std::async(std::launch::async, [&] { agents.reset(); });
  EXPECT_EQ(next(broker, 1), "");
  ::shutdown(broker.get(), SHUT_RDWR);
  ending.get();
  EXPECT_EQ(next(agent, 1), "");
}

TEST_F(LentAgentsTest, SayWhatIsInTheWay) {
  LentAgents agents{client_};

  const auto nobody = agents.lend(agent_path_);
  ASSERT_FALSE(nobody.ok());
  EXPECT_NE(nobody.error().text().find("no SSH agent answers at " + agent_path_), std::string::npos)
      << nobody.error().text();

  const UniqueFd agent_listener = listen_at(agent_path_);
  auto lending = std::async(std::launch::async, [&] { return agents.lend(agent_path_); });
  {
    const UniqueFd broker = accepted(broker_);
    (void)head_of(broker);
    EXPECT_TRUE(
        write_all(broker.get(), "HTTP/1.1 503 X\r\nContent-Length: 8\r\n\r\ntoo many").ok());
  }
  const auto refused = lending.get();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().text().find("too many"), std::string::npos) << refused.error().text();
}

} // namespace
} // namespace slipway::shim
