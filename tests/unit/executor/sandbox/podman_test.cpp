// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/sandbox.hpp"
#include "executor/sandbox/toolbox.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace slipway::sandbox {
namespace {

using process::Command;
using process::Exited;
using process::Output;

class PodmanCalls : public testing::Test {
protected:
  static Engine engine() {
    Engine engine;
    engine.home = "/home/ci";
    engine.runtime_dir = testing::TempDir();
    return engine;
  }
  static bool says(const Command& command, const std::string& argument) {
    return std::find(command.argv.begin(), command.argv.end(), argument) != command.argv.end();
  }
  fakes::FakeProcessRunner runner;
  Podman podman{engine(), runner};
};

SandboxSpec spec() {
  SandboxSpec spec;
  spec.name = "slipway-j1-job";
  spec.image = "sha256:0123";
  return spec;
}

TEST_F(PodmanCalls, HaveAFixedEnvironmentAndNoPipes) {
  (void)podman.remove({"a"});

  ASSERT_EQ(runner.seen.size(), 1U);
  std::vector<std::string> names;
  for (const auto& [name, value] : runner.seen[0].env)
    names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"HOME", "XDG_RUNTIME_DIR", "PATH", "LC_ALL"}));
  EXPECT_EQ(runner.seen[0].fds.size(), 2U); // files as 1 and 2
  EXPECT_FALSE(runner.seen[0].no_new_privileges);
}

TEST_F(PodmanCalls, RemoveManyAtOnce) {
  EXPECT_TRUE(podman.remove({"a", "b", "c"}).ok());

  ASSERT_EQ(runner.seen.size(), 1U);
  const auto& argv = runner.seen[0].argv;
  EXPECT_EQ((std::vector<std::string>{argv.end() - 4, argv.end()}),
            (std::vector<std::string>{"--", "a", "b", "c"}));
  EXPECT_TRUE(says(runner.seen[0], "--ignore"));
}

TEST_F(PodmanCalls, RemoveNothingWithoutACall) {
  EXPECT_TRUE(podman.remove({}).ok());
  EXPECT_TRUE(podman.remove_networks({}).ok());
  EXPECT_TRUE(podman.remove_volumes({}).ok());
  EXPECT_TRUE(runner.seen.empty());
}

TEST_F(PodmanCalls, AbsentThingsAreRemovedAlready) {
  runner.answer = [](const Command& command) {
    return Output{Exited{1}, "",
                  says(command, "network")
                      ? "Error: unable to find network with name or ID n: network not found\n"
                      : "Error: no such volume v\n"};
  };

  EXPECT_TRUE(podman.remove_networks({"n"}).ok());
  EXPECT_TRUE(podman.remove_volumes({"v"}).ok());
}

TEST_F(PodmanCalls, OneRealFailureAmongAbsencesIsAnError) {
  runner.answer = [](const Command&) {
    return Output{Exited{2}, "", "Error: no such volume v\nError: volume w is being used\n"};
  };

  auto removed = podman.remove_volumes({"v", "w"});

  ASSERT_FALSE(removed.ok());
  EXPECT_EQ(removed.error().kind, ErrorKind::unavailable);
  EXPECT_NE(removed.error().what.find("volume w is being used"), std::string::npos);
}

TEST_F(PodmanCalls, AMissingFileIsNotAnAbsentSandbox) {
  runner.answer = [](const Command&) {
    return Output{Exited{125}, "", "Error: unmounting a: no such file or directory\n"};
  };

  EXPECT_FALSE(podman.remove({"a"}).ok());
}

TEST_F(PodmanCalls, StartIsOneRunAndOneInspect) {
  runner.answer = [](const Command& command) {
    if (!says(command, "inspect")) return Output{Exited{0}, "0123\n", ""};
    return Output{
        Exited{0},
        R"([{"Id":"0123","Name":"slipway-j1-job","State":{"Status":"running","Pid":77,"ExitCode":0},
                     "Config":{"Labels":null},"NetworkSettings":{"Networks":{"n":{"IPAddress":"10.89.0.2"}}}}])",
        ""};
  };

  auto facts = podman.start(spec());

  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(runner.seen.size(), 2U);
  EXPECT_TRUE(facts->running);
  EXPECT_EQ(facts->host_pid, 77);
  EXPECT_EQ(facts->address, "10.89.0.2");
}

TEST_F(PodmanCalls, LaunchIsOneRunAndTakesThePidFromPodmansFile) {
  const auto userdata = engine().runtime_dir / "containers/overlay-containers/0123/userdata";
  std::filesystem::create_directories(userdata);
  std::ofstream{userdata / "pidfile"} << ::getpid();
  runner.answer = [](const Command&) { return Output{Exited{0}, "0123\n", ""}; };

  auto facts = podman.launch(spec());

  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(runner.seen.size(), 1U);
  EXPECT_TRUE(facts->running);
  EXPECT_EQ(facts->host_pid, ::getpid());
}

TEST_F(PodmanCalls, LaunchKnowsNoPidWithoutPodmansFile) {
  runner.answer = [](const Command&) { return Output{Exited{0}, "../0123\n", ""}; };

  auto facts = podman.launch(spec());

  ASSERT_TRUE(facts.ok());
  EXPECT_FALSE(facts->running);
  EXPECT_EQ(facts->host_pid, 0);
}

TEST_F(PodmanCalls, AFailedStartRemovesWhatItMade) {
  runner.answer = [](const Command& command) {
    return says(command, "run")
               ? Output{Exited{127}, "", "Error: crun: executable file `/nope` not found\n"}
               : Output{Exited{0}, "", ""};
  };

  auto facts = podman.start(spec());

  ASSERT_FALSE(facts.ok());
  EXPECT_EQ(facts.error().kind, ErrorKind::bad_input);
  ASSERT_EQ(runner.seen.size(), 2U);
  EXPECT_TRUE(says(runner.seen[1], "rm"));
}

TEST_F(PodmanCalls, ATakenNameIsNotRemoved) {
  runner.answer = [](const Command&) {
    return Output{Exited{125}, "", "Error: the container name \"x\" is already in use by 0123\n"};
  };

  EXPECT_FALSE(podman.start(spec()).ok());
  EXPECT_EQ(runner.seen.size(), 1U);
}

TEST_F(PodmanCalls, PreservedDescriptorsComeBeforeTheEnvironmentFile) {
  auto with_fds = spec();
  with_fds.preserve_fds = {0, 0};
  with_fds.env = {{"A", "1"}};

  (void)podman.start(with_fds);

  std::vector<int> targets;
  for (const auto& [ours, theirs] : runner.seen.at(0).fds)
    targets.push_back(theirs);
  EXPECT_EQ(targets, (std::vector<int>{3, 4, 5, 1, 2}));
  EXPECT_TRUE(says(runner.seen[0], "--env-file=/proc/self/fd/5"));
}

TEST_F(PodmanCalls, PullsOnlyFromRegistries) {
  for (const char* reference : {"docker://a/b", "oci-archive:///etc/x", "--all", ""}) {
    PullRequest request;
    request.reference = reference;
    auto pulled = podman.pull(request);
    ASSERT_FALSE(pulled.ok()) << reference;
    EXPECT_EQ(pulled.error().kind, ErrorKind::bad_input) << reference;
  }
  EXPECT_TRUE(runner.seen.empty());

  PullRequest request;
  request.reference = "dir:/etc/shadow";
  (void)podman.pull(request);
  EXPECT_EQ(runner.seen.at(0).argv.back(), "docker://dir:/etc/shadow");
}

TEST_F(PodmanCalls, APasswordIsInAFileThatIsGoneAfterwards) {
  PullRequest request;
  request.reference = "r.example/app:1";
  request.username = "u";
  request.password = Secret{std::string_view{"swordfish"}};
  std::filesystem::path file;
  auto mode = std::filesystem::perms::unknown;
  runner.answer = [&](const Command& command) {
    for (const auto& argument : command.argv) {
      EXPECT_EQ(argument.find("swordfish"), std::string::npos);
      if (argument.starts_with("--authfile=")) file = argument.substr(11);
    }
    mode = std::filesystem::status(file).permissions();
    return Output{Exited{125}, "", "Error: unauthorized\n"};
  };

  auto pulled = podman.pull(request);

  EXPECT_EQ(pulled.error().kind, ErrorKind::not_found);
  EXPECT_NE(pulled.error().hint.find("credentials"), std::string::npos);
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(PodmanCalls, NeverPullMeansTheStoreOnly) {
  runner.answer = [](const Command&) {
    return Output{Exited{125}, "", "Error: inspecting object: r.example/app:1: image not known\n"};
  };
  PullRequest request;
  request.reference = "r.example/app:1";
  request.policy = "never";

  EXPECT_EQ(podman.pull(request).error().kind, ErrorKind::not_found);
  EXPECT_EQ(runner.seen.size(), 1U);
}

TEST_F(PodmanCalls, AnotherNetworkOfTheNameIsNotTakenOver) {
  runner.answer = [](const Command& command) {
    if (says(command, "create")) return Output{Exited{125}, "", "Error: network already exists\n"};
    return Output{Exited{0}, R"([{"name":"n","options":{},"labels":{"io.slipway.job":"j1"}}])", ""};
  };

  EXPECT_FALSE(podman.create_network("n", {{"io.slipway.job", "j1"}}).ok());
  EXPECT_TRUE(podman.create_network("n", {{"io.slipway.job", "j1"}}, false).ok());
  EXPECT_FALSE(podman.create_network("n", {{"io.slipway.job", "j2"}}, false).ok());
}

TEST(Toolbox, IsTheSameEveryTime) {
  EXPECT_EQ(toolbox_version(toolbox_tar()), toolbox_version(toolbox_tar()));
  EXPECT_EQ(toolbox_tar().size() % 512, 0U);
  EXPECT_EQ(toolbox_version("").size(), 12U);
}

} // namespace
} // namespace slipway::sandbox
