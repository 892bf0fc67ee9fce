// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_logins.hpp"

#include <gtest/gtest.h>

namespace slipway::gitlab {
namespace {

JobLogins logins_with(std::string config) {
  JobResponse response;
  response.variables.push_back({"SECRET", "dTpw", false, false, true, false});
  response.variables.push_back(
      {"DOCKER_AUTH_CONFIG", std::move(config), false, false, false, false});
  response.registries.push_back(
      {"https://reg.example/v2/", "gitlab-ci-token", Secret{std::string_view{"job"}}});
  return job_logins(response);
}

TEST(JobLogins, TheAuthorsComeBeforeGitlabs) {
  // dTpw = u:p
  const auto made = logins_with(R"({"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},
      "reg.example/grp":{"username":"v","password":"q:r"}},"HttpHeaders":{"X":"y"}})");

  EXPECT_TRUE(made.notes.empty()) << made.notes.front();
  ASSERT_EQ(made.logins.size(), 3U);
  EXPECT_EQ(made.logins[0].host, "docker.io");
  EXPECT_EQ(made.logins[0].username, "u");
  EXPECT_EQ(made.logins[0].password.reveal(), "p");
  EXPECT_EQ(made.logins[1].path, "grp");
  EXPECT_EQ(made.logins[1].password.reveal(), "q:r");
  EXPECT_TRUE(made.logins[1].pull_only);
  EXPECT_EQ(made.logins[2].host, "reg.example");
  EXPECT_FALSE(made.logins[2].pull_only);
}

TEST(JobLogins, APasswordMayHoldColonsAndEndInZeros) {
  const auto made = logins_with(R"({"auths":{"a.example":{"auth":"dTpwOnEAAA=="}}})"); // u:p:q\0\0

  ASSERT_EQ(made.logins.size(), 2U);
  EXPECT_EQ(made.logins[0].password.reveal(), "p:q");
}

TEST(JobLogins, VariablesInItAreExpanded) {
  const auto made = logins_with(R"({"auths":{"a.example":{"auth":"$SECRET"}}})");

  ASSERT_EQ(made.logins.size(), 2U);
  EXPECT_EQ(made.logins[0].username, "u");
}

struct Useless {
  const char* config;
  const char* says;
};
void PrintTo(const Useless& useless, std::ostream* out) {
  *out << useless.config;
}
class JobLoginsTell : public testing::TestWithParam<Useless> {};

TEST_P(JobLoginsTell, WhatCannotBeUsed) {
  const auto made = logins_with(GetParam().config);

  ASSERT_EQ(made.logins.size(), 1U) << "GitLab's own is kept";
  ASSERT_FALSE(made.notes.empty());
  EXPECT_NE(made.notes.front().find(GetParam().says), std::string::npos) << made.notes.front();
  EXPECT_EQ(made.notes.front().find("hunter2"), std::string::npos) << "a secret in a message";
}

INSTANTIATE_TEST_SUITE_P(
    All, JobLoginsTell,
    testing::Values(
        Useless{"$UNDEFINED_HERE", "no JSON"},
        Useless{"{\"auths\":{\"a\":{\"auth\":\"hunter2", "no JSON"},
        Useless{"[]", "no JSON object"}, Useless{"{}", "no `auths`"},
        Useless{R"({"auths":[]})", "no object"},
        Useless{R"({"auths":{"a.example":"hunter2"}})", "a.example"},
        Useless{R"({"auths":{"a.example":{"auth":"aHVudGVyMg=="}}})", "base64 of USER:PASSWORD"},
        Useless{R"({"auths":{"a.example":{"auth":"%hunter2%"}}})", "base64 of USER:PASSWORD"},
        Useless{R"({"auths":{"a.example":{}}})", "no user name"},
        Useless{R"({"auths":{"a.example":{"identitytoken":"hunter2"}}})", "identity token"},
        Useless{R"({"credHelpers":{"a.example":"ecr-login"}})", "does not run"},
        Useless{R"({"credsStore":"desktop"})", "does not run"}));

TEST(JobLogins, HostsInMessagesArePrintableAndShort) {
  const auto made = logins_with("{\"auths\":{\"\\u001b[31m" + std::string(500, 'a') + "\":{}}}");

  ASSERT_EQ(made.notes.size(), 1U);
  EXPECT_EQ(made.notes[0].find('\x1b'), std::string::npos);
  EXPECT_LT(made.notes[0].size(), 300U);
}

TEST(JobLogins, EntriesAndBytesHaveLimits) {
  std::string many = R"({"auths":{)";
  for (int i = 0; i < 300; ++i)
    many += (i == 0 ? "\"r" : ",\"r") + std::to_string(i) + R"(.example":{"auth":"dTpw"})";
  EXPECT_EQ(logins_with(many + "}}").logins.size(), kMaxAuthEntries + 1);
  EXPECT_EQ(logins_with(std::string(kMaxAuthConfigBytes + 1, ' ')).logins.size(), 1U);
}

} // namespace
} // namespace slipway::gitlab
