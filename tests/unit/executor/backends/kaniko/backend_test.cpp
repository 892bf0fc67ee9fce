// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/backend.hpp"
#include "executor/base/file.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// A build sandbox and a workshop that answer from a map of files. What Kaniko "built" is in
/// `files`; it is hostile where a test says so.
struct FakePlace {
  std::map<std::string, std::string> files{{"/builds/app/Dockerfile", "FROM base:1\nRUN x\n"}};
  std::string own_layer = "layer bytes";
  std::string declared_layer = oci::Digest::of("layer bytes").str();
  std::string says;
  int exit_code = 0;
  int tar_exit_code = 0;
  std::vector<std::vector<std::string>> builder_ran;
  engine_api::ScriptRequest executor;
  std::string context;
  std::map<std::string, std::string> inputs; ///< as they were when the sandbox started
  bool gone = false;

  void export_image(const std::string& base_diff) {
    const std::string config =
        R"({"architecture":"amd64","os":"linux","config":{"Shell":["/bin/bash","-c"]},"rootfs":{"type":"layers","diff_ids":[")" +
        base_diff + R"(",")" + oci::Digest::of("expanded").str() + R"("]}})";
    const auto layer = [](const std::string& digest, std::size_t size) {
      return R"({"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":")" +
             digest + R"(","size":)" + std::to_string(size) + "}";
    };
    const std::string manifest =
        R"({"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":")" +
        oci::Digest::of(config).str() + R"(","size":)" + std::to_string(config.size()) +
        R"(},"layers":[)" + layer(oci::Digest::of("forged").str(), 6) + "," +
        layer(declared_layer, own_layer.size()) + "]}";
    const std::string blobs = "/.slipway/layout/blobs/sha256/";
    files["/.slipway/layout/index.json"] =
        R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":")" +
        oci::Digest::of(manifest).str() + R"(","size":)" + std::to_string(manifest.size()) + "}]}";
    files[blobs + oci::Digest::of(manifest).hex()] = manifest;
    files[blobs + oci::Digest::of(config).hex()] = config;
    files[blobs + declared_layer.substr(7)] = own_layer;
  }

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
    if (program == "/bin/sh") io.out("secret\n"); // the ignore file
    if (program == "/usr/bin/cat") {
      const auto found = files.find(request.argv.back());
      if (found == files.end())
        result.ending.exit_code = 1;
      else
        io.out(found->second);
    }
    return result;
  }

  Result<sandbox::ScriptResult> builder(const engine_api::ScriptRequest& request,
                                        const sandbox::ScriptIo& io) {
    builder_ran.push_back(request.argv);
    sandbox::ScriptResult result;
    result.ending.exit_code = 0;
    if (request.argv[0] == "/.slipway/executor") {
      executor = request;
      char bytes[64];
      for (ssize_t got = 0; (got = ::read(io.input_fd, bytes, sizeof bytes)) > 0;)
        context.append(bytes, static_cast<std::size_t>(got));
      io.err(says);
      result.ending.exit_code = exit_code;
    } else if (request.argv[0] == "/.slipway/init" && request.argv.at(1) == "print") {
      for (std::size_t at = 2; at < request.argv.size(); ++at) {
        const auto found = files.find(request.argv[at]);
        if (found == files.end())
          result.ending.exit_code = 1;
        else
          io.out(found->second);
      }
    }
    return result;
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

class KanikoBackendTest : public testing::Test {
protected:
  KanikoBackendTest() {
    char name[] = "/tmp/slipway-kaniko-XXXXXX";
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
    const std::string manifest =
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
        blob(config, "application/vnd.oci.image.config.v1+json") + R"(,"layers":[)" +
        blob("base layer", "application/vnd.oci.image.layer.v1.tar+gzip") + "]}";
    base_ = bases.write_blob(manifest)->str();
    place_.export_image(diff);
    base_diff_ = diff;
    job_.context_dir = "/builds/app";
    job_.context_key = "context-7";
    job_.dockerfile_dir = "/builds/app";
    job_.dockerfile_name = "Dockerfile";
    job_.bases = {{"base:1", *oci::Digest::parse(base_)}};
    job_.progress = [this](std::string_view text) { said_ += text; };
    job_.deadline = 60s;
  }
  ~KanikoBackendTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  Result<Built> build() {
    KanikoBackend backend{
        {"v1.24.0"},
        [this](const auto& request, const auto& io) { return place_.client(request, io); },
        [this](const FillInputs& fill) -> Result<std::unique_ptr<Workshop>> {
          const fs::path inputs = dir_ / "inputs";
          fs::create_directory(inputs);
          if (Status filled = fill(inputs); !filled) return std::move(filled).error();
          for (const auto& entry : fs::recursive_directory_iterator{inputs})
            if (entry.is_regular_file())
              place_.inputs[fs::relative(entry.path(), inputs).string()] =
                  *read_file(entry.path(), 1UL << 20);
          return std::unique_ptr<Workshop>{std::make_unique<FakeWorkshop>(place_)};
        },
        dir_ / "bases"};
    return backend.build(job_, *layout_);
  }

  FakePlace place_;
  BuildJob job_;
  std::string base_;
  std::string base_diff_;
  std::string said_;
  fs::path dir_;
  std::unique_ptr<oci::Layout> layout_;
};

TEST_F(KanikoBackendTest, TakesOverTheImage) {
  const auto built = build();

  ASSERT_TRUE(built.ok()) << built.error().text();
  const auto tree = oci::read_tree(*layout_, built->manifest);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_EQ(tree->images.at(0).config->shell, (std::vector<std::string>{"/bin/bash", "-c"}));
  // What it stands on is slipway's own, whatever the export says.
  EXPECT_EQ(tree->images.at(0).manifest.layers.at(0).digest, oci::Digest::of("base layer"));
  EXPECT_TRUE(layout_->has_blob(oci::Digest::of("layer bytes")));
  EXPECT_EQ(place_.context, "the context");
  EXPECT_TRUE(place_.gone);
}

TEST_F(KanikoBackendTest, GivesTheSandboxTheTextTheIgnoreFileAndTheBase) {
  job_.dockerfile_text = "FROM base:1\nLABEL a=b\n";

  ASSERT_TRUE(build().ok());

  EXPECT_EQ(place_.inputs.at("Dockerfile"), "FROM slipway.invalid/base@" + base_ + "\nLABEL a=b\n");
  EXPECT_EQ(place_.inputs.at("Dockerfile.dockerignore"), "secret\n");
  const auto& archive = place_.inputs.at("bases/" + base_);
  EXPECT_EQ(archive.size() % 512, 0U);
  EXPECT_EQ(archive.substr(0, 14), std::string("manifest.json\0", 14));
  EXPECT_EQ(archive.substr(257, 5), "ustar");
  EXPECT_NE(archive.find("base layer"), std::string::npos);
  EXPECT_NE(archive.find(R"("Layers":[")" + oci::Digest::of("base layer").hex() + "\"]"),
            std::string::npos);
}

TEST_F(KanikoBackendTest, GivesKanikoNoVariableOfTheJob) {
  ASSERT_TRUE(build().ok());

  for (const auto& [name, value] : place_.executor.env)
    EXPECT_TRUE(name == "HOME" || name == "PATH" || name == "LC_ALL" || name == "TMPDIR" ||
                name == "KANIKO_DIR" || name == "SSL_CERT_DIR")
        << name;
}

TEST_F(KanikoBackendTest, RefusesALayerWithOtherBytes) {
  place_.declared_layer = oci::Digest::of("something else").str();
  place_.export_image(base_diff_);

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_FALSE(layout_->has_blob(oci::Digest::of("something else")));
}

TEST_F(KanikoBackendTest, RefusesAnExportThatIsNotThere) {
  place_.files.erase("/.slipway/layout/index.json");

  EXPECT_FALSE(build().ok());
}

TEST_F(KanikoBackendTest, ExplainsAStepThatFailed) {
  place_.exit_code = 9;
  place_.says = R"({"level":"info","msg":"RUN x","time":"2026-11-28T07:44:47Z"})"
                "\nerror building image: waiting for process to exit: exit status 9\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what, "Dockerfile:2: a step ended with exit code 9: RUN x");
  EXPECT_NE(said_.find("STEP 1: RUN x\n"), std::string::npos) << said_;
}

TEST_F(KanikoBackendTest, TakesNoImageOfAContextThatCouldNotBeReadWhole) {
  place_.tar_exit_code = 2;

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
}

TEST_F(KanikoBackendTest, RefusesAContextOutsideTheWorkspace) {
  job_.context_dir = "/etc";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().what.find("outside /builds"), std::string::npos);
  EXPECT_TRUE(place_.builder_ran.empty());
}

} // namespace
} // namespace slipway::backends::kaniko
