// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/podman_call.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace slipway::sandbox {
namespace {

class ContainersConf : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "containers-conf-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
};

TEST_F(ContainersConf, TakesThePlaceOfTheHostsInPodmansEnvironment) {
  Engine engine;
  ASSERT_TRUE(write_containers_conf(engine, dir_).ok());

  const auto env = podman_env(engine);
  const std::pair<std::string, std::string> wanted{"CONTAINERS_CONF", dir_ / "containers.conf"};
  EXPECT_NE(std::find(env.begin(), env.end(), wanted), env.end());
  EXPECT_EQ(*read_file(dir_ / "containers.conf", 1000),
            "[containers]\nbase_hosts_file = \"none\"\n");
}

TEST_F(ContainersConf, IsRepairedAndElseLeftAlone) {
  Engine engine;
  ASSERT_TRUE(write_containers_conf(engine, dir_).ok());
  struct stat before {};
  ASSERT_EQ(::stat((dir_ / "containers.conf").c_str(), &before), 0);

  ASSERT_TRUE(write_containers_conf(engine, dir_).ok());
  struct stat after {};
  ASSERT_EQ(::stat((dir_ / "containers.conf").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);

  ASSERT_TRUE(
      replace_file(dir_ / "containers.conf", "[containers]\nvolumes = [\"/:/host\"]\n").ok());
  ASSERT_TRUE(write_containers_conf(engine, dir_).ok());
  EXPECT_EQ(read_file(dir_ / "containers.conf", 1000)->find("volumes"), std::string::npos);
}

TEST_F(ContainersConf, TheStandInsAreFoundFirstByPodmanAndByNobodyElse) {
  Engine engine;
  ASSERT_TRUE(use_stand_ins(engine, dir_).ok());

  EXPECT_EQ(engine.first_in_path, dir_ / "netavark");
  for (const auto& [name, value] : podman_env(engine)) {
    if (name == "PATH") {
      EXPECT_EQ(value, (dir_ / "netavark").string() + ":/usr/sbin:/usr/bin:/sbin:/bin");
    }
  }
  struct stat facts {};
  ASSERT_EQ(::stat((dir_ / "netavark").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0700U);
}

} // namespace
} // namespace slipway::sandbox
