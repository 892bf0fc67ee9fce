// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"
#include "executor/gate/scan_owner.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace slipway::gate {
namespace {

std::string pid_that_is_gone() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = 0;
  (void)::waitpid(child, &status, 0);
  return std::to_string(child);
}

// Podman's own clean-up is off, so nobody else would end a scan whose slipway was killed.
TEST(Scanners, OfAProcessThatIsGoneAreRemovedAndNoOthers) {
  auto api = std::make_shared<fakes::FakePodmanApi>();
  const auto scan = [&](const std::string& name, const std::string& pid, const std::string& owner) {
    api->containers[name] = {
        {{"labels",
          {{"io.slipway.role", "scanner"}, {"io.slipway.owner", owner}, {"io.slipway.pid", pid}}}},
        true,
        "id-of-" + name};
  };
  const auto gone = pid_that_is_gone();
  scan("orphan", gone, "me");
  scan("alive", std::to_string(::getpid()), "me");
  scan("anothers", gone, "you");
  fakes::FakeProcessRunner runner;
  sandbox::Podman podman{sandbox::Engine{}, runner, api};

  ASSERT_TRUE(SandboxedTrivy::remove_orphans(podman, "me").ok());

  EXPECT_EQ(api->removed, std::vector<std::string>{"orphan"});
}

TEST(ScanOwner, IsGoneAlsoWhereNobodyWaitedForItYet) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);

  EXPECT_TRUE(is_process_gone(std::to_string(child))) << "a zombie";
  (void)::waitpid(child, nullptr, 0);
  EXPECT_TRUE(is_process_gone(std::to_string(child)));
  EXPECT_FALSE(is_process_gone(std::to_string(::getpid())));
  for (const auto* no_number : {"", "self", "1/../1", "-1"})
    EXPECT_FALSE(is_process_gone(no_number)) << no_number;
}

TEST(ScanOwner, StandsInTheNameOfTheScratchFolder) {
  EXPECT_EQ(scratch_owner(scratch_name_begin() + "aB3xYz"), std::to_string(::getpid()));
  for (const auto* other : {"scan-aB3xYz", "scan-12", "scan-1x-aaaaaa", "verdicts", ""})
    EXPECT_EQ(scratch_owner(other), "") << other;
}

// SLIPWAY_ACCEPT=1 writes the file anew. What differs between two scans and two machines is named
// in capitals.
template <typename Sandboxed> void expect_asked_for_as_in(const std::string& golden) {
  auto api = std::make_shared<fakes::FakePodmanApi>();
  nlohmann::json body;
  api->instead = [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (request.target.starts_with("/containers/create"))
      body = nlohmann::json::parse(request.body);
    return std::nullopt;
  };
  fakes::FakeProcessRunner runner;
  runner.answer = [](const process::Command&) {
    return process::Output{process::Exited{0}, "{}", ""};
  };
  const fakes::TempDir dir;
  sandbox::Engine engine;
  engine.runtime_dir = dir.path();
  sandbox::Podman podman{engine, runner, api};
  ScannerConfig config;
  config.trivy = config.grype = "/bin/true"; // it has to be a program; it is not started
  config.init = "/usr/lib/slipway/slipway-init";
  config.db_dir = "/var/lib/slipway/trivy/db";
  config.grype_db_dir = "/var/lib/slipway/grype-db";
  const auto manifest = oci::Digest::of("manifest");

  auto report = Sandboxed{config, podman, {65537, 65536, 1, false}, "me"}.scan(
      "/var/lib/slipway/jobs/j1/layout", manifest);

  ASSERT_TRUE(report.ok()) << report.error().text();
  ASSERT_TRUE(body.is_object());
  body["name"] = "slipway-scan-PID-N-" + manifest.hex().substr(0, 12);
  body["labels"]["io.slipway.pid"] = "PID";
  body["image"] = "IMAGE";
  for (auto& mount : body["mounts"])
    if (mount["destination"] == "/run/slipway/handover") mount["source"] = "HANDOVER";
  const auto text = body.dump(2) + "\n";
  const std::string file = std::string{SLIPWAY_TESTDATA} + "/" + golden;
  if (std::getenv("SLIPWAY_ACCEPT") != nullptr)
    std::ofstream(file) << text; // NOLINT(concurrency-mt-unsafe): one thread
  std::stringstream expected;
  expected << std::ifstream(file).rdbuf();
  EXPECT_EQ(text, expected.str());
}

TEST(Scanners, AreAskedForAsInTheGoldenFile) {
  expect_asked_for_as_in<SandboxedTrivy>("create-scanner.json");
}

TEST(Scanners, TheSecondIsAskedForAsInTheGoldenFile) {
  expect_asked_for_as_in<SandboxedGrype>("create-second-scanner.json");
}

TEST(Scanners, OneThatWasKilledNamesTheKeyOfItsLimit) {
  auto api = std::make_shared<fakes::FakePodmanApi>();
  fakes::FakeProcessRunner runner;
  const fakes::TempDir dir;
  sandbox::Engine engine;
  engine.runtime_dir = dir.path();
  sandbox::Podman podman{engine, runner, api};
  ScannerConfig config;
  config.trivy = "/bin/true";
  config.init = "/usr/lib/slipway/slipway-init";
  config.db_dir = "/var/lib/slipway/trivy/db";
  config.limits.memory_bytes = 2ULL << 30;
  const auto hint_after = [&](process::Ending ending) {
    runner.answer = [&](const process::Command&) { return process::Output{ending, "", ""}; };
    auto report = SandboxedTrivy{config, podman, {}, "me"}.scan("/layout", oci::Digest::of("m"));
    EXPECT_FALSE(report.ok());
    return report.ok() ? "" : report.error().hint;
  };

  EXPECT_NE(hint_after(process::Exited{137}).find("2048 MiB"), std::string::npos);
  EXPECT_NE(hint_after(process::Exited{137}).find("raise memory in [sandbox]"), std::string::npos);
  EXPECT_EQ(hint_after(process::Exited{1}), "");
  config.limits.memory_bytes = 0;
  EXPECT_EQ(hint_after(process::Exited{137}), "");
}

} // namespace
} // namespace slipway::gate
