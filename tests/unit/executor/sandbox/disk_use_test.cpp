// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/disk_use.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

namespace slipway::sandbox {
namespace {

namespace fs = std::filesystem;

// A storage as Podman leaves it; what is to be done in Podman's user namespace is done outside.
class DiskUseTest : public testing::Test {
protected:
  DiskUseTest() {
    fs::create_directories(storage_ / "overlay-containers");
    fs::create_directories(storage_ / "volumes");
    runner_.answer = [this](const process::Command& command) {
      auto own = command;
      const auto program = std::find(own.argv.begin(), own.argv.end(), "/usr/bin/timeout");
      own.argv.erase(own.argv.begin(), program);
      auto output = process::LocalRunner{}.run(own);
      return output ? *output : process::Output{process::Exited{127}, "", output.error().text()};
    };
  }
  ~DiskUseTest() override { fs::remove_all(home_); }

  void containers(const std::string& text, const char* list = "containers.json") {
    ASSERT_TRUE(replace_file(storage_ / "overlay-containers" / list, text));
  }
  /// A file of so many KiB.
  void wrote(const std::string& file, std::size_t kib) {
    fs::create_directories((storage_ / file).parent_path());
    ASSERT_TRUE(replace_file(storage_ / file, std::string(kib << 10, 'x')));
  }
  Result<DiskUse> use(DiskUseQuery query) {
    query.prefixes.push_back("slipway-j1-");
    return disk_use(podman_, query, std::chrono::seconds{20});
  }
  std::uint64_t kib(const DiskUseQuery& query) {
    const auto counted = use(query);
    EXPECT_TRUE(counted) << counted.error().text();
    return counted ? counted->bytes >> 10 : 0;
  }

  fs::path home_ = fs::path{testing::TempDir()} / ("disk_use." + std::to_string(::getpid()));
  fs::path storage_ = home_ / ".local/share/containers/storage";
  fakes::FakeProcessRunner runner_;
  Podman podman_{[this] {
                   Engine engine;
                   engine.home = home_;
                   engine.runtime_dir = home_;
                   return engine;
                 }(),
                 runner_, std::make_shared<fakes::FakePodmanApi>()};
};

TEST_F(DiskUseTest, IsOfTheLayersAndVolumesOfTheNamesAloneAndOfFolders) {
  containers(R"([{"names": ["slipway-j1-job"], "layer": "aa"},
                 {"names": ["slipway-j11-job"], "layer": "bb"}, {"layer": "cc"}, 7])");
  containers(R"([{"names": ["slipway-j1-svc0"], "layer": "dd"}])", "volatile-containers.json");
  wrote("overlay/aa/diff/etc/file", 1024);
  wrote("overlay/aa/merged/not-asked", 64);
  wrote("overlay/bb/diff/of-another-job", 4096);
  wrote("overlay/dd/diff/file", 2048);
  wrote("volumes/slipway-j1-builds/_data/a/b", 8192);
  wrote("volumes/slipway-builder-1/_data/of-nobody-asked-for", 16384);
  wrote("store/blob", 32768);

  const auto counted = kib({.prefixes = {}, .ids = {}, .folders = {storage_ / "store"}});

  // With its folders, which take a block or none.
  EXPECT_GE(counted, 1024U + 2048 + 8192 + 32768);
  EXPECT_LT(counted, 1024U + 2048 + 8192 + 32768 + 60);
}

TEST_F(DiskUseTest, OfAVolumeWithoutANameIsWhatTheIdsWrote) {
  containers("[]");
  wrote("volumes/" + std::string(64, 'a') + "/_data/file", 1024);
  const auto me = static_cast<std::uint32_t>(::getuid());

  IdSlot own;
  own.first = me;
  own.size = 1;
  IdSlot others;
  others.first = me + 1;
  others.size = 65536;

  EXPECT_GE(kib({.prefixes = {}, .ids = own, .folders = {}}), 1024U);
  EXPECT_EQ(kib({.prefixes = {}, .ids = others, .folders = {}}), 0U);
}

TEST_F(DiskUseTest, DoesNotCountWhatWasThereBefore) {
  containers("[]");
  wrote("volumes/slipway-j1-builds/_data/file", 1024);
  DiskUseQuery query;
  struct stat facts {};
  ASSERT_EQ(::stat((storage_ / "volumes/slipway-j1-builds/_data/file").c_str(), &facts), 0);

  query.since = facts.st_ctim.tv_sec - 1;
  EXPECT_GE(kib(query), 1024U);
  query.since = facts.st_ctim.tv_sec + 1;
  EXPECT_EQ(kib(query), 0U);
}

TEST_F(DiskUseTest, CountsAFileOfManyNamesOnce) {
  containers("[]");
  wrote("volumes/slipway-j1-builds/_data/file", 1024);
  const auto file = storage_ / "volumes/slipway-j1-builds/_data/file";
  for (const char* name : {"a", "b", "c"})
    fs::create_hard_link(file, file.parent_path() / name);

  const auto counted = use({});

  ASSERT_TRUE(counted) << counted.error().text();
  EXPECT_GE(counted->bytes, 1024U << 10);
  EXPECT_LT(counted->bytes, 1100U << 10);
  EXPECT_EQ(counted->files, 2U) << "and the folder";
}

TEST_F(DiskUseTest, IsNotKnownWithoutPodmansListOrWhereCountingFails) {
  EXPECT_EQ(use({}).error().kind, ErrorKind::not_found);
  containers("{");
  EXPECT_EQ(use({}).error().kind, ErrorKind::bad_input);
  containers("[]");
  runner_.answer = [](const process::Command&) {
    return process::Output{process::Exited{124}, "", ""};
  };
  EXPECT_EQ(use({}).error().kind, ErrorKind::timed_out);
}

} // namespace
} // namespace slipway::sandbox
