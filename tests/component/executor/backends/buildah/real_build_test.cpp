// SPDX-License-Identifier: Apache-2.0
// Builds for real with the host's Buildah and Podman, and attacks that work against Buildah 1.28.2:
// what they reach is the sandbox that was made for the build.
#include "tests/component/executor/backends/buildah/world.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

namespace slipway::backends::buildah {
namespace {

using namespace std::chrono_literals;

class RealBuild : public testing::Test {
protected:
  static void SetUpTestSuite() {
    if (World::why_not().empty()) world = std::make_unique<World>();
  }
  static void TearDownTestSuite() { world.reset(); }
  void SetUp() override {
    if (!world) SLIPWAY_SKIP(World::why_not());
    ASSERT_EQ(world->problem, "");
  }
  /// What a step printed, which has to have run.
  static std::string said_by(const std::string& dockerfile, Tool tool = Tool::buildah) {
    const auto built = world->build(world->job(dockerfile), tool);
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    return world->said;
  }
  static bool says(const std::string& line) {
    return world->said.find("\n" + line + "\n") != std::string::npos;
  }
  static std::unique_ptr<World> world;
};
std::unique_ptr<World> RealBuild::world;

enum class With { buildah, podman, newer };

class RealBuildWith : public RealBuild, public testing::WithParamInterface<With> {
protected:
  void SetUp() override {
    RealBuild::SetUp();
    if (GetParam() == With::newer && World::newer_buildah().empty())
      SLIPWAY_SKIP("SLIPWAY_TEST_BUILDAH names no program");
  }
  Result<Built> build(const BuildJob& job) const {
    if (GetParam() == With::newer) return world->build_with_newer(job);
    return world->build(job, GetParam() == With::podman ? Tool::podman : Tool::buildah);
  }
};

TEST_P(RealBuildWith, KeepsWhatOciHasNoPlaceFor) {
  auto job =
      world->job("# syntax=docker/dockerfile:1\nFROM busybox\nARG WHO=nobody\n"
                 "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nHEALTHCHECK CMD true\nONBUILD RUN true\n"
                 "COPY hello /hello\nRUN echo $WHO; cat /hello; false | true; grep db "
                 "/etc/hosts\nUSER nobody\n");
  job.build_args = {{"WHO", "somebody, here=1"}};
  job.labels = {{"org.example", "a b"}};
  job.extra_hosts = {{"db", "10.9.8.7"}};

  const auto built = build(job);

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  const auto config = world->config_of(built->manifest);
  EXPECT_TRUE(config.has_healthcheck);
  EXPECT_EQ(config.shell, (std::vector<std::string>{"/bin/sh", "-e", "-c"}));
  EXPECT_EQ(config.on_build, (std::vector<std::string>{"RUN true"}));
  EXPECT_EQ(config.user, "nobody");
  EXPECT_EQ(config.labels, (std::map<std::string, std::string>{{"org.example", "a b"}}));
  EXPECT_TRUE(says("somebody, here=1")) << world->said;
  EXPECT_NE(world->said.find("10.9.8.7"), std::string::npos) << world->said;
  // It stands on the base's own layer, byte for byte.
  const auto tree = oci::read_tree(*world->result, built->manifest);
  const auto base = oci::read_tree(*world->bases, world->base_images[0].digest);
  EXPECT_EQ(tree->images[0].manifest.layers[0].digest, base->images[0].manifest.layers[0].digest);
}

TEST_P(RealBuildWith, MakesOneLayerWhereItIsAskedTo) {
  auto job = world->job("FROM busybox\nCOPY hello /hello\nRUN rm /hello; echo 1 > /one\nRUN cat "
                        "/one; echo 2 > /two\n");
  const auto layers = [&] {
    const auto built = build(job);
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    std::vector<oci::Digest> digests;
    if (!built) return digests;
    const auto tree = oci::read_tree(*world->result, built->manifest);
    for (const auto& layer : tree->images[0].manifest.layers)
      digests.push_back(layer.digest);
    return digests;
  };
  const auto base = oci::read_tree(*world->bases, world->base_images[0].digest)
                        ->images[0]
                        .manifest.layers[0]
                        .digest;

  job.squash = true;
  const auto built_alone = layers();
  EXPECT_EQ(built_alone.size(), 2U);
  EXPECT_EQ(built_alone.at(0), base);
  job.squash = false;
  job.squash_base = true;
  const auto all = layers();
  EXPECT_EQ(all.size(), 1U);
  EXPECT_NE(all.at(0), base);
}

TEST_P(RealBuildWith, ReportsTheStepThatFailed) {
  const auto built = build(world->job("FROM busybox\nRUN echo before; exit 42\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what,
            "Dockerfile:2: a step ended with exit code 42: RUN echo before; exit 42");
  EXPECT_TRUE(says("before"));
}

TEST_P(RealBuildWith, AsksNoRegistry) {
  const auto built = build(world->job("FROM registry.invalid/other:1\nRUN true\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input) << built.error().text();
  EXPECT_NE(built.error().what.find("registry.invalid/other:1"), std::string::npos)
      << built.error().what;
}

INSTANTIATE_TEST_SUITE_P(Tools, RealBuildWith,
                         testing::Values(With::buildah, With::podman, With::newer),
                         [](const auto& one) {
                           return one.param == With::podman  ? "Podman"
                                  : one.param == With::newer ? "BuildahOfItsModule"
                                                             : "Buildah";
                         });

// docs/backends.md, Capabilities: `run-heredoc`, `copy-heredoc` from 1.33 on.
TEST_F(RealBuild, OfANewerOneTakesTheHeredocsThatTheTablePromises) {
  if (World::newer_buildah().empty()) SLIPWAY_SKIP("SLIPWAY_TEST_BUILDAH names no program");
  const auto built = world->build_with_newer(world->job(
      "FROM busybox\nRUN <<END\necho first > /one\nEND\nCOPY <<END /two\nsecond\nEND\nRUN cat "
      "/one /two\n"));

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  EXPECT_TRUE(says("first") && says("second")) << world->said;
}

TEST_F(RealBuild, WithLayersIsCachedUnlessToldOtherwise) {
  auto job = world->job("FROM busybox\nCOPY hello /hello\nRUN echo once > /once\n");
  ASSERT_TRUE(world->build(job, Tool::podman).ok()) << world->said;
  const auto cached = [&] {
    world->said.clear();
    EXPECT_TRUE(world->build(job, Tool::podman).ok()) << world->said;
    return world->said.find("Using cache") != std::string::npos;
  };

  EXPECT_TRUE(cached());
  job.no_cache = true;
  EXPECT_FALSE(cached());
}

TEST_F(RealBuild, TakesStagesTriggersAndFilesOfOtherImages) {
  said_by("FROM busybox AS one\nRUN echo 1 > /1\nFROM busybox AS broken\nRUN exit 3\n"
          "FROM onb:1\nCOPY --from=one /1 /one\nCOPY --from=shell:1 /etc/passwd /p\n"
          "RUN cat /onbuild /one; head -1 /p\n");

  EXPECT_TRUE(says("ran"));
  EXPECT_TRUE(says("1"));
  EXPECT_TRUE(says("root:x:0:0:root:/root:/bin/sh"));
}

TEST_F(RealBuild, StopsAtTheTarget) {
  auto job = world->job("FROM busybox AS one\nRUN true\nFROM busybox AS two\nRUN exit 3\n");
  job.target = "one";

  EXPECT_TRUE(world->build(job).ok()) << world->said;
}

TEST_F(RealBuild, TakesDockersIgnoreFileAndNoOther) {
  world->write("/builds/app/.dockerignore", "secret\n");
  world->write("/builds/app/.containerignore", "hello\n");
  world->write("/builds/app/secret", "x\n");

  said_by("FROM busybox\nCOPY . /c\nRUN ls -A /c; stat -c '%u %g %a' /c/hello\n");
  world->in_build_sandbox("rm /builds/app/.dockerignore /builds/app/.containerignore");

  EXPECT_TRUE(says("hello"));
  EXPECT_TRUE(says("0 0 600"));
  EXPECT_FALSE(says("secret"));
}

TEST_F(RealBuild, WithoutNetworkHasNone) {
  auto job = world->job("FROM busybox\nRUN echo has $(ip -4 addr | grep -c eth0)\n");
  ASSERT_TRUE(world->build(job).ok()) << world->said;
  EXPECT_FALSE(says("has 0")) << world->said;
  job.network = "none";

  ASSERT_TRUE(world->build(job).ok()) << world->said;

  EXPECT_TRUE(says("has 0")) << world->said;
}

TEST_F(RealBuild, OfOneStoreAreOneAfterTheOther) {
  const auto job = world->job("FROM busybox\nRUN sleep 1; echo done > /done\n");
  Result<Built> first{Error{}};
  std::thread other{[&] { first = world->backend(Tool::podman)->build(job, *world->result); }};
  std::this_thread::sleep_for(300ms);

  const auto second = world->build(job, Tool::buildah);
  other.join();

  EXPECT_TRUE(first.ok()) << first.error().text();
  EXPECT_TRUE(second.ok()) << second.error().text();
  EXPECT_NE(world->said.find("another build of this project is under way"), std::string::npos);
}

TEST_F(RealBuild, EndsWhenTheJobIsCancelledAndTheNextOneFindsTheStoreInOrder) {
  auto job = world->job("FROM busybox\nRUN echo first > /1\nRUN echo now; sleep 47\n");
  job.cancelled = [] {
    const std::lock_guard guard{world->saying};
    return world->said.find("\nnow\n") != std::string::npos;
  };

  const auto built = world->build(job, Tool::podman);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what, "the build was cancelled");
  const auto left = world->podman->list("io.slipway.owner", world->config.owner);
  ASSERT_TRUE(left.ok());
  EXPECT_TRUE(left->empty());
  said_by("FROM busybox\nRUN echo again\n", Tool::podman);
}

// CVE-2024-9675: the id of a cache mount is a path, and it may lead out of the cache's folder.
TEST_F(RealBuild, ACacheMountThatLeadsOutReachesTheBuildsOwnSandbox) {
  const auto said = said_by(
      "FROM busybox\n"
      "RUN --mount=type=cache,id=../../../../..,target=/m echo found $(ls -d /m/build/context); "
      "echo x > /m/planted; echo planted $(cat /m/planted); "
      "touch /m/usr/bin/x || echo usr is safe; touch /m/bases/x || echo bases are safe; "
      "touch /m/run/slipway/bin/x || echo init is safe; ls /m/home /m/root\n");

  EXPECT_TRUE(says("found /m/build/context")) << "the attack does not work any more: " << said;
  EXPECT_TRUE(says("planted x")) << said;
  EXPECT_TRUE(says("usr is safe")) << said;
  EXPECT_TRUE(says("bases are safe")) << said;
  EXPECT_TRUE(says("init is safe")) << said;
  EXPECT_FALSE(std::filesystem::exists("/planted"));
  EXPECT_EQ(world->in_build_sandbox("ls /planted 2>&1 || true"),
            "ls: cannot access '/planted': No such file or directory\n");
  said_by("FROM busybox\nRUN --mount=type=cache,id=../../../../..,target=/m "
          "test ! -e /m/planted && echo nothing was left\n");
  EXPECT_TRUE(says("nothing was left"));
}

// CVE-2024-1753: the source of a bind mount may be a symbolic link of an image, to anywhere.
TEST_F(RealBuild, ABindMountOfALinkReachesTheBuildsOwnSandbox) {
  const auto said = said_by("FROM busybox AS evil\nRUN ln -s / /link\nFROM busybox\n"
                            "RUN --mount=type=bind,from=evil,source=/link,target=/m,rw "
                            "echo found $(ls -d /m/build/context); "
                            "touch /m/usr/bin/x || echo usr is safe; ls -A /m/builds /m/home\n");

  EXPECT_TRUE(says("found /m/build/context")) << "the attack does not work any more: " << said;
  EXPECT_TRUE(says("usr is safe")) << said;
}

TEST_F(RealBuild, AnEscapeFindsNoOtherStoreNoSocketAndNoCredential) {
  const std::string escape = "RUN --mount=type=cache,id=../../../../..,target=/m ";
  auto other = world->job("FROM busybox\nRUN echo > /marker-of-another-domain\n");
  const auto theirs = world->backend(Tool::podman, "second")->build(other, *world->result);
  ASSERT_TRUE(theirs.ok()) << theirs.error().text() << "\n" << world->said;
  auto mine = world->job("FROM busybox\nRUN echo > /marker-of-this-domain\n");
  ASSERT_TRUE(world->build(mine, Tool::podman).ok()) << world->said;

  const auto said =
      said_by("FROM busybox\n" + escape +
              "echo look; find /m -xdev -name 'marker-of-*'; find /m/var/lib/containers -name "
              "'marker-of-*'; "
              "find /m -type s; find /m/root /m/run /m/etc -name auth.json -o -name config.json; "
              "env | grep -i -E 'token|password|secret|job'; ls /m/builds; echo looked\n");

  EXPECT_NE(said.find("marker-of-this-domain"), std::string::npos) << said; // control
  EXPECT_EQ(said.find("marker-of-another-domain"), std::string::npos) << said;
  EXPECT_EQ(said.find(".sock"), std::string::npos) << said;
  EXPECT_EQ(said.find("auth.json\n"), std::string::npos) << said;
  EXPECT_EQ(said.find("config.json\n"), std::string::npos) << said;
  EXPECT_TRUE(says("looked")) << said;
}

TEST_F(RealBuild, AStepLeavesNoProcessBehind) {
  said_by("FROM busybox\nRUN (setsid sleep 4711 &) ; echo started\n");

  const auto left = world->podman->unshare(
      {"/bin/sh", "-c",
       "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -x 'sleep 4711 '; "
       "done; true"});

  ASSERT_TRUE(left.ok());
  EXPECT_EQ(left->out, "");
}

} // namespace
} // namespace slipway::backends::buildah
