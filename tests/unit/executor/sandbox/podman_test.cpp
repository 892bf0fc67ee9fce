// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/sandbox/toolbox.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <future>
#include <set>
#include <thread>

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
  fakes::FakeProcessRunner runner;
  std::shared_ptr<fakes::FakePodmanApi> api = std::make_shared<fakes::FakePodmanApi>();
  Podman podman{engine(), runner, api};
};

std::set<std::string> names_in(const std::filesystem::path& dir) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{dir})
    names.insert(entry.path().filename());
  return names;
}

SandboxSpec spec() {
  SandboxSpec spec;
  spec.name = "slipway-j1-job";
  spec.image = "sha256:0123";
  return spec;
}

TEST_F(PodmanCalls, OfTheProgramHaveAFixedEnvironmentAndNoPipes) {
  PullRequest request;
  request.reference = "r.example/app:1";
  (void)podman.pull(request);

  ASSERT_EQ(runner.seen.size(), 1U);
  std::vector<std::string> names;
  for (const auto& [name, value] : runner.seen[0].env)
    names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"HOME", "XDG_RUNTIME_DIR", "PATH", "LC_ALL"}));
  EXPECT_EQ(runner.seen[0].fds.size(), 3U); // files as 1 and 2, and the login
  EXPECT_FALSE(runner.seen[0].no_new_privileges);
}

TEST_F(PodmanCalls, RemoveManyAndForgetThoseThatAreNotThere) {
  api->containers["a"] = {};
  api->containers["c"] = {};

  EXPECT_TRUE(podman.remove({"a", "b", "c"}).ok());

  EXPECT_TRUE(api->containers.empty());
}

TEST_F(PodmanCalls, RemoveNothingWithoutACall) {
  EXPECT_TRUE(podman.remove({}).ok());
  EXPECT_TRUE(podman.remove_networks({}).ok());
  EXPECT_TRUE(podman.remove_volumes({}).ok());
  EXPECT_TRUE(api->asked.empty());
}

TEST_F(PodmanCalls, AbsentThingsAreRemovedAlready) {
  EXPECT_TRUE(podman.remove_networks({"n"}).ok());
  EXPECT_TRUE(podman.remove_volumes({"v"}).ok());
}

TEST_F(PodmanCalls, OneRealFailureAmongAbsencesIsAnError) {
  api->instead = [](const ApiRequest& request) -> std::optional<ApiAnswer> {
    if (request.target.find("/w") == std::string::npos) return std::nullopt;
    return fakes::FakePodmanApi::trouble(409, "volume w is being used");
  };

  auto removed = podman.remove_volumes({"v", "w"});

  ASSERT_FALSE(removed.ok());
  EXPECT_EQ(removed.error().kind, ErrorKind::unavailable);
  EXPECT_NE(removed.error().what.find("volume w is being used"), std::string::npos);
}

TEST_F(PodmanCalls, AMissingFileIsNotAnAbsentSandbox) {
  api->instead = [](const ApiRequest&) {
    return fakes::FakePodmanApi::trouble(500, "unmounting a: no such file or directory");
  };

  EXPECT_FALSE(podman.remove({"a"}).ok());
}

TEST_F(PodmanCalls, StartMakesStartsAndAsks) {
  api->pid = 77;

  auto facts = podman.start(spec());

  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(api->asked.size(), 3U);
  EXPECT_TRUE(facts->running);
  EXPECT_EQ(facts->host_pid, 77);
  EXPECT_EQ(facts->address, "10.89.0.2");
}

TEST_F(PodmanCalls, AnAttachedOneIsLookedAtUntilItRunsAndNotLonger) {
  api->pid = 0x7ffffff0; // nothing of it can be read
  int inspected = 0;
  api->instead = [&](const ApiRequest& request) -> std::optional<ApiAnswer> {
    if (request.method == "GET" && ++inspected == 2) // the control: the first look is too early
      api->containers.begin()->second.running = true;
    return std::nullopt;
  };
  std::promise<void> told;
  runner.answer = [&](const Command&) {
    EXPECT_EQ(told.get_future().wait_for(std::chrono::seconds{30}), std::future_status::ready);
    return Output{Exited{0}, "report", ""};
  };
  int times = 0;
  int looks = 0;
  bool has_limits = true;

  const auto output =
      podman.run_attached(spec(), std::chrono::seconds{60}, 1000, [&](const ContainerFacts& facts) {
        ++times;
        looks = inspected; // the removal looks too
        has_limits = facts.limits.has_value();
        told.set_value();
      });

  ASSERT_TRUE(output.ok()) << output.error().text();
  EXPECT_EQ(output->out, "report");
  EXPECT_EQ(looks, 2);
  EXPECT_EQ(times, 1);
  EXPECT_FALSE(has_limits);
}

TEST_F(PodmanCalls, AFailedStartRemovesWhatItMade) {
  api->instead = [](const ApiRequest& request) -> std::optional<ApiAnswer> {
    if (!request.target.ends_with("/start")) return std::nullopt;
    return fakes::FakePodmanApi::trouble(
        500, "crun: executable file `/nope` not found: OCI runtime attempted to invoke a command "
             "that was not found");
  };

  auto facts = podman.start(spec());

  ASSERT_FALSE(facts.ok());
  EXPECT_EQ(facts.error().kind, ErrorKind::bad_input);
  EXPECT_TRUE(api->containers.empty());
}

TEST_F(PodmanCalls, ATakenNameIsNotRemoved) {
  api->containers["slipway-j1-job"] = {};

  EXPECT_FALSE(podman.start(spec()).ok());
  EXPECT_TRUE(api->containers.contains("slipway-j1-job"));
}

TEST_F(PodmanCalls, AnImageThatIsNotThereIsNotFound) {
  api->any_image = false;

  EXPECT_EQ(podman.image("r.example/app:1").error().kind, ErrorKind::not_found);
}

TEST_F(PodmanCalls, ASandboxWhoseFirstProcessAsksForNothingIsNotKept) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  auto silent = spec();
  silent.script_listener = ends[0];
  api->pid = ::getpid();
  std::thread somebody_else;
  api->on_start = [&](const std::string& name) {
    // This process, but not the one that the engine names.
    const auto source =
        api->containers[name].body["mounts"].back()["source"].get<std::string>() + "/s";
    somebody_else = std::thread{[source] {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      source.copy(address.sun_path, sizeof address.sun_path - 1);
      const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM, 0)};
      (void)!::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
      char byte = 0;
      (void)!::read(fd.get(), &byte, 1);
    }};
    api->pid = 1;
  };

  auto facts = podman.start(silent);

  somebody_else.join();
  ASSERT_FALSE(facts.ok());
  EXPECT_NE(facts.error().what.find("asked for the socket"), std::string::npos)
      << facts.error().what;
  EXPECT_TRUE(api->containers.empty());
  ::close(ends[0]);
  ::close(ends[1]);
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

TEST_F(PodmanCalls, APasswordIsInNoFileThatAKilledProcessWouldLeave) {
  PullRequest request;
  request.reference = "r.example/app:1";
  request.username = "u";
  request.password = Secret{std::string_view{"swordfish"}};
  const auto before = names_in(testing::TempDir());
  std::string login;
  runner.answer = [&](const Command& command) {
    for (const auto& argument : command.argv)
      EXPECT_EQ(argument.find("swordfish"), std::string::npos);
    EXPECT_NE(std::find(command.argv.begin(), command.argv.end(), "--authfile=/proc/self/fd/3"),
              command.argv.end());
    for (const auto& [ours, theirs] : command.fds)
      if (theirs == 3) login = *read_file("/proc/self/fd/" + std::to_string(ours), 4096);
    EXPECT_EQ(names_in(testing::TempDir()), before);
    return Output{Exited{125}, "", "Error: unauthorized\n"};
  };

  auto pulled = podman.pull(request);

  EXPECT_EQ(pulled.error().kind, ErrorKind::not_found);
  EXPECT_NE(pulled.error().hint.find("credentials"), std::string::npos);
  EXPECT_EQ(login, R"({"auths":{"r.example":{"auth":"dTpzd29yZGZpc2g="}}})");
}

TEST_F(PodmanCalls, NeverPullMeansTheStoreOnly) {
  api->any_image = false;
  PullRequest request;
  request.reference = "r.example/app:1";
  request.policy = "never";

  EXPECT_EQ(podman.pull(request).error().kind, ErrorKind::not_found);
  EXPECT_TRUE(runner.seen.empty());
}

TEST_F(PodmanCalls, OfANetworkThatIsA24AddressesCanBeGiven) {
  const std::map<std::string, std::string> labels;
  for (const auto& [subnet, prefix] :
       {std::pair{"10.89.4.0/24", "10.89.4."}, std::pair{"10.89.4.0/28", ""}}) {
    api->networks["n"] = {
        {"name", "n"}, {"options", {{"isolate", "true"}}}, {"subnets", {{{"subnet", subnet}}}}};
    const auto network = podman.create_network("n", labels);
    ASSERT_TRUE(network.ok()) << network.error().text();
    EXPECT_EQ(network->prefix, prefix);
  }
}

TEST_F(PodmanCalls, AnotherNetworkOfTheNameIsNotTakenOver) {
  api->networks["n"] = {
      {"name", "n"}, {"options", nlohmann::json::object()}, {"labels", {{"io.slipway.job", "j1"}}}};

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
