// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/stages.hpp"

#include <gtest/gtest.h>

#include <stdio.h>
#include <sys/wait.h>

#include <fstream>

namespace slipway::gitlab {
namespace {

// As GitLab Runner writes it for shell = "bash" and "sh" alike.
constexpr const char* kScript = "#!/usr/bin/env bash\n"
                                "(trap 'exit 1' TERM; eval $'export GREETING=\\'hi\\'\\necho "
                                "\"$GREETING there\"') < /dev/null\n";

struct Outcome {
  int code;
  std::string text;
};

Outcome run(const std::string& shell, const std::string& script) {
  const std::string file = testing::TempDir() + "shell-check-script";
  std::ofstream{file} << script;
  FILE* pipe = ::popen((shell + " <" + file + " 2>&1").c_str(), "r");
  Outcome outcome{-1, ""};
  if (pipe == nullptr) return outcome;
  for (int letter = ::fgetc(pipe); letter != EOF; letter = ::fgetc(pipe))
    outcome.text += static_cast<char>(letter);
  const int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TEST(ShellCheck, NamesTheTrapToADashAndWhatToDo) {
  const auto outcome = run("/bin/dash", shell_check(kScript) + kScript);

  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.text.find("does not read $'...'"), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("FF_POSIXLY_CORRECT_ESCAPES: \"true\""), std::string::npos);
  EXPECT_EQ(outcome.text.find("Syntax error"), std::string::npos) << outcome.text;
}

TEST(ShellCheck, SaysNothingToAShellThatReadsThem) {
  const auto outcome = run("/bin/bash", shell_check(kScript) + kScript);

  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.text, "hi there\n");
}

TEST(ShellCheck, IsNotThereForPosixEscapes) {
  EXPECT_EQ(shell_check("eval 'echo it costs $'\\''5'\n"), "");
}

} // namespace
} // namespace slipway::gitlab
