// SPDX-License-Identifier: Apache-2.0
// Builds for real with Kaniko's executor, and what a step finds that looks around in its sandbox.
#include "executor/backends/kaniko/layers.hpp"
#include "executor/base/file.hpp"
#include "tests/component/executor/backends/buildah/world.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace slipway::backends::kaniko {
namespace {

using buildah::World;

class KanikoBuild : public testing::Test {
protected:
  static void SetUpTestSuite() {
    if (why_not().empty()) world = std::make_unique<World>();
  }
  static void TearDownTestSuite() { world.reset(); }
  static std::string why_not() {
    if (World::kaniko_executor().empty()) return "SLIPWAY_TEST_KANIKO names no program";
    return World::why_not();
  }
  void SetUp() override {
    if (!world) SLIPWAY_SKIP(why_not());
    ASSERT_EQ(world->problem, "");
  }
  static std::string said_by(const std::string& dockerfile) {
    const auto built = world->build_with_kaniko(world->job(dockerfile));
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    return world->said;
  }
  /// What the steps of a build print that goes well, and Kaniko and slipway about it.
  static std::string said_by_cached(const std::string& dockerfile, const std::string& layers_of,
                                    bool no_cache = false) {
    auto job = world->job(dockerfile);
    job.no_cache = no_cache;
    const auto built = world->build_with_kaniko(job, layers_of);
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    if (built) (void)world->config_of(built->manifest); // every blob and diff id
    return world->said;
  }
  static std::size_t times_cached(const std::string& said) {
    std::size_t times = 0;
    for (std::size_t at = 0; (at = said.find("--> Using cache\n", at)) != std::string::npos; ++at)
      ++times;
    return times;
  }
  static LayerStores stores() { return {world->layer_config(), world->clock}; }
  static bool says(const std::string& line) {
    return world->said.find("\n" + line + "\n") != std::string::npos;
  }
  static std::unique_ptr<World> world;
};
std::unique_ptr<World> KanikoBuild::world;

TEST_F(KanikoBuild, StandsOnTheBasesOwnLayerAndKeepsWhatIsDeclared) {
  auto job =
      world->job("# syntax=docker/dockerfile:1\nFROM busybox\nARG WHO=nobody\n"
                 "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nHEALTHCHECK CMD true\nONBUILD RUN true\n"
                 "COPY hello /hello\nRUN echo $WHO; cat /hello; stat -c '%u:%g' /hello\n"
                 "USER nobody\n");
  job.build_args = {{"WHO", "somebody, here"}};
  job.labels = {{"org.example", "a b"}};

  const auto built = world->build_with_kaniko(job);

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  const auto config = world->config_of(built->manifest);
  EXPECT_TRUE(config.has_healthcheck);
  EXPECT_EQ(config.shell, (std::vector<std::string>{"/bin/sh", "-e", "-c"}));
  EXPECT_EQ(config.on_build, (std::vector<std::string>{"RUN true"}));
  EXPECT_EQ(config.user, "nobody");
  EXPECT_EQ(config.labels, (std::map<std::string, std::string>{{"org.example", "a b"}}));
  EXPECT_TRUE(says("somebody, here")) << world->said;
  EXPECT_TRUE(says("0:0")) << world->said;
  const auto tree = oci::read_tree(*world->result, built->manifest);
  const auto base = oci::read_tree(*world->bases, world->base_images[0].digest);
  EXPECT_EQ(tree->images[0].manifest.layers[0].digest, base->images[0].manifest.layers[0].digest);
}

TEST_F(KanikoBuild, MakesOneLayerWhereItIsAskedTo) {
  auto job = world->job("FROM busybox\nCOPY hello /hello\nRUN rm /hello; echo 1 > /one\nRUN cat "
                        "/one; echo 2 > /two\n");
  const auto layers = [&] {
    const auto built = world->build_with_kaniko(job);
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    return built ? oci::read_tree(*world->result, built->manifest)->images[0].manifest.layers.size()
                 : 0U;
  };

  EXPECT_EQ(layers(), 4U);
  job.squash = true;
  EXPECT_EQ(layers(), 2U);
}

TEST_F(KanikoBuild, ReportsTheStepThatFailed) {
  const auto built =
      world->build_with_kaniko(world->job("FROM busybox\nRUN echo before; exit 42\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what,
            "Dockerfile:2: a step ended with exit code 42: RUN echo before; exit 42");
  EXPECT_TRUE(says("before"));
}

TEST_F(KanikoBuild, AsksNoRegistry) {
  const auto built =
      world->build_with_kaniko(world->job("FROM registry.invalid/other:1\nRUN true\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input) << built.error().text();
  EXPECT_EQ(built.error().what.substr(0, 14), "Dockerfile:1: ");
  EXPECT_EQ(world->said, "");
}

TEST_F(KanikoBuild, NamesTheLineOfACopyThatFindsNothing) {
  const auto built = world->build_with_kaniko(
      world->job("FROM busybox AS one\nRUN true\nFROM busybox\n\nCOPY --from=one /none /n\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_TRUE(is_the_jobs_fault(built.error().kind)) << built.error().text();
}

TEST_F(KanikoBuild, StopsWhenTheJobIsCancelled) {
  auto job = world->job("FROM busybox\nRUN echo begun; sleep 600\n");
  job.cancelled = [] {
    const std::lock_guard guard{world->saying};
    return world->said.find("\nbegun\n") != std::string::npos;
  };

  const auto built = world->build_with_kaniko(job);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what, sandbox::build_cancelled().what);
  EXPECT_EQ(world->podman->list("io.slipway.role", "kaniko")->size(), 0U);
}

// A step is root where Kaniko is: what it finds there has to be nothing.
TEST_F(KanikoBuild, AStepFindsNoCredentialNoSocketAndNothingOfAnotherBuild) {
  world->write("/builds/app/of-this-build", "x\n");
  world->write("/builds/other/of-another-build", "x\n");

  const auto said = said_by(
      "FROM busybox\n"
      "RUN cat /kaniko/.docker/config.json; echo look; find / -xdev -name 'of-*-build'; "
      "find / -xdev -type s; find / -xdev -name '*auth*.json' -o -xdev -name config.json; "
      "tr '\\0' '\\n' </proc/$PPID/environ | grep -i -E 'token|password|secret|job|docker_auth'; "
      "tr '\\0' '\\n' </proc/$PPID/environ | grep KANIKO_DIR; "
      "touch /.slipway/init || echo init is safe; touch /.slipway/in/bases/x || echo bases are "
      "safe; "
      "ls /builds; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status; echo "
      "looked\n");

  EXPECT_NE(said.find("/.slipway/buildcontext/of-this-build\n"), std::string::npos)
      << said; // control
  EXPECT_TRUE(says("KANIKO_DIR=/.slipway")) << "the look into Kaniko's environment: " << said;
  EXPECT_NE(said.find("can't open '/kaniko/.docker/config.json'"), std::string::npos) << said;
  EXPECT_EQ(said.find("of-another-build\n"), std::string::npos) << said;
  EXPECT_EQ(said.find(".sock"), std::string::npos) << said;
  EXPECT_EQ(said.find("config.json\n"), std::string::npos) << said;
  EXPECT_TRUE(says("init is safe")) << said;
  EXPECT_TRUE(says("bases are safe")) << said;
  // Podman's default set and no more: no SYS_ADMIN, no MKNOD, no NET_ADMIN.
  EXPECT_TRUE(says("CapEff:\t00000000800405fb")) << said;
  EXPECT_TRUE(says("looked")) << said;
}

TEST_F(KanikoBuild, WhatAStepWritesOverTheExportIsNotBelieved) {
  // Kaniko writes its layout at the end; a process that stays behind may be quicker, or not. It
  // gets a refusal or its own image, never other bytes under a digest.
  const auto built = world->build_with_kaniko(
      world->job("FROM busybox\nRUN mkdir -p /.slipway/layout/blobs/sha256 && echo x > "
                 "/.slipway/layout/blobs/sha256/0000 && ln -s /etc/passwd "
                 "/.slipway/layout/index.json\n"));

  if (built) {
    (void)world->config_of(built->manifest); // every blob and diff id
  } else {
    EXPECT_TRUE(is_the_jobs_fault(built.error().kind)) << built.error().text();
  }
}

TEST_F(KanikoBuild, AStepLeavesNoProcessBehind) {
  said_by("FROM busybox\nRUN (setsid sleep 4712 &) ; echo started\n");

  const auto left = world->podman->unshare(
      {"/bin/sh", "-c",
       "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -x 'sleep 4712 '; "
       "done; true"});

  ASSERT_TRUE(left.ok());
  EXPECT_EQ(left->out, "");
}

constexpr const char* kRandom = "FROM busybox\n"
                                "RUN cat /proc/sys/kernel/random/uuid > /one; mkdir /kept; ln -s "
                                "one /kept/two; true\n"
                                "COPY hello /hello\n"
                                "ENV A=b\n"
                                "RUN true\n"
                                "RUN rm /hello; cat /proc/sys/kernel/random/uuid > /three\n";

TEST_F(KanikoBuild, UsesLayersOfTheSameProjectAndTrustDomainAndOfNoOther) {
  const std::string shows = std::string{kRandom} + "RUN echo is $(cat /one /three)\n";
  const auto value = [](const std::string& said) {
    const std::size_t at = said.find("\nis ");
    return at == std::string::npos ? "" : said.substr(at, said.find('\n', at + 1) - at);
  };

  const auto first = said_by_cached(kRandom, "protected");
  const auto control = value(said_by_cached(shows, "protected"));
  const auto control_times = times_cached(world->said);
  const auto again = value(said_by_cached(shows + "RUN true\n", "protected"));
  const auto other = said_by_cached(shows, "other");
  const auto without = said_by_cached(shows, "");

  EXPECT_EQ(times_cached(first), 0U) << first;
  EXPECT_EQ(control_times, 3U) << "one of them made no layer; " << world->said;
  EXPECT_EQ(control.size(), 4 + 36 + 1 + 36U);
  EXPECT_EQ(again, "") << "the step that prints it does not run";
  EXPECT_EQ(times_cached(other), 0U) << other;
  EXPECT_NE(value(other), control);
  EXPECT_EQ(times_cached(without), 0U) << without;
}

TEST_F(KanikoBuild, MakesTheSameFilesOfLayersThatWereThere) {
  const auto files_of = [](const Result<Built>& built) {
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    std::vector<std::string> layers;
    if (!built) return layers;
    (void)world->config_of(built->manifest);
    const auto tree = oci::read_tree(*world->result, built->manifest);
    for (const auto& layer : tree->images.at(0).manifest.layers)
      layers.push_back(layer.digest.str());
    return layers;
  };
  // Without COPY, whose layers have new times; the last step changes nothing.
  const std::string steps = "FROM busybox\nRUN mkdir -m 0700 /a && chown 7:8 /a && echo x > /a/b\n"
                            "ENV Z=1\nRUN rm -r /a; echo $Z > /c\nUSER nobody\nRUN id\n";

  const auto made = files_of(world->build_with_kaniko(world->job(steps), "same"));
  const auto taken = files_of(world->build_with_kaniko(world->job(steps), "same"));

  EXPECT_EQ(times_cached(world->said), 3U) << world->said;
  ASSERT_EQ(made.size() + 1, taken.size());
  EXPECT_TRUE(std::equal(made.begin(), made.end(), taken.begin()));
  EXPECT_EQ(taken.back(), empty_layer().digest.str());
}

TEST_F(KanikoBuild, ALayerThatIsMadeBesideLentOnesIsWhole) {
  for (const std::string file : {"/one", "/two", "/three"}) {
    const auto built = world->build_with_kaniko(
        world->job("FROM busybox\nRUN head -c 1048576 /dev/urandom >" + file +
                   "; ls -l /one /two /three; ls -l /dev/urandom\n"),
        "sizes");
    ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    const auto tree = oci::read_tree(*world->result, built->manifest);
    EXPECT_GT(tree->images.at(0).manifest.layers.back().size, 1048576U) << world->said;
  }
}

TEST_F(KanikoBuild, AnotherFileOrArgumentOrNoCacheRunsTheStepsAgain) {
  const std::string steps = "FROM busybox\nARG A\nCOPY hello of-this /d/\nRUN echo ran $A\n";
  const auto ran = [&](const std::string& argument, bool no_cache = false) {
    auto job = world->job(steps);
    job.build_args = {{"A", argument}};
    job.no_cache = no_cache;
    const auto built = world->build_with_kaniko(job, "inputs");
    EXPECT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
    return says("ran " + argument);
  };
  world->write("/builds/app/of-this", "1\n");

  EXPECT_TRUE(ran("1"));
  EXPECT_FALSE(ran("1")) << "the control";
  EXPECT_TRUE(ran("1", true)) << "asked to use no cache";
  EXPECT_FALSE(ran("1"));
  EXPECT_TRUE(ran("2")) << "another argument";
  world->write("/builds/app/of-this", "2\n");
  EXPECT_TRUE(ran("1")) << "another file";
}

// What Kaniko would take for the same: each of these makes another image the second time.
TEST_F(KanikoBuild, RunsEveryStepWhereItsKeysWouldNotTell) {
  world->in_build_sandbox("rm -rf /builds/app/d; mkdir /builds/app/d; echo 1 > /builds/app/d/a");
  for (const std::string dockerfile :
       {"FROM busybox\nCOPY d/* /d/\nRUN ls /d; echo ran\n",
        "FROM busybox AS one\nFROM one\nRUN echo ran\n",
        "FROM busybox\nWORKDIR /tmp\nRUN echo ran\n", "FROM onb:1\nRUN echo ran\n"}) {
    for (int time = 0; time < 2; ++time) {
      said_by_cached(dockerfile, "unsafe");
      EXPECT_TRUE(says("ran")) << dockerfile << world->said;
      EXPECT_NE(world->said.find("slipway: kaniko runs every step"), std::string::npos)
          << world->said;
    }
  }
}

TEST_F(KanikoBuild, ADamagedLayerIsThrownAwayAndTheBuildSucceeds) {
  const std::string steps = std::string{kRandom} + "RUN echo is $(cat /one)\n";
  (void)stores().discard("protected").ok();
  said_by_cached(kRandom, "damaged");
  std::size_t damaged = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator{world->layer_config().state_dir}) {
    if (!is_layer_key(entry.path().filename().string()) || entry.is_directory() ||
        entry.path().parent_path().filename() != "sha256")
      continue;
    const auto bytes = *read_file(entry.path(), 4UL << 20);
    if (!bytes.starts_with("\x1f\x8b")) continue;
    auto other = bytes;
    other[other.size() / 2] = static_cast<char>(other[other.size() / 2] ^ 0x10);
    ASSERT_TRUE(replace_file(entry.path(), other, 0444).ok());
    ++damaged;
  }
  ASSERT_GE(damaged, 3U);

  said_by_cached(steps, "damaged");

  EXPECT_NE(world->said.find("slipway: a layer of an earlier build is damaged"), std::string::npos)
      << world->said;
  EXPECT_NE(world->said.find("\nis "), std::string::npos) << world->said;
  said_by_cached(steps + "RUN true\n", "damaged");
  EXPECT_GE(times_cached(world->said), 3U) << "what the build made anew: " << world->said;
}

TEST_F(KanikoBuild, OfASpoiltStoreNothingIsUsedAndWhatBeganOnItComesNotIn) {
  said_by_cached(kRandom, "spoilt");
  said_by_cached(kRandom, "spoilt");
  EXPECT_EQ(times_cached(world->said), 3U) << "the control";

  ASSERT_TRUE(stores().spoil("spoilt").ok());
  said_by_cached(kRandom, "spoilt");
  EXPECT_EQ(times_cached(world->said), 0U) << world->said;

  auto job = world->job(std::string{kRandom} + "RUN echo now\n");
  job.progress = [](std::string_view text) {
    if (text == "now\n") (void)stores().spoil("spoilt").ok();
  };
  EXPECT_TRUE(world->build_with_kaniko(job, "spoilt").ok());
  said_by_cached(kRandom, "spoilt");
  EXPECT_EQ(times_cached(world->said), 0U) << world->said;
}

// Steps are root beside Kaniko, and write what it keeps. The control: what they forge is used by
// their own project and trust domain, which they fill anyway. It can only be a layer of the image
// that was taken over, under documents of slipway's own.
TEST_F(KanikoBuild, AStepChangesNoLayerThatItWasLentAndForgesForItsOwnDomainAlone) {
  said_by_cached(kRandom, "victim");
  said_by_cached(
      "FROM busybox\nRUN for d in /.slipway/cache:*; do cat $d/index.json > /dev/null && "
      "echo can read; echo x > $d/index.json && echo wrote; rm -r $d/blobs && echo "
      "removed; done; true\n",
      "victim");
  EXPECT_TRUE(says("can read")) << world->said;
  EXPECT_FALSE(says("wrote") || says("removed")) << world->said;
  said_by_cached(kRandom, "victim");
  EXPECT_EQ(times_cached(world->said), 3U) << world->said;

  // The key of a step of another build, which can be computed.
  const std::string asked = "FROM busybox\nRUN echo genuine > /what\nRUN echo is $(cat /what)\n";
  std::set<std::string> keys_before;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator{world->layer_config().state_dir})
    keys_before.insert(entry.path().filename().string());
  said_by_cached("FROM busybox\nRUN echo genuine > /what\n", "key");
  std::string key;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator{world->layer_config().state_dir})
    if (is_layer_key(entry.path().filename().string()) && entry.is_directory() &&
        !keys_before.contains(entry.path().filename().string()))
      key = entry.path().filename().string();
  ASSERT_NE(key, "");
  said_by_cached("FROM busybox\nRUN echo forged > /what\nRUN for i in $(seq 300); do own=$(ls -d "
                 "/.slipway/cache:*) && grep -q sha256 $own/index.json && break; sleep 0.1; done; "
                 "cp -r $own /.slipway/cache:" +
                     key + R"(; echo '{"level":"info","msg":"Pushing layer oci:/.slipway/cache:)" +
                     key + R"( to cache now"}' >&2; sleep 0.2)" + "\n",
                 "forger");

  said_by_cached(asked, "forger");
  EXPECT_TRUE(says("is forged")) << "the control: " << world->said;
  said_by_cached(asked, "victim");
  EXPECT_TRUE(says("is genuine")) << world->said;
}

} // namespace
} // namespace slipway::backends::kaniko
