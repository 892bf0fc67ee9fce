// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/challenge.hpp"
#include "executor/credentials/token_client.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

TEST(Challenge, ReadsABearerChallenge) {
  const auto read = parse_challenges(
      R"(Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push")");

  ASSERT_TRUE(read) << read.error().text();
  ASSERT_EQ(read->size(), 1U);
  EXPECT_EQ((*read)[0].scheme, "bearer");
  EXPECT_EQ((*read)[0].parameter("realm"), "https://auth.example/token");
  EXPECT_EQ((*read)[0].parameter("scope"), "repository:a/b:pull,push");
  EXPECT_EQ((*read)[0].parameter("error"), "");
}

TEST(Challenge, ReadsSeveralChallengesAndEscapes) {
  const auto read =
      parse_challenges(R"(Basic realm="a \"b\", c" , BEARER Realm=x, , service = "y")");

  ASSERT_TRUE(read) << read.error().text();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].parameter("realm"), "a \"b\", c");
  EXPECT_EQ((*read)[1].scheme, "bearer");
  EXPECT_EQ((*read)[1].parameter("service"), "y");
}

TEST(Challenge, RefusesHostileHeaders) {
  for (const std::string& header : std::vector<std::string>{
           "", " , ,", "realm=x", "Bearer realm=\"x", "Bearer realm=\"x\\",
           "Bearer realm=\"a\",realm=\"b\"", "Bearer realm=", "Bearer realm=\"a\" service=\"b\"",
           "Bearer realm=\"a\nX: y\"", "Bearer/realm", "Bearer =x", std::string(5000, 'a')}) {
    EXPECT_FALSE(parse_challenges(header)) << header;
  }
}

TEST(JwtLifetime, ReadsTheClaims) {
  const WallTime now{std::chrono::seconds{1000}};
  // {"iat":1000,"exp":1300} and {"exp":1500}
  EXPECT_EQ(jwt_lifetime("e30.eyJpYXQiOjEwMDAsImV4cCI6MTMwMH0.sig", now),
            std::chrono::seconds{300});
  EXPECT_EQ(jwt_lifetime("e30.eyJleHAiOjE1MDB9.sig", now), std::chrono::seconds{500});
  EXPECT_EQ(jwt_lifetime("opaque", now), std::nullopt);
  EXPECT_EQ(jwt_lifetime("a.b.c", now), std::nullopt);
  EXPECT_EQ(jwt_lifetime("..", now), std::nullopt);
}

} // namespace
} // namespace slipway::credentials
