// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/output.hpp"

#include <gtest/gtest.h>

#include <string>

namespace slipway::backends::buildkit {
namespace {

struct FailureCase {
  const char* name;
  const char* tail;
  ErrorKind kind;
  const char* what;
};

class BuildctlFailure : public testing::TestWithParam<FailureCase> {};

TEST_P(BuildctlFailure, IsExplained) {
  const Error error = explain_failure(GetParam().tail, "Dockerfile");

  EXPECT_EQ(error.kind, GetParam().kind) << error.what;
  EXPECT_EQ(error.what, GetParam().what);
}

INSTANTIATE_TEST_SUITE_P(
    All, BuildctlFailure,
    testing::Values(
        FailureCase{"Step",
                    "------\nDockerfile:10\n----\n  10 | >>> RUN exit 7\nerror: failed to solve: "
                    "process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7\n",
                    ErrorKind::backend_failed,
                    "Dockerfile:10: a step ended with exit code 7: process \"/bin/sh -c exit 7\" "
                    "did not complete successfully: exit code: 7"},
        FailureCase{"Image",
                    "Dockerfile:1\nerror: failed to solve: nosuch/thing:1: failed to resolve "
                    "source metadata for docker.io/nosuch/thing:1: could not resolve image due to "
                    "policy: source \"docker-image://docker.io/nosuch/thing:1\" denied by policy: "
                    "source denied by policy\n",
                    ErrorKind::bad_input,
                    "Dockerfile:1: image docker.io/nosuch/thing:1 is not among the base images "
                    "that slipway fetched for this build"},
        FailureCase{"Parse",
                    "Dockerfile:2\nerror: failed to solve: dockerfile parse error on line 2: "
                    "unknown instruction: RUUN (did you mean RUN?)\n",
                    ErrorKind::bad_input,
                    "Dockerfile:2: dockerfile parse error on line 2: unknown instruction: RUUN "
                    "(did you mean RUN?)"},
        FailureCase{"Missing",
                    "Dockerfile:2\nerror: failed to solve: failed to compute cache key: failed to "
                    "calculate checksum of ref x::y: \"/nothere\": not found\n",
                    ErrorKind::bad_input,
                    "Dockerfile:2: failed to compute cache key: failed to calculate checksum of "
                    "ref x::y: \"/nothere\": not found"},
        FailureCase{
            "Entitlement",
            "error: failed to solve: failed to load LLB: security.insecure is not allowed\n",
            ErrorKind::denied,
            "the build asks for a privilege that builders do not have: failed to load LLB: "
            "security.insecure is not allowed"},
        FailureCase{"Gone",
                    "error: failed to list workers: Unavailable: connection error: desc = "
                    "\"transport: x\"\n",
                    ErrorKind::unavailable,
                    "the builder did not answer: failed to list workers: Unavailable: connection "
                    "error: desc = \"transport: x\""},
        FailureCase{
            "Add",
            "error: failed to solve: failed to load cache key: Get \"https://a/x\": dial tcp "
            "10.0.0.2:443: connect: connection refused\n",
            ErrorKind::backend_failed,
            "ADD could not fetch: failed to load cache key: Get \"https://a/x\": dial tcp "
            "10.0.0.2:443: connect: connection refused"},
        FailureCase{"Silent", "#1 x\n", ErrorKind::unavailable,
                    "buildctl ended without saying why"}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(NeverBegan, TellsABuilderThatWasGoneFromOneThatWentAway) {
  EXPECT_TRUE(never_began(explain_failure(
      "error: listing workers for Build: failed to list workers: Unavailable: connection error: "
      "desc = \"transport: Error while dialing: dial unix /x: connect: connection refused\"",
      "Dockerfile")));
  const auto of_another =
      explain_failure("error: flag provided but not defined: -shared-key", "Dockerfile");
  EXPECT_TRUE(never_began(of_another));
  EXPECT_NE(of_another.hint.find("packaging/tools/build buildkit"), std::string::npos);
  EXPECT_FALSE(never_began(explain_failure(
      "error: failed to receive status: rpc error: code = Unavailable desc = error reading from "
      "server: EOF",
      "Dockerfile")));
  EXPECT_FALSE(never_began(Error{
      ErrorKind::backend_failed, "listing workers for Build: failed to list workers", "", {}}));
}

TEST(BuildctlFailure, OfAProgramForAnotherProcessorSaysWhatToDo) {
  const std::string end = "Dockerfile:2\nerror: failed to solve: process \"/bin/x\" did not "
                          "complete successfully: exit code: 255\n";

  EXPECT_NE(explain_failure("#7 0.1 exec /bin/x: exec format error\n" + end, "Dockerfile")
                .hint.find("binfmt_misc"),
            std::string::npos);
  EXPECT_EQ(explain_failure(end, "Dockerfile").hint, "");
}

} // namespace
} // namespace slipway::backends::buildkit
