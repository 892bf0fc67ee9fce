// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

using fakes::FakeIssuer;
using std::chrono::seconds;

/// Quay with one robot that trusts one token.
class QuayTest : public testing::Test {
protected:
  QuayTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "token", "ey.host.s3cret\n"));
    spec_.settings = {{"url", "https://quay.example"},
                      {"robot", "acme+push"},
                      {"token_file", (dir_.path() / "token").string()}};
    http_.on("GET", "https://quay.example/oauth2/federation/robot/token",
             [this](const http::Request& request) {
               if (request.authorization.reveal() != "Basic " + base64("acme+push:ey.host.s3cret"))
                 return FakeIssuer::json(401, R"({"error":"Token does not match robot"})");
               http_.grant("", "acme+push", robot_token_, clock_.now(),
                           clock_.now() + seconds{3600});
               return FakeIssuer::json(200, R"({"token":")" + robot_token_ + "\"}");
             });
  }
  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  static MintFor push() {
    MintFor wanted;
    wanted.registry = "quay.example";
    wanted.repository = "acme/web";
    wanted.actions = {"pull", "push"};
    return wanted;
  }

  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"q", "quay", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  std::string robot_token_ =
      "e30." + base64(R"({"iat":1800000000,"exp":1800001800})") + ".s3cret-signature";
};

TEST_F(QuayTest, TakesTheHostsTokenForAPasswordOfTheRobot) {
  auto quay = provider();
  EXPECT_FALSE(quay->traits().bypassable);
  EXPECT_FALSE(quay->traits().can_revoke);
  EXPECT_EQ(quay->traits().built_in_ceiling, seconds{3600});

  const auto minted = quay->mint(push());

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "acme+push");
  EXPECT_EQ(minted->password.reveal(), robot_token_);
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{1800}) << "as the token says";
  EXPECT_FALSE(minted->scoped_to_repository);
  EXPECT_EQ(quay->revoke({"n", "", "acme/web"}, &*minted).error().kind, ErrorKind::denied);
}

TEST_F(QuayTest, AnHourIsTakenForWhatSaysNoEnd) {
  robot_token_ = "opaque-s3cret";

  EXPECT_EQ(provider()->mint(push())->expires_at, clock_.now() + seconds{3600});
}

TEST_F(QuayTest, ARobotOfOneRepositoryPushesToNoOther) {
  spec_.settings["repository"] = "acme/web";
  const auto minted = provider()->mint(push());
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_TRUE(minted->scoped_to_repository);

  auto other = push();
  other.repository = "acme/web2";

  EXPECT_EQ(provider()->mint(other).error().kind, ErrorKind::denied);
  EXPECT_EQ(http_.seen.size(), 1U);
}

TEST_F(QuayTest, ATokenOfTheJobsOwnIsBypassable) {
  spec_.settings["token_file"] = "";
  spec_.settings["token_variable"] = "QUAY_JWT";
  EXPECT_TRUE(provider()->traits().bypassable);
  EXPECT_EQ(provider()->mint(push()).error().kind, ErrorKind::denied) << "the job has none";

  job_secrets_["QUAY_JWT"] = Secret{std::string_view{"ey.host.s3cret"}};

  EXPECT_TRUE(provider()->mint(push()));
}

TEST_F(QuayTest, RefusalsHaveAKindAndNoSecret) {
  http::Response redirect = FakeIssuer::json(302, "");
  redirect.headers.emplace("location", "https://evil.example/");
  struct Case {
    const char* name;
    http::Response response;
    ErrorKind kind;
  };
  const Case table[] = {
      {"not federated",
       FakeIssuer::json(401, R"({"error":"robot has no federation ey.host.s3cret"})"),
       ErrorKind::denied},
      {"throttled", FakeIssuer::json(429, "{}"), ErrorKind::unavailable},
      {"down", FakeIssuer::json(504, "<html>"), ErrorKind::unavailable},
      {"partial", FakeIssuer::json(200, R"({"token":"s3cr)"), ErrorKind::bad_input},
      {"empty", FakeIssuer::json(200, R"({"token":""})"), ErrorKind::bad_input},
      {"redirect", redirect, ErrorKind::denied},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request&) { return Result<http::Response>{one.response}; };

    const auto minted = provider()->mint(push());

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_NE(minted.error().what.find("quay \"q\""), std::string::npos);
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_EQ(all.find("s3cr"), std::string::npos) << all;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(QuayTest, AnEntryWithoutARobotOrWithTwoTokensIsFoundBeforeAnyPush) {
  auto good = spec_.settings;
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"robot", "acme"}, {"token_file", ""}, {"token_variable", "V"}, {"url", "http://q"}}) {
    spec_.settings = good;
    spec_.settings[key] = value;
    const auto made = make_provider(spec_, context_);
    ASSERT_FALSE(made) << key;
    EXPECT_EQ(made.error().kind, ErrorKind::misconfigured) << key;
  }
}

} // namespace
} // namespace slipway::credentials
