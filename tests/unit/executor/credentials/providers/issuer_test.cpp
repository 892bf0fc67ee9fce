// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

class IssuerTest : public testing::Test {
protected:
  Result<Answer> ask(const std::string& path) {
    const Issuer issuer{spec_, context_};
    http::Request request;
    request.method = "POST";
    auto url = issuer.url("url", path);
    if (!url) return std::move(url).error();
    request.url = *std::move(url);
    return issuer.ask(std::move(request), "logging in");
  }

  fakes::FakeIssuer http_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"prod", "vault", {{"url", "https://v.example/base/"}}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
};

TEST_F(IssuerTest, ReadsMembersByPointerAndTakesSecretsOut) {
  http_.on("POST", "https://v.example/base/v1/login", [](const http::Request&) {
    return fakes::FakeIssuer::json(
        200, R"({"auth":{"token":"s.1","ttl":60,"tags":[{"a":"x"},{"a":"y"}]}})");
  });

  auto answer = ask("/v1/login");

  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->number("/auth/ttl"), 60);
  EXPECT_EQ(answer->secret("/auth/token").reveal(), "s.1");
  EXPECT_TRUE(answer->secret("/auth/token").empty());
  EXPECT_EQ(answer->items("/auth/tags")[1].text("/a"), "y");
  EXPECT_EQ(answer->text("/auth/nothing"), "");
}

TEST_F(IssuerTest, NumbersLoseTheirFractionsAndWhatIsTooLargeIsNone) {
  http_.on("", "https://v.example/", [](const http::Request&) {
    return fakes::FakeIssuer::json(200, R"({"end":1800043200.75,"far":1e300,"word":"7"})");
  });

  const auto answer = ask("/v1/login");

  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->number("/end"), 1800043200);
  EXPECT_EQ(answer->number("/far"), std::nullopt);
  EXPECT_EQ(answer->number("/word"), std::nullopt);
}

TEST_F(IssuerTest, AsksForJsonUnlessTheRequestSaysOtherwise) {
  const Issuer issuer{spec_, context_};
  http::Request request;
  request.url = *issuer.url("url", "/");
  request.headers = {{"Accept", "text/xml"}};

  ASSERT_TRUE(issuer.send(std::move(request), "logging in"));
  ASSERT_FALSE(ask("/v1/login"));

  EXPECT_EQ(http_.seen[0].headers["Accept"], "text/xml");
  EXPECT_EQ(http_.seen[1].headers["Accept"], "application/json");
}

TEST_F(IssuerTest, RefusalsNameIssuerStatusAndCause) {
  http_.on("", "https://v.example/", [](const http::Request&) {
    return fakes::FakeIssuer::json(403, R"({"errors":["permission denied"]})");
  });

  const auto answer = ask("/v1/login");

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::denied);
  EXPECT_EQ(answer.error().what,
            "vault \"prod\": logging in was answered with 403 (permission denied)");
  EXPECT_FALSE(answer.error().hint.empty());
}

TEST_F(IssuerTest, WhatLooksLikeATokenInAnIssuersWordsIsNotShown) {
  http_.on("", "https://v.example/", [](const http::Request&) {
    return fakes::FakeIssuer::json(
        400, R"({"message":"token hvs.CAESIJ2v0123456789abcdef of bob@corp is bad"})");
  });

  const auto answer = ask("/v1/login");

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().text().find("hvs."), std::string::npos);
  EXPECT_EQ(answer.error().text().find("bob@"), std::string::npos);
  EXPECT_NE(answer.error().text().find("is bad"), std::string::npos);
}

TEST_F(IssuerTest, ARedirectIsNotFollowed) {
  http_.on("", "https://v.example/", [](const http::Request&) {
    auto response = fakes::FakeIssuer::json(307, "");
    response.headers = {{"location", "https://evil.example/x?token=1"}};
    return response;
  });

  const auto answer = ask("/v1/login");

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::denied);
  EXPECT_NE(answer.error().text().find("redirects to evil.example"), std::string::npos);
  EXPECT_EQ(http_.seen.size(), 1U);
}

TEST_F(IssuerTest, EndingWhatIsGoneAlreadyIsASuccess) {
  int status = 204;
  http_.on("DELETE", "https://v.example/base/x",
           [&](const http::Request&) { return fakes::FakeIssuer::json(status, "{}"); });
  const Issuer issuer{spec_, context_};
  const auto end = [&] { return issuer.end(*issuer.request("DELETE", "url", "/x"), "ending x"); };

  EXPECT_TRUE(end());
  status = 404;
  EXPECT_TRUE(end());
  status = 403;
  EXPECT_EQ(end().error().kind, ErrorKind::denied);
}

TEST(JsonBody, EscapesValues) {
  JsonBody body;
  EXPECT_EQ(JsonBody{}.take(), "{}");
  body.add("a", "x\"\n");
  body.add_json("b", "[1]");
  EXPECT_EQ(body.take(), R"({"a":"x\"\n","b":[1]})");
}

TEST_F(IssuerTest, PlainHttpIsRefusedUnlessTheEntryAllowsIt) {
  spec_.settings["url"] = "http://v.example";

  const auto refused = ask("/v1/login");

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::misconfigured);
  EXPECT_TRUE(http_.seen.empty());
  spec_.settings["plain_http"] = "true";
  ASSERT_FALSE(ask("/v1/login"));
  EXPECT_EQ(http_.seen.size(), 1U);
}

TEST(Providers, UnknownTypesAreRefused) {
  fakes::FakeIssuer http;
  const SystemClock clock;
  fakes::FakeProcessRunner runner;
  const std::map<std::string, Secret> none;

  const auto made = make_provider({"x", "abacus", {}}, {http, clock, runner, none});

  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::credentials
