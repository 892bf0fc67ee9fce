// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/backend.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::buildah {
namespace {

using namespace std::chrono_literals;

/// A build sandbox and a workshop that answer from a map of files. What the tool "built" is in
/// `files`; it is hostile where a test says so.
struct FakePlace {
  std::map<std::string, std::string> files{{"/builds/app/Dockerfile", "FROM scratch\nRUN x\n"}};
  std::string config =
      R"({"created":"2026-01-02T03:04:05Z","architecture":"amd64","os":"linux","config":{"Shell":["/bin/bash","-c"]},"rootfs":{"type":"layers","diff_ids":[")" +
      oci::Digest::of("expanded").str() + R"("]}})";
  std::string layer = "layer bytes";
  std::string declared_layer = oci::Digest::of("layer bytes").str();
  std::string image_id; ///< "" = the honest one
  std::string says = "STEP 1/2: FROM scratch\n";
  int tool_exit_code = 0;
  int busy_times = 0; ///< so many times no step can be started
  bool lies_about_manifest = false;
  bool cut_short = false;
  bool network = true;
  bool clearing_fails = false;
  std::vector<std::vector<std::string>> client_ran;
  std::vector<std::vector<std::string>> builder_ran;
  std::vector<engine_api::ScriptRequest> tool_requests;
  std::string written_dockerfile;
  std::string written_ignore_file;
  std::string unpacked;
  std::uint64_t finished_bytes = 0;
  bool finished = false;
  bool spoiled = false;
  bool gone = false;

  std::string manifest() const {
    return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
           oci::Digest::of("other config").str() +
           R"(","size":12},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")" +
           declared_layer + R"(","size":)" + std::to_string(layer.size()) + "}]}";
  }

  Result<sandbox::ScriptResult> client(const engine_api::ScriptRequest& request,
                                       const sandbox::ScriptIo& io) {
    client_ran.push_back(request.argv);
    sandbox::ScriptResult result;
    result.ending.exit_code = 0;
    const std::string& program = request.argv[0];
    if (program == "/usr/bin/realpath") io.out(request.argv.back() + std::string(1, '\0'));
    if (program == "/usr/bin/tar") io.out("the context");
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
    const std::string& program = request.argv[0];
    if (program == "/bin/sh") {
      const auto text = request.argv[2];
      if (text.find("rm --all") != std::string::npos)
        result.ending.exit_code = clearing_fails ? 125 : 0;
      else if (text.starts_with("cat >"))
        written_ignore_file = std::string{io.input};
      else if (text.find("/Dockerfile\"") != std::string::npos)
        written_dockerfile = std::string{io.input};
    } else if (program == "/usr/bin/tar") {
      char bytes[64];
      for (ssize_t got = 0; (got = ::read(io.input_fd, bytes, sizeof bytes)) > 0;)
        unpacked.append(bytes, static_cast<std::size_t>(got));
    } else if (program == "/usr/bin/du") {
      io.out("4711\t/var/lib/containers\n");
    } else if (program == "/usr/bin/buildah") {
      tool_requests.push_back(request);
      const auto id = oci::Digest::of(config);
      if (request.argv[1] == "build") {
        if (busy_times-- > 0) {
          io.out("STEP 2/2: RUN x\n");
          io.err("Close_Fd sealing memfd copy: Device or resource busy\n"
                 "Error: building at STEP \"RUN x\": exit status 1\n");
          result.ending.exit_code = 1;
          return result;
        }
        io.out(says);
        result.ending.exit_code = tool_exit_code;
        files["/build/image-id"] = image_id.empty() ? id.str() : image_id;
        files[Places{}.config_blob(id)] = config;
      } else if (request.argv[1] == "push") {
        const auto digest = oci::Digest::of(manifest());
        files["/build/layout/index.json"] =
            R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
            digest.str() + R"(","size":)" + std::to_string(manifest().size()) + "}]}";
        files["/build/layout/blobs/sha256/" + digest.hex()] =
            lies_about_manifest ? manifest() + "," : manifest();
        files["/build/layout/blobs/sha256/" + declared_layer.substr(7)] = layer;
      }
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

class FakeWorkshop final : public Workshop {
public:
  explicit FakeWorkshop(FakePlace& place)
      : place_{place}, run_{[&place](const auto& request, const auto& io) {
          return place.builder(request, io);
        }} {}
  ~FakeWorkshop() override { place_.gone = true; }
  const sandbox::ScriptRunner& run() const override { return run_; }
  const sandbox::IdSlot& ids() const override { return ids_; }
  bool was_cut_short() const override { return place_.cut_short; }
  void finished(std::uint64_t bytes) override {
    place_.finished = true;
    place_.finished_bytes = bytes;
  }
  void spoil() override { place_.spoiled = true; }

private:
  FakePlace& place_;
  sandbox::IdSlot ids_;
  sandbox::ScriptRunner run_;
};

class BuildahBackendTest : public testing::Test {
protected:
  BuildahBackendTest() {
    char name[] = "/tmp/slipway-backend-XXXXXX";
    dir_ = ::mkdtemp(name);
    layout_ = std::make_unique<oci::Layout>(*oci::Layout::create(dir_ / "layout"));
    (void)oci::Layout::create(dir_ / "bases").ok();
    job_.context_dir = "/builds/app";
    job_.context_key = "context-7";
    job_.dockerfile_dir = "/builds/app";
    job_.dockerfile_name = "Dockerfile";
    job_.deadline = 60s;
    program_.version = "1.28.2";
    program_.engine = {1, 28};
  }
  ~BuildahBackendTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  Result<Built> build() {
    BuildahBackend backend{
        program_,
        [this](const auto& request, const auto& io) { return place_.client(request, io); },
        [this](bool network, const auto&, const auto&) -> Result<std::unique_ptr<Workshop>> {
          place_.network = network;
          return std::unique_ptr<Workshop>{std::make_unique<FakeWorkshop>(place_)};
        },
        dir_ / "bases"};
    return backend.build(job_, *layout_);
  }

  FakePlace place_;
  BuildJob job_;
  Program program_;
  std::filesystem::path dir_;
  std::unique_ptr<oci::Layout> layout_;
};

TEST_F(BuildahBackendTest, TakesOverTheImage) {
  const auto built = build();

  ASSERT_TRUE(built.ok()) << built.error().text();
  const auto tree = oci::read_tree(*layout_, built->manifest);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_EQ(tree->images.at(0).config->shell, (std::vector<std::string>{"/bin/bash", "-c"}));
  EXPECT_TRUE(layout_->has_blob(oci::Digest::of("layer bytes")));
  EXPECT_EQ(place_.unpacked, "the context");
  EXPECT_EQ(place_.written_ignore_file, "secret\n");
  EXPECT_TRUE(place_.finished);
  EXPECT_EQ(place_.finished_bytes, 4711U);
  EXPECT_FALSE(place_.spoiled);
  EXPECT_TRUE(place_.gone);
}

TEST_F(BuildahBackendTest, TakesPodmansWayOfWritingAnId) {
  place_.image_id = oci::Digest::of(place_.config).hex();

  EXPECT_TRUE(build().ok());
}

TEST_F(BuildahBackendTest, BuildsTheTextThatWasJudged) {
  job_.dockerfile_text = "FROM scratch\nLABEL a=b\n";

  ASSERT_TRUE(build().ok());

  EXPECT_EQ(place_.written_dockerfile, "FROM scratch\nLABEL a=b\n");
}

TEST_F(BuildahBackendTest, GivesNoNetworkWhereNoneIsAskedFor) {
  ASSERT_TRUE(build().ok());
  EXPECT_TRUE(place_.network);
  job_.network = "none";

  ASSERT_TRUE(build().ok());

  EXPECT_FALSE(place_.network);
}

TEST_F(BuildahBackendTest, GivesTheToolNoVariableOfTheJob) {
  ASSERT_TRUE(build().ok());

  for (const auto& request : place_.tool_requests)
    for (const auto& [name, value] : request.env)
      EXPECT_TRUE(name == "HOME" || name == "PATH" || name == "LC_ALL" || name == "TMPDIR") << name;
}

TEST_F(BuildahBackendTest, RefusesALayerWithOtherBytes) {
  place_.declared_layer = oci::Digest::of("something else").str();

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_FALSE(layout_->has_blob(oci::Digest::of("something else")));
}

TEST_F(BuildahBackendTest, RefusesAManifestThatCannotBeRead) {
  place_.lies_about_manifest = true;

  EXPECT_FALSE(build().ok());
}

TEST_F(BuildahBackendTest, RefusesAConfigOfAnotherImage) {
  place_.files[Places{}.config_blob(oci::Digest::of("x"))] = place_.config;
  place_.image_id = oci::Digest::of("x").str();

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().what.find("other bytes"), std::string::npos) << built.error().what;
}

TEST_F(BuildahBackendTest, RefusesAnIdThatIsAPath) {
  place_.image_id = "../../etc/passwd";

  EXPECT_FALSE(build().ok());
}

TEST_F(BuildahBackendTest, ExplainsAStepThatFailed) {
  place_.tool_exit_code = 9;
  place_.says = "STEP 2/2: RUN x\nError: building at STEP \"RUN x\": exit status 9\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what, "Dockerfile:2: a step ended with exit code 9: RUN x");
  EXPECT_TRUE(place_.finished);
  EXPECT_FALSE(place_.spoiled);
}

TEST_F(BuildahBackendTest, BuildsAgainWhereAStepNeverBegan) {
  place_.busy_times = 2;
  std::string said;
  job_.progress = [&said](std::string_view text) { said += text; };

  const auto built = build();

  ASSERT_TRUE(built.ok()) << built.error().text();
  EXPECT_NE(said.find("slipway: buildah could not start a step on this busy host; building again"),
            std::string::npos)
      << said;
}

TEST_F(BuildahBackendTest, DoesNotBuildAgainForEver) {
  place_.busy_times = 1000;

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_LT(place_.tool_requests.size(), 10U);
}

TEST_F(BuildahBackendTest, TrustsNoStoreThatFailed) {
  place_.tool_exit_code = 125;
  place_.says = "Error: mounting new container: creating overlay mount to /x: invalid\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(place_.spoiled);
  EXPECT_FALSE(place_.finished);
}

TEST_F(BuildahBackendTest, ClearsAwayWhatACutBuildLeft) {
  place_.cut_short = true;
  ASSERT_TRUE(build().ok());
  EXPECT_NE(place_.builder_ran.at(0)[2].find("rm --all"), std::string::npos);
  place_.clearing_fails = true;

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(place_.spoiled);
}

TEST_F(BuildahBackendTest, DoesNotCallACancelledBuildFinished) {
  job_.cancelled = [] { return true; };
  place_.tool_exit_code = 1;
  place_.says = "Error: building at STEP \"RUN x\": exit status 1\n";

  EXPECT_FALSE(build().ok());
  EXPECT_FALSE(place_.finished);
}

TEST_F(BuildahBackendTest, RefusesAContextOutsideTheWorkspace) {
  job_.context_dir = "/etc";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().what.find("outside /builds"), std::string::npos);
  EXPECT_TRUE(place_.builder_ran.empty());
}

TEST_F(BuildahBackendTest, RefusesWhatTheVersionWouldGetWrongBeforeAnythingRuns) {
  job_.dockerfile_text = "FROM scratch\nRUN <<EOT\ntrue\nEOT\n";

  const auto built = build();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what.substr(0, 13), "Dockerfile:2:");
  EXPECT_TRUE(place_.builder_ran.empty());
}

TEST_F(BuildahBackendTest, KeepsNoImageWithoutLayersInTheStore) {
  ASSERT_TRUE(build().ok());
  EXPECT_EQ(place_.tool_requests.back().argv[1], "rmi");
  program_.layers = true;

  ASSERT_TRUE(build().ok());

  EXPECT_EQ(place_.tool_requests.back().argv[1], "push");
}

TEST(BuildahDescriptor, SaysWhoItIsAndWhatSlipwayAddsToIt) {
  const auto buildah = descriptor_of(*parse_version(Tool::buildah, "buildah version 1.28.2 (x)"));
  EXPECT_EQ(buildah.name, "buildah");
  EXPECT_EQ(buildah.version, "1.28.2");
  EXPECT_EQ(buildah.capabilities,
            (std::set<std::string>{"shell", "healthcheck", "onbuild", "network-none",
                                   "docker-ignore-file", "workdir-made"}));
  const auto podman = descriptor_of(*parse_version(Tool::podman, "podman version 4.3.1"));
  EXPECT_EQ(podman.name, "podman");
  EXPECT_FALSE(podman.capabilities.contains("workdir-made"));
}

} // namespace
} // namespace slipway::backends::buildah
