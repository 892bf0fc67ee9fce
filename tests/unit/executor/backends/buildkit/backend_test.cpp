// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/backend.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace slipway::backends::buildkit {
namespace {

/// A build sandbox that answers from a map of files. What it "built" is in `files` under the path
/// that the command line asked for; it is hostile where a test says so.
struct FakeSandbox {
  std::map<std::string, std::string> files{{"/builds/app/Dockerfile", "FROM scratch\n"}};
  std::string config =
      R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}})";
  std::string layer = "layer bytes";
  std::string declared_layer = oci::Digest::of("layer bytes").str();
  std::string metadata; ///< "" = the honest one
  std::string says = "#1 DONE\n";
  int exit_code = 0;
  bool lies_about_manifest = false;
  std::vector<std::vector<std::string>> ran;
  std::map<std::string, std::string> lent; ///< file → bytes, gone where it was removed
  std::map<std::string, std::string> lent_at_build;
  std::string written_dockerfile;

  std::string manifest() const {
    return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
           oci::Digest::of(config).str() + R"(","size":)" + std::to_string(config.size()) +
           R"(},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":")" +
           declared_layer + R"(","size":)" + std::to_string(layer.size()) + "}]}";
  }

  Result<sandbox::ScriptResult> run(const engine_api::ScriptRequest& request,
                                    const sandbox::ScriptIo& io) {
    ran.push_back(request.argv);
    sandbox::ScriptResult result;
    result.ending.exit_code = 0;
    const std::string& program = request.argv[0];
    if (program == "/usr/bin/realpath") {
      io.out(request.argv.back() + std::string(1, '\0'));
    } else if (program == "/bin/sh" && request.argv.back().starts_with("/run/slipway-secrets/")) {
      lent[request.argv.back()] = std::string{io.input};
    } else if (program == "/bin/rm") {
      std::erase_if(lent, [&](const auto& file) {
        return std::any_of(request.argv.begin(), request.argv.end(),
                           [&](const auto& word) { return file.first.starts_with(word + "/"); });
      });
    } else if (program == "/bin/sh") {
      written_dockerfile = std::string{io.input};
    } else if (program == "/tools/bin/buildctl") {
      io.err(says);
      lent_at_build = lent;
      result.ending.exit_code = exit_code;
      std::string dir;
      for (const auto& word : request.argv)
        if (word.ends_with("/metadata.json")) dir = word.substr(0, word.size() - 14);
      const std::string blobs = dir + "/layout/blobs/sha256/";
      const auto digest = oci::Digest::of(manifest());
      files[dir + "/metadata.json"] =
          metadata.empty() ? R"({"containerimage.digest":")" + digest.str() + R"("})" : metadata;
      files[blobs + digest.hex()] = lies_about_manifest ? manifest() + " " : manifest();
      files[blobs + oci::Digest::of(config).hex()] = config;
      files[blobs + declared_layer.substr(7)] = layer;
    } else if (program == "/usr/bin/cat") {
      for (std::size_t i = 2; i < request.argv.size(); ++i) {
        const auto found = files.find(request.argv[i]);
        if (found == files.end()) {
          io.err("cat: No such file or directory\n");
          result.ending.exit_code = 1;
        } else {
          io.out(found->second);
        }
      }
    }
    return result;
  }
};

class BuildkitBackendTest : public testing::Test {
protected:
  BuildkitBackendTest() {
    char name[] = "/tmp/slipway-backend-XXXXXX";
    dir_ = ::mkdtemp(name);
    layout_ = std::make_unique<oci::Layout>(*oci::Layout::create(dir_ / "layout"));
    job_.context_dir = "/builds/app";
    job_.context_key = "context-7";
    job_.dockerfile_dir = "/builds/app";
    job_.dockerfile_name = "Dockerfile";
  }
  ~BuildkitBackendTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  Result<Built> build() {
    BuildkitBackend backend{
        [this](const auto& request, const auto& io) { return sandbox_.run(request, io); },
        "0.34.2"};
    return backend.build(job_, *layout_);
  }

  FakeSandbox sandbox_;
  BuildJob job_;
  std::filesystem::path dir_;
  std::unique_ptr<oci::Layout> layout_;
};

TEST_F(BuildkitBackendTest, TakesOverEveryBlob) {
  const auto built = build();

  ASSERT_TRUE(built.ok()) << built.error().text();
  EXPECT_EQ(built->manifest, oci::Digest::of(sandbox_.manifest()));
  EXPECT_TRUE(layout_->has_blob(oci::Digest::of("layer bytes")));
  EXPECT_TRUE(layout_->has_blob(oci::Digest::of(sandbox_.config)));
  EXPECT_EQ(sandbox_.ran.back()[0], "/bin/rm");
}

TEST_F(BuildkitBackendTest, LendsSecretsForTheTimeOfTheBuildAlone) {
  std::vector<std::pair<std::string, Secret>> secrets;
  secrets.emplace_back("npm", Secret{"the value"});
  std::vector<std::pair<std::string, Secret>> keys;
  keys.emplace_back("default", Secret{"the key"});
  job_.secrets = secrets;
  job_.ssh_keys = keys;

  for (const int exit_code : {0, 1}) { // also where the build fails
    sandbox_.exit_code = exit_code;
    EXPECT_EQ(build().ok(), exit_code == 0);

    ASSERT_EQ(sandbox_.lent_at_build.size(), 2U);
    EXPECT_EQ(sandbox_.lent_at_build.begin()->second, "the key");
    EXPECT_EQ(sandbox_.lent_at_build.rbegin()->second, "the value");
    EXPECT_TRUE(sandbox_.lent.empty());
  }
  for (const auto& argv : sandbox_.ran)
    for (const auto& word : argv)
      EXPECT_TRUE(word.find("the value") == std::string::npos &&
                  word.find("the key") == std::string::npos)
          << word;
}

TEST_F(BuildkitBackendTest, RefusesANamedFolderOutsideTheWorkspace) {
  job_.named_folders = {{"lib", "/etc"}};

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().text().find("outside /builds"), std::string::npos)
      << built.error().text();
}

TEST_F(BuildkitBackendTest, TakesOnlyBlobsThatAreMissing) {
  ASSERT_TRUE(layout_->write_blob("layer bytes").ok());
  ASSERT_TRUE(layout_->write_blob(sandbox_.config).ok());

  ASSERT_TRUE(build().ok());

  // Named as one that is there already, so that the builder does not send it, and not read.
  const auto layer = oci::Digest::of("layer bytes").hex();
  for (const auto& argv : sandbox_.ran)
    for (const auto& word : argv)
      EXPECT_EQ(word.ends_with(layer), argv[0] == "/bin/sh" && word == layer);
}

TEST_F(BuildkitBackendTest, BuildsTheTextThatWasJudged) {
  job_.dockerfile_text = "FROM scratch\nLABEL a=b\n";

  ASSERT_TRUE(build().ok());

  EXPECT_EQ(sandbox_.written_dockerfile, "FROM scratch\nLABEL a=b\n");
}

TEST_F(BuildkitBackendTest, RefusesALayerWithOtherBytes) {
  sandbox_.declared_layer = oci::Digest::of("something else").str();

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_NE(built.error().what.find("has other bytes"), std::string::npos) << built.error().what;
  EXPECT_FALSE(layout_->has_blob(oci::Digest::of("something else")));
  EXPECT_FALSE(layout_->has_blob(oci::Digest::of(sandbox_.manifest())));
}

TEST_F(BuildkitBackendTest, RefusesAManifestWithOtherBytes) {
  sandbox_.lies_about_manifest = true;

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
}

TEST_F(BuildkitBackendTest, RefusesManifestsThatAreTooLargeTogether) {
  std::string children;
  for (const char* one : {"a", "b", "c"}) {
    auto manifest = sandbox_.manifest();
    manifest.insert(manifest.size() - 1,
                    R"(,"annotations":{"x":")" + (one + std::string(3UL << 20, 'x')) + "\"}");
    const auto digest = oci::Digest::of(manifest);
    children += std::string{children.empty() ? "" : ","} +
                R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
                digest.str() + R"(","size":)" + std::to_string(manifest.size()) + "}";
    ASSERT_TRUE(layout_->write_blob(manifest).ok());
  }
  const auto root = layout_->write_blob(
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" +
      children + "]}");
  sandbox_.metadata = R"({"containerimage.digest":")" + root->str() + R"("})";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_NE(built.error().text().find("manifests have more than"), std::string::npos)
      << built.error().text();
}

TEST_F(BuildkitBackendTest, RefusesMetadataWithoutAnImage) {
  for (const char* bad : {"[]", "{", R"({"containerimage.digest":7})",
                          R"({"containerimage.digest":"sha256:../../x"})"}) {
    sandbox_.metadata = bad;
    EXPECT_FALSE(build().ok()) << bad;
  }
}

TEST_F(BuildkitBackendTest, RefusesMetadataWithoutEnd) {
  sandbox_.metadata = std::string(kMaxMetadataBytes + 1, ' ');

  EXPECT_FALSE(build().ok());
}

TEST_F(BuildkitBackendTest, ExplainsAStepThatFailed) {
  sandbox_.exit_code = 1;
  sandbox_.says = "Dockerfile:3\nerror: failed to solve: process \"x\" did not complete "
                  "successfully: exit code: 9\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what.substr(0, 41), "Dockerfile:3: a step ended with exit code");
  EXPECT_EQ(sandbox_.ran.back()[0], "/bin/rm");
}

TEST_F(BuildkitBackendTest, RefusesAContextOutsideTheWorkspace) {
  job_.context_dir = "/etc";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().what.find("outside /builds"), std::string::npos);
}

TEST_F(BuildkitBackendTest, GivesBuildctlNoVariableOfTheJob) {
  std::vector<std::pair<std::string, std::string>> env;
  BuildkitBackend backend{
      [&](const engine_api::ScriptRequest& request, const sandbox::ScriptIo& io) {
        if (request.argv[0] == "/tools/bin/buildctl") env = request.env;
        return sandbox_.run(request, io);
      },
      "0.34.2"};

  ASSERT_TRUE(backend.build(job_, *layout_).ok());

  for (const auto& [name, value] : env)
    EXPECT_TRUE(name == "HOME" || name == "PATH" || name == "LC_ALL") << name;
}

} // namespace
} // namespace slipway::backends::buildkit
