// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_identity.hpp"
#include "tests/fakes/token_signer.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

namespace slipway::gitlab {
namespace {

using fakes::TokenSigner;
using nlohmann::json;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1800000000}};

const TokenSigner& signer() {
  static const TokenSigner key = TokenSigner::rsa("gitlab-1");
  return key;
}

/// What GitLab signs for a job.
std::string token_of(int job, const std::string& project = "grp/app") {
  return signer().sign({{"iss", "https://gitlab.example"},
                        {"aud", "slipway"},
                        {"sub", "project_path:" + project + ":ref_type:branch:ref:main"},
                        {"exp", 1800003600},
                        {"nbf", 1799999995},
                        {"job_id", std::to_string(job)},
                        {"project_id", project == "grp/app" ? "20" : "21"},
                        {"project_path", project},
                        {"ref", "main"},
                        {"ref_type", "branch"},
                        {"ref_protected", "true"}});
}

class JobIdentity : public testing::Test {
protected:
  JobIdentity() { section_.issuer = "https://gitlab.example"; }
  ~JobIdentity() override { std::filesystem::remove(file_); }

  /// The payload of job 302 of grp/app, with these variables of the token's name.
  static JobResponse job(const std::vector<std::string>& tokens, const std::string& ref = "main") {
    json variables = json::array({{{"key", "CI"}, {"value", "true"}, {"public", true}}});
    for (const auto& token : tokens)
      variables.push_back({{"key", "SLIPWAY_ID_TOKEN"}, {"value", token}, {"masked", true}});
    return *parse_job_response(json{
        {"id", 302},
        {"token", "glcbt-1"},
        {"job_info", {{"project_full_path", "grp/app"}, {"project_id", 20}, {"name", "b"}}},
        {"git_info", {{"ref", ref}, {"sha", "1"}, {"protected", true}}},
        {"variables", variables}}.dump());
  }
  Result<identity::Claims> check(const JobResponse& response) {
    const identity::KeyCache keys{
        file_, keys_url(section_), identity::Algorithm::rs256,
        [this](const std::string& url) -> Result<std::string> {
          asked_.push_back(url);
          if (!up_) return Error{ErrorKind::misconfigured, "answered 302", "", {}};
          return json{{"keys", {signer().jwk()}}}.dump();
        },
        clock_};
    return check_identity(response, section_, keys, kNow);
  }
  void expect_denied(const JobResponse& response, const std::string& why) {
    const auto checked = check(response);
    ASSERT_FALSE(checked) << why;
    EXPECT_EQ(checked.error().kind, ErrorKind::denied);
    EXPECT_NE(checked.error().text().find(why), std::string::npos) << checked.error().text();
    EXPECT_FALSE(checked.error().hint.empty());
    EXPECT_EQ(checked.error().text().find("eyJ"), std::string::npos);
  }

  config::Identity section_;
  FixedClock clock_{kNow};
  std::string file_ = testing::TempDir() + "job-identity-" + std::to_string(::getpid());
  std::vector<std::string> asked_;
  bool up_ = true;
};

TEST_F(JobIdentity, TheJobsOwnTokenIsAccepted) {
  const auto checked = check(job({token_of(302)}));

  EXPECT_TRUE(checked) << checked.error().text();
  EXPECT_EQ(asked_, std::vector<std::string>{"https://gitlab.example/oauth/discovery/keys"});
}

TEST_F(JobIdentity, ATokenOfAnotherJobOrProjectIsRefused) {
  expect_denied(job({token_of(301)}), "another job");
  expect_denied(job({token_of(302, "grp/other")}), "another project");
  EXPECT_TRUE(check(job({token_of(302)}))) << "the control";
}

TEST_F(JobIdentity, AVariableThatShadowsTheTokenIsDetected) {
  expect_denied(job({token_of(302), "hello"}), "shadows");
  expect_denied(job({token_of(302), token_of(302)}), "shadows");
  expect_denied(job({"hello"}), "not accepted");
}

TEST_F(JobIdentity, AMissingTokenMattersWhereItIsRequired) {
  EXPECT_TRUE(check(job({})));
  section_.required = true;
  expect_denied(job({}), "none named SLIPWAY_ID_TOKEN");
  EXPECT_TRUE(check(job({token_of(302)})));
}

TEST_F(JobIdentity, NothingIsAskedWithoutAnIssuer) {
  section_.issuer = "";
  EXPECT_TRUE(check(job({"hello"})));
  EXPECT_TRUE(asked_.empty());
}

TEST_F(JobIdentity, AMergeRequestsPipelineIsBoundByItsJob) {
  EXPECT_TRUE(check(job({token_of(302)}, "refs/merge-requests/7/head")));
  expect_denied(job({token_of(301)}, "refs/merge-requests/7/head"), "another job");
  expect_denied(job({token_of(302)}, "dev"), "another ref");
}

TEST_F(JobIdentity, AGitLabThatDoesNotAnswerIsNotTheJobsFault) {
  up_ = false;
  const auto checked = check(job({token_of(302)}));

  ASSERT_FALSE(checked);
  EXPECT_FALSE(is_the_jobs_fault(checked.error().kind));
}

TEST_F(JobIdentity, KeysMayStandElsewhere) {
  section_.issuer = "https://gitlab.example/sub/";
  EXPECT_EQ(keys_url(section_), "https://gitlab.example/sub/oauth/discovery/keys");
  section_.keys_url = "https://keys.example/k";
  EXPECT_EQ(keys_url(section_), "https://keys.example/k");
}

TEST_F(JobIdentity, ScriptsDoNotSeeTheToken) {
  const std::string token = token_of(302);
  const auto response = job({token});
  const std::string script =
      "export SLIPWAY_ID_TOKEN=" + token + "\nexport COPY=$'x" + token + "y'\necho hello\n";
  std::string seen = script;

  hide_identity(seen, response, section_);

  EXPECT_EQ(seen, "export SLIPWAY_ID_TOKEN=hidden-by-slipway\nexport COPY=$'xhidden-by-slipwayy'\n"
                  "echo hello\n");
  section_.hide = false;
  seen = script;
  hide_identity(seen, response, section_);
  EXPECT_EQ(seen, script);
}

TEST_F(JobIdentity, HidingTearsNoWordsOutOfScripts) {
  std::string script = "echo hello\n";
  hide_identity(script, job({"hello", ""}), section_);
  EXPECT_EQ(script, "echo hello\n");
}

} // namespace
} // namespace slipway::gitlab
