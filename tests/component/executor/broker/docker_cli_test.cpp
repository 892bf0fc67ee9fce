// SPDX-License-Identifier: Apache-2.0
// Debian's docker CLI against the broker's socket, with an ImageService that keeps real images.
#include "executor/broker/server.hpp"
#include "tests/fakes/fake_image_service.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace slipway::broker {
namespace {

namespace fs = std::filesystem;
constexpr const char* kDocker = "/usr/bin/docker";

struct Ran {
  int code;
  std::string out;
  std::string err;
};

class DockerCli : public testing::Test {
protected:
  void SetUp() override {
    if (!fs::exists(kDocker)) {
      if (::getenv("SLIPWAY_TESTS_MUST_RUN") != nullptr) FAIL() << kDocker << " is not installed";
      GTEST_SKIP() << kDocker << " is not installed (Debian package docker.io)";
    }
    std::string name = (fs::temp_directory_path() / "slipway-broker-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    fs::create_directories(dir / "context/sub");
    write(dir / "context/Dockerfile", "FROM scratch\nCOPY . /\n");
    write(dir / "context/sub/file", std::string(300000, 'x'));
    images = std::make_unique<tests::FakeImageService>(dir / "layout");
    auto started = Server::start(dir / "docker.sock", *images, ServerLimits{});
    ASSERT_TRUE(started) << started.error().text();
    server = *std::move(started);
  }
  void TearDown() override {
    server.reset();
    if (!dir.empty()) fs::remove_all(dir);
  }

  static void write(const fs::path& file, const std::string& text) { std::ofstream{file} << text; }
  static std::string slurp(const fs::path& file) {
    std::ifstream in{file};
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  Ran docker(const std::string& arguments) {
    const std::string command = "cd '" + (dir / "context").string() + "' && HOME='" + dir.string() +
                                "' DOCKER_BUILDKIT=0 DOCKER_HOST='unix://" +
                                (dir / "docker.sock").string() + "' timeout 30 " + kDocker + " " +
                                arguments + " >'" + (dir / "out").string() + "' 2>'" +
                                (dir / "err").string() + "' </dev/null";
    const int status = ::system(command.c_str()); // NOLINT(cert-env33-c): a test's own words
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 255, slurp(dir / "out"), slurp(dir / "err")};
  }

  fs::path dir;
  std::unique_ptr<tests::FakeImageService> images;
  std::unique_ptr<Server> server;
};

TEST_F(DockerCli, SaysVersionAndInfo) {
  const auto version = docker("version");
  EXPECT_EQ(version.code, 0) << version.err;
  EXPECT_NE(version.out.find("Server: slipway"), std::string::npos) << version.out;

  const auto info = docker("info");
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_NE(info.out.find("Storage Driver: slipway"), std::string::npos) << info.out;
  EXPECT_EQ(docker("ps").code, 0);
}

TEST_F(DockerCli, BuildsTagsAndPushes) {
  const auto built = docker("build -t reg.test:5000/grp/app:1 --build-arg A=b --label l=v .");
  ASSERT_EQ(built.code, 0) << built.err << built.out;
  EXPECT_NE(built.out.find("Step 1/1"), std::string::npos);
  EXPECT_NE(built.out.find("Successfully tagged reg.test:5000/grp/app:1"), std::string::npos)
      << built.out;
  ASSERT_EQ(images->builds.size(), 1U);
  EXPECT_EQ(images->builds[0].build_args,
            (std::vector<std::pair<std::string, std::string>>{{"A", "b"}}));
  EXPECT_GT(images->context_bytes, 300000U);

  EXPECT_EQ(docker("tag reg.test:5000/grp/app:1 reg.test:5000/grp/app:2").code, 0);
  const auto pushed = docker("push reg.test:5000/grp/app:1");
  EXPECT_EQ(pushed.code, 0) << pushed.err;
  EXPECT_NE(pushed.out.find("1: digest: sha256:"), std::string::npos) << pushed.out;
  const auto all = docker("push -a reg.test:5000/grp/app");
  EXPECT_EQ(all.code, 0) << all.err;
  EXPECT_EQ(images->pushed,
            (std::vector<std::string>{"reg.test:5000/grp/app:1", "reg.test:5000/grp/app:1",
                                      "reg.test:5000/grp/app:2"}));
}

TEST_F(DockerCli, QuietBuildPrintsOnlyTheId) {
  const auto built = docker("build -q .");

  EXPECT_EQ(built.code, 0) << built.err;
  EXPECT_EQ(built.out.size(), 7U + 64U + 1U) << built.out;
  EXPECT_EQ(built.out.substr(0, 7), "sha256:");
}

TEST_F(DockerCli, FailedBuildShowsWhyAndFails) {
  images->build_error =
      Error{ErrorKind::backend_failed, "RUN false: exit code 1", "look above", {}};

  const auto built = docker("build .");

  EXPECT_NE(built.code, 0);
  EXPECT_NE(built.err.find("RUN false: exit code 1: look above"), std::string::npos) << built.err;
}

TEST_F(DockerCli, RefusedPushShowsTheVerdict) {
  ASSERT_EQ(docker("build -t reg.test/app .").code, 0);
  images->push_error = Error{ErrorKind::gate_rejected,
                             "CVE-2026-0001 in libx 1.0\nfixed in 1.1",
                             "update the base image",
                             {}};

  const auto pushed = docker("push reg.test/app");

  EXPECT_NE(pushed.code, 0);
  EXPECT_NE(pushed.err.find("CVE-2026-0001 in libx 1.0\nfixed in 1.1\nupdate the base image"),
            std::string::npos)
      << pushed.err;
}

TEST_F(DockerCli, ListsInspectsAndRemoves) {
  ASSERT_EQ(docker("build -t app:1 --label team=x .").code, 0);
  EXPECT_NE(docker("images").out.find("app"), std::string::npos);
  EXPECT_EQ(docker("images -q other").out, "");
  EXPECT_EQ(docker("images -q app").out.size(), 13U);
  EXPECT_EQ(docker("images -q --filter label=team=x").out.size(), 13U);
  EXPECT_EQ(docker("inspect -f '{{index .Config.Labels \"team\"}}' app:1").out, "x\n");
  EXPECT_EQ(docker("inspect -f '{{.Config.Cmd}}' app:1").out, "[/bin/app]\n");
  EXPECT_EQ(docker("image inspect -f '{{.Os}}/{{.Architecture}}' app:1").out, "linux/amd64\n");
  EXPECT_NE(docker("history app:1").out.find("COPY"), std::string::npos);
  const auto absent = docker("inspect absent:1");
  EXPECT_EQ(absent.code, 1);
  EXPECT_NE(absent.err.find("No such object: absent:1"), std::string::npos) << absent.err;

  const auto removed = docker("rmi app:1");

  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_NE(removed.out.find("Untagged: app:1\nDeleted: sha256:"), std::string::npos)
      << removed.out;
  EXPECT_EQ(docker("rmi app:1").code, 1);
}

TEST_F(DockerCli, SavesAndLoads) {
  ASSERT_EQ(docker("build -t app:1 .").code, 0);
  const auto id = docker("images -q --no-trunc app:1").out;
  const auto saved = docker("save -o ../app.tar app:1");
  ASSERT_EQ(saved.code, 0) << saved.err;
  ASSERT_EQ(docker("rmi -f app:1").code, 0);

  const auto loaded = docker("load -i ../app.tar");

  EXPECT_EQ(loaded.code, 0) << loaded.err;
  EXPECT_EQ(loaded.out, "Loaded image: app:1\n");
  EXPECT_EQ(docker("images -q --no-trunc app:1").out, id);
  EXPECT_NE(docker("save -o ../no.tar absent").code, 0);
}

TEST_F(DockerCli, Pulls) {
  const auto pulled = docker("pull alpine:3");
  EXPECT_EQ(pulled.code, 0) << pulled.err;
  EXPECT_NE(pulled.out.find("Digest: sha256:"), std::string::npos) << pulled.out;

  const auto absent = docker("pull absent:3");

  EXPECT_NE(absent.code, 0);
  EXPECT_NE(absent.err.find("manifest unknown"), std::string::npos) << absent.err;
}

TEST_F(DockerCli, LogsIn) {
  const auto login = docker("login -u user -p pass reg.test:5000");

  EXPECT_EQ(login.code, 0) << login.err;
  EXPECT_NE(login.out.find("Login Succeeded"), std::string::npos);
}

TEST_F(DockerCli, ContainersAreRefusedWithWhatToUse) {
  const auto ran = docker("run alpine true");

  EXPECT_NE(ran.code, 0);
  EXPECT_NE(ran.err.find(
                "slipway does not run containers in this job: run the command in the job's script"),
            std::string::npos)
      << ran.err;
}

} // namespace
} // namespace slipway::broker
