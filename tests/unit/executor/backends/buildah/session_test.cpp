// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/session.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slipway::backends::buildah {
namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

TEST(BuildahSession, CommandsAreListsOfWords) {
  const auto argv = session_argv(Program{}, Places{}, "run", {{"env", "A=b c"}, {"user", "$(id)"}},
                                 {"work", "sh", "-c", "echo \"$HOME\"; --device"});
  ASSERT_TRUE(argv) << argv.error().text();
  EXPECT_EQ(*argv,
            (std::vector<std::string>{"/usr/bin/buildah", "run", "--env=A=b c", "--user=$(id)",
                                      "--", "work", "sh", "-c", "echo \"$HOME\"; --device"}));
}

TEST(BuildahSession, MountsFoldersOfTheWorkspace) {
  EXPECT_TRUE(session_argv(Program{}, Places{}, "run", {{"volume", "/builds:/v"}}, {"c", "x"}));
  EXPECT_TRUE(session_argv(Program{}, Places{}, "from", {{"volume", "/builds/a b:/v:ro"}}, {"a"}));
  EXPECT_TRUE(session_argv(Program{}, Places{}, "config", {{"volume", "/data"}}, {"c"}));
}

struct Refused {
  const char* name;
  const char* verb;
  Options options;
  std::vector<std::string> arguments;
};
class BuildahSessionRefuses : public testing::TestWithParam<Refused> {};
TEST_P(BuildahSessionRefuses, WhatIsNotForAWorkingContainer) {
  const auto& one = GetParam();
  const auto argv = session_argv(Program{}, Places{}, one.verb, one.options, one.arguments);
  ASSERT_FALSE(argv.ok());
  EXPECT_EQ(argv.error().kind, ErrorKind::bad_input);
}
INSTANTIATE_TEST_SUITE_P(
    Cases, BuildahSessionRefuses,
    testing::Values(Refused{"OtherVerb", "push", {}, {"a", "docker://registry/a"}},
                    Refused{"Mount", "mount", {}, {"c"}},
                    Refused{"Volume", "run", {{"volume", "/:/host"}}, {"c", "true"}},
                    Refused{"VolumeBesideTheWorkspace", "from", {{"volume", "/buildsx:/v"}}, {"a"}},
                    Refused{"VolumeByDots", "run", {{"volume", "/builds/../etc:/v"}}, {"c", "x"}},
                    Refused{"VolumeOption", "run", {{"volume", "/builds/a:/v:O"}}, {"c", "x"}},
                    Refused{"VolumeAlone", "run", {{"volume", "/builds/a"}}, {"c", "x"}},
                    Refused{"Isolation", "run", {{"isolation", "rootless"}}, {"c", "true"}},
                    Refused{"Capabilities", "run", {{"cap-add", "NET_ADMIN"}}, {"c", "true"}},
                    Refused{"CapabilitiesForAll", "from", {{"cap-add", "ALL"}}, {"a"}},
                    Refused{"Annotation", "config", {{"annotation", "a=b"}}, {"c"}},
                    Refused{"HostName", "config", {{"hostname", "h"}}, {"c"}},
                    Refused{"AuthFile", "from", {{"authfile", "/x"}}, {"a"}},
                    Refused{"ContextDir", "copy", {{"contextdir", "/"}}, {"c", "etc"}},
                    Refused{"GlobalOption", "containers", {{"root", "/x"}}, {}},
                    Refused{"Nul", "rm", {}, {std::string("a\0b", 3)}}),
    [](const auto& row) { return row.param.name; });

TEST(BuildahSession, SandboxHasItsStoreTheBasesTheWorkspaceAndANetworkOfItsOwn) {
  SessionParts parts;
  parts.job = "j1";
  parts.owner = "me";
  parts.container = "slipway-j1-session";
  parts.workspace_volume = "slipway-j1-builds";
  parts.bases = "/state/bases/d";
  parts.init_dir = "/opt/slipway/bin";
  parts.socket = "/run/j1/session.sock";
  const auto spec = session_spec(parts, {});

  EXPECT_EQ(spec.joins, "") << "the job's broker listens in the job's network namespace";
  EXPECT_EQ(spec.network, "slipway-j1-session");
  EXPECT_EQ(spec.labels.at("io.slipway.role"), "session");
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j1");
  ASSERT_EQ(spec.volumes.size(), 4U);
  EXPECT_EQ(spec.volumes[0].source, "slipway-j1-session");
  EXPECT_TRUE(spec.volumes[1].read_only && spec.volumes[2].read_only);
  EXPECT_EQ(spec.volumes[3].source, "slipway-j1-builds");
  EXPECT_TRUE(spec.host_mounts().empty());
  EXPECT_EQ(spec.seccomp_profile, "/run/j1/session-seccomp.json");
  ASSERT_EQ(spec.tmpfs.size(), 1U) << "the host's control groups are hidden";
  EXPECT_EQ(spec.tmpfs[0].first, "/sys/fs/cgroup");
}

TEST(BuildahSession, AsksNoRegistry) {
  const auto argv = session_set_up_argv({});
  EXPECT_NE(std::find(argv.begin(), argv.end(), policy_json()), argv.end());
  EXPECT_EQ(policy_json().find("\"docker\""), std::string::npos);
  EXPECT_NE(policy_json().find(R"("default":[{"type":"reject"}])"), std::string::npos);
}

} // namespace
} // namespace slipway::backends::buildah
