// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace slipway::sandbox {
namespace {

SandboxSpec plain() {
  SandboxSpec spec;
  spec.name = "slipway-j1-job";
  spec.image = "sha256:0123";
  return spec;
}

SandboxSpec job() {
  auto spec = plain();
  spec.labels = {{"io.slipway.job", "j1"}, {"io.slipway.role", "job"}};
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
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

class CreateBody : public testing::TestWithParam<Golden> {};

// SLIPWAY_ACCEPT=1 writes the files anew.
TEST_P(CreateBody, EqualsTheGoldenFile) {
  const auto text = nlohmann::json::parse(create_body(GetParam().spec())).dump(2) + "\n";

  const std::string file = std::string{SLIPWAY_TESTDATA} + "/create-" + GetParam().name + ".json";
  if (std::getenv("SLIPWAY_ACCEPT") != nullptr)
    std::ofstream(file) << text; // NOLINT(concurrency-mt-unsafe): one thread
  std::stringstream expected;
  expected << std::ifstream(file).rdbuf();
  EXPECT_EQ(text, expected.str());
}

INSTANTIATE_TEST_SUITE_P(Specs, CreateBody,
                         testing::Values(Golden{"plain", plain}, Golden{"job", job},
                                         Golden{"builder", builder}),
                         [](const auto& param) { return std::string{param.param.name}; });

TEST(CreateBody, GivesAnAddressWhereOneIsAskedFor) {
  auto spec = job();
  spec.address = "10.89.4.100";

  const auto network = nlohmann::json::parse(create_body(spec))["Networks"]["slipway-j1"];

  EXPECT_EQ(network["static_ips"], nlohmann::json{"10.89.4.100"});
}

TEST(CreateBody, TakesEveryValueOfTheEnvironmentAsItIs) {
  auto spec = plain();
  spec.env = {{"A", " x=\"1\" # 'q' "}, {"B", ""}, {"C", "1\n2"}, {"LD_PRELOAD", "/x\n"}};

  const auto env = nlohmann::json::parse(create_body(spec))["env"];

  ASSERT_EQ(env.size(), 4U);
  for (const auto& [name, value] : spec.env)
    EXPECT_EQ(env[name], value);
}

TEST(CreateBody, GivesNoCapabilityToWhoIsAskedForAsNoRoot) {
  const auto added = [](const std::optional<std::string>& user) {
    auto spec = plain();
    spec.user = user;
    const auto body = nlohmann::json::parse(create_body(spec));
    EXPECT_EQ(body["cap_drop"], nlohmann::json{"all"});
    return body.contains("cap_add");
  };

  for (const auto* none : {"65534", "1000:0", "01", "postgres", "postgres:root"})
    EXPECT_FALSE(added(none)) << none;
  for (const auto* root : {"0", "0:0", "00:7", "", "root", "root:7"})
    EXPECT_TRUE(added(root)) << root;
  EXPECT_TRUE(added(std::nullopt)) << "the image's own";
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
                    BadSpec{"PrivilegedWithoutAFilterOfSystemCalls",
                            [](SandboxSpec& spec) { spec.allow(PrivilegedInUserNamespace{"x"}); }},
                    BadSpec{"NoIds", [](SandboxSpec& spec) { spec.ids.size = 0; }},
                    BadSpec{"RelativeTarget",
                            [](SandboxSpec& spec) {
                              spec.volumes = {{"/a", "c", true}};
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
                    BadSpec{"AliasOfTwoLines",
                            [](SandboxSpec& spec) { spec.network_aliases = {"db\n10.0.0.1 x"}; }},
                    BadSpec{"HostOfTwoLines",
                            [](SandboxSpec& spec) {
                              spec.hosts = {{"db\n10.0.0.1 x", "10.0.0.2"}};
                            }},
                    BadSpec{"AliasWithAShellsWords",
                            [](SandboxSpec& spec) { spec.network_aliases = {"$(id)"}; }}),
    [](const auto& param) { return std::string{param.param.name}; });

} // namespace
} // namespace slipway::sandbox
