// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/pool.hpp"
#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// A pool over a Podman that keeps its things in memory; its sandboxes' init asks for its socket.
class KanikoPoolTest : public testing::Test {
protected:
  KanikoPoolTest() {
    char name[] = "/tmp/slipway-pool-XXXXXX";
    dir_ = ::mkdtemp(name);
    config_.state_dir = dir_ / "kaniko";
    config_.executor = "/opt/kaniko/executor";
    config_.init = "/opt/slipway/bin/slipway-init";
    config_.owner = "me";
    sandbox::Engine engine;
    engine.runtime_dir = dir_;
    api_ = std::make_shared<fakes::FakePodmanApi>();
    api_->pid = ::getpid();
    api_->on_start = [this](const std::string& container) { be_init_of(container); };
    podman_ = std::make_unique<sandbox::Podman>(engine, runner_, api_);
  }
  ~KanikoPoolTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }

  void be_init_of(const std::string& container) {
    for (const auto& mount : api_->containers.at(container).body.at("mounts")) {
      if (mount.at("destination") != "/run/slipway/handover") continue;
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      const auto path = mount.at("source").get<std::string>() + "/s";
      std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
      UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
      ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                0);
      inits_.push_back(std::move(fd));
    }
  }
  WorkshopPool pool() { return WorkshopPool{config_, *podman_, clock_}; }
  Result<std::unique_ptr<Workshop>> open(const std::string& key, const FillInputs& fill = nullptr) {
    return pool().open(key, {dir_, {{"io.slipway.job", "j7"}}, {}}, [&](const fs::path& folder) {
      inputs_.push_back(folder);
      return fill ? fill(folder) : Status{};
    });
  }

  fs::path dir_;
  PoolConfig config_;
  FixedClock clock_{WallTime{std::chrono::seconds{1'800'000'000}}};
  fakes::FakeProcessRunner runner_;
  std::shared_ptr<fakes::FakePodmanApi> api_;
  std::unique_ptr<sandbox::Podman> podman_;
  std::vector<UniqueFd> inits_;
  std::vector<fs::path> inputs_;
};

TEST_F(KanikoPoolTest, OfAClosedNetworkTheJobsProxyIsTheWayOut) {
  Opening opening{dir_, {{"io.slipway.job", "j7"}}};
  opening.closed = true;
  const auto none = builder_spec(config_, "id", "abc", "/inputs", opening);
  opening.proxies = "/run/user/1/slipway/j7/egress";
  const auto spec = builder_spec(config_, "id", "abc", "/inputs", opening);

  EXPECT_EQ(none.network, "slipway-kaniko-id-closed");
  EXPECT_TRUE(none.env.empty());
  EXPECT_EQ(spec.network, "slipway-kaniko-id-closed");
  EXPECT_EQ(spec.env.front().first, "SLIPWAY_EGRESS");
  for (const auto& mount : spec.volumes) {
    EXPECT_TRUE(mount.read_only) << mount.target;
    EXPECT_TRUE(mount.target.starts_with("/.slipway/")) << mount.target;
  }
}

TEST_F(KanikoPoolTest, SandboxIsOfPodmansDefaultKindAndHasNothingToWriteButItsRoot) {
  const auto spec = builder_spec(config_, "id", "abc", "/inputs",
                                 {dir_, {{"io.slipway.job", "j7"}}, {7, 9, 1, false}});

  EXPECT_FALSE(spec.user) << "Podman would write files that Kaniko cannot read";
  EXPECT_EQ(spec.name, "slipway-kaniko-id-abc");
  EXPECT_EQ(spec.network, "slipway-kaniko-id");
  EXPECT_EQ(spec.ids.first, 7U); // the job's
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j7");
  EXPECT_EQ(spec.labels.at("io.slipway.owner"), "me");
  EXPECT_FALSE(spec.privileged());
  EXPECT_TRUE(spec.devices().empty());
  EXPECT_TRUE(spec.env.empty());
  for (const auto& mount : spec.volumes)
    EXPECT_TRUE(mount.read_only) << mount.target;
  for (const auto& token : spec.host_mounts()) {
    EXPECT_TRUE(token.mount.read_only);
    EXPECT_EQ(token.mount.source, "/etc/ssl/certs");
  }
  // Kaniko unpacks the image over its root: nothing of slipway's stands outside of one folder.
  for (const auto& mount : spec.volumes)
    EXPECT_TRUE(mount.target.starts_with("/.slipway/")) << mount.target;
}

TEST_F(KanikoPoolTest, ABuildsSandboxAndFilesGoWithIt) {
  {
    auto workshop = open("k");
    ASSERT_TRUE(workshop.ok()) << workshop.error().text();
    EXPECT_EQ(api_->containers.size(), 1U);
    EXPECT_TRUE(fs::exists(inputs_.at(0)));
    EXPECT_TRUE(pool().reap().ok());
    EXPECT_EQ(api_->containers.size(), 1U) << "it is in use";
  }

  EXPECT_TRUE(api_->containers.empty());
  EXPECT_FALSE(fs::exists(inputs_.at(0)));
  EXPECT_EQ(api_->networks.size(), 1U) << "the next build uses it again";
}

TEST_F(KanikoPoolTest, BuildsOfOneKeyRunSideBySideAndOthersHaveAnotherNetwork) {
  auto first = open("k");
  auto second = open("k");
  auto other = open("other");

  EXPECT_TRUE(first.ok() && second.ok() && other.ok());
  EXPECT_EQ(api_->containers.size(), 3U);
  EXPECT_EQ(api_->networks.size(), 2U);
}

TEST_F(KanikoPoolTest, StartsNothingWhereTheInputsCannotBeWritten) {
  const auto workshop = open("k", [](const fs::path&) -> Status {
    return Error{ErrorKind::io, "the disk is full", "", {}};
  });

  ASSERT_FALSE(workshop.ok());
  EXPECT_TRUE(api_->containers.empty());
  EXPECT_FALSE(fs::exists(inputs_.at(0)));
}

TEST_F(KanikoPoolTest, ReapsWhatAKilledBuildLeftAndIdleNetworks) {
  { ASSERT_TRUE(open("k").ok()); }
  fs::create_directory(inputs_.at(0)); // as if it had been killed
  const auto kept = pool().reap();
  ASSERT_TRUE(kept.ok());
  EXPECT_TRUE(kept->empty());
  EXPECT_FALSE(fs::exists(inputs_.at(0)));
  EXPECT_EQ(api_->networks.size(), 1U);
  config_.max_idle = -1s;

  const auto removed = pool().reap();

  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed->size(), 1U);
  EXPECT_TRUE(api_->networks.empty());
}

TEST_F(KanikoPoolTest, AsksTheProgramForItsVersion) {
  runner_.answer = [](const process::Command& command) {
    return process::Output{process::Exited{command.argv.at(0) == "/k/executor" ? 0 : 1},
                           "Kaniko version :  v1.24.0\n", ""};
  };

  EXPECT_EQ(probe(runner_, "/k/executor")->version, "v1.24.0");
  EXPECT_FALSE(probe(runner_, "/other").ok());
}

} // namespace
} // namespace slipway::backends::kaniko
