// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/build_backend.hpp"
#include "executor/backends/kaniko/output.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

std::string info(const std::string& message) {
  return R"({"level":"info","msg":")" + message + R"(","time":"2026-11-28T07:44:47Z"})" + "\n";
}

class KanikoOutput : public testing::Test {
protected:
  Error failed_after(const std::vector<std::string>& lines) {
    for (const auto& line : lines)
      narrator_.line(line);
    return explain_failure(narrator_, *dockerfile::parse("FROM busybox AS one\nRUN x  &&   y\n"
                                                         "COPY --from=one \\\n  /a /b\nRUN x && y\n"
                                                         "run [\"z\"]\n"));
  }
  std::string told_;
  Narrator narrator_{[this](std::string_view text) { told_ += text; }};
};

TEST_F(KanikoOutput, IsALineForEachInstructionAndWhatStepsPrint) {
  for (const auto& line :
       {info("Retrieving image manifest"), info("Unpacking rootfs as cmd RUN x requires it."),
        info("RUN x \\u0026\\u0026   y"), info("Cmd: /bin/sh"), std::string{"of the step\n"},
        info("copy a b"), info("No files were changed"),
        std::string{"{\"level\":\"warning\",\"msg\":\"look out\",\"time\":\"\"}\n"},
        std::string{"{\"level\":\"info\"}\n"}})
    narrator_.line(line);

  EXPECT_EQ(told_, "STEP 1: RUN x && y\nof the step\nSTEP 2: COPY a b\nkaniko: warning: look out\n"
                   "{\"level\":\"info\"}\n");
}

TEST_F(KanikoOutput, SaysWhenARunBegins) {
  EXPECT_TRUE(begins_run("STEP 3: RUN x\n"));
  EXPECT_FALSE(begins_run("STEP 3: COPY RUN x\n"));
  EXPECT_FALSE(begins_run("kaniko: warning: RUN x\n"));
}

TEST_F(KanikoOutput, OfAStepThatFailedGivesItsCodeAndItsLine) {
  const auto error =
      failed_after({info("RUN x  \\u0026\\u0026   y"),
                    "error building image: error building stage: failed to execute command: "
                    "waiting for process to exit: exit status 42\n"});

  EXPECT_EQ(error.kind, ErrorKind::backend_failed);
  EXPECT_EQ(error.what, "Dockerfile:2: a step ended with exit code 42: RUN x && y");
  EXPECT_EQ(step_exit_code(error), 42);
}

TEST_F(KanikoOutput, TellsEqualStepsApart) {
  const auto error = failed_after({info("RUN x \\u0026\\u0026 y"), info("RUN x \\u0026\\u0026 y"),
                                   "…: waiting for process to exit: signal: killed\n"});

  EXPECT_EQ(error.kind, ErrorKind::backend_failed);
  EXPECT_EQ(error.what, "Dockerfile:5: a step was ended by a signal (killed): RUN x && y");
}

TEST_F(KanikoOutput, KnowsAnInstructionWhoseSourceWasRewritten) {
  const auto error =
      failed_after({info("COPY --from=0   /a /b"),
                    "error building image: …: lstat /a: no such file or directory\n"});

  EXPECT_EQ(error.kind, ErrorKind::bad_input);
  EXPECT_EQ(error.what.substr(0, 14), "Dockerfile:3: ");
}

TEST_F(KanikoOutput, IsNotTheJobsFaultWhereNothingBegan) {
  EXPECT_EQ(failed_after({}).kind, ErrorKind::unavailable);
  EXPECT_EQ(failed_after({"panic: no memory\n"}).kind, ErrorKind::unavailable);
  EXPECT_EQ(failed_after({"error building image: dockerfile parse error line 1: unknown x\n"}).kind,
            ErrorKind::bad_input);
}

TEST_F(KanikoOutput, BlamesTheBuilderForABaseThatDoesNotUnpack) {
  const auto error = failed_after({"error building image: error building stage: failed to get "
                                   "filesystem from image: operation not permitted\n"});

  EXPECT_EQ(error.kind, ErrorKind::unavailable);
}

TEST_F(KanikoOutput, RemembersNoMoreThanItsLimit) {
  for (std::size_t at = 0; at < kMaxSteps + 5; ++at)
    narrator_.line(info("RUN " + std::to_string(at)));

  EXPECT_EQ(narrator_.steps().size(), kMaxSteps);
}

} // namespace
} // namespace slipway::backends::kaniko
