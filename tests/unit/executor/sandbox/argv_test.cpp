// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace slipway::sandbox {
namespace {

Engine engine() {
  Engine engine;
  engine.home = "/home/ci";
  engine.runtime_dir = "/run/user/1001";
  return engine;
}

SandboxSpec plain() {
  SandboxSpec spec;
  spec.name = "slipway-j1-job";
  spec.image = "sha256:0123";
  return spec;
}

SandboxSpec job() {
  auto spec = plain();
  spec.labels = {{"io.slipway.job", "j1"}, {"io.slipway.role", "job"}};
  spec.entrypoint = {"/run/slipway/bin/slipway-init", "--listen=3"};
  spec.user = "0:0";
  spec.working_dir = "/builds";
  spec.env = {{"CI", "true"}, {"PEM", "line 1\nline 2"}};
  spec.ids = {65537, 65536, 1, false};
  spec.network = "slipway-j1";
  spec.network_aliases = {"build"};
  spec.hosts = {{"docker", "127.0.0.1"}};
  spec.volumes = {{"slipway-j1-builds", "/builds", false},
                  {"/run/user/1001/slipway/j1/sock", "/run/slipway/sock", true}};
  spec.tmpfs = {{"/tmp", "size=64m,mode=1777"}};
  spec.limits = {512, 1UL << 30, 1.5, 1UL << 34, 4096};
  spec.preserve_fds = {17, 18};
  spec.hostname = "runner-job";
  return spec;
}

SandboxSpec builder() {
  auto spec = plain();
  spec.name = "slipway-builder-7";
  spec.command = {"/usr/bin/buildkitd", "--addr=unix:///run/b.sock"};
  spec.read_only_root = true;
  spec.allow(PrivilegedInUserNamespace{"mounts inside its own user namespace"});
  spec.allow(NewPrivileges{"RUN steps may call setuid programs"});
  spec.allow(HostMount{{"/usr", "/usr", true}, "the host's tools"});
  spec.allow(Device{"/dev/fuse", "fuse-overlayfs"});
  return spec;
}

struct Golden {
  const char* name;
  SandboxSpec (*spec)();
};

class ArgvFor : public testing::TestWithParam<Golden> {};

// SLIPWAY_ACCEPT=1 writes the files anew.
TEST_P(ArgvFor, EqualsTheGoldenFile) {
  std::string text;
  for (const auto& argument : argv_for(engine(), GetParam().spec()))
    text += argument + "\n";

  const std::string file = std::string{SLIPWAY_TESTDATA} + "/argv-" + GetParam().name + ".txt";
  if (std::getenv("SLIPWAY_ACCEPT") != nullptr)
    std::ofstream(file) << text; // NOLINT(concurrency-mt-unsafe): one thread
  std::stringstream expected;
  expected << std::ifstream(file).rdbuf();
  EXPECT_EQ(text, expected.str());
}

INSTANTIATE_TEST_SUITE_P(Specs, ArgvFor,
                         testing::Values(Golden{"plain", plain}, Golden{"job", job},
                                         Golden{"builder", builder}),
                         [](const auto& param) { return std::string{param.param.name}; });

TEST(ArgvFor, NeverHoldsAnEnvironmentValue) {
  auto spec = plain();
  spec.env = {{"TOKEN", "swordfish"},
              {"KEY", "swordfish\nsecond"},
              {"BIG", std::string(40000, 's') + "wordfish"}};

  for (const auto& argument : argv_for(engine(), spec)) {
    EXPECT_EQ(argument.find("wordfish"), std::string::npos) << argument;
  }
}

TEST(SplitEnv, PutsOneLineValuesVerbatimInTheFile) {
  const auto ways = split_env({{"A", " x=\"1\" # 'q' "}, {"B", ""}, {"C", "1\n2"}});

  EXPECT_EQ(ways.file, "A= x=\"1\" # 'q' \nB=\n");
  ASSERT_EQ(ways.inherited.size(), 1U);
  EXPECT_EQ(ways.inherited[0].first, "C");
}

struct BadSpec {
  const char* name;
  void (*spoil)(SandboxSpec&);
};

class CheckSpec : public testing::TestWithParam<BadSpec> {};

TEST_P(CheckSpec, Refuses) {
  auto spec = plain();
  ASSERT_TRUE(check_spec(spec).ok());

  GetParam().spoil(spec);

  EXPECT_FALSE(check_spec(spec).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Bad, CheckSpec,
    testing::Values(BadSpec{"NoName", [](SandboxSpec& spec) { spec.name = ""; }},
                    BadSpec{"ImageThatIsAnOption",
                            [](SandboxSpec& spec) { spec.image = "--privileged"; }},
                    BadSpec{"TheServiceUsersId", [](SandboxSpec& spec) { spec.ids.first = 0; }},
                    BadSpec{"NoIds", [](SandboxSpec& spec) { spec.ids.size = 0; }},
                    BadSpec{"ColonInAPath",
                            [](SandboxSpec& spec) {
                              spec.volumes = {{"/a:/b", "/c", true}};
                            }},
                    BadSpec{"RelativeTarget",
                            [](SandboxSpec& spec) {
                              spec.volumes = {{"/a", "c", true}};
                            }},
                    BadSpec{"HostMountWithColon",
                            [](SandboxSpec& spec) {
                              spec.allow(HostMount{{"/a", "/b:rw", true}, "test"});
                            }},
                    BadSpec{"VariableWithEquals",
                            [](SandboxSpec& spec) {
                              spec.env = {{"A=B", "1"}};
                            }},
                    BadSpec{"VariableThatIsAComment",
                            [](SandboxSpec& spec) {
                              spec.env = {{"#A", "1"}};
                            }},
                    BadSpec{"VariableWithAStar",
                            [](SandboxSpec& spec) {
                              spec.env = {{"A*", "1"}};
                            }},
                    BadSpec{"LoaderVariableOfTwoLines",
                            [](SandboxSpec& spec) {
                              spec.env = {{"LD_PRELOAD", "/tmp/x.so\n"}};
                            }},
                    BadSpec{"FolderOfIptablesExtensionsOfTwoLines",
                            [](SandboxSpec& spec) {
                              spec.env = {{"XTABLES_LIBDIR", "/tmp/x:\n"}};
                            }},
                    BadSpec{"LongFolderOfPlugins",
                            [](SandboxSpec& spec) {
                              spec.env = {{"SOME_PLUGIN_DIR", "/tmp/x" + std::string(40000, ':')}};
                            }},
                    BadSpec{"AliasOfTwoLines",
                            [](SandboxSpec& spec) { spec.network_aliases = {"db\n10.0.0.1 x"}; }},
                    BadSpec{"AliasWithAShellsWords",
                            [](SandboxSpec& spec) { spec.network_aliases = {"$(id)"}; }},
                    BadSpec{"PathOfTwoLines",
                            [](SandboxSpec& spec) {
                              spec.env = {{"PATH", "/a\n/b"}};
                            }}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST(CheckSpec, AllowsLoaderVariablesAsPlainData) {
  auto spec = plain();
  spec.env = {{"LD_PRELOAD", "/usr/lib/libeatmydata.so"}, {"PATH", "/usr/bin"}};

  EXPECT_TRUE(check_spec(spec).ok());
}

} // namespace
} // namespace slipway::sandbox
