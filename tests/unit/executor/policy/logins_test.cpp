// SPDX-License-Identifier: Apache-2.0
#include "executor/policy/logins.hpp"

#include <gtest/gtest.h>

namespace slipway::policy {
namespace {

oci::Reference image(const char* text) {
  return *oci::Reference::parse(text);
}

std::vector<Login> logins(std::initializer_list<std::pair<const char*, const char*>> places,
                          bool pull_only = true) {
  std::vector<Login> made;
  for (const auto& [key, user] : places) {
    auto place = login_place(key);
    made.push_back({place.host, place.path, user, Secret{std::string_view{"p"}}, pull_only});
  }
  return made;
}

std::string user_for(const std::vector<Login>& from, const char* name,
                     LoginUse use = LoginUse::pull) {
  const auto* login = login_for(from, image(name), use);
  return login == nullptr ? "" : login->username;
}

TEST(LoginPlace, NamesOneRegistryInManyWays) {
  for (const char* hub : {"https://index.docker.io/v1/", "index.docker.io", "docker.io",
                          "registry-1.docker.io", "https://Docker.IO/v2/"})
    EXPECT_EQ(login_place(hub).host, "docker.io") << hub;
  EXPECT_EQ(login_place("gitlab.example:443").host, "gitlab.example");
  EXPECT_EQ(login_place("http://reg.example:5000/v2/").host, "reg.example:5000");
  EXPECT_EQ(login_place("http://reg.example:5000/v2/").path, "");
  EXPECT_EQ(login_place("reg.example/grp/app/").path, "grp/app");
}

TEST(LoginFor, TheLongestPathWinsAndEndsAtASlash) {
  const auto all = logins({{"reg.example", "all"},
                           {"reg.example/grp", "grp"},
                           {"reg.example/grp/app", "app"},
                           {"reg.example/grp/app", "second"}});

  EXPECT_EQ(user_for(all, "reg.example/other:1"), "all");
  EXPECT_EQ(user_for(all, "reg.example/grp/web:1"), "grp");
  EXPECT_EQ(user_for(all, "reg.example/grp/app:1"), "app");
  EXPECT_EQ(user_for(all, "reg.example/grp/app/tool:1"), "app");
  EXPECT_EQ(user_for(all, "reg.example/grp/app2:1"), "grp") << "no neighbour's login";
}

TEST(LoginFor, AnotherRegistryGetsNone) {
  const auto all = logins({{"reg.example", "u"}});

  EXPECT_EQ(user_for(all, "reg.example.evil/x:1"), "");
  EXPECT_EQ(user_for(all, "reg.example:5000/x:1"), "") << "another port is another registry";
  EXPECT_EQ(user_for(all, "x:1"), "") << "docker.io";
}

TEST(LoginFor, GitlabsDependencyProxyIsFoundWithAndWithoutItsPort) {
  const auto sent = logins({{"gitlab.example:443", "gitlab-ci-token"}}, false);

  EXPECT_EQ(user_for(sent, "gitlab.example:443/grp/dependency_proxy/containers/alpine:3"),
            "gitlab-ci-token");
  EXPECT_EQ(user_for(sent, "gitlab.example/grp/dependency_proxy/containers/alpine:3"),
            "gitlab-ci-token");
}

TEST(LoginFor, TheAuthorsOwnNeverPushes) {
  auto both = logins({{"reg.example", "author"}});
  EXPECT_EQ(user_for(both, "reg.example/x:1", LoginUse::push), "");

  for (auto& login : logins({{"reg.example", "gitlab"}}, false))
    both.push_back(std::move(login));
  EXPECT_EQ(user_for(both, "reg.example/x:1", LoginUse::pull), "author") << "it comes first";
  EXPECT_EQ(user_for(both, "reg.example/x:1", LoginUse::push), "gitlab");
}

} // namespace
} // namespace slipway::policy
