// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/gitlab/job_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace slipway::gitlab {
namespace {

JobResponse job() {
  auto response = parse_job_response(R"({"id": 7, "token": "the-job-token",
      "job_info": {"project_full_path": "grp/app", "project_id": 42}, "git_info": {},
      "variables": [
        {"key": "HIDDEN", "value": "masked-value", "masked": true},
        {"key": "OPEN", "value": "open-value", "masked": false},
        {"key": "FILE", "value": "file-content", "file": true}],
      "credentials": [
        {"type": "registry", "url": "reg:5000", "username": "me", "password": "login-password"}]})");
  EXPECT_TRUE(response.ok()) << response.error().text();
  return *std::move(response);
}

struct Said {
  std::string out;
  std::string err;
};

template <typename Speak> Said said_by(Speak speak) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  speak();
  return {testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

void say_everything(JobLog& log) {
  log.say("Pulling reg/masked-value:1");
  log.print("summary: open-value, base64 bWU6bG9naW4tcGFzc3dvcmQ=\n");
  log.report(Error{ErrorKind::denied, "no such tag: the-job-token", "ask login-password", {}});
}

TEST(JobLog, MasksWhateverSlipwaySaysOfTheJob) {
  JobLog log;
  log.mask(masked_values(job()));

  const auto said = said_by([&] { say_everything(log); });

  EXPECT_EQ(said.out, "Pulling reg/[MASKED]:1\nsummary: open-value, base64 [MASKED]\n");
  EXPECT_NE(said.err.find("ERROR: no such tag: [MASKED]"), std::string::npos) << said.err;
  EXPECT_NE(said.err.find("what to do: ask [MASKED]"), std::string::npos) << said.err;
}

TEST(JobLog, ControlWithoutValuesShowsThem) {
  JobLog log;

  const auto said = said_by([&] { say_everything(log); });

  EXPECT_NE(said.out.find("masked-value"), std::string::npos);
  EXPECT_NE(said.err.find("the-job-token"), std::string::npos);
}

TEST(JobLog, HoldsNothingBack) {
  JobLog log;
  log.mask({"masked-value"});

  EXPECT_EQ(log.masked("ends in masked-va"), "ends in masked-va");
  EXPECT_EQ(log.masked("lue is no value"), "lue is no value");
}

TEST(MaskedValues, AreMaskedInTheFormsOfEncodersToo) {
  JobLog log;
  log.mask(masked_values(job()));

  for (const auto* text : {"bWFza2VkLXZhbHVl", "6d61736b65642d76616c7565",
                           "6D61736B65642D76616C7565", "dGhlLWpvYi10b2tlb", "masked-value"})
    EXPECT_EQ(log.masked(std::string{"<"} + text + ">").find(text), std::string::npos) << text;
  EXPECT_EQ(log.masked("masked-valve bWFza2Vk"), "masked-valve bWFza2Vk");
}

TEST(MaskedValues, OfFilesWhatIsNoOrdinaryText) {
  auto response = job();
  response.variables.push_back({"SETTINGS", "[default]\nregion = north-1\nverbose = true\n"
                                            "secret = Zq8vT2nLx5Rw7KpD\n"});
  response.variables.back().file = true;
  JobLog log;
  log.mask(masked_values(response));

  EXPECT_EQ(log.masked("[default]\nregion = north-1\nverbose = true\n"),
            "[default]\nregion = north-1\nverbose = true\n");
  EXPECT_EQ(log.masked("it is Zq8vT2nLx5Rw7KpD."), "it is [MASKED].");
  const auto encoded = base64("Zq8vT2nLx5Rw7KpD");
  EXPECT_EQ(log.masked(encoded).find(encoded.substr(0, 20)), std::string::npos);
}

TEST(MaskedValues, OfASecretThatCameLaterAreMaskedFromThenOn) {
  JobLog log;
  log.mask(masked_values(job()));
  EXPECT_EQ(log.masked("Zq8vT2nLx5Rw7KpD"), "Zq8vT2nLx5Rw7KpD");

  std::vector<leaks::KnownSecret> later(2);
  later[0] = {
      "docker login reg", Secret{std::string_view{"Zq8vT2nLx5Rw7KpD"}}, leaks::Kind::token, {}};
  later[1] = {"build secret word", Secret{std::string_view{"production"}}, leaks::Kind::masked, {}};
  log.mask_also(masked_values(later));

  EXPECT_EQ(log.masked("Zq8vT2nLx5Rw7KpD in production"), "[MASKED] in production");
  EXPECT_EQ(log.masked("masked-value"), "[MASKED]");
}

TEST(MaskedValues, LongOnesAreMaskedWhole) {
  auto response = job();
  const std::string value = std::string(300, 'a') + "the end";
  response.variables.push_back({"LONG", value});
  response.variables.back().masked = true;
  JobLog log;
  log.mask(masked_values(response));

  EXPECT_EQ(log.masked("<" + base64(value) + ">").find("YWFhYWFh"), std::string::npos);
}

TEST(MaskedValues, AreNotTheContentsOfFiles) {
  const auto values = masked_values(job());

  EXPECT_EQ(std::count(values.begin(), values.end(), "file-content"), 0);
  EXPECT_EQ(std::count(values.begin(), values.end(), "open-value"), 0);
  EXPECT_GT(std::count(values.begin(), values.end(), "masked-value"), 0);
}

} // namespace
} // namespace slipway::gitlab
