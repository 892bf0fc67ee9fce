// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/builder.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace slipway::backends::dockerd {
namespace {

BuilderParts parts() {
  BuilderParts parts;
  parts.job = "j1";
  parts.owner = "o";
  parts.name = "slipway-j1-dind";
  parts.ids.first = 65537;
  parts.limits.pids = 77;
  parts.bases = "/state/bases/layout";
  parts.init_dir = "/usr/lib/slipway";
  return parts;
}

TEST(DockerdBuilder, HasNoNamespaceNoWorkspaceAndNoSocketOfTheJob) {
  const auto spec = builder_spec(parts(), "slipway-j1-dind-x");

  EXPECT_EQ(spec.joins, "");
  EXPECT_EQ(spec.network, "slipway-j1-dind-x");
  EXPECT_EQ(spec.ids.first, 65537U);
  EXPECT_EQ(spec.limits.pids, 77);
  EXPECT_TRUE(spec.host_mounts().empty());
  EXPECT_TRUE(spec.devices().empty());
  EXPECT_TRUE(spec.env.empty());
  ASSERT_TRUE(spec.privileged());
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j1");
  EXPECT_EQ(spec.labels.at("io.slipway.role"), "dind");
  std::vector<std::string> mounts;
  for (const auto& mount : spec.volumes)
    mounts.push_back(mount.source + ":" + mount.target + (mount.read_only ? ":ro" : ""));
  EXPECT_EQ(mounts, (std::vector<std::string>{"slipway-j1-dind-x:/var/lib/docker",
                                              "/state/bases/layout:/bases:ro",
                                              "/usr/lib/slipway:/run/slipway/bin:ro"}));
}

TEST(DockerdBuilder, HasAFilterOfItsOwnAndTheOperatorsTools) {
  auto configured = parts();
  configured.socket_dir = "/run/j1";
  configured.tools = "/opt/docker/bin";

  const auto spec = builder_spec(configured, "n");

  EXPECT_EQ(spec.seccomp_profile, "/run/j1/dind-seccomp.json");
  EXPECT_EQ(spec.volumes.back().source, "/opt/docker/bin");
  EXPECT_EQ(spec.volumes.back().target, "/tools");
  EXPECT_TRUE(spec.volumes.back().read_only);
}

TEST(DockerdBuilder, HasTheProxyOnlyWithANetwork) {
  auto closed = parts();
  closed.proxies = "/run/j1/egress";
  const auto with = builder_spec(closed, "n");
  closed.network = false;
  const auto without = builder_spec(closed, "n");

  EXPECT_EQ(with.volumes.back().source, "/run/j1/egress");
  EXPECT_EQ(with.env.size(), 1U);
  EXPECT_EQ(without.network, "");
  EXPECT_EQ(without.volumes.size(), 3U);
  EXPECT_TRUE(without.env.empty());
}

} // namespace
} // namespace slipway::backends::dockerd
