// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/cli/backends.hpp"
#include "executor/cli/explain.hpp"
#include "executor/cli/policy_test.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/stat.h>

#include <sstream>

namespace slipway::cli {
namespace {

class CommandTest : public testing::Test {
protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const auto path = dir_.path() / name;
    EXPECT_TRUE(replace_file(path, text));
    return path;
  }
  void program(const std::string& name) { ::chmod(write(name, "#!/bin/sh\n").c_str(), 0755); }

  fakes::TempDir dir_;
  config::Config config_;
  std::ostringstream out_;
  std::ostringstream err_;
};

using ReadAnswer = Result<std::vector<oci::ImageConfig>>;

class ExplainTest : public CommandTest {
protected:
  ExplainTest() {
    backends::Descriptor buildkit;
    buildkit.name = "buildkit";
    buildkit.version = "v0.34.2";
    set_up_ = {buildkit};
    options_.path = dir_.path();
  }
  int run() { return explain(options_, config_, set_up_, out_, err_); }

  ExplainOptions options_;
  std::vector<backends::Descriptor> set_up_;
};

TEST_F(ExplainTest, SaysTheChoiceTheLinesAndWhatIsAssumed) {
  write("Dockerfile", "FROM node:20\nRUN --mount=type=cache,target=/c npm ci\n");

  EXPECT_EQ(run(), 0);

  const auto said = out_.str();
  EXPECT_TRUE(said.starts_with("backend: buildkit v0.34.2: the first in policy's order\n")) << said;
  for (const char* words :
       {"Dockerfile:2: RUN --mount=type=cache,target=/c (a cache mount)", "kaniko: not set up",
        "policy: no rule matches", "base image node:20 is not read"})
    EXPECT_NE(said.find(words), std::string::npos) << words << " is not in\n" << said;
}

TEST_F(ExplainTest, TakesWhatBaseImagesAreIntoAccountWhereTheyCanBeRead) {
  write("Dockerfile", "FROM node:20 AS a\nFROM debian:12\nCOPY --from=a /x /x\n");
  std::vector<std::string> asked;
  options_.platform = "linux/arm64";
  options_.read_base = [&](const oci::Reference& reference,
                           const std::string& platform) -> ReadAnswer {
    asked.push_back(reference.familiar() + " " + platform);
    if (reference.familiar() == "debian:12")
      return Error{ErrorKind::not_found, "no answer", "", {}};
    oci::ImageConfig config;
    if (reference.familiar() == "node:20") config.on_build = {"COPY --from=golang:1 /go /go"};
    return std::vector{config};
  };

  EXPECT_EQ(run(), 0);

  EXPECT_EQ(asked, (std::vector<std::string>{"node:20 linux/arm64", "debian:12 linux/arm64",
                                             "golang:1 linux/arm64"}));
  const auto said = out_.str();
  EXPECT_EQ(said.find("node:20 is not read"), std::string::npos);
  for (const char* words : {"base image node:20 (Dockerfile:1): ONBUILD COPY --from=golang:1",
                            "debian:12 cannot be read (no answer)"})
    EXPECT_NE(said.find(words), std::string::npos) << words << " is not in\n" << said;
}

TEST_F(ExplainTest, AsksOncePerImageAndPlatformByItsOneName) {
  write("Dockerfile",
        "FROM --platform=linux/amd64 node:20 AS a\nFROM node:20\nCOPY --from=a / /\n");
  std::vector<std::string> asked;
  options_.read_base = [&](const oci::Reference&, const std::string& platform) -> ReadAnswer {
    asked.push_back(platform);
    return std::vector{oci::ImageConfig{}};
  };
  options_.platform = "arm64,linux/x86_64,linux/aarch64";

  EXPECT_EQ(run(), 0) << err_.str();

  EXPECT_EQ(asked, (std::vector<std::string>{"linux/amd64", "linux/arm64"}));
  for (const char* platform : {"windows/amd64", "linux/amd64,darwin/arm64", "linux/"}) {
    options_.platform = platform;
    EXPECT_EQ(run(), 2) << platform;
  }
  options_.platform = "linux/a0";
  for (int i = 1; i <= 16; ++i)
    options_.platform += ",linux/a" + std::to_string(i);
  EXPECT_EQ(run(), 2);
  EXPECT_NE(err_.str().find("a build for 17 platforms"), std::string::npos) << err_.str();
}

TEST_F(ExplainTest, ASilentRegistryIsAskedOnce) {
  write("Dockerfile", "FROM dead.example/a\nCOPY --from=dead.example/b / /\nCOPY --from=c / /\n");
  std::vector<std::string> asked;
  options_.platform = "linux/amd64,linux/arm64";
  options_.read_base = [&](const oci::Reference& reference, const std::string&) -> ReadAnswer {
    asked.push_back(reference.familiar());
    if (reference.registry() == "dead.example")
      return Error{ErrorKind::timed_out, "no answer in 120 s", "", {}};
    return Error{ErrorKind::not_found, "not there", "", {}};
  };

  EXPECT_EQ(run(), 0);

  EXPECT_EQ(asked, (std::vector<std::string>{"dead.example/a:latest", "c:latest", "c:latest"}));
  for (const char* words :
       {"base image dead.example/a cannot be read (no answer in 120 s): taken for one "
        "without",
        "image dead.example/b, of which files are taken, is not read (dead.example gave no "
        "answer before): taken for one that is there",
        "image c, of which files are taken, cannot be read (not there)"})
    EXPECT_NE(out_.str().find(words), std::string::npos) << words << " is not in\n" << out_.str();
}

TEST_F(ExplainTest, PolicyDeniesBeforeAnybodyIsAsked) {
  config_.sandbox.egress.mode = "none";
  options_.read_base = [&](const oci::Reference& reference, const std::string&) -> ReadAnswer {
    ADD_FAILURE() << reference.str() << " was asked for";
    return std::vector<oci::ImageConfig>{};
  };
  for (const auto& [image, words] :
       {std::pair{"evil.example/x", "its network is closed"},
        std::pair{"localhost:5000/x", "an address of the runner itself"},
        std::pair{"127.0.0.1:9200/x", "an address of the runner itself"}}) {
    write("Dockerfile", std::string{"FROM "} + image + "\n");
    EXPECT_EQ(run(), 1) << image;
    EXPECT_NE(err_.str().find(words), std::string::npos) << err_.str();
  }
  options_.read_base = nullptr;
  EXPECT_EQ(run(), 1) << "also where nothing is read";
}

TEST_F(ExplainTest, ARegistrysOwnNoIsNoDenial) {
  write("Dockerfile", "FROM private/x\n");
  options_.read_base = [](const oci::Reference&, const std::string&) -> ReadAnswer {
    return Error{ErrorKind::denied, "401", "", {}};
  };
  EXPECT_EQ(run(), 0);
  EXPECT_NE(out_.str().find("private/x cannot be read (401)"), std::string::npos);
  options_.read_base = [](const oci::Reference&, const std::string&) -> ReadAnswer {
    return Error{ErrorKind::io, "no space left", "", {}};
  };
  EXPECT_EQ(run(), 2) << "a failure of slipway's own";
}

TEST_F(ExplainTest, NamedContextsAreAsTheJobWouldGiveThem) {
  write("Dockerfile", "FROM debian:12\nCOPY --from=assets /x /x\n");
  config_.buildkit.allowed_bases = {"debian:*"};

  EXPECT_EQ(run(), 1);
  EXPECT_NE(err_.str().find("give it here: --build-context assets"), std::string::npos)
      << err_.str();

  options_.build_contexts = {{"assets", "./assets"}};
  EXPECT_EQ(run(), 0) << err_.str();
  EXPECT_NE(out_.str().find("--build-context assets"), std::string::npos) << out_.str();
  options_.build_contexts = {{"assets", "docker://debian:11"}};
  EXPECT_EQ(run(), 0) << err_.str();
  options_.build_contexts = {{"assets", "docker-image://evil/tools"}};
  EXPECT_EQ(run(), 1);
  options_.build_contexts = {{"assets", "oci-layout:///x"}};
  EXPECT_EQ(run(), 2);
  write("Dockerfile", "FROM debian:12 AS assets\nFROM debian:12\nCOPY --from=assets /x /x\n");
  options_.build_contexts = {{"assets", "./assets"}};
  EXPECT_EQ(run(), 2) << "the build refuses it";
}

TEST_F(ExplainTest, ADenialByPolicyIsJsonTooWhereJsonIsAskedFor) {
  write("Dockerfile", "FROM evil/base\n");
  config_.buildkit.allowed_bases = {"debian:*"};
  options_.json = true;

  EXPECT_EQ(run(), 1);

  const auto said = nlohmann::json::parse(out_.str());
  EXPECT_TRUE(said["backend"].is_null());
  EXPECT_EQ(said["denied"]["kind"], kind_name(ErrorKind::denied));
  EXPECT_NE(said["denied"]["what"].get<std::string>().find("Dockerfile:1: FROM evil/base"),
            std::string::npos);
  EXPECT_TRUE(said["backends"].empty());
  EXPECT_EQ(err_.str(), "");
}

TEST_F(ExplainTest, DeniesABaseThatThePolicyDoesNotAllow) {
  write("Dockerfile", "FROM debian:12\nCOPY --from=evil/tools /x /x\n");
  config_.buildkit.allowed_bases = {"debian:*"};

  EXPECT_EQ(run(), 1);

  EXPECT_NE(err_.str().find("Dockerfile:2: COPY --from evil/tools"), std::string::npos)
      << err_.str();
}

TEST_F(ExplainTest, AsksAsThePipelineAndTheRunnerThatItIsTold) {
  write("Dockerfile", "FROM a\n");
  config_.identity.issuer = "https://gitlab.example";
  config_.identity.required = true;
  ASSERT_TRUE(config::parse_policy("[[rule]]\nsource = [\"merge_request_event\"]\n"
                                   "runner_tag = [\"lab\"]\nban_backends = [\"buildkit\"]\n"
                                   "[[rule]]\nplatforms = [\"linux/amd64\"]\n",
                                   "p", config_));
  EXPECT_EQ(run(), 0);
  options_.source = "merge_request_event";
  EXPECT_EQ(run(), 0) << "on another runner";
  config_.runner_tags = {"lab"};
  EXPECT_EQ(run(), 1);
  options_.source = "push";
  EXPECT_EQ(run(), 0);
  options_.platform = "linux/amd64,linux/s390x";
  EXPECT_EQ(run(), 1);
  EXPECT_NE(err_.str().find("build for linux/s390x (rule p:5)"), std::string::npos) << err_.str();
}

TEST_F(ExplainTest, AsksWhatAPinWouldDo) {
  write("Dockerfile", "FROM a\nRUN <<EOF\nb\nEOF\n");
  backends::Descriptor kaniko;
  kaniko.name = "kaniko";
  kaniko.version = "v1.24.0";
  set_up_.push_back(kaniko);
  options_.backend = "kaniko";

  EXPECT_EQ(run(), 1);

  EXPECT_NE(out_.str().find("Dockerfile:2: RUN <<EOF: kaniko v1.24.0 runs the line without its "
                            "body"),
            std::string::npos)
      << out_.str();
  EXPECT_NE(out_.str().find("buildkit v0.34.2 could build it"), std::string::npos) << out_.str();
}

TEST_F(ExplainTest, FollowsTheProjectsRule) {
  write("Dockerfile", "FROM a\n");
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nprotected = true\n"
                                   "ban_backends = [\"buildkit\"]\n",
                                   "p.toml", config_));
  options_.project = "grp/app";
  EXPECT_EQ(run(), 0);
  options_.ref_protected = true;
  EXPECT_EQ(run(), 1);
  EXPECT_NE(out_.str().find("policy (rule p.toml:1) forbids buildkit"), std::string::npos);
}

TEST_F(ExplainTest, TellsTheRefAndTakesItForUnprotected) {
  write("Dockerfile", "FROM a\n");
  ASSERT_TRUE(config::parse_policy("[[rule]]\nprotected = true\nban_backends = [\"buildkit\"]\n",
                                   "p.toml", config_));
  options_.ref = "main";
  EXPECT_EQ(run(), 0);
  EXPECT_NE(out_.str().find("\nref: main\n"), std::string::npos) << out_.str();
  options_.json = true;
  EXPECT_EQ(run(), 0);
  EXPECT_NE(out_.str().find("\"ref\": \"main\""), std::string::npos) << out_.str();
}

TEST_F(ExplainTest, AsksAsTheRefThatItIsTold) {
  write("Dockerfile", "FROM a\n");
  ASSERT_TRUE(config::parse_policy("[[rule]]\nref = \"refs/tags/v*\"\n"
                                   "ban_backends = [\"buildkit\"]\n",
                                   "p.toml", config_));
  options_.ref = "v1";
  EXPECT_EQ(run(), 0) << "a branch";
  options_.ref = "refs/tags/v1";
  EXPECT_EQ(run(), 1);
}

TEST_F(ExplainTest, PinDoesNotLiftABan) {
  write("Dockerfile", "FROM a\n");
  ASSERT_TRUE(config::parse_policy("[[rule]]\nban_backends = [\"buildkit\"]\n", "p.toml", config_));
  options_.backend = "buildkit";

  EXPECT_EQ(run(), 1);
}

TEST_F(ExplainTest, TargetAndArgumentsCount) {
  options_.path = write("Other.Dockerfile", "ARG BASE=a\nFROM ${BASE} AS x\nFROM x\n"
                                            "RUN --security=insecure b\n");
  EXPECT_EQ(run(), 1);
  options_.target = "x";
  options_.build_args = {{"BASE", "debian:12"}};
  EXPECT_EQ(run(), 0);
  EXPECT_NE(out_.str().find("base image debian:12"), std::string::npos) << out_.str();
}

TEST_F(ExplainTest, JsonHasTheSame) {
  write("Dockerfile", "FROM a\nHEALTHCHECK CMD b\n");
  write(".containerignore", "x\n");
  options_.json = true;

  EXPECT_EQ(run(), 0);

  const auto said = nlohmann::json::parse(out_.str());
  EXPECT_EQ(said["backend"], "buildkit");
  EXPECT_EQ(said["requirements"][0]["feature"], "healthcheck");
  EXPECT_EQ(said["requirements"][0]["line"], 2);
  EXPECT_EQ(said["requirements"][1]["feature"], "container-ignore-file");
  EXPECT_EQ(said["backends"].size(), 5U);
  EXPECT_EQ(said["backends"][0]["standing"], "chosen");
  EXPECT_FALSE(said.contains("denied"));
}

TEST_F(ExplainTest, JsonOfADenialHasItsKind) {
  write("Dockerfile", "FROM a\nRUN --device=x b\n");
  options_.json = true;

  EXPECT_EQ(run(), 1);
  const auto said = nlohmann::json::parse(out_.str());
  EXPECT_TRUE(said["backend"].is_null());
  EXPECT_EQ(said["denied"]["kind"], kind_name(ErrorKind::denied));
}

TEST_F(ExplainTest, BadInputIsTwoWithFileAndLine) {
  EXPECT_EQ(run(), 2) << "no Dockerfile there";
  write("Dockerfile", "FROM a\nRUNN b\n");
  EXPECT_EQ(run(), 2);
  EXPECT_NE(err_.str().find("Dockerfile:2: unknown instruction"), std::string::npos) << err_.str();
  write("Dockerfile", "FROM a\n");
  options_.backend = "img";
  EXPECT_EQ(run(), 2);
  EXPECT_NE(err_.str().find("there is no backend 'img'"), std::string::npos) << err_.str();
  options_.backend = "";
  options_.target = "nosuch";
  EXPECT_EQ(run(), 2);
}

class BackendsTest : public CommandTest {
protected:
  BackendsTest() {
    config_.buildkit.buildkitd = dir_.path() / "buildkitd";
    config_.buildkit.buildctl = dir_.path() / "buildctl";
    config_.buildah.buildah = dir_.path() / "buildah";
    config_.buildah.podman = dir_.path() / "podman";
    config_.kaniko.executor = dir_.path() / "executor";
    runner_.answer = [this](const process::Command& command) {
      const auto name = std::filesystem::path{command.argv[0]}.filename().string();
      const auto found = says_.find(name);
      return process::Output{process::Exited{0}, found == says_.end() ? "" : found->second, ""};
    };
  }
  std::map<std::string, Tool> probe() {
    std::map<std::string, Tool> tools;
    for (auto& tool :
         probe_backends(config_, runner_, {"buildkit", "buildah", "podman"}, {dir_.path()}))
      tools[tool.backend] = tool;
    return tools;
  }

  fakes::FakeProcessRunner runner_;
  std::map<std::string, std::string> says_;
};

TEST_F(BackendsTest, ReadsWhatEachToolSays) {
  for (const char* name :
       {"buildkitd", "buildctl", "buildah", "podman", "executor", "dockerd", "docker"})
    program(name);
  says_ = {{"buildkitd", "buildkitd github.com/moby/buildkit v0.34.2 0123abc\n"},
           {"buildah", "buildah version 1.28.2 (image-spec 1.0.2-dev, runtime-spec 1.0.2)\n"},
           {"podman", "podman version 4.3.1\n"},
           {"executor", "Kaniko version :  v1.24.0\n"},
           {"dockerd", "Docker version 20.10.24+dfsg1, build 297e128\n"},
           {"buildctl", "OPTIONS:\n   --shared-key value\n"}};

  auto tools = probe();

  EXPECT_EQ(tools.at("buildkit").version, "v0.34.2");
  EXPECT_TRUE(tools.at("buildkit").is_used);
  EXPECT_EQ(tools.at("buildah").version, "1.28.2");
  EXPECT_EQ(tools.at("podman").version, "4.3.1");
  EXPECT_EQ(tools.at("kaniko").version, "v1.24.0");
  EXPECT_EQ(tools.at("dind").version, "20.10.24");
  EXPECT_FALSE(tools.at("dind").is_used);
  EXPECT_EQ(tools.at("dind").problem, "this slipway does not build with it");

  says_["buildctl"] = "OPTIONS:\n";
  tools = probe();
  EXPECT_NE(tools.at("buildkit").problem.find("/buildctl has no --shared-key"), std::string::npos);
  EXPECT_NE(tools.at("buildkit").hint.find("packaging/tools/build buildkit"), std::string::npos);
  config_.buildkit.buildkitd = "";
  tools = probe();
  EXPECT_EQ(tools.at("buildkit").hint, "set `buildkitd` in [buildkit] to its path");
}

TEST_F(BackendsTest, TakesTheOperatorsDockerdAndTheHostsClientForIt) {
  for (const char* name : {"dockerd", "docker"})
    program(name);
  config_.dind.tools = dir_.path() / "newer";
  std::filesystem::create_directory(config_.dind.tools);
  says_ = {{"dockerd", "Docker version 28.5.2, build x\n"}};

  auto tools = probe();
  EXPECT_EQ(tools.at("dind").problem, "there is no dockerd in " + config_.dind.tools.string());
  EXPECT_NE(tools.at("dind").hint.find("`tools` in [dind]"), std::string::npos);

  program("newer/dockerd");
  tools = probe();
  EXPECT_EQ(tools.at("dind").version, "28.5.2");
  EXPECT_EQ(tools.at("dind").program, (config_.dind.tools / "dockerd").string());
}

TEST_F(BackendsTest, SaysWhyBuildahAndPodmanAreNotUsed) {
  for (const char* name : {"buildah", "podman"})
    program(name);
  says_ = {{"buildah", "buildah version 1.23.1 (x)\n"}, {"podman", "podman version 4.3.1\n"}};

  auto tools = probe();

  EXPECT_EQ(tools.at("buildah").problem, "buildah 1.23.1 is too old to build with");
  EXPECT_EQ(tools.at("buildah").version, "1.23.1");
  EXPECT_EQ(tools.at("buildah").hint, "install Buildah 1.28 or Podman 4.3, or later ones");
  EXPECT_TRUE(tools.at("podman").is_used);
  EXPECT_EQ(tools.at("podman").program, (dir_.path() / "podman").string());

  config_.kaniko.executor = "";
  tools = probe();
  EXPECT_EQ(tools.at("kaniko").hint, "set `executor` in [kaniko] to its path");
  config_.buildah.podman = "";
  tools = probe();
  EXPECT_EQ(tools.at("podman").problem, "it is switched off");
  EXPECT_EQ(tools.at("podman").hint, "set `podman` in [buildah] to its path");
  EXPECT_EQ(tools.at("podman").program, "");
}

TEST_F(BackendsTest, SaysHowToGetWhatIsNotThere) {
  program("buildkitd"); // and no buildctl
  says_ = {{"buildkitd", "buildkitd v0.34.2"}};

  const auto tools = probe();

  EXPECT_EQ(tools.at("buildkit").problem, "there is no buildctl");
  EXPECT_NE(tools.at("buildkit").hint.find("packaging/tools/build buildkit"), std::string::npos);
  EXPECT_NE(tools.at("kaniko").hint.find("packaging/tools/build kaniko"), std::string::npos);
  EXPECT_EQ(tools.at("buildah").hint, "`apt-get install buildah`, or set its path in [buildah]");
  EXPECT_TRUE(runner_.seen.empty()) << "what is not there is not started";
}

TEST_F(BackendsTest, ToolThatFailsOrIsSilentIsNotUsed) {
  program("buildkitd");
  program("buildctl");
  program("buildah");
  runner_.answer = [](const process::Command& command) {
    if (command.argv[0].ends_with("buildah")) return process::Output{process::Exited{0}, "?", ""};
    return process::Output{process::Exited{127}, "v0.34.2", ""};
  };

  const auto tools = probe();

  EXPECT_EQ(tools.at("buildkit").problem, "it does not tell its version: exit code 127");
  EXPECT_EQ(tools.at("buildah").problem, "it does not tell its version");
}

TEST_F(BackendsTest, ExitCodeSaysWhetherOneBuilds) {
  EXPECT_EQ(print_backends({{"buildkit", "/b", "v1.2", true, "", ""}}, false, out_), 0);
  EXPECT_EQ(out_.str(), "buildkit  v1.2        builds here  /b\n");
  std::ostringstream json;
  EXPECT_EQ(print_backends({{"buildkit", "", "", false, "there is no x", "get it"}}, true, json),
            1);
  EXPECT_EQ(nlohmann::json::parse(json.str())[0]["problem"], "there is no x");
}

TEST(VersionIn, FindsTheFirst) {
  EXPECT_EQ(version_in("a 12 b1.2 v1.2.3+x"), "v1.2.3");
  EXPECT_EQ(version_in("5.8"), "5.8");
  EXPECT_EQ(version_in("1. .2 v none"), "");
}

class PolicyTestTest : public CommandTest {
protected:
  PolicyTestTest() {
    config::Registry registry;
    registry.host = "reg:5000";
    registry.credential = "operator";
    config_.registries.push_back(registry);
    config_.gitlab.allowed_images = {"debian:*"};
    config_.buildkit.allowed_bases = {"debian:*"};
    EXPECT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nprotected = true\n"
                                     "ban_backends = [\"kaniko\"]\n[[rule]]\nproject = \"lab/*\"\n"
                                     "push = false\n",
                                     "/etc/slipway/policy.d/10-grp.toml", config_));
  }
  int run(const std::string& text) {
    return policy_test(write("expect.toml", text), config_, out_, err_);
  }
};

TEST_F(PolicyTestTest, HoldsEachKindOfExpectation) {
  EXPECT_EQ(run(R"(
[[expect]]
project = "grp/app"
image = "debian:12"
result = "allow"
[[expect]]
project = "grp/app"
base = "evil/base:1"
result = "deny"
[[expect]]
project = "grp/app"
ref_protected = true
push = "reg:5000/grp/app:1"
result = "allow"
rule = "10-grp.toml:1"
[[expect]]
project = "lab/app"
push = "reg:5000/lab/app:1"
result = "deny"
rule = "10-grp.toml:5"
[[expect]]
project = "grp/app"
ref_protected = true
backend = "kaniko"
result = "deny"
[[expect]]
project = "grp/app"
backend = "kaniko"
result = "allow"
rule = ""
[[expect]]
project = "other/app"
service = "postgres:16"
result = "allow"
)"),
            0)
      << out_.str() << err_.str();
  EXPECT_EQ(out_.str(), "7 hold, 0 do not\n");
}

TEST_F(PolicyTestTest, ConnectionsAreAsTheNetworkOfTheRuleHasThem) {
  ASSERT_TRUE(config::parse_policy(
      "[[rule]]\nproject = \"none/*\"\negress = \"none\"\n[[rule]]\nproject = \"learn/*\"\n"
      "egress = \"allowlist\"\negress_learn = true\n",
      "/etc/slipway/policy.d/20.toml", config_));
  EXPECT_EQ(run(R"(
[[expect]]
project = "grp/app"
connect = "reg:443"
result = "deny"
[[expect]]
project = "grp/app"
connect = "pypi.example:443"
result = "allow"
[[expect]]
project = "none/app"
connect = "pypi.example:443"
result = "deny"
[[expect]]
project = "learn/app"
connect = "pypi.example:22"
result = "allow"
[[expect]]
project = "learn/app"
connect = "reg:5000"
result = "deny"
)"),
            0)
      << out_.str() << err_.str();
  EXPECT_EQ(out_.str(), "5 hold, 0 do not\n");
}

TEST_F(PolicyTestTest, ExpectsAsTheRefThatIsNamed) {
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"tags/*\"\nref = \"refs/tags/v*\"\n",
                                   "/etc/slipway/policy.d/20.toml", config_));
  EXPECT_EQ(run(R"(
[[expect]]
project = "tags/app"
ref = "refs/tags/v1"
rule = "20.toml:1"
[[expect]]
project = "tags/app"
ref = "v1"
rule = ""
[[expect]]
project = "tags/app"
rule = ""
)"),
            0)
      << out_.str() << err_.str();
}

TEST_F(PolicyTestTest, NamesFileAndLineOfWhatDoesNotHold) {
  EXPECT_EQ(run("[[expect]]\nproject = \"grp/app\"\nimage = \"alpine:3\"\nresult = \"allow\"\n"
                "[[expect]]\nproject = \"lab/app\"\nbackend = \"buildkit\"\nresult = \"deny\"\n"
                "[[expect]]\nproject = \"lab/app\"\nrule = \"99-else.toml:1\"\n"),
            1);
  const auto said = out_.str();
  EXPECT_NE(said.find("expect.toml:1: image 'alpine:3' is denied, expected allow: this runner"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("expect.toml:5: backend 'buildkit' is allowed for 'lab/app', expected deny"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("expect.toml:9: the rule /etc/slipway/policy.d/10-grp.toml:5 matches, "
                      "expected the rule 99-else.toml:1"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("0 hold, 3 do not"), std::string::npos);
}

struct BadFile {
  const char* text;
  const char* words;
};

TEST_F(PolicyTestTest, BadFilesAreTwoWithTheirLine) {
  for (const auto& [text, words] : std::vector<BadFile>{
           {"", "holds no [[expect]]"},
           {"[[expect]]\nprojekt = \"a\"\n", ":2:1: unknown key 'projekt' in [[expect]]"},
           {"[[expect]]\nimage = \"a\"\nresult = \"allow\"\n", "needs the key 'project'"},
           {"[[expect]]\nproject = \"a\"\nimage = \"a\"\n", "needs the key 'result'"},
           {"[[expect]]\nproject = \"a\"\nref = \"v*\"\nrule = \"\"\n",
            ":3:7: 'ref' in [[expect]] must be a branch"},
           {"[[expect]]\nproject = \"a\"\n", "needs the key 'rule, or what is asked for'"},
           {"[[expect]]\nproject = \"a\"\nimage = \"a\"\nbase = \"b\"\nresult = \"deny\"\n",
            "an [[expect]] of its own"},
           {"[[expect]]\nproject = \"a\"\nimage = \"a\"\nresult = \"maybe\"\n", "one of"},
           {"[[expect]]\nproject = \"a\"\nimage = \"UPPER\"\nresult = \"deny\"\n", "expect.toml:1"},
           {"[[expect]]\nproject = \"a\"\nbackend = \"img\"\nresult = \"deny\"\n",
            "there is no backend 'img'"},
           {"[[expect]]\nproject = \"a\"\nconnect = \"pypi.example\"\nresult = \"deny\"\n",
            "expect.toml:1"},
           {"[[expect]]\nproject = \"a\"\nconnect = \"127.1:80\"\nresult = \"deny\"\n",
            "expect.toml:1"},
           {"[[expect]]\nproject = \"a\"\ncache_domain = \"b\"\nresult = \"deny\"\n",
            "left out with cache_domain"},
           {"[[rule]]\n", "unknown section 'rule'"}}) {
    err_.str("");
    EXPECT_EQ(run(text), 2) << text;
    EXPECT_NE(err_.str().find(words), std::string::npos) << words << " is not in " << err_.str();
  }
  EXPECT_EQ(policy_test(dir_.path() / "nosuch", config_, out_, err_), 2);
}

} // namespace
} // namespace slipway::cli
