// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/build_backend.hpp"
#include "executor/backends/dockerd/output.hpp"

#include <gtest/gtest.h>

#include <string>

namespace slipway::backends::dockerd {
namespace {

struct Failure {
  const char* name;
  const char* step;
  const char* tail;
  ErrorKind kind;
  const char* what; ///< its begin
};

class DockerdFailure : public testing::TestWithParam<Failure> {};

TEST_P(DockerdFailure, IsExplained) {
  const auto file =
      *dockerfile::parse("ARG V=1\nFROM a:$V\n\nRUN one \\\n  two\nFROM b\nCOPY x /x\n");

  const auto error = explain_failure(GetParam().step, GetParam().tail, file);

  EXPECT_EQ(error.kind, GetParam().kind) << error.text();
  EXPECT_EQ(error.what.substr(0, std::string{GetParam().what}.size()), GetParam().what);
}

INSTANTIATE_TEST_SUITE_P(
    All, DockerdFailure,
    testing::Values(
        Failure{
            "Step", "Step 3/5 : RUN one   two",
            " ---> Running in 1\nThe command '/bin/sh -c one   two' returned a non-zero code: 42\n",
            ErrorKind::backend_failed,
            "Dockerfile:4: a step ended with exit code 42: RUN one   two"},
        Failure{"Copy", "Step 5/5 : COPY x /x\n",
                "COPY failed: file not found in build context or excluded by .dockerignore\n",
                ErrorKind::bad_input, "Dockerfile:7: COPY failed"},
        Failure{"Argument", "Step 1/5 : ARG V=1", "something else\n", ErrorKind::backend_failed,
                "Dockerfile:1: something else"},
        Failure{"LabelOfTheCommandLine", "Step 6/6 : LABEL a=b", "invalid label\n",
                ErrorKind::bad_input, "invalid label"},
        Failure{"Daemon", "Step 3/5 : RUN one",
                "Cannot connect to the Docker daemon at unix:///build/docker.sock.\n",
                ErrorKind::unavailable, "the builder's daemon is gone"},
        Failure{"Registry", "Step 2/5 : FROM other",
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io\n",
                ErrorKind::bad_input, "Dockerfile:2: Get"},
        Failure{"Disk", "Step 3/5 : RUN one", "write /x: no space left on device\n",
                ErrorKind::backend_failed, "Dockerfile:4: the builder's disk is full"},
        Failure{"NoProgram", "Step 3/5 : RUN one",
                "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH\n",
                ErrorKind::backend_failed, "Dockerfile:4: OCI runtime"},
        Failure{"Runtime", "Step 3/5 : RUN one", "OCI runtime create failed: mount proc: denied\n",
                ErrorKind::unavailable, "the builder could not start a step"},
        Failure{"Parse", "", "dockerfile parse error line 3: unknown instruction: RUM\n",
                ErrorKind::bad_input, "dockerfile parse error"},
        Failure{"Silence", "", " \n\n", ErrorKind::unavailable, "Docker's builder ended"}),
    [](const auto& one) { return one.param.name; });

TEST(DockerdOutput, TellsInstructionsAndStepsFromWhatIsPrinted) {
  EXPECT_TRUE(begins_instruction("Step 12/30 : RUN make\n"));
  for (const char* line : {"Step 0/3 : RUN x", "Step x/3 : RUN x", "Step 1 : RUN x", "Step 1/3", "",
                           " Step 1/3 : RUN x"})
    EXPECT_FALSE(begins_instruction(line)) << line;
  EXPECT_TRUE(begins_step(" ---> Running in 0123456789ab\n"));
  EXPECT_FALSE(begins_step(" ---> 0123456789ab\n"));
}

TEST(DockerdOutput, AStepThatPrintsALikeLineChangesWordsAlone) {
  const auto error =
      explain_failure("Step 999/3 : RUN x", "The command 'x' returned a non-zero code: 3",
                      *dockerfile::parse("FROM a\nRUN x\n"));

  EXPECT_EQ(error.what, "a step ended with exit code 3: RUN x");
  EXPECT_EQ(step_exit_code(error), 3);
}

} // namespace
} // namespace slipway::backends::dockerd
