// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/daemon.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace slipway::backends::dockerd {
namespace {

DaemonParts parts() {
  DaemonParts parts;
  parts.job = "j1";
  parts.owner = "o";
  parts.container = "slipway-j1-engine";
  parts.joins = "slipway-j1-job";
  parts.images_volume = "slipway-j1-engine";
  parts.workspace_volume = "slipway-j1-builds";
  parts.workspace = "/builds";
  parts.folder = "/run/user/1/slipway/j1/engine";
  parts.broker_dir = "/run/user/1/slipway/j1/sock";
  return parts;
}

TEST(Daemon, ListensOnItsSocketAloneAndIsHardened) {
  const auto settings = nlohmann::json::parse(daemon_json());

  EXPECT_EQ(settings["hosts"], nlohmann::json({"unix:///run/slipway-engine/docker.sock"}));
  EXPECT_EQ(settings["icc"], false);
  EXPECT_EQ(settings["no-new-privileges"], true);
  EXPECT_EQ(settings["seccomp-profile"], "/etc/slipway-engine/seccomp.json");
  EXPECT_EQ(settings["default-ulimits"]["core"]["Hard"], 0);
  EXPECT_EQ(settings["storage-driver"], "overlay2");
  EXPECT_EQ(settings["log-opts"]["max-size"], "10m");
  EXPECT_FALSE(settings.contains("registry-mirrors"));
}

TEST(Daemon, SandboxJoinsTheJobAndMountsNothingElse) {
  const auto spec = daemon_spec(parts());

  EXPECT_EQ(spec.joins, "slipway-j1-job");
  EXPECT_TRUE(spec.host_mounts().empty());
  EXPECT_TRUE(spec.devices().empty());
  ASSERT_TRUE(spec.privileged());
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j1");
  std::vector<std::string> writable;
  for (const auto& mount : spec.volumes)
    if (!mount.read_only) writable.push_back(mount.target);
  EXPECT_EQ(writable,
            (std::vector<std::string>{"/var/lib/docker", "/builds", "/run/slipway-engine"}));
  for (const auto& [name, value] : spec.env)
    EXPECT_TRUE(name == "HOME" || name == "PATH") << name;

  const auto body = nlohmann::json::parse(sandbox::create_body(spec));
  EXPECT_EQ(body["userns"]["nsmode"], "container");
  EXPECT_EQ(body["netns"]["value"], "slipway-j1-job");
  EXPECT_FALSE(body.contains("idmappings"));
  EXPECT_FALSE(body.contains("Networks"));
  EXPECT_EQ(body["seccomp_profile_path"], "/run/user/1/slipway/j1/engine/sandbox-seccomp.json");
}

TEST(Daemon, HasTheOperatorsToolsReadOnlyAndBeforeTheHostsOwn) {
  auto configured = parts();
  configured.tools = "/opt/docker/bin";

  const auto spec = daemon_spec(configured);

  EXPECT_EQ(spec.volumes.back().source, "/opt/docker/bin");
  EXPECT_EQ(spec.volumes.back().target, "/tools");
  EXPECT_TRUE(spec.volumes.back().read_only);
  EXPECT_EQ(spec.env.back().second, "/tools:/usr/bin:/bin:/usr/sbin:/sbin");
}

} // namespace
} // namespace slipway::backends::dockerd
