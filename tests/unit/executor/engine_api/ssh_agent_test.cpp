// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/ssh_agent.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slipway::engine_api {
namespace {

TEST(AgentMessages, AreCutOutOfAStreamHoweverItComes) {
  const std::string stream = agent_frame("\x0b") + agent_frame("") + agent_frame("\x0d key");
  AgentMessages messages;
  std::vector<std::string> seen;
  for (const char byte : stream) {
    messages.add({&byte, 1});
    for (;;) {
      auto message = messages.next();
      ASSERT_TRUE(message.ok());
      if (!*message) break;
      seen.push_back(**message);
    }
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"\x0b", "", "\x0d key"}));
}

TEST(AgentMessages, HaveALimit) {
  AgentMessages messages;
  messages.add(agent_frame(std::string(kMaxAgentMessage, 'x')));
  EXPECT_EQ((*messages.next())->size(), kMaxAgentMessage);
  messages.add(std::string{"\x00\x04\x00\x01", 4}); // one byte more
  EXPECT_FALSE(messages.next().ok());
}

TEST(AgentQuestions, AreForKeysAndSignaturesAlone) {
  EXPECT_TRUE(is_agent_question("\x0b"));
  EXPECT_TRUE(is_agent_question("\x0d and what to sign"));
  for (const char* other : {"", "\x11 add", "\x12 remove", "\x13", "\x16 lock", "\x19 add",
                            "\x1b extension", "\x0b more"})
    EXPECT_FALSE(is_agent_question(other)) << int{other[0]};
}

} // namespace
} // namespace slipway::engine_api
