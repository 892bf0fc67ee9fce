// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <memory>
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

} // namespace
} // namespace slipway::gate
