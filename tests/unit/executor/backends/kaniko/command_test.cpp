// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/command.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

const std::string kHost = "linux/amd64";
const oci::Digest kOne = oci::Digest::of("one");
const oci::Digest kTwo = oci::Digest::of("two");

BuildJob plain_job() {
  BuildJob job;
  job.context_dir = "/builds/app";
  job.context_key = "context-7";
  job.dockerfile_dir = "/builds/app";
  job.dockerfile_name = "Dockerfile";
  job.bases = {{"one:latest", kOne}, {"reg:5000/two:2", kTwo}};
  return job;
}

std::string lines(const std::vector<std::string>& argv) {
  std::string text;
  for (const auto& word : argv)
    text += word + "\n";
  return text;
}

TEST(KanikoArgv, IsWhatTheGoldenTextSays) {
  auto job = plain_job();
  job.target = "final";
  job.no_cache = true;
  job.build_args = {{"A", "1 2"}, {"EMPTY", ""}};
  job.labels = {{"l", "$(x)"}};

  EXPECT_EQ(lines(argv_for(job, {})), R"(/.slipway/executor
--context=tar://stdin
--dockerfile=/.slipway/in/Dockerfile
--no-push
--no-push-cache
--skip-push-permission-check
--cache=true
--cache-dir=/.slipway/in/bases
--cache-repo=oci:/.slipway/cache
--cache-ttl=8760h
--oci-layout-path=/.slipway/layout
--ignore-var-run=false
--compressed-caching=false
--registry-mirror=slipway.invalid
--skip-default-registry-fallback
--log-format=json
--verbosity=info
--force
--build-arg=A=1 2
--build-arg=EMPTY=
--label=l=$(x)
)");
}

TEST(KanikoArgv, OfASquashHasOneSnapshot) {
  auto job = plain_job();
  EXPECT_EQ(lines(argv_for(job, {})).find("--single-snapshot"), std::string::npos);
  job.squash = true;
  EXPECT_NE(lines(argv_for(job, {})).find("--single-snapshot"), std::string::npos);
}

TEST(KanikoArgv, NamesNoPlaceToPushTo) {
  // What a job calls its image is not the tool's to know.
  const auto text = lines(argv_for(plain_job(), {}));

  EXPECT_EQ(text.find("--destination"), std::string::npos);
  EXPECT_EQ(text.find("--digest-file"), std::string::npos);
}

TEST(KanikoVersion, IsThatOfTheOneThatIsKnown) {
  EXPECT_EQ(parse_version("Kaniko version :  v1.24.0\n")->version, "v1.24.0");
  for (const char* said : {"Kaniko version :  v1.28.3\n", "Kaniko version :  v1.9.0\n",
                           "Kaniko version :  \n", "v1.24.0\n", ""}) {
    const auto program = parse_version(said);
    ASSERT_FALSE(program.ok()) << said;
    EXPECT_EQ(program.error().kind, ErrorKind::misconfigured);
  }
}

struct CheckCase {
  const char* name;
  void (*change)(BuildJob&);
  ErrorKind kind;
  const char* words;
};
class KanikoCheck : public testing::TestWithParam<CheckCase> {};
TEST_P(KanikoCheck, RefusesWhatCannotBeHonoured) {
  auto job = plain_job();
  ASSERT_TRUE(check(job, kHost).ok());
  GetParam().change(job);

  const auto checked = check(job, kHost);

  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind, GetParam().kind);
  EXPECT_NE(checked.error().what.find(GetParam().words), std::string::npos) << checked.error().what;
}
INSTANTIATE_TEST_SUITE_P(
    All, KanikoCheck,
    testing::Values(CheckCase{"NoNetwork", [](BuildJob& job) { job.network = "none"; },
                              ErrorKind::denied, "--network none"},
                    CheckCase{"HostNetwork", [](BuildJob& job) { job.network = "host"; },
                              ErrorKind::denied, "--network host"},
                    CheckCase{"Hosts",
                              [](BuildJob& job) {
                                job.extra_hosts = {{"db", "10.0.0.2"}};
                              },
                              ErrorKind::bad_input, "--add-host db"},
                    CheckCase{"Platform", [](BuildJob& job) { job.platform = "linux/s390x"; },
                              ErrorKind::bad_input, "linux/s390x"},
                    CheckCase{"Argument",
                              [](BuildJob& job) {
                                job.build_args = {{"A=B", "1"}};
                              },
                              ErrorKind::bad_input, "A=B"},
                    CheckCase{"ArgumentOfBuildKit",
                              [](BuildJob& job) {
                                job.build_args = {{"BUILDKIT_SYNTAX", "x"}};
                              },
                              ErrorKind::bad_input, "BUILDKIT_SYNTAX"},
                    CheckCase{"Label",
                              [](BuildJob& job) {
                                job.labels = {{"", "1"}};
                              },
                              ErrorKind::bad_input, "label"},
                    CheckCase{"RelativeContext", [](BuildJob& job) { job.context_dir = "app"; },
                              ErrorKind::bad_input, "absolute"},
                    CheckCase{"DockerfileIsAPath",
                              [](BuildJob& job) { job.dockerfile_name = "../x"; },
                              ErrorKind::bad_input, "../x"}),
    [](const auto& one) { return one.param.name; });

class KanikoDockerfile : public testing::Test {
protected:
  Result<std::string> made(const std::string& text) {
    const auto file = dockerfile::parse(text);
    EXPECT_TRUE(file.ok()) << file.error().what;
    return dockerfile_for(job_, *file, text, triggers_);
  }
  BuildJob job_ = plain_job();
  std::map<std::string, std::vector<std::string>> triggers_;
  const std::string one_ = "slipway.invalid/base@" + kOne.str();
  const std::string two_ = "slipway.invalid/base@" + kTwo.str();
};

TEST_F(KanikoDockerfile, NamesBasesByDigest) {
  job_.build_args = {{"TAG", "2"}};

  const auto text = made("ARG TAG\nFROM one AS made\nRUN x\nFROM reg:5000/two:${TAG}\n"
                         "COPY --from=made /a /b\nFROM made\nFROM scratch\nCOPY --from=1 /b /b");

  ASSERT_TRUE(text.ok()) << text.error().what;
  EXPECT_EQ(*text, "ARG TAG\nFROM " + one_ + " AS made\nRUN x\nFROM " + two_ +
                       "\nCOPY --from=0 /a /b\nFROM scratch\nFROM scratch\nCOPY --from=1 /b /b\n");
}

TEST_F(KanikoDockerfile, GivesWhatCopyTakesFromAnImageAStage) {
  const auto text = made("FROM one AS a\nFROM scratch\nCOPY --from=reg:5000/two:2 /x /x\n"
                         "COPY --chown=1 \\\n --from=A /y /y\nCOPY --from=0 /z /z\n"
                         "COPY --from=reg:5000/two:2 /v /v\n");

  ASSERT_TRUE(text.ok()) << text.error().what;
  EXPECT_EQ(*text, "FROM " + two_ + " AS slipway-image-0\nFROM " + one_ +
                       " AS a\nFROM scratch\nCOPY --from=0 /x /x\n"
                       "COPY --chown=1 \\\n --from=1 /y /y\nCOPY --from=1 /z /z\n"
                       "COPY --from=0 /v /v\n");
}

TEST_F(KanikoDockerfile, HasNothingOfStagesThatTheTargetDoesNotNeed) {
  job_.target = "wanted";

  const auto text = made("FROM nosuch:1 AS unused\nRUN exit 1\nFROM one AS wanted\nRUN x\n"
                         "FROM wanted\nRUN exit 2\n");

  ASSERT_TRUE(text.ok()) << text.error().what;
  EXPECT_EQ(*text, "FROM scratch\n\nFROM " + one_ + " AS wanted\nRUN x\n\n\n");
}

struct RefusedText {
  const char* name;
  const char* text;
  const char* words;
};
class KanikoRefusal : public KanikoDockerfile, public testing::WithParamInterface<RefusedText> {};
TEST_P(KanikoRefusal, NamesTheLine) {
  triggers_ = {{"one", {"COPY --from=two /a /b"}}};

  const auto text = made(GetParam().text);

  ASSERT_FALSE(text.ok()) << *text;
  EXPECT_TRUE(is_the_jobs_fault(text.error().kind));
  EXPECT_NE(text.error().what.find(GetParam().words), std::string::npos) << text.error().what;
}
INSTANTIATE_TEST_SUITE_P(
    All, KanikoRefusal,
    testing::Values(
        RefusedText{"UnknownBase", "FROM scratch\nFROM three\n", "Dockerfile:2: three"},
        RefusedText{"UnknownSource", "FROM scratch\nCOPY --from=three /a /b\n",
                    "Dockerfile:2: three"},
        RefusedText{"TriggerOfABase", "FROM one\n", "Dockerfile:1: one has the trigger"},
        RefusedText{"TriggerOfItsOwn", "FROM scratch\nONBUILD COPY --from=reg:5000/two:2 /a /b\n",
                    "Dockerfile:2: ONBUILD COPY --from"},
        RefusedText{"TwoStagesOfOneName", "FROM scratch AS a\nFROM a AS a\nFROM a\n",
                    "Dockerfile:2: "},
        RefusedText{"Frontend", "# syntax=evil/frontend\nFROM scratch\n", "Dockerfile:1"}),
    [](const auto& one) { return one.param.name; });

} // namespace
} // namespace slipway::backends::kaniko
