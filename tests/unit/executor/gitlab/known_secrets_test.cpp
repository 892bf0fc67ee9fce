// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/gitlab/known_secrets.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slipway::gitlab {
namespace {

const std::string kBegan = "2026-11-24T12:00:00Z";
const std::string kToken = "glcbt-64_mK3vQz81xTnW5rYbL0sD";

JobResponse job() {
  JobResponse response;
  response.id = 7;
  response.token = kToken;
  return response;
}

Variable variable(const std::string& key, const std::string& value) {
  Variable made;
  made.key = key;
  made.value = value;
  return made;
}

struct Facts {
  leaks::Kind kind;
  bool made_with_the_job;
  bool operator==(const Facts&) const = default;
};

std::vector<Facts> facts_of(const JobResponse& response, const std::string& name,
                            const std::string& value) {
  std::vector<Facts> found;
  for (const auto& secret : known_secrets(response, kBegan)) {
    if (secret.name == name && secret.value.reveal() == value)
      found.push_back({secret.kind, secret.made_at.has_value()});
  }
  return found;
}

using Found = std::vector<Facts>;

TEST(KnownSecrets, HoldTheJobTokenAlsoWhereNoVariableDoes) {
  EXPECT_EQ(facts_of(job(), "CI_JOB_TOKEN", kToken), (Found{{leaks::Kind::token, true}}));
}

TEST(KnownSecrets, TakeMaskedAndFileVariablesAndNoOthers) {
  auto response = job();
  response.variables = {variable("PLAIN", "plain-value-123"), variable("MASKED", "m4sked-Value"),
                        variable("FILE", "f1le-Value-123"), variable("CA", "public file"),
                        variable("EMPTY", "")};
  response.variables[1].masked = true;
  response.variables[2].file = true;
  response.variables[3].file = true;
  response.variables[3].is_public = true;
  response.variables[4].masked = true;

  EXPECT_EQ(facts_of(response, "MASKED", "m4sked-Value"), (Found{{leaks::Kind::masked, false}}));
  EXPECT_EQ(facts_of(response, "FILE", "f1le-Value-123"), (Found{{leaks::Kind::file, false}}));
  EXPECT_EQ(known_secrets(response, kBegan).size(), 3U);
}

TEST(KnownSecrets, KnowWhatGitLabNamesAsTokensWithoutAMask) {
  auto response = job();
  response.variables = {variable("CI_DEPLOY_PASSWORD", "deploy-1"),
                        variable("CI_REGISTRY_PASSWORD", kToken)};
  EXPECT_EQ(facts_of(response, "CI_DEPLOY_PASSWORD", "deploy-1"),
            (Found{{leaks::Kind::token, false}}));
  EXPECT_EQ(facts_of(response, "CI_REGISTRY_PASSWORD", kToken),
            (Found{{leaks::Kind::token, true}}));
}

std::string id_token(const std::string& iat) {
  auto claims = base64("{\"iss\":\"https://gl\",\"iat\":" + iat + "}");
  claims.erase(std::find(claims.begin(), claims.end(), '='), claims.end());
  return "eyJhbGciOiJSUzI1NiJ9." + claims + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
}

TEST(KnownSecrets, TellATokenOfThisJobFromOneThatSomebodySetLongAgo) {
  const auto fresh = id_token("1795521590"); // ten seconds before the job
  const auto old = id_token("1700000000");
  auto response = job();
  response.variables = {variable("ID", fresh), variable("SERVICE", old)};

  EXPECT_EQ(facts_of(response, "ID", fresh), (Found{{leaks::Kind::token, true}}));
  EXPECT_EQ(facts_of(response, "SERVICE", old), (Found{{leaks::Kind::token, false}}));
}

TEST(KnownSecrets, HoldAVariableAsItIsAndAsScriptsSeeIt) {
  auto response = job();
  response.variables = {variable("NAME", "x9Kq2"), variable("URL", "pw-$NAME-42")};
  response.variables[1].masked = true;

  EXPECT_EQ(facts_of(response, "URL", "pw-$NAME-42").size(), 1U);
  EXPECT_EQ(facts_of(response, "URL", "pw-x9Kq2-42").size(), 1U);
  response.variables[1].raw = true;
  EXPECT_EQ(facts_of(response, "URL", "pw-x9Kq2-42").size(), 0U);
}

TEST(KnownSecrets, HoldTheLoginsOfThePayloadAndOfTheAuthor) {
  auto response = job();
  response.registries.push_back({"https://reg.example:5000", "ci", Secret{"sent-Passw0rd"}});
  response.variables = {variable("DOCKER_AUTH_CONFIG",
                                 R"({"auths":{"a.example":{"auth":")" + base64("u:own-Passw0rd") +
                                     R"("},"b.example":{"identitytoken":"idt-x9Kq2LmZ"}}})")};

  EXPECT_EQ(facts_of(response, "login of reg.example:5000", "sent-Passw0rd").size(), 1U);
  EXPECT_EQ(facts_of(response, "DOCKER_AUTH_CONFIG", "own-Passw0rd").size(), 1U);
  EXPECT_EQ(facts_of(response, "DOCKER_AUTH_CONFIG", "idt-x9Kq2LmZ").size(), 1U);
}

} // namespace
} // namespace slipway::gitlab
