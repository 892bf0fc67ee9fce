// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/command.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::dockerd {
namespace {

namespace fs = std::filesystem;

BuildJob job() {
  BuildJob job;
  job.context_dir = "/builds/app";
  job.context_key = "context-7";
  job.dockerfile_dir = "/builds/app";
  job.dockerfile_name = "Dockerfile";
  job.bases = {{"base:1", oci::Digest::of("base")}};
  return job;
}

Result<Text> text_for(const BuildJob& job, const std::string& text) {
  return dockerfile_for(job, *dockerfile::parse(text), text);
}

TEST(DockerdVersion, IsOneThatSlipwayKnows) {
  EXPECT_EQ(parse_version("Docker version 20.10.24+dfsg1, build 5d6db84\n")->version, "20.10.24");
  EXPECT_EQ(parse_version("Docker version 28.2.2, build e6534b4\n")->version, "28.2.2");
  for (const char* said : {"Docker version 20.9.1, build 1", "Docker version 19.03.15, build 1",
                           "Docker version 29.0.1, build 1", "Docker version x", "podman 4.3", ""})
    EXPECT_EQ(parse_version(said).error().kind, ErrorKind::misconfigured) << said;
}

TEST(DockerdVersion, SaysWhichApiItSpeaks) {
  for (const auto& [version, api] : std::vector<std::pair<const char*, unsigned>>{{"20.10.24", 41},
                                                                                  {"23.0.6", 42},
                                                                                  {"24.0.9", 43},
                                                                                  {"25.0.6", 44},
                                                                                  {"26.1.4", 45},
                                                                                  {"27.1.1", 46},
                                                                                  {"27.5.1", 47},
                                                                                  {"28.0.4", 48},
                                                                                  {"28.1.0", 49},
                                                                                  {"28.2.2", 50},
                                                                                  {"28.5.2", 51},
                                                                                  {"28.10.0", 51}})
    EXPECT_EQ(api_of({version}), api) << version;
}

TEST(DockerdTools, ComeBeforeTheHostsOwn) {
  Program program{"28.5.2", "/opt/docker/bin"};
  EXPECT_EQ(path_for(program.tools), "/tools:/usr/bin:/bin:/usr/sbin:/sbin");
  EXPECT_EQ(client_of(program), "/usr/bin/docker");

  program.has_client = true;
  EXPECT_EQ(argv_for(job(), {}, "/f", {}, {}, program)[0], "/tools/docker");
}

TEST(DockerdSettings, AreHardenedAndWithoutANetwork) {
  const auto settings = nlohmann::json::parse(builder_json());

  EXPECT_EQ(settings["hosts"], nlohmann::json({"unix:///build/docker.sock"}));
  EXPECT_EQ(settings["bridge"], "none");
  EXPECT_EQ(settings["seccomp-profile"], "/build/seccomp.json");
  EXPECT_EQ(settings["iptables"], false);
  EXPECT_EQ(settings["storage-driver"], "overlay2");
  EXPECT_EQ(settings["log-opts"]["max-size"], "10m");
  EXPECT_EQ(settings["default-ulimits"]["core"]["Hard"], 0);
  EXPECT_EQ(settings["default-runtime"], "steps");
  EXPECT_EQ(settings["runtimes"]["steps"]["path"], "/build/runtime");
  EXPECT_FALSE(settings.contains("registry-mirrors"));
  EXPECT_FALSE(settings.contains("insecure-registries"));
}

TEST(DockerdCommand, IsOneVectorWithoutAShell) {
  auto wanted = job();
  wanted.build_args = {{"A", "1; rm -rf /"}};
  wanted.labels = {{"l", "x y"}};
  wanted.extra_hosts = {{"db", "10.0.0.1"}};
  wanted.no_cache = true;

  EXPECT_EQ(argv_for(wanted, {"", false, "made"}, "/build/context/Dockerfile",
                     {{"http_proxy", "http://127.0.0.1:3128"}}, {}),
            (std::vector<std::string>{"/usr/bin/docker", "build", "--force-rm", "--network=host",
                                      "--iidfile=/build/image-id", "--no-cache", "--target=made",
                                      "--build-arg=A=1; rm -rf /",
                                      "--build-arg=http_proxy=http://127.0.0.1:3128",
                                      "--label=l=x y", "--add-host=db:10.0.0.1",
                                      "--file=/build/context/Dockerfile", "/build/context"}));
  wanted.network = "none";
  EXPECT_EQ(argv_for(wanted, {}, "/f", {}, {})[3], "--network=none");
}

TEST(DockerdCheck, RefusesByNameWhatTheBuilderDoesNotHave) {
  struct Refused {
    const char* name;
    std::function<void(BuildJob&)> change;
    const char* words;
  };
  std::vector<std::pair<std::string, Secret>> secrets;
  secrets.emplace_back("npm", Secret{"x"});
  for (const Refused& one : {
           Refused{"secret", [&](BuildJob& j) { j.secrets = secrets; }, "--secret npm"},
           Refused{"ssh", [&](BuildJob& j) { j.ssh_keys = secrets; }, "--ssh npm"},
           Refused{"context",
                   [](BuildJob& j) {
                     j.named_folders = {{"n", "/x"}};
                   },
                   "--build-context n"},
           Refused{"network", [](BuildJob& j) { j.network = "host"; }, "--network host"},
           Refused{"platform", [](BuildJob& j) { j.platform = "linux/s390x"; }, "linux/s390x"},
           Refused{"argument",
                   [](BuildJob& j) {
                     j.build_args = {{"BUILDKIT_SYNTAX", "x"}};
                   },
                   "BUILDKIT_SYNTAX"},
           Refused{"label",
                   [](BuildJob& j) {
                     j.labels = {{"a=b", "x"}};
                   },
                   "a=b"},
           Refused{"host",
                   [](BuildJob& j) {
                     j.extra_hosts = {{"a:b", "x"}};
                   },
                   "a:b"},
           Refused{"dockerfile", [](BuildJob& j) { j.dockerfile_name = "../x"; }, "../x"},
       }) {
    auto wanted = job();
    one.change(wanted);
    const auto checked = check(wanted, "linux/amd64");
    ASSERT_FALSE(checked) << one.name;
    EXPECT_NE(checked.error().what.find(one.words), std::string::npos) << checked.error().what;
    EXPECT_TRUE(is_the_jobs_fault(checked.error().kind)) << one.name;
  }
  EXPECT_TRUE(check(job(), "linux/amd64"));
}

TEST(DockerdDockerfile, IsTheAuthorsWhereAllStagesAreNeeded) {
  const std::string text = "ARG V=1\nFROM base:$V AS a\nRUN x\nFROM a\n";

  const auto made = text_for(job(), text);

  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->text, text);
  EXPECT_FALSE(made->is_changed);
  EXPECT_EQ(made->target, "");
}

TEST(DockerdDockerfile, StopsAtANamedTarget) {
  auto wanted = job();
  wanted.target = "A";
  const std::string text = "FROM base:1 AS a\nRUN x\nFROM other:1\n";

  const auto made = text_for(wanted, text);

  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->text, text);
  EXPECT_EQ(made->target, "a");
}

TEST(DockerdDockerfile, EmptiesStagesThatTheTargetDoesNotNeedAndKeepsLines) {
  auto wanted = job();
  wanted.target = "wanted";

  const auto made = text_for(
      wanted,
      "FROM other:1 AS test\nRUN a \\\n  b\nFROM base:1 AS wanted\nRUN c\nFROM other:2\nRUN d");

  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_TRUE(made->is_changed);
  EXPECT_EQ(made->text, "FROM scratch\n\n\nFROM base:1 AS wanted\nRUN c\n\n\n");
  EXPECT_EQ(made->target, "");
}

TEST(DockerdDockerfile, KeepsAStageThatABasesTriggerNeeds) {
  auto wanted = job();
  const std::string text = "FROM base:1 AS builder\nRUN a\nFROM runtime:1\n";
  wanted.bases.push_back({"runtime:1", oci::Digest::of("runtime")});
  wanted.triggers = {{"runtime:1", {"COPY --from=builder /app /app"}}};

  const auto made = text_for(wanted, text);

  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_FALSE(made->is_changed);
  wanted.triggers.clear();
  EXPECT_TRUE(text_for(wanted, text)->is_changed);
}

TEST(DockerdDockerfile, NamesTheLineOfAnImageThatSlipwayDidNotFetch) {
  const auto from = text_for(job(), "FROM base:1\nRUN x\nFROM other:1\n");
  const auto copy = text_for(job(), "FROM base:1\n\nCOPY --from=other:1 /a /b\n");

  ASSERT_FALSE(from.ok());
  EXPECT_EQ(from.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(from.error().what.substr(0, 22), "Dockerfile:3: other:1:");
  ASSERT_FALSE(copy.ok());
  EXPECT_EQ(copy.error().what.substr(0, 22), "Dockerfile:3: other:1:");
}

class DockerdImages : public testing::Test {
protected:
  DockerdImages() {
    char name[] = "/tmp/slipway-dockerd-XXXXXX";
    dir_ = ::mkdtemp(name);
    layout_ = std::make_unique<oci::Layout>(*oci::Layout::create(dir_ / "layout"));
  }
  ~DockerdImages() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  oci::Digest image(const std::string& layer_type) {
    const auto blob = [&](const std::string& bytes, const std::string& type) {
      return oci::to_json(
          oci::Descriptor{type, *layout_->write_blob(bytes), bytes.size(), {}, {}, "", false});
    };
    return *layout_->write_blob(
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
        blob(kConfig, "application/vnd.oci.image.config.v1+json") + R"(,"layers":[)" +
        blob("layer", layer_type) + "]}");
  }
  const std::string kConfig =
      R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
      oci::Digest::of("expanded").str() + R"("]}})";
  const oci::Platform platform_{"amd64", "linux", ""};
  fs::path dir_;
  std::unique_ptr<oci::Layout> layout_;
};

TEST_F(DockerdImages, AreLoadedOnceUnderAllTheirNames) {
  const auto base = image("application/vnd.oci.image.layer.v1.tar+gzip");
  const std::vector<BaseImage> bases{
      {"base:1", base}, {"reg.test:5000/x", base}, {"base@" + base.str(), base}};

  const auto images = images_to_load(bases, *layout_, platform_, {"20.10.24"});
  const auto names = names_by_digest(bases, *layout_, platform_);

  ASSERT_TRUE(images.ok()) << images.error().text();
  const auto manifest = nlohmann::json::parse(load_manifest(*images));
  ASSERT_EQ(manifest.size(), 1U);
  EXPECT_EQ(manifest[0]["Config"], oci::Digest::of(kConfig).hex());
  EXPECT_EQ(manifest[0]["Layers"], nlohmann::json({oci::Digest::of("layer").hex()}));
  EXPECT_EQ(manifest[0]["RepoTags"],
            nlohmann::json({"docker.io/library/base:1", "reg.test:5000/x:latest"}));
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(nlohmann::json::parse(*names)["Repositories"]["base"]["base@" + base.str()],
            oci::Digest::of(kConfig).str());
  EXPECT_EQ(*names_by_digest({{"base:1", base}}, *layout_, platform_), "");
}

TEST_F(DockerdImages, PackedInAWayThatThisVersionDoesNotKnowAreNotTheJobsFault) {
  const std::vector<BaseImage> bases{
      {"base:1", image("application/vnd.oci.image.layer.v1.tar+zstd")}};

  EXPECT_EQ(images_to_load(bases, *layout_, platform_, {"20.10.24"}).error().kind,
            ErrorKind::unavailable);
  EXPECT_TRUE(images_to_load(bases, *layout_, platform_, {"28.2.2"}).ok());
}

TEST(DockerdSaved, IsOneImageWithPathsOfTheArchive) {
  const auto saved = parse_saved(
      R"([{"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar","2/layer.tar"]}])");

  ASSERT_TRUE(saved.ok());
  EXPECT_EQ(saved->config, "c.json");
  EXPECT_EQ(saved->layers, (std::vector<std::string>{"1/layer.tar", "2/layer.tar"}));
  for (const char* text :
       {"", "{}", "[]", "[1]", R"([{"Config":1}])", R"([{"Config":"/etc/passwd"}])",
        R"([{"Config":"c","Layers":"x"}])", R"([{"Config":"c","Layers":["/x"]}])",
        R"([{"Config":"c"},{"Config":"d"}])", R"([{"Config":"c","Layers":[1]}])"})
    EXPECT_FALSE(parse_saved(text).ok()) << text;
}

} // namespace
} // namespace slipway::backends::dockerd
