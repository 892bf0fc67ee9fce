// SPDX-License-Identifier: Apache-2.0
#include "stages/image/routing.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slipway::image {
namespace {

const char* const kDockerfile = "FROM scratch\n\nHEALTHCHECK CMD curl -f localhost\n"
                                "SHELL [\"/bin/bash\", \"-c\"]\nUSER app\n";
const char* const kAll = R"("User":"app","Shell":["/bin/bash","-c"],)"
                         R"("Healthcheck":{"Test":["CMD-SHELL","curl -f localhost"]})";

// What a backend of this test does when it is asked to build.
struct Behaviour {
  std::string members = kAll; ///< of the config that it writes
  std::optional<Error> error;
  bool began = true;
  int busy_times = 0; ///< before it does that
};

class RoutingTest : public testing::Test {
protected:
  RoutingTest() : layout_{*oci::Layout::create(dir_.path() / "layout")} {
    job_.progress = [this](std::string_view text) { said_ += text; };
    job_.cancelled = [this] { return cancelled_; };
  }

  void add(const std::string& name, Behaviour behaviour) {
    backends::Descriptor descriptor;
    descriptor.name = name;
    descriptor.version = "1.2.3";
    wired_[name] = {descriptor, [](BuildPlace&) -> TryBuild { return {}; }};
    behaviours_[name] = std::move(behaviour);
  }

  Attempt attempt(const std::string& name) {
    asked_.push_back(name);
    auto& behaviour = behaviours_.at(name);
    if (behaviour.busy_times > 0) {
      --behaviour.busy_times;
      return {Error{ErrorKind::timed_out, "all 4 builders are in use", "", {}}, false, true};
    }
    if (behaviour.error) return {*behaviour.error, behaviour.began};
    const std::string config =
        R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},)"
        R"("config":{)" +
        behaviour.members + "}}";
    const auto digest = layout_.write_blob(config);
    return {backends::Built{*layout_.write_blob(
                R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
                R"("layers":[],"config":)" +
                fakes::descriptor_json("application/vnd.oci.image.config.v1+json", digest->str(),
                                       config.size()) +
                "}")},
            true};
  }

  Result<BuiltBy> build(const config::BackendPolicy& policy = {}) {
    const auto file = dockerfile::parse(kDockerfile);
    const auto set_up = descriptors_of(wired_);
    const auto decision = router::choose({}, set_up, policy, "p.toml:1");
    const Building building{
        decision,
        *file,
        scopes_,
        job_,
        [this](const std::string& name) -> Result<TryBuild> {
          return TryBuild{
              [this, name](const backends::BuildJob&, oci::Layout&) { return attempt(name); }};
        },
        set_up,
        [this](const std::string& failed, const std::string& next, const Error& why) -> Status {
          noted_ += failed + " > " + next + ": " + why.what + "\n";
          if (log_is_full_) return Error{ErrorKind::io, "no space", "", {}};
          return {};
        }};
    return build_by_decision(building, layout_);
  }

  fakes::TempDir dir_;
  oci::Layout layout_;
  backends::BuildJob job_;
  WiredBackends wired_;
  std::map<std::string, Behaviour> behaviours_;
  std::vector<std::string> asked_;
  std::vector<dockerfile::Scope> scopes_ = std::vector<dockerfile::Scope>(1);
  std::string said_;
  std::string noted_;
  bool log_is_full_ = false;
  bool cancelled_ = false;
};

Error gone() {
  return {ErrorKind::unavailable, "the daemon does not answer", "", {}};
}

TEST_F(RoutingTest, FirstChoiceBuildsWithoutAWord) {
  add("buildkit", {});
  add("buildah", {});

  const auto built = build();

  ASSERT_TRUE(built) << built.error().text();
  EXPECT_EQ(built->backend, "buildkit");
  EXPECT_EQ(built->because, "");
  EXPECT_EQ(said_, "");
  EXPECT_EQ(asked_, std::vector<std::string>{"buildkit"});
}

TEST_F(RoutingTest, AnotherChoiceIsSaidInTheBuildsOutput) {
  add("buildkit", {});
  add("buildah", {});
  config::BackendPolicy policy;
  policy.banned = {"buildkit"};

  const auto built = build(policy);

  ASSERT_TRUE(built);
  EXPECT_EQ(built->backend, "buildah");
  EXPECT_EQ(built->because, "policy (rule p.toml:1) forbids buildkit");
  EXPECT_EQ(said_, "slipway: built by buildah 1.2.3: policy (rule p.toml:1) forbids buildkit\n");
}

TEST_F(RoutingTest, OneThatIsBusyIsWaitedForAndTheJobIsToldOnce) {
  add("buildkit", {kAll, {}, true, 2});

  const auto built = build();

  ASSERT_TRUE(built) << built.error().text();
  EXPECT_EQ(said_, "slipway: waits: all 4 builders are in use\n");
  EXPECT_EQ(asked_.size(), 3U);
}

TEST_F(RoutingTest, OneThatIsBusyIsWaitedForThoughAnotherCouldBuild) {
  add("buildkit", {kAll, {}, true, 1});
  add("buildah", {});

  const auto built = build();

  ASSERT_TRUE(built) << built.error().text();
  EXPECT_EQ(built->backend, "buildkit");
  EXPECT_EQ(asked_, (std::vector<std::string>{"buildkit", "buildkit"}));
  EXPECT_EQ(noted_, "");
}

TEST_F(RoutingTest, OneThatCannotBeginOnceItIsFreeIsTakenOver) {
  add("buildkit", {kAll, gone(), false, 1});
  add("buildah", {});

  EXPECT_EQ(build()->backend, "buildah");
  EXPECT_EQ(asked_, (std::vector<std::string>{"buildkit", "buildkit", "buildah"}));
  EXPECT_EQ(noted_, "buildkit > buildah: the daemon does not answer\n");
}

TEST_F(RoutingTest, WaitingEndsWithTheBuildsTimeAndWithItsCancelling) {
  add("buildkit", {kAll, {}, true, 1000});
  add("buildah", {});
  job_.deadline = std::chrono::milliseconds{1};

  EXPECT_EQ(build().error().what, "all 4 builders are in use");
  EXPECT_EQ(asked_.size(), 1U);
  job_.deadline = std::chrono::hours{1};
  cancelled_ = true;
  EXPECT_EQ(build().error().what, "all 4 builders are in use");
  EXPECT_EQ(asked_.size(), 2U);
}

class SeveralPlatforms : public RoutingTest {
protected:
  SeveralPlatforms() : file_{*dockerfile::parse(kDockerfile)} {
    scopes_.assign(2, {});
    scopes_[0].target_platform = "linux/amd64";
    scopes_[1].target_platform = "linux/arm64";
  }
  /// An image whose config has these members.
  oci::Digest image(const std::string& members) {
    behaviours_["x"] = {members, {}, true};
    return attempt("x").built->manifest;
  }
  Error error_of(const oci::Digest& root) {
    auto kept = keeps_declarations(layout_, root, file_, scopes_, "b 1");
    return kept ? Error{ErrorKind::io, "none", "", {}} : kept.error();
  }
  dockerfile::Dockerfile file_;
};

TEST_F(SeveralPlatforms, EachHasWhatTheDockerfileDeclares) {
  const auto good = image(kAll);
  const auto bad = image(R"("User":"app","Shell":["/bin/bash","-c"])");

  EXPECT_EQ(error_of(fakes::write_index_of(layout_, good, good)).what, "none");
  const auto error = error_of(fakes::write_index_of(layout_, good, bad));
  EXPECT_NE(error.text().find("HEALTHCHECK"), std::string::npos) << error.text();
  EXPECT_NE(error.text().find("the image for linux/arm64"), std::string::npos) << error.text();
}

TEST_F(SeveralPlatforms, NoneIsMissingAndNoneIsMoreThanWasAskedFor) {
  const auto good = image(kAll);
  EXPECT_EQ(error_of(good).what, "b 1 made no image for linux/amd64, which was asked for");

  const auto index = fakes::write_index_of(layout_, good, good);
  scopes_[1].target_platform = "linux/s390x";
  EXPECT_EQ(error_of(index).what, "b 1 made no image for linux/s390x, which was asked for");
  scopes_[1].target_platform = "linux/arm64";
  auto text = layout_.read_blob(index, 4096).value();
  text.replace(
      text.find("]}"), 2,
      "," +
          fakes::descriptor_json(oci::kMediaTypeOciManifest, good.str(), *layout_.blob_size(good)) +
          "]}");
  EXPECT_EQ(error_of(*layout_.write_blob(text)).what,
            "b 1 made 3 manifests, and 2 images were asked for");
}

TEST_F(RoutingTest, BackendThatDropsTheHealthcheckIsCaughtNamingTheLine) {
  add("buildah", {R"("User":"app","Shell":["/bin/bash","-c"])", {}, true});

  const auto built = build();

  ASSERT_FALSE(built);
  EXPECT_EQ(built.error().kind, ErrorKind::internal);
  EXPECT_EQ(built.error().what, "Dockerfile:3: HEALTHCHECK: buildah 1.2.3 built an image that does "
                                "not have it");
}

TEST_F(RoutingTest, EverythingThatWasDroppedIsNamed) {
  add("buildah", {"", {}, true});

  EXPECT_EQ(build().error().what, "Dockerfile:3: HEALTHCHECK; Dockerfile:4: SHELL; Dockerfile:5: "
                                  "USER app: buildah 1.2.3 built an image that does not have it");
}

TEST_F(RoutingTest, WrongImageIsNotBuiltOnceMoreByAnother) {
  add("buildkit", {"", {}, true});
  add("buildah", {});

  EXPECT_FALSE(build());
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(RoutingTest, NobodyTakesOverWithoutANote) {
  add("buildkit", {kAll, gone(), false});
  add("buildah", {});
  log_is_full_ = true;

  EXPECT_EQ(build().error().what, "no space");
  EXPECT_EQ(asked_, std::vector<std::string>{"buildkit"});
}

TEST_F(RoutingTest, NobodyTakesOverWhereNoTimeIsLeft) {
  add("buildkit", {kAll, gone(), false});
  add("buildah", {});
  job_.deadline = std::chrono::milliseconds{0};

  EXPECT_EQ(build().error().what, "the daemon does not answer");
  EXPECT_EQ(asked_, std::vector<std::string>{"buildkit"});
}

TEST(WiredBackends, SayWhatTheRoutersTableKnowsAndNothingElse) {
  namespace buildah = backends::buildah;
  for (const auto& [tool, said] : {std::pair{buildah::Tool::buildah, "buildah version 1.28.2 (x)"},
                                   std::pair{buildah::Tool::podman, "podman version 4.3.1"}}) {
    const auto wired = wire_buildah(*buildah::parse_version(tool, said));
    for (const auto& word : wired.descriptor.capabilities)
      EXPECT_TRUE(router::traits().contains(word)) << word;
    EXPECT_TRUE(router::can(wired.descriptor, router::Feature::healthcheck).can);
    EXPECT_TRUE(router::can(wired.descriptor, router::Feature::network_none).can);
    EXPECT_FALSE(router::can(wired.descriptor, router::Feature::run_network_none).can);
  }
}

TEST_F(RoutingTest, NextOneTakesOverWhereTheFirstCouldNotBegin) {
  add("buildkit", {kAll, gone(), false});
  add("buildah", {});

  const auto built = build();

  ASSERT_TRUE(built);
  EXPECT_EQ(built->backend, "buildah");
  EXPECT_EQ(said_, "slipway: built by buildah 1.2.3: buildkit could not begin (the daemon does not "
                   "answer)\n");
  EXPECT_EQ(noted_, "buildkit > buildah: the daemon does not answer\n");
}

TEST_F(RoutingTest, NobodyTakesOverAfterTheFirstStep) {
  add("buildkit", {kAll, gone(), true});
  add("buildah", {});

  EXPECT_EQ(build().error().what, "the daemon does not answer");
  EXPECT_EQ(asked_, std::vector<std::string>{"buildkit"});
}

TEST_F(RoutingTest, NobodyTakesOverTheJobsOwnFault) {
  add("buildkit", {kAll, Error{ErrorKind::bad_input, "no such file", "", {}}, false});
  add("buildah", {});

  EXPECT_EQ(build().error().what, "no such file");
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(RoutingTest, NobodyTakesOverACancelledBuild) {
  add("buildkit", {kAll, gone(), false});
  add("buildah", {});
  cancelled_ = true;

  EXPECT_FALSE(build());
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(RoutingTest, PinHasNoSecond) {
  add("buildkit", {kAll, gone(), false});
  add("buildah", {});
  config::BackendPolicy policy;
  policy.pin = "buildkit";

  EXPECT_FALSE(build(policy));
  EXPECT_EQ(asked_.size(), 1U);
}

} // namespace
} // namespace slipway::image
