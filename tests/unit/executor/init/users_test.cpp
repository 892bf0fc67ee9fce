// SPDX-License-Identifier: Apache-2.0
#include "executor/init/users.hpp"

#include <gtest/gtest.h>

namespace slipway::init {
namespace {

constexpr const char* kPasswd = "root:x:0:0:root:/root:/bin/sh\n"
                                "broken line\n"
                                "app:x:1000:1001:App:/home/app:/bin/sh\n"
                                "1234:x:77:78::/home/digits:/bin/sh\n";
constexpr const char* kGroup = "root:x:0:\n"
                               "app:x:1001:\n"
                               "docker:x:999:app,other\n"
                               "wheel:x:10:other,app\n";

struct Case {
  const char* name;
  const char* spec;
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
  const char* home;
};

class ResolveUser : public testing::TestWithParam<Case> {};

TEST_P(ResolveUser, AsDockerDoes) {
  const auto& expected = GetParam();

  const auto identity = resolve_user(expected.spec, kPasswd, kGroup);

  ASSERT_TRUE(identity) << identity.error().text();
  EXPECT_EQ(identity->uid, expected.uid);
  EXPECT_EQ(identity->gid, expected.gid);
  EXPECT_EQ(identity->groups, expected.groups);
  EXPECT_EQ(identity->home, expected.home);
}

INSTANTIATE_TEST_SUITE_P(
    Table, ResolveUser,
    testing::Values(Case{"Nobody", "", 0, 0, {}, "/root"},
                    Case{"Name", "app", 1000, 1001, {999, 10}, "/home/app"},
                    Case{"NumberOfAName", "1000", 1000, 1001, {999, 10}, "/home/app"},
                    Case{"NumberWithoutAName", "4242", 4242, 0, {}, "/"},
                    Case{"NumberAndNumber", "4242:4343", 4242, 4343, {}, "/"},
                    Case{"NameAndGroupName", "app:docker", 1000, 999, {}, "/home/app"},
                    Case{"NameAndGroupNumber", "app:999", 1000, 999, {}, "/home/app"},
                    Case{"EmptyGroup", "app:", 1000, 1001, {999, 10}, "/home/app"},
                    Case{"NameOfDigits", "1234", 77, 78, {}, "/home/digits"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(ResolveUserErrors, NameTheUnknown) {
  EXPECT_EQ(resolve_user("ghost", kPasswd, kGroup).error().what, "no user \"ghost\" in the image");
  EXPECT_EQ(resolve_user("app:ghosts", kPasswd, kGroup).error().what,
            "no group \"ghosts\" in the image");
  // 4294967295 means "leave the id as it is" to setresuid: root would stay root.
  EXPECT_FALSE(resolve_user("4294967295", kPasswd, kGroup));
  EXPECT_FALSE(resolve_user("-1", kPasswd, kGroup));
  EXPECT_FALSE(resolve_user("0x0", kPasswd, kGroup));
}

TEST(ResolveUserErrors, WorkOnAnImageWithoutFiles) {
  EXPECT_EQ(resolve_user("", "", "").value().home, "/");
  EXPECT_FALSE(resolve_user("root", "", ""));
}

} // namespace
} // namespace slipway::init
