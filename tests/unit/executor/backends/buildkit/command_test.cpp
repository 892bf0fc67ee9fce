// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/command.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace slipway::backends::buildkit {
namespace {

oci::Digest digest(char c) {
  return *oci::Digest::parse("sha256:" + std::string(64, c));
}

BuildJob job() {
  BuildJob one;
  one.context_dir = "/builds/group/app";
  one.context_key = "context-7";
  one.dockerfile_dir = "/builds/group/app";
  one.dockerfile_name = "Dockerfile";
  return one;
}

const BuildPaths kPaths{"/out/1-1"};

TEST(BuildctlArgv, NamesFilesOfWhatIsLentAndNeverAValue) {
  auto one = job();
  std::vector<std::pair<std::string, Secret>> secrets;
  secrets.emplace_back("npm", Secret{"the-value-itself"});
  secrets.emplace_back("pip", Secret{"another-value"});
  std::vector<std::pair<std::string, Secret>> keys;
  keys.emplace_back("default", Secret{"the-key-itself"});
  one.secrets = secrets;
  one.ssh_keys = keys;
  one.named_folders = {{"lib", "/builds/group/lib"}};

  const auto argv = argv_for(one, {}, {"/out/1-1", "/run/slipway-secrets/1-1"});

  ASSERT_TRUE(argv.ok());
  std::string line;
  for (const auto& word : *argv)
    line += word + " ";
  for (const char* words : {" --secret id=npm,src=/run/slipway-secrets/1-1/secret-0 --secret "
                            "id=pip,src=/run/slipway-secrets/1-1/secret-1 --ssh "
                            "default=/run/slipway-secrets/1-1/key-0 ",
                            " --local named-0=/builds/group/lib --opt context:lib=local:named-0 "})
    EXPECT_NE(line.find(words), std::string::npos) << line;
  for (const char* value : {"the-value-itself", "another-value", "the-key-itself"})
    EXPECT_EQ(line.find(value), std::string::npos) << line;
}

TEST(BuildctlArgv, RefusesIdsThatItsReaderWouldSplitAndSecretsAboveItsLimit) {
  auto one = job();
  std::vector<std::pair<std::string, Secret>> secrets;
  secrets.emplace_back("a,src=/etc/shadow", Secret{"x"});
  one.secrets = secrets;
  EXPECT_FALSE(check(one).ok());
  secrets.clear();
  secrets.emplace_back("a", Secret{std::string(kMaxSecretBytes + 1, 'x')});
  one.secrets = secrets;
  EXPECT_FALSE(check(one).ok());
  secrets.clear();
  secrets.emplace_back("a", Secret{std::string(kMaxSecretBytes, 'x')});
  one.secrets = secrets;
  EXPECT_TRUE(check(one).ok());
}

TEST(BuildctlArgv, OfAPlainBuild) {
  auto one = job();
  one.bases = {{"debian:12", digest('a')}, {"reg:5000/base:latest", digest('b')}};

  const auto argv = argv_for(one, {}, kPaths);

  ASSERT_TRUE(argv.ok());
  const std::vector<std::string> expected{
      "/tools/bin/buildctl",
      "--addr",
      "unix:///run/slipway-builder/buildkitd.sock",
      "build",
      "--progress=plain",
      "--frontend",
      "dockerfile.v0",
      "--shared-key",
      "context-7",
      "--local",
      "context=/builds/group/app",
      "--local",
      "dockerfile=/out/1-1/dockerfile",
      "--opt",
      "filename=Dockerfile",
      "--opt",
      "cmdline=dockerfile.v0",
      "--oci-layout",
      "bases=/bases",
      "--opt",
      "context:debian:12=oci-layout://bases@sha256:" + std::string(64, 'a'),
      "--opt",
      "context:reg:5000/base=oci-layout://bases@sha256:" + std::string(64, 'b'),
      "--source-policy-file",
      "/out/1-1/policy.json",
      "--output",
      "type=oci,tar=false,oci-mediatypes=true,dest=/out/1-1/layout",
      "--metadata-file",
      "/out/1-1/metadata.json"};
  EXPECT_EQ(*argv, expected);
}

TEST(BuildctlArgv, CarriesEveryOption) {
  auto one = job();
  one.target = "prod";
  one.platform = "linux/arm64";
  one.build_args = {{"A", "1,2=3"}, {"B", ""}};
  one.labels = {{"org.x", "y z"}};
  one.network = "none";
  one.extra_hosts = {{"db", "10.0.0.1"}, {"v6", "::1"}};
  one.no_cache = true;

  const auto argv = argv_for(one, {}, kPaths);

  ASSERT_TRUE(argv.ok());
  for (const std::string wanted : {"target=prod", "platform=linux/arm64", "build-arg:A=1,2=3",
                                   "build-arg:B=", "label:org.x=y z", "force-network-mode=none",
                                   "add-hosts=db=10.0.0.1,v6=::1", "--no-cache"})
    EXPECT_NE(std::find(argv->begin(), argv->end(), wanted), argv->end()) << wanted;
}

struct RefusedCase {
  const char* name;
  void (*spoil)(BuildJob&);
  ErrorKind kind;
  const char* words;
};

class RefusedJob : public testing::TestWithParam<RefusedCase> {};

TEST_P(RefusedJob, SaysWhy) {
  auto one = job();
  GetParam().spoil(one);

  const Status checked = check(one);

  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind, GetParam().kind);
  EXPECT_NE(checked.error().what.find(GetParam().words), std::string::npos) << checked.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedJob,
    testing::Values(RefusedCase{"Syntax",
                                [](BuildJob& j) {
                                  j.build_args = {{"BUILDKIT_SYNTAX", "evil/x"}};
                                },
                                ErrorKind::denied, "BUILDKIT_SYNTAX"},
                    RefusedCase{"CacheNamespace",
                                [](BuildJob& j) {
                                  j.build_args = {{"BUILDKIT_CACHE_MOUNT_NS", "x"}};
                                },
                                ErrorKind::denied, "BUILDKIT_CACHE_MOUNT_NS"},
                    RefusedCase{"ArgName",
                                [](BuildJob& j) {
                                  j.build_args = {{"A=B", "x"}};
                                },
                                ErrorKind::bad_input, "A=B"},
                    RefusedCase{"Label",
                                [](BuildJob& j) {
                                  j.labels = {{"", "x"}};
                                },
                                ErrorKind::bad_input, "label"},
                    RefusedCase{"HostNetwork", [](BuildJob& j) { j.network = "host"; },
                                ErrorKind::denied, "--network host"},
                    RefusedCase{"Host",
                                [](BuildJob& j) {
                                  j.extra_hosts = {{"a,b=c", "1.1.1.1"}};
                                },
                                ErrorKind::bad_input, "--add-host"},
                    RefusedCase{"Address",
                                [](BuildJob& j) {
                                  j.extra_hosts = {{"a", "host-gateway"}};
                                },
                                ErrorKind::bad_input, "--add-host"},
                    RefusedCase{"Platform", [](BuildJob& j) { j.platform = "linux amd64"; },
                                ErrorKind::bad_input, "platform"},
                    RefusedCase{"KeyOfTwoWords", [](BuildJob& j) { j.context_key = "a b"; },
                                ErrorKind::internal, "context key"},
                    RefusedCase{"RelativeContext", [](BuildJob& j) { j.context_dir = "app"; },
                                ErrorKind::bad_input, "absolute"},
                    RefusedCase{"DockerfilePath", [](BuildJob& j) { j.dockerfile_name = "../x"; },
                                ErrorKind::bad_input, "../x"}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(ContextKey, IsTheFamiliarNameWithoutLatest) {
  EXPECT_EQ(*context_key("docker.io/library/node:latest"), "node");
  EXPECT_EQ(*context_key("node"), "node");
  EXPECT_EQ(*context_key("node:20"), "node:20");
  EXPECT_EQ(*context_key("reg.example.com:5000/a/b:1"), "reg.example.com:5000/a/b:1");
  EXPECT_FALSE(context_key("Not/An/Image:").ok());
}

TEST(DockerfileFor, LeavesAnOrdinaryFileAlone) {
  auto one = job();
  one.bases = {{"node:20", digest('a')}};
  auto bases = one.bases;
  const std::string text = "FROM node:20 AS node\nRUN x\nFROM node\n";

  const auto built = dockerfile_for(one, text, bases);

  ASSERT_TRUE(built.ok());
  EXPECT_EQ(*built, text);
  EXPECT_EQ(bases[0].familiar_name, "node:20");
}

TEST(DockerfileFor, PinsABaseThatHasAStagesName) {
  auto one = job();
  one.bases = {{"node", digest('a')}, {"debian:12", digest('b')}};
  auto bases = one.bases;

  const auto built =
      dockerfile_for(one, "FROM node AS node\nRUN x\nFROM node\nFROM debian:12\n", bases);

  ASSERT_TRUE(built.ok());
  EXPECT_EQ(*built, "FROM node@sha256:" + std::string(64, 'a') +
                        " AS node\nRUN x\nFROM node\nFROM debian:12\n");
  ASSERT_EQ(bases.size(), 2U);
  EXPECT_EQ(bases[0].familiar_name, "node@sha256:" + std::string(64, 'a'));
  EXPECT_EQ(bases[1].familiar_name, "debian:12");
}

TEST(DockerfileFor, PinsOneImageForAllPlatformsOrRefuses) {
  BuildJob one = job();
  one.platform = "linux/amd64,linux/arm64";
  one.bases = {{"app", oci::Digest::of("app")}, {"arm64", oci::Digest::of("arm64")}};
  auto bases = one.bases;
  const auto pinned = dockerfile_for(one, "FROM app AS app\nFROM app\n", bases);
  ASSERT_TRUE(pinned) << pinned.error().text();
  EXPECT_NE(pinned->find("FROM app@" + oci::Digest::of("app").str()), std::string::npos);

  one.bases.push_back({"amd64", oci::Digest::of("amd64")});
  bases = one.bases;
  const auto refused = dockerfile_for(
      one, "ARG TARGETARCH\nFROM $TARGETARCH AS amd64\nFROM $TARGETARCH AS arm64\n", bases);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("another image for each platform"), std::string::npos)
      << refused.error().what;
}

TEST(DockerfileFor, RefusesAForeignFrontend) {
  auto bases = job().bases;

  const auto built = dockerfile_for(job(), "# syntax=evil/frontend\nFROM a\n", bases);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::denied);
  EXPECT_EQ(built.error().what.substr(0, 13), "Dockerfile:1:");
}

TEST(ProxyVariables, LeaveOutWhatTheJobSetsAndWhatTheHistoryWouldHold) {
  auto one = job();
  EXPECT_TRUE(proxy_variables(one).empty());
  one.proxy = "http://127.3.4.5:3128";
  one.no_proxy = "localhost";
  one.build_args = {{"https_proxy", "http://mine.example:1"}};

  const auto variables = proxy_variables(one, {"HTTP_PROXY"});

  EXPECT_EQ(variables, (std::vector<std::pair<std::string, std::string>>{
                           {"http_proxy", "http://127.3.4.5:3128"},
                           {"no_proxy", "localhost"},
                           {"NO_PROXY", "localhost"}}));
}

} // namespace
} // namespace slipway::backends::buildkit
