// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/backend.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::dockerd {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// A build sandbox and a workshop: what was asked of them, and files. What the daemon "built" is
/// hostile where a test says so.
struct FakePlace {
  std::string config;
  std::string own_layer = "layer bytes";
  std::string packed = oci::Digest::of("layer bytes").hex() + " 11\n";
  std::string saved = R"([{"Config":"c.json","Layers":["0/layer.tar","1/layer.tar"]}])";
  std::string image_id;
  std::string says = "Step 1/2 : FROM base:1\nStep 2/2 : RUN x\n ---> Running in 1\n";
  int exit_code = 0;
  int tar_exit_code = 0;
  bool daemon_comes_up = true;
  std::string placed = "/build/context/Dockerfile";
  std::atomic<bool> daemon_spoke = false;
  std::mutex asking;
  std::vector<std::vector<std::string>> ran;
  std::map<std::string, std::string> inputs; ///< by script
  engine_api::ScriptRequest build;
  bool daemon_ended = false;
  bool gone = false;

  Result<sandbox::ScriptResult> client(const engine_api::ScriptRequest& request,
                                       const sandbox::ScriptIo& io) {
    sandbox::ScriptResult result;
    result.ending.exit_code = 0;
    const std::string& program = request.argv[0];
    if (program == "/usr/bin/realpath") io.out(request.argv.back() + std::string(1, '\0'));
    if (program == "/usr/bin/tar") {
      io.out("the context");
      result.ending.exit_code = tar_exit_code;
    }
    return result;
  }

  Result<sandbox::ScriptResult> builder(const engine_api::ScriptRequest& request,
                                        const sandbox::ScriptIo& io) {
    sandbox::ScriptResult result;
    result.ending.exit_code = 0;
    const auto is = [&](const char* words) {
      return request.argv.size() > 2 && request.argv[2].find(words) != std::string::npos;
    };
    if (is("exec dockerd")) {
      io.err("failed to start daemon: no overlay\n");
      daemon_spoke = true;
      pollfd waiting{io.stop_fd, POLLIN, 0};
      (void)::poll(&waiting, 1, 60000);
      daemon_ended = true;
      return result;
    }
    while (is("docker version") && !daemon_spoke)
      ::usleep(1000);
    const std::lock_guard guard{asking};
    ran.push_back(request.argv);
    if (is("daemon.json")) inputs["settings"] = io.input;
    if (is("realpath -m")) {
      inputs["Dockerfile"] = io.input;
      io.out(placed);
    }
    if (is("docker version") && !daemon_comes_up) result.ending.exit_code = 1;
    if (request.argv[0] == "/usr/bin/docker") {
      build = request;
      io.out(says);
      result.ending.exit_code = exit_code;
    }
    if (is("docker save")) io.out(saved);
    if (is("gzip -n")) io.out(packed);
    if (request.argv[0] == "/usr/bin/cat") {
      const std::string& file = request.argv.back();
      if (file == "/build/image-id") io.out(image_id);
      if (file.starts_with("/build/export/")) io.out(config);
      if (file.starts_with("/build/layers/")) io.out(own_layer);
    }
    if (request.argv[0] == "/usr/bin/tar") {
      char bytes[64];
      for (ssize_t got = 0; (got = ::read(io.input_fd, bytes, sizeof bytes)) > 0;)
        inputs["context"].append(bytes, static_cast<std::size_t>(got));
    }
    return result;
  }
  const std::vector<std::string>* script(const std::string& words) const {
    for (const auto& argv : ran)
      if (argv.size() > 2 && argv[2].find(words) != std::string::npos) return &argv;
    return nullptr;
  }
};

class FakeWorkshop final : public Workshop {
public:
  explicit FakeWorkshop(FakePlace& place)
      : place_{place}, run_{[&place](const auto& request, const auto& io) {
          return place.builder(request, io);
        }} {}
  ~FakeWorkshop() override { place_.gone = true; }
  const sandbox::ScriptRunner& run() const override { return run_; }

private:
  FakePlace& place_;
  sandbox::ScriptRunner run_;
};

class DockerdBackendTest : public testing::Test {
protected:
  DockerdBackendTest() {
    char name[] = "/tmp/slipway-dockerd-XXXXXX";
    dir_ = ::mkdtemp(name);
    layout_ = std::make_unique<oci::Layout>(*oci::Layout::create(dir_ / "layout"));
    auto bases = *oci::Layout::create(dir_ / "bases");
    const std::string diff = oci::Digest::of("base, expanded").str();
    const std::string config =
        R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
        diff + R"("]}})";
    const auto blob = [&](const std::string& bytes, const char* type) {
      return oci::to_json(
          oci::Descriptor{type, *bases.write_blob(bytes), bytes.size(), {}, {}, "", false});
    };
    base_config_ = oci::Digest::of(config).hex();
    base_ = *bases.write_blob(
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
        blob(config, "application/vnd.oci.image.config.v1+json") + R"(,"layers":[)" +
        blob("base layer", "application/vnd.oci.image.layer.v1.tar+gzip") + "]}");
    place_.config =
        R"({"architecture":"amd64","os":"linux","container":"0123","config":{"Shell":["/bin/bash","-c"]},"rootfs":{"type":"layers","diff_ids":[")" +
        diff + R"(",")" + oci::Digest::of("expanded").str() + R"("]}})";
    place_.image_id = oci::Digest::of(place_.config).str();
    job_.context_dir = "/builds/app";
    job_.context_key = "context-7";
    job_.dockerfile_dir = "/builds/app";
    job_.dockerfile_name = "Dockerfile";
    job_.dockerfile_text = "FROM base:1\nRUN x\n";
    job_.bases = {{"base:1", base_}};
    job_.progress = [this](std::string_view text) { said_ += text; };
    job_.deadline = 60s;
  }
  ~DockerdBackendTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  Result<Built> build() {
    DockerdBackend backend{
        {"20.10.24"},
        [this](const auto& request, const auto& io) { return place_.client(request, io); },
        [this](bool network) -> Result<std::unique_ptr<Workshop>> {
          network_ = network;
          return std::unique_ptr<Workshop>{std::make_unique<FakeWorkshop>(place_)};
        },
        dir_ / "bases"};
    return backend.build(job_, *layout_);
  }

  FakePlace place_;
  BuildJob job_;
  oci::Digest base_ = oci::Digest::of("");
  std::string base_config_;
  std::string said_;
  bool network_ = false;
  fs::path dir_;
  std::unique_ptr<oci::Layout> layout_;
};

TEST_F(DockerdBackendTest, TakesOverTheImage) {
  const auto built = build();

  ASSERT_TRUE(built.ok()) << built.error().text();
  const auto tree = oci::read_tree(*layout_, built->manifest);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_EQ(tree->images.at(0).config->shell, (std::vector<std::string>{"/bin/bash", "-c"}));
  // What it stands on is slipway's own, whatever was saved.
  EXPECT_EQ(tree->images.at(0).manifest.layers.at(0).digest, oci::Digest::of("base layer"));
  EXPECT_EQ(tree->images.at(0).manifest.layers.at(1).digest, oci::Digest::of("layer bytes"));
  EXPECT_TRUE(layout_->has_blob(oci::Digest::of("layer bytes")));
  EXPECT_EQ(place_.inputs.at("context"), "the context");
  EXPECT_TRUE(place_.gone);
  EXPECT_TRUE(place_.daemon_ended);
  EXPECT_TRUE(network_);
  EXPECT_NE(said_.find("Step 2/2 : RUN x\n"), std::string::npos) << said_;
}

TEST_F(DockerdBackendTest, GivesTheDaemonTheTextTheSettingsAndTheBase) {
  ASSERT_TRUE(build().ok());

  EXPECT_EQ(place_.inputs.at("Dockerfile"), "FROM base:1\nRUN x\n");
  EXPECT_EQ(nlohmann::json::parse(place_.inputs.at("settings"))["bridge"], "none");
  const auto* load = place_.script("docker load");
  ASSERT_NE(load, nullptr);
  std::vector<std::string> blobs{base_config_, oci::Digest::of("base layer").hex()};
  std::sort(blobs.begin(), blobs.end());
  EXPECT_EQ((std::vector<std::string>{load->begin() + 4, load->end()}),
            (std::vector<std::string>{"/build", "/bases", blobs[0], blobs[1]}));
  // Only the layer that is not a base's is packed.
  const auto* pack = place_.script("gzip -n");
  ASSERT_NE(pack, nullptr);
  EXPECT_EQ((std::vector<std::string>{pack->begin() + 4, pack->end()}),
            (std::vector<std::string>{"/build/export", "/build/layers", "1/layer.tar"}));
}

TEST_F(DockerdBackendTest, ATextIsBuiltBesideTheContextAndAFileWhereItIs) {
  ASSERT_TRUE(build().ok());
  const auto* place = place_.script("realpath -m");
  ASSERT_NE(place, nullptr);
  EXPECT_EQ(place->at(5), "Dockerfile");

  place_.ran.clear();
  job_.dockerfile_dir.clear();
  ASSERT_TRUE(build().ok());
  place = place_.script("realpath -m");
  ASSERT_NE(place, nullptr);
  EXPECT_EQ(place->at(5), "");
}

// The script as the builder's shell would run it, with another `docker`.
std::string run_with_docker(const std::string& script, const std::string& docker,
                            const std::vector<std::string>& arguments) {
  fakes::TempDir dir;
  const auto fake = dir.path() / "docker";
  std::ofstream{fake} << "#!/bin/sh\n" << docker << "\n";
  fs::permissions(fake, fs::perms::owner_all);
  std::ofstream{dir.path() / "script"} << script;
  std::string line = "PATH=" + dir.path().string() + ":/usr/bin:/bin /bin/sh -e " +
                     (dir.path() / "script").string();
  for (const auto& argument : arguments)
    line += " " + argument;
  line += " 2>&1; echo $?";
  std::string said;
  FILE* pipe = ::popen(line.c_str(), "r");
  char bytes[256];
  while (pipe != nullptr && std::fgets(bytes, sizeof bytes, pipe) != nullptr)
    said += bytes;
  if (pipe != nullptr) ::pclose(pipe);
  return said;
}

TEST_F(DockerdBackendTest, AnArchiveThatEndsTooSoonIsToldWhateverDockerSays) {
  ASSERT_TRUE(build().ok());
  const auto load = place_.script("docker load")->at(2);
  const auto save = place_.script("docker save")->at(2);
  fakes::TempDir dir;
  const auto at = [&](const char* name) { return (dir.path() / name).string(); };
  fs::create_directories(at("work/bases"));
  fs::create_directories(at("layout/blobs/sha256"));
  fs::create_directories(at("export"));
  std::ofstream{at("work/bases/manifest.json")} << "[]";
  std::ofstream{at("layout/blobs/sha256/there")} << "1";
  std::ofstream{at("manifest.json")} << "[]";
  ASSERT_EQ(
      std::system(
          ("tar -C " + dir.path().string() + " -cf " + at("saved.tar") + " manifest.json").c_str()),
      0);

  const auto torn = run_with_docker(load, "cat >/dev/null", {at("work"), at("layout"), "gone"});
  EXPECT_NE(torn.find("the archive of base images could not be written\n1\n"), std::string::npos)
      << torn;
  EXPECT_EQ(run_with_docker(load, "cat >/dev/null", {at("work"), at("layout"), "there"}), "0\n");

  const std::vector<std::string> saving{at("export"), "sha256:1", at("work/torn")};
  const auto half = run_with_docker(save, "cat " + at("saved.tar") + "; exit 1", saving);
  EXPECT_NE(half.find("docker save failed\n1\n"), std::string::npos) << half;
  EXPECT_EQ(run_with_docker(save, "cat " + at("saved.tar"), saving), "[]0\n");
}

TEST_F(DockerdBackendTest, GivesTheBuilderNoVariableOfTheJob) {
  ASSERT_TRUE(build().ok());

  for (const auto& [name, value] : place_.build.env) {
    EXPECT_TRUE(name == "HOME" || name == "PATH" || name == "LC_ALL" || name == "DOCKER_HOST" ||
                name == "DOCKER_BUILDKIT")
        << name;
    if (name == "DOCKER_HOST") {
      EXPECT_EQ(value, "unix:///build/docker.sock");
    }
  }
}

TEST_F(DockerdBackendTest, LendsStepsTheProxyAsArgumentsUnlessTheFileDeclaresThem) {
  job_.proxy = "http://127.0.0.1:3128";
  job_.dockerfile_text = "FROM base:1\nARG HTTP_PROXY\nRUN x\n";

  ASSERT_TRUE(build().ok());

  const auto& argv = place_.build.argv;
  const auto has = [&](const char* word) {
    return std::find(argv.begin(), argv.end(), word) != argv.end();
  };
  EXPECT_TRUE(has("--build-arg=https_proxy=http://127.0.0.1:3128"));
  EXPECT_FALSE(has("--build-arg=HTTP_PROXY=http://127.0.0.1:3128"));
}

TEST_F(DockerdBackendTest, RefusesALayerWithOtherBytes) {
  place_.own_layer = "other bytes";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_FALSE(layout_->has_blob(oci::Digest::of("layer bytes")));
}

TEST_F(DockerdBackendTest, BelievesNothingOfWhatWasSaved) {
  for (const char* packed : {"", "x 1\n", "\n", "0123 -1\n"}) {
    place_.packed = packed;
    EXPECT_EQ(build().error().kind, ErrorKind::bad_input) << packed;
  }
  place_.packed = oci::Digest::of("layer bytes").hex() + " 11\n";
  for (const char* saved : {"", "[]", R"([{"Config":"c.json","Layers":["0/layer.tar"]}])"}) {
    place_.saved = saved;
    EXPECT_EQ(build().error().kind, ErrorKind::bad_input) << saved;
  }
  place_.saved = R"([{"Config":"c.json","Layers":["0/layer.tar","1/layer.tar"]}])";
  place_.image_id = oci::Digest::of("another").str();
  EXPECT_EQ(build().error().kind, ErrorKind::bad_input);
}

TEST_F(DockerdBackendTest, ExplainsAStepThatFailed) {
  place_.exit_code = 9;
  place_.says += "The command '/bin/sh -c x' returned a non-zero code: 9\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what, "Dockerfile:2: a step ended with exit code 9: RUN x");
}

TEST_F(DockerdBackendTest, ADaemonThatDoesNotComeUpIsNotTheJobsFaultAndIsQuoted) {
  place_.daemon_comes_up = false;

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::unavailable);
  EXPECT_NE(built.error().what.find("no overlay"), std::string::npos) << built.error().what;
  EXPECT_TRUE(place_.daemon_ended);
  EXPECT_TRUE(place_.gone);
}

TEST_F(DockerdBackendTest, RefusesADockerfileThatWouldChangeTheIgnoreFile) {
  place_.placed = "";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_NE(built.error().what.find(".dockerignore"), std::string::npos);
  EXPECT_TRUE(place_.build.argv.empty());
}

TEST_F(DockerdBackendTest, TakesNoImageOfAContextThatCouldNotBeReadWhole) {
  place_.tar_exit_code = 2;

  EXPECT_EQ(build().error().kind, ErrorKind::bad_input);
}

TEST_F(DockerdBackendTest, RefusesAContextOutsideTheWorkspace) {
  job_.context_dir = "/etc";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().what.find("outside /builds"), std::string::npos);
  EXPECT_TRUE(place_.ran.empty());
}

TEST_F(DockerdBackendTest, WithoutANetworkTheSandboxHasNone) {
  job_.network = "none";

  ASSERT_TRUE(build().ok());

  EXPECT_FALSE(network_);
}

} // namespace
} // namespace slipway::backends::dockerd
