// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/output.hpp"

#include <gtest/gtest.h>

#include <string>

namespace slipway::backends::buildah {
namespace {

struct FailureCase {
  const char* name;
  const char* dockerfile;
  const char* tail;
  ErrorKind kind;
  const char* what;
};

class BuildahFailure : public testing::TestWithParam<FailureCase> {};

TEST_P(BuildahFailure, IsExplained) {
  const auto file = dockerfile::parse(GetParam().dockerfile);
  ASSERT_TRUE(file.ok()) << file.error().what;

  const Error error = explain_failure(GetParam().tail, *file);

  EXPECT_EQ(error.kind, GetParam().kind) << error.what;
  EXPECT_EQ(error.what, GetParam().what);
}

// The tails are what Buildah 1.28.2 and Podman 4.3.1 said.
INSTANTIATE_TEST_SUITE_P(
    All, BuildahFailure,
    testing::Values(
        FailureCase{"Step", "FROM a\nRUN echo before; \\\n  exit 42\n",
                    "STEP 1/2: FROM a\nSTEP 2/2: RUN echo before;   exit 42\nbefore\n"
                    "subprocess exited with status 42\n"
                    "Error: building at STEP \"RUN echo before;   exit 42\": exit status 42\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:2: a step ended with exit code 42: RUN echo before;   exit 42"},
        FailureCase{
            "NewerWords", "FROM a\nRUN exit 3\n",
            "Error: building at STEP \"RUN exit 3\": while running runtime: exit status 3\n",
            ErrorKind::backend_failed, "Dockerfile:2: a step ended with exit code 3: RUN exit 3"},
        FailureCase{"SecondOfTwo", "FROM a\nRUN x\nENV A=b\nRUN x\n",
                    "STEP 1/4: FROM a\nSTEP 2/4: RUN x\nSTEP 3/4: ENV A=b\nSTEP 4/4: RUN x\n"
                    "Error: building at STEP \"RUN x\": exit status 1\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:4: a step ended with exit code 1: RUN x"},
        FailureCase{"FirstOfTwo", "FROM a\nRUN x\nENV A=b\nRUN x\n",
                    "STEP 1/4: FROM a\nSTEP 2/4: RUN x\n"
                    "Error: building at STEP \"RUN x\": exit status 1\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:2: a step ended with exit code 1: RUN x"},
        FailureCase{
            "StepWithMount", "FROM a\nRUN --mount=type=cache,target=/c false\n",
            "[1/2] STEP 2/2: RUN --mount=type=cache,target=/c false\n"
            "Error: building at STEP \"RUN --mount=type=cache,target=/c false\": exit status 1\n",
            ErrorKind::backend_failed,
            "Dockerfile:2: a step ended with exit code 1: RUN "
            "--mount=type=cache,target=/c false"},
        FailureCase{"Trigger", "FROM a\n",
                    "STEP 2/3: RUN from-base\n"
                    "Error: building at STEP \"RUN from-base\": exit status 127\n",
                    ErrorKind::backend_failed, "a step ended with exit code 127: RUN from-base"},
        FailureCase{"AStepThatTalksLikeTheTool", "FROM a\nRUN echo\n",
                    "Error: creating overlay mount failed\n"
                    "Error: building at STEP \"RUN echo\": exit status 1\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:2: a step ended with exit code 1: RUN echo"},
        FailureCase{
            "MissingSource", "FROM a\nCOPY nosuch /x\n",
            "Error: building at STEP \"COPY nosuch /x\": checking on sources under \"/w/ctx\": "
            "copier: stat: \"/nosuch\": no such file or directory\n",
            ErrorKind::bad_input,
            "Dockerfile:2: building at STEP \"COPY nosuch /x\": checking on sources under "
            "\"/w/ctx\": copier: stat: \"/nosuch\": no such file or directory"},
        FailureCase{"StepThatHoldsTheEndOfOne", "FROM a\nRUN echo \"x\": y\n",
                    "STEP 2/2: RUN echo \"x\": y\n"
                    "Error: building at STEP \"RUN echo \"x\": y\": exit status 4\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:2: a step ended with exit code 4: RUN echo \"x\": y"},
        FailureCase{"UnknownImage", "FROM nosuch:1\n",
                    "STEP 1/2: FROM nosuch:1\n"
                    "Error: creating build container: nosuch:1: image not known\n",
                    ErrorKind::bad_input,
                    "creating build container: nosuch:1: image not known: not among the base "
                    "images that slipway fetched for this build"},
        FailureCase{"UnknownTarget", "FROM a\n",
                    "Error: The target \"zz\" was not found in the provided Dockerfile\n",
                    ErrorKind::bad_input,
                    "The target \"zz\" was not found in the provided Dockerfile"},
        FailureCase{"Download", "FROM a\nADD http://127.0.0.1:1/x /x\n",
                    "Error: building at STEP \"ADD http://127.0.0.1:1/x /x\": reading "
                    "\"http://127.0.0.1:1/x\": Get \"http://127.0.0.1:1/x\": dial tcp "
                    "127.0.0.1:1: connect: connection refused\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:2: ADD could not fetch: building at STEP \"ADD "
                    "http://127.0.0.1:1/x /x\": reading \"http://127.0.0.1:1/x\": Get "
                    "\"http://127.0.0.1:1/x\": dial tcp 127.0.0.1:1: connect: connection refused"},
        FailureCase{"Store", "FROM a\n",
                    "Error: mounting new container: creating overlay mount to /x: permission "
                    "denied\n",
                    ErrorKind::unavailable,
                    "the builder's store failed: mounting new container: creating overlay mount to "
                    "/x: permission denied"},
        FailureCase{"Disk", "FROM a\nRUN x\n",
                    "Error: committing container: write /var: no space left on device\n",
                    ErrorKind::backend_failed,
                    "the builder's disk is full: committing container: write /var: no space left "
                    "on device"},
        FailureCase{"Silence", "FROM a\n", "STEP 1/1: FROM a\n", ErrorKind::unavailable,
                    "the build tool ended without saying why"}),
    [](const auto& one) { return one.param.name; });

TEST(Steps, NeverBeganWhereTheToolCouldNotSealItsCopy) {
  EXPECT_TRUE(
      step_never_began("STEP 1/4: FROM onb:1\nSTEP 2/5: RUN echo ran > /onbuild\n"
                       "Close_Fd sealing memfd copy: Device or resource busy\n"
                       "subprocess exited with status 1\n"
                       "Error: building at STEP \"RUN echo ran > /onbuild\": exit status 1\n"));
  EXPECT_FALSE(step_never_began("STEP 2/2: RUN rmdir /proc\nrmdir: /proc: Device or resource busy\n"
                                "Error: building at STEP \"RUN rmdir /proc\": exit status 1\n"));
}

TEST(Steps, WhatAStepPrintsDoesNotBeginItAgain) {
  EXPECT_FALSE(step_never_began("STEP 2/2: RUN ./deploy\ndeployed\n"
                                "Close_Fd sealing memfd copy: Device or resource busy\n"
                                "Error: building at STEP \"RUN ./deploy\": exit status 1\n"));
}

TEST(Steps, NothingHasRunWhileAStageOnlyBegins) {
  EXPECT_TRUE(begins_stage("STEP 1/3: FROM debian:12\n"));
  EXPECT_TRUE(begins_stage("[2/2] STEP 1/3: FROM one AS two\n"));
  EXPECT_FALSE(begins_stage("STEP 2/3: RUN echo FROM x\n"));
  for (const char* line : {"STEP 1/3: FROM debian:12\n", "\n", "Error: mounting new container: x\n",
                           "slipway: another build of this project is under way\n"})
    EXPECT_FALSE(may_be_of_a_step(line)) << line;
}

TEST(Steps, WhateverElseIsPrintedMayBeOfAStep) {
  for (const char* line : {"STEP 2/3: RUN make\n", "STEP 2/3: COPY a b\n", "ran\n",
                           "STEP 1/3: FROMAGE\n", " Error: of a step's own\n", "--> 0123abc\n"})
    EXPECT_TRUE(may_be_of_a_step(line)) << line;
}

} // namespace
} // namespace slipway::backends::buildah
