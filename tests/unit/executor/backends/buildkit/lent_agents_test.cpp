// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/lent_agents.hpp"
#include "executor/base/file.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <future>
#include <string>
#include <vector>

namespace slipway::backends::buildkit {
namespace {

using engine_api::agent_frame;
using engine_api::AgentMessages;

/// A sandbox whose relay asks what the test wants to know, and keeps the answers.
class LentAgentsTest : public testing::Test {
protected:
  sandbox::ScriptRunner sandbox() {
    return [this](const engine_api::ScriptRequest& request,
                  const sandbox::ScriptIo& io) -> Result<sandbox::ScriptResult> {
      argv_ = request.argv;
      if (!starts_) {
        io.err("slipway-init: cannot listen\n");
        return sandbox::ScriptResult{{1, std::nullopt, {}, {}}, false};
      }
      // In pieces, as a pipe may give it.
      std::string said = agent_frame("");
      for (const auto& question : questions_)
        said += agent_frame(question);
      for (const char byte : said)
        io.out({&byte, 1});
      AgentMessages answers;
      char buffer[4096];
      for (ssize_t got = 0; (got = ::read(io.input_fd, buffer, sizeof buffer)) > 0;) {
        answers.add({buffer, static_cast<std::size_t>(got)});
        for (auto answer = answers.next(); answer && *answer; answer = answers.next())
          answers_.push_back(**answer);
        if (answers_.size() == questions_.size()) answered_.set_value();
      }
      return sandbox::ScriptResult{};
    };
  }

  bool starts_ = true;
  std::vector<std::string> argv_;
  std::vector<std::string> questions_;
  std::vector<std::string> answers_; ///< the relay's, until it has ended
  std::promise<void> answered_;
};

TEST_F(LentAgentsTest, AreAskedForKeysAndSignaturesAndNothingElse) {
  questions_ = {"\x0b", "\x11 add a key", "\x0d sign"};
  std::vector<std::string> asked;
  {
    const auto run = sandbox();
    const sandbox::BuildClock clock{[] { return false; }, std::chrono::minutes{1}};
    LentAgents agents{run, clock, "/out"};
    ASSERT_TRUE(agents
                    .lend(
                        [&](std::string_view question) -> Result<std::string> {
                          asked.emplace_back(question);
                          if (question.front() == 0x0b) return std::string{"\x0c keys"};
                          return Error{ErrorKind::unavailable, "gone", "", {}};
                        },
                        "/secrets/agent-0")
                    .ok());
    answered_.get_future().wait();
  } // ends the relay

  EXPECT_EQ(argv_, (std::vector<std::string>{"/run/slipway/bin/slipway-init", "ssh-agent",
                                             "/secrets/agent-0"}));
  EXPECT_EQ(asked, (std::vector<std::string>{"\x0b", "\x0d sign"}));
  // The second was not passed on, the third's agent had gone: both are failures to the step.
  EXPECT_EQ(answers_, (std::vector<std::string>{"\x0c keys", "\x05", "\x05"}));
}

TEST_F(LentAgentsTest, ThatCannotListenFailTheBuildWithTheirWords) {
  starts_ = false;
  const auto run = sandbox();
  const sandbox::BuildClock clock{[] { return false; }, std::chrono::minutes{1}};
  LentAgents agents{run, clock, "/out"};

  const auto lent = agents.lend(
      [](std::string_view) -> Result<std::string> { return std::string{}; }, "/secrets/agent-0");

  ASSERT_FALSE(lent.ok());
  EXPECT_NE(lent.error().text().find("cannot listen"), std::string::npos) << lent.error().text();
}

} // namespace
} // namespace slipway::backends::buildkit
