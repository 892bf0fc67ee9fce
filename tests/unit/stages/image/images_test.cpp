// SPDX-License-Identifier: Apache-2.0
// The ways of a push that end before slipway-push begins, and what is kept of them; builds and
// pushes that arrive need real programs (tests/e2e).
#include "executor/backends/buildkit/builder.hpp"
#include "executor/base/file.hpp"
#include "executor/sandbox/idle_places.hpp"
#include "stages/image/build_place.hpp"
#include "stages/image/images.hpp"
#include "stages/image/reports.hpp"
#include "stages/image/sessions.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/http2_server.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <sstream>
#include <thread>

namespace slipway::image {
namespace {
namespace fs = std::filesystem;

class ImagesTest : public testing::Test {
protected:
  ImagesTest() {
    engine_.home = engine_.runtime_dir = dir_.path();
    config_.slipway.state_dir = dir_.path() / "state";
    config_.registries.push_back({});
    config_.registries.back().host = "reg.example";
    config_.gate.trivy = dir_.path() / "no-scanner";
    config_.gate.db_dir = dir_.path() / "no-db";
    config_.programs.push = "/nonexistent/slipway-push";
    record_.key = "j1-aa";
    record_.project = "grp/app";
    record_.ref = "main";
    EXPECT_TRUE(folders_.create(record_.key));
  }
  Tools tools() { return {config_, podman_, folders_, audit_, clock_, "owner", {}}; }
  // A new one for each script of the job, as `run` makes it.
  std::unique_ptr<Images> images() {
    return std::make_unique<Images>(tools(), record_, std::vector<policy::Login>{});
  }
  /// Puts an image into the job's store, as a build would.
  oci::Digest stock(const std::string& name, unsigned seed = 1) {
    auto store = state::ImageStore::open(folders_.dir(record_.key) / "images");
    EXPECT_TRUE(store.ok()) << store.error().text();
    auto root = fakes::write_image(store->layout(), {3000}, seed);
    EXPECT_TRUE(store->add(root, {*oci::Reference::parse(name)}).ok());
    return root;
  }
  static Result<broker::PushOutcome> push(Images& images, const std::string& name) {
    return images.push(
        *oci::Reference::parse(name), [](std::string_view) {}, [] { return false; });
  }
  std::vector<nlohmann::json> audited(const std::string& event) const {
    std::vector<nlohmann::json> found;
    const auto text = read_file(dir_.path() / "audit.jsonl", 1UL << 20);
    std::istringstream lines{text.ok() ? *text : ""};
    for (std::string line; std::getline(lines, line);) {
      auto entry = nlohmann::json::parse(line);
      if (entry["event"] == event) found.push_back(std::move(entry));
    }
    return found;
  }

  fakes::TempDir dir_;
  config::Config config_;
  FixedClock clock_{WallTime{std::chrono::seconds{1700000000}}};
  sandbox::Engine engine_;
  fakes::FakeProcessRunner runner_;
  std::shared_ptr<fakes::FakePodmanApi> api_ = std::make_shared<fakes::FakePodmanApi>();
  sandbox::Podman podman_{engine_, runner_, api_};
  state::JobFolders folders_{dir_.path() / "state", dir_.path() / "run"};
  audit::FileAuditLog audit_{dir_.path() / "audit.jsonl", clock_};
  state::JobRecord record_;
};

/// What a command about working containers came to, and what it printed.
struct SessionSaid {
  Result<int> ended;
  std::string out;
};

SessionSaid order(Images& images, const std::string& verb,
                  std::vector<std::pair<std::string, std::string>> options = {},
                  std::vector<std::string> arguments = {}) {
  broker::SessionOrder asked;
  asked.verb = verb;
  asked.options = std::move(options);
  asked.arguments = std::move(arguments);
  std::string out;
  broker::SessionStreams streams;
  streams.out = [&](std::string_view bytes) { out += bytes; };
  streams.err = [](std::string_view) {};
  streams.cancelled = [] { return false; };
  auto ended = images.sessions().run(asked, streams);
  return {std::move(ended), out};
}

TEST_F(ImagesTest, AWorkingContainerNeedsABuildahOnTheHost) {
  auto images = this->images();

  const auto said = order(*images, "from", {}, {"scratch"});

  ASSERT_FALSE(said.ended.ok());
  EXPECT_EQ(said.ended.error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(audited("build_denied").size(), 1U);
  EXPECT_TRUE(api_->containers.empty());
}

TEST_F(ImagesTest, AWorkingContainerNeedsAPolicyThatAllowsBuildah) {
  config::Rule rule;
  rule.origin = "p.toml:1";
  rule.backends.banned = {"buildah"};
  config_.rules.push_back(rule);
  auto with_buildah = tools();
  with_buildah.backends.emplace("buildah", wire_buildah(backends::buildah::Program{}));
  Images images{with_buildah, record_, {}};

  const auto said = order(images, "from", {}, {"scratch"});

  ASSERT_FALSE(said.ended.ok());
  EXPECT_EQ(said.ended.error().kind, ErrorKind::denied);
  EXPECT_NE(said.ended.error().what.find("p.toml:1"), std::string::npos);
  ASSERT_EQ(audited("build_denied").size(), 1U);
  EXPECT_EQ(audited("build_denied")[0]["dialect"], "buildah from");
  EXPECT_TRUE(audited("session_start").empty());
  EXPECT_TRUE(api_->containers.empty());
}

TEST_F(ImagesTest, WhoMayTakeNoImageOutMayHaveNoneInAWorkingContainer) {
  config::Rule rule;
  rule.origin = "p.toml:1";
  rule.save = false;
  config_.rules.push_back(rule);
  auto with_buildah = tools();
  with_buildah.backends.emplace("buildah", wire_buildah(backends::buildah::Program{}));
  Images images{with_buildah, record_, {}};

  const auto said = order(images, "from", {}, {"reg.example/a:1"});

  ASSERT_FALSE(said.ended.ok());
  EXPECT_EQ(said.ended.error().kind, ErrorKind::denied);
  EXPECT_NE(said.ended.error().what.find("save"), std::string::npos) << said.ended.error().what;
  EXPECT_TRUE(api_->containers.empty());
}

TEST_F(ImagesTest, BeforeTheFirstWorkingContainerNothingIsStartedToLookForOne) {
  auto with_buildah = tools();
  with_buildah.backends.emplace("buildah", wire_buildah(backends::buildah::Program{}));
  Images images{with_buildah, record_, {}};

  const auto list = order(images, "containers");
  ASSERT_TRUE(list.ended.ok());
  EXPECT_TRUE(list.out.starts_with("CONTAINER ID")) << list.out;
  EXPECT_EQ(order(images, "containers", {{"quiet", "true"}}).out, "");
  EXPECT_EQ(order(images, "containers", {{"json", "true"}}).out, "null\n");
  EXPECT_TRUE(order(images, "rm", {{"all", "true"}}).ended.ok());
  const auto gone = order(images, "run", {}, {"c", "true"});
  ASSERT_FALSE(gone.ended.ok());
  EXPECT_EQ(gone.ended.error().kind, ErrorKind::not_found);
  EXPECT_EQ(gone.ended.error().what, "c: container not known");
  EXPECT_TRUE(api_->containers.empty());
  EXPECT_TRUE(audited("session_start").empty());
}

TEST_F(ImagesTest, ConfigsOfBasesAreAskedForWhereABuildWouldPullThemAlone) {
  const auto ask = [&](const char* name) {
    return this->images()->base_configs(*oci::Reference::parse(name), "").error();
  };

  const auto local = ask("localhost:5000/x:1");
  EXPECT_EQ(local.kind, ErrorKind::denied);
  EXPECT_NE(local.what.find("an address of the runner itself"), std::string::npos) << local.what;
  const auto control = ask("open.example/x:1");
  EXPECT_NE(control.kind, ErrorKind::denied) << "slipway-push, which is not there, was started";
  config_.sandbox.egress.mode = "none";
  const auto closed = ask("open.example/x:1");
  EXPECT_EQ(closed.kind, ErrorKind::denied);
  EXPECT_NE(closed.what.find("its network is closed"), std::string::npos) << closed.what;
  config_.sandbox.egress = {"allowlist", {}, true};
  EXPECT_NE(ask("open.example/x:1").kind, ErrorKind::denied);
  EXPECT_FALSE(fs::exists(policy::learned_dir(config_))) << "nobody's job asked";
}

TEST_F(ImagesTest, TheIdOfAnOwnImageIsNoNameForARegistry) {
  auto store = state::ImageStore::open(folders_.dir(record_.key) / "images");
  ASSERT_TRUE(store);
  const auto own = store->add(fakes::write_image(store->layout(), {3000}, 1), {});
  ASSERT_TRUE(own);
  const auto id = own->image_id.hex();
  for (const auto& name : {id, id.substr(0, 12), "sha256:" + id}) {
    const auto found = store->find(name);
    ASSERT_TRUE(found) << name;
    EXPECT_FALSE(name_of_base(name, &*found)) << name;
  }

  const auto tag = *oci::Reference::parse("reg.example/a:1");
  ASSERT_TRUE(store->tag(id, tag));
  const auto tagged = store->find(id);
  ASSERT_TRUE(tagged);
  EXPECT_EQ(name_of_base(id.substr(0, 12), &*tagged), tag);
  EXPECT_EQ(name_of_base("reg.example/a:1", &*tagged), tag);
  EXPECT_EQ(name_of_base("abcdef", nullptr), *oci::Reference::parse("abcdef")) << "no own image";
}

TEST(WorkingContainer, IsFoundByNameAndByTheBeginningOfItsId) {
  const std::string list = "5d39 working-container\neaab   5d\n";

  EXPECT_EQ(find_container(list, "working-container"), "5d39");
  EXPECT_EQ(find_container(list, "ea"), "eaab");
  EXPECT_EQ(find_container(list, "5d"), "eaab") << "names come first";
  for (const char* other : {"", "working", "aab", "eaabb"})
    EXPECT_EQ(find_container(list, other), "") << other;
  EXPECT_EQ(find_container("", "a"), "");
  EXPECT_EQ(find_container(list + "ea00 third\n", "ea"), "") << "two begin so";
  EXPECT_EQ(find_container(list + "ea00 third\n", "eaa"), "eaab");
}

TEST_F(ImagesTest, ASessionHasOfTheBaseImagesWhatItWasGivenAndKeepsIt) {
  auto bases = oci::Layout::create(dir_.path() / "bases");
  auto mine = oci::Layout::create(dir_.path() / "mine");
  ASSERT_TRUE(bases && mine);
  const auto taken = fakes::write_image(*bases, {3000}, 1);
  const auto other = fakes::write_image(*bases, {3000}, 2);

  ASSERT_TRUE(give_image(*bases, taken, *mine));
  fs::remove_all(bases->path());

  const auto tree = oci::read_tree(*mine, taken);
  ASSERT_TRUE(tree) << tree.error().text();
  for (const auto& blob : tree->blobs)
    EXPECT_TRUE(mine->has_blob(blob.digest, blob.size));
  EXPECT_EQ(mine->blobs(100)->size(), tree->blobs.size());
  EXPECT_FALSE(mine->has_blob(other));
}

TEST_F(ImagesTest, WhatTheJobDoesNotHaveIsNotPushed) {
  auto images = this->images();

  const auto pushed = push(*images, "reg.example/grp/app:1");

  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().kind, ErrorKind::not_found);
  EXPECT_EQ(images->summary(), "");
}

TEST_F(ImagesTest, WhatPolicyForbidsIsRefusedBeforeAnythingIsScanned) {
  const auto digest = stock("other.example/grp/app:1");
  auto images = this->images();

  const auto pushed = push(*images, "other.example/grp/app:1");

  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().kind, ErrorKind::denied);
  const auto denied = audited("push_denied");
  ASSERT_EQ(denied.size(), 1U);
  EXPECT_EQ(denied[0]["digest"], digest.str());
  EXPECT_EQ(denied[0]["job"], "j1-aa");
  EXPECT_NE(images->summary().find("refused  other.example/grp/app:1"), std::string::npos);
  EXPECT_TRUE(audited("gate_rejected").empty());
  EXPECT_TRUE(api_->asked.empty());
  EXPECT_TRUE(runner_.seen.empty());
}

TEST_F(ImagesTest, WhatWasRefusedStandsInTheAuditLogWithoutMaskedValues) {
  stock("other.example/grp/hidden-4711:1");
  const auto refused_with = [&](std::function<std::string(std::string_view)> masked) {
    auto masking = tools();
    masking.masked = std::move(masked);
    Images images{masking, record_, {}};
    EXPECT_FALSE(push(images, "other.example/grp/hidden-4711:1").ok());
    return audited("push_denied").back().dump();
  };

  const auto shown = refused_with(nullptr);
  const auto masked = refused_with([](std::string_view text) {
    std::string rest{text};
    for (auto at = rest.find("hidden-4711"); at != std::string::npos; at = rest.find("hidden-4711"))
      rest.replace(at, 11, "[MASKED]");
    return rest;
  });

  EXPECT_NE(shown.find("hidden-4711"), std::string::npos);
  EXPECT_EQ(masked.find("hidden-4711"), std::string::npos) << masked;
  EXPECT_NE(masked.find("other.example/grp/[MASKED]:1"), std::string::npos) << masked;
}

TEST_F(ImagesTest, WhatPolicyForbidsIsSaidOnceAPlaceAndOfSoManyPlaces) {
  const auto digest = stock("other.example/grp/app:1");
  auto images = this->images();

  for (int i = 0; i < 100; ++i) {
    const auto name = "other.example/grp/app:" + std::to_string(i / 2);
    ASSERT_TRUE(images->tag(digest.str(), *oci::Reference::parse(name)).ok());
    EXPECT_EQ(push(*images, name).error().kind, ErrorKind::denied);
  }
  EXPECT_EQ(audited("push_denied").size(), 50U);
  for (int i = 50; i < 80; ++i) {
    const auto name = "other.example/grp/app:" + std::to_string(i);
    ASSERT_TRUE(images->tag(digest.str(), *oci::Reference::parse(name)).ok());
    EXPECT_EQ(push(*images, name).error().kind, ErrorKind::denied);
  }
  EXPECT_EQ(audited("push_denied").size(), 65U); // the last says that there were more
}

TEST_F(ImagesTest, AGateThatCannotJudgeLetsNothingThroughAndIsRemembered) {
  const auto digest = stock("reg.example/grp/app:1");
  auto images = this->images();

  const auto pushed = push(*images, "reg.example/grp/app:1");

  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().kind, ErrorKind::unavailable) << pushed.error().text();
  const auto rejected = audited("gate_rejected");
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_EQ(rejected[0]["digest"], digest.str());
  EXPECT_GE(std::stoi(rejected[0]["gate_ms"].get<std::string>()), 0);
  const auto summary = images->summary();
  EXPECT_NE(summary.find("refused  reg.example/grp/app:1"), std::string::npos) << summary;
  EXPECT_NE(summary.find("digest   " + digest.str()), std::string::npos) << summary;
  EXPECT_NE(summary.find("nothing was sent; audit head " + rejected[0]["hash"].get<std::string>()),
            std::string::npos)
      << summary;
  EXPECT_TRUE(audited("push_intent").empty());
  // For the job's reports, and for `slipway why` later.
  EXPECT_TRUE(images->reports(*oci::Reference::parse("reg.example/grp/app:1")).ok());
  EXPECT_TRUE(Reports{config_.slipway.state_dir}.find(digest.str()).ok());
}

TEST_F(ImagesTest, WhatIsSavedIsWrittenDownOnceAnImageAndForSoManyOfThem) {
  const auto digest = stock("app:1");
  stock("app:2", 2);
  auto images = this->images();
  const auto save = [&](const std::vector<std::string>& names) {
    return images->save(names, Images::Taker::job, [](std::string_view) { return Status{}; });
  };

  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(save({"app:1"}).ok());
  EXPECT_EQ(audited("save").size(), 1U);
  EXPECT_EQ(audited("save")[0]["digest"], digest.str());
  ASSERT_TRUE(save({"app:1", "app:2"}).ok());
  EXPECT_EQ(audited("save").size(), 2U);

  for (unsigned seed = 3; seed < 263; ++seed) {
    stock("app:more", seed);
    ASSERT_TRUE(save({"app:more"}).ok());
  }
  EXPECT_EQ(audited("save").size(), 257U); // the last says that there were more
  EXPECT_TRUE(audited("save").back().contains("more"));
}

TEST_F(ImagesTest, ARuleKeepsImagesFromLeavingAsFilesAndNotFromTheJobsEngine) {
  stock("app:1");
  const auto taken = [&](Images::Taker taker) {
    return images()->save({"app:1"}, taker, [](std::string_view) { return Status{}; });
  };
  const auto files = [&] {
    return images()->files(
        "app:1", [](std::string_view) { return Status{}; }, [] { return false; });
  };
  EXPECT_TRUE(taken(Images::Taker::job).ok());
  EXPECT_NE(files().error().kind, ErrorKind::denied); // no slipway-gate is here
  config::Rule rule;
  rule.origin = "p.toml:3";
  rule.project = "grp/*";
  rule.save = false;
  config_.rules.push_back(rule);

  const auto saved = taken(Images::Taker::job);

  ASSERT_FALSE(saved.ok());
  EXPECT_EQ(saved.error().kind, ErrorKind::denied);
  EXPECT_NE(saved.error().what.find("(save = false in rule p.toml:3)"), std::string::npos);
  EXPECT_EQ(files().error().what, saved.error().what);
  EXPECT_TRUE(taken(Images::Taker::engine).ok());
}

TEST_F(ImagesTest, NoReportIsGivenOnWhatWasNotPushed) {
  stock("reg.example/grp/app:1");

  EXPECT_FALSE(images()->reports(*oci::Reference::parse("reg.example/grp/app:1")).ok());
}

TEST_F(ImagesTest, AreTheJobsOwnFromOneScriptToTheNext) {
  stock("reg.example/grp/app:1");
  ASSERT_TRUE(images()->tag("reg.example/grp/app:1", *oci::Reference::parse("app:two")).ok());

  auto next = images();

  EXPECT_TRUE(next->find("app:two").ok());
  auto listed = next->list();
  ASSERT_TRUE(listed.ok()) << listed.error().text();
  EXPECT_EQ(listed->size(), 1U);
  EXPECT_TRUE(next->remove("app:two", false).ok());
  EXPECT_FALSE(next->find("app:two").ok());
  EXPECT_TRUE(next->find("reg.example/grp/app:1").ok());
  record_.key = "j2-bb";
  ASSERT_TRUE(folders_.create(record_.key));
  EXPECT_FALSE(images()->find("reg.example/grp/app:1").ok()) << "another job's";
}

class IndexOfAJob : public ImagesTest {
protected:
  using Start = broker::IndexRequest::Start;
  static broker::IndexPart part(const std::string& image,
                                broker::IndexPart::Take take = broker::IndexPart::Take::manifest) {
    broker::IndexPart one;
    one.image = image;
    one.take = take;
    return one;
  }
  Result<broker::Manifest> edit(Start start, std::vector<broker::IndexPart> add,
                                const std::string& name = "reg.example/grp/app:list") {
    broker::IndexRequest request;
    request.names = {*oci::Reference::parse(name)};
    request.start = start;
    request.add = std::move(add);
    return images()->edit_index(
        request, [](std::string_view) {}, [] { return false; });
  }
};

TEST_F(IndexOfAJob, IsAnImageOfTheJobUnderItsName) {
  const auto one = stock("reg.example/grp/app:1");
  const auto two = stock("reg.example/grp/app:2", 2);

  const auto made = edit(Start::absent, {part("reg.example/grp/app:1")});
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->media_type, oci::kMediaTypeOciIndex);
  EXPECT_EQ(edit(Start::absent, {part(two.str())}).error().kind, ErrorKind::bad_input)
      << "it is there";
  const auto more = edit(Start::amend, {part("reg.example/grp/app:2")});
  ASSERT_TRUE(more) << more.error().text();
  EXPECT_NE(more->json.find(one.str()), std::string::npos);
  EXPECT_NE(more->json.find(two.str()), std::string::npos);

  EXPECT_EQ(images()->manifest("reg.example/grp/app:list", false)->digest, more->digest);
  const auto child = images()->manifest("reg.example/grp/app:list@" + one.str(), false);
  ASSERT_TRUE(child) << child.error().text();
  EXPECT_EQ(oci::Digest::of(child->json), one);
  EXPECT_EQ(images()
                ->manifest("reg.example/grp/app:list@" + oci::Digest::of("x").str(), false)
                .error()
                .kind,
            ErrorKind::not_found);
  EXPECT_EQ(images()->find("reg.example/grp/app:list")->media_type, oci::kMediaTypeOciIndex);
  EXPECT_EQ(edit(Start::amend, {part("reg.example/grp/app:list")}, "other:1").error().what,
            "reg.example/grp/app:list is a manifest list");
  EXPECT_TRUE(edit(Start::fresh,
                   {part("reg.example/grp/app:list", broker::IndexPart::Take::platform)}, "other:1")
                  .ok());
  EXPECT_EQ(edit(Start::existing, {}, "reg.example/grp/app:1").error().kind, ErrorKind::not_found)
      << "an image is no list";
}

TEST_F(IndexOfAJob, AnIndexAloneIsTakenAsItIsWhereThatIsAsked) {
  stock("app:1");
  const auto list = edit(Start::fresh, {part("app:1")}, "app:list");
  ASSERT_TRUE(list);
  broker::IndexRequest request;
  request.names = {*oci::Reference::parse("app:copy")};
  request.copy_index = true;
  request.add = {part("app:list", broker::IndexPart::Take::all)};

  const auto copied = images()->edit_index(
      request, [](std::string_view) {}, [] { return false; });

  ASSERT_TRUE(copied) << copied.error().text();
  EXPECT_EQ(copied->digest, list->digest);
  auto changed = request;
  changed.annotations = {{"k", "v"}};
  changed.platforms = {{"amd64", "linux", ""}};
  const auto annotated = images()->edit_index(
      changed, [](std::string_view) {}, [] { return false; });
  ASSERT_TRUE(annotated) << annotated.error().text();
  EXPECT_NE(annotated->digest, list->digest);
  EXPECT_NE(annotated->json.find(R"("annotations":{"k":"v"})"), std::string::npos);
  request.names = {*oci::Reference::parse("app:dry")};
  request.dry_run = true;
  EXPECT_TRUE(images()
                  ->edit_index(
                      request, [](std::string_view) {}, [] { return false; })
                  .ok());
  EXPECT_FALSE(images()->find("app:dry").ok());
}

TEST_F(IndexOfAJob, OfWhatPolicyDoesNotLetItPullIsNotMade) {
  config_.buildkit.allowed_bases = {"reg.example/base/*"};

  EXPECT_EQ(edit(Start::fresh, {part("other.example/app:1")}).error().kind, ErrorKind::denied);
  EXPECT_EQ(images()->manifest("other.example/app:1", true).error().kind, ErrorKind::denied);
}

TEST_F(IndexOfAJob, WithoutAnImageIsNotPushed) {
  ASSERT_TRUE(edit(Start::absent, {}));

  auto service = images();
  EXPECT_FALSE(push(*service, "reg.example/grp/app:list").ok());
}

TEST_F(ImagesTest, ARuleThatWantsASignatureIsNotServedWithoutAKey) {
  stock("reg.example/grp/app:1");
  config::Rule rule;
  rule.project = "*";
  rule.sign = true;
  config_.rules.push_back(rule);
  auto images = this->images();

  const auto pushed = push(*images, "reg.example/grp/app:1");

  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().kind, ErrorKind::misconfigured) << pushed.error().text();
  EXPECT_NE(pushed.error().hint.find("key_file"), std::string::npos);
}

class QuarantineOfAJob : public ImagesTest {
protected:
  QuarantineOfAJob() {
    config::Rule rule;
    rule.project = "*";
    rule.registry_endpoint = true;
    config_.rules.push_back(rule);
  }
  /// The job's images with its endpoint open, and an image in its quarantine.
  std::unique_ptr<Images> open() {
    auto images = this->images();
    auto endpoint = images->registry_endpoint(
        [this](std::string_view line) { said_ += std::string{line} + "\n"; });
    EXPECT_TRUE(endpoint.ok() && *endpoint != nullptr);
    return images;
  }
  oci::Layout layout() {
    return *oci::Layout::open(folders_.dir(record_.key) / "quarantine/layout");
  }
  static Status push(Images& images, const std::string& name, const oci::Digest& digest) {
    return images.push_quarantined(*oci::Reference::parse(name), digest, [] { return false; });
  }
  std::string said_;
};

TEST_F(ImagesTest, AJobHasNoRegistryEndpointUnlessARuleSaysSo) {
  auto endpoint = images()->registry_endpoint([](std::string_view) {});

  ASSERT_TRUE(endpoint.ok());
  EXPECT_EQ(*endpoint, nullptr);
  EXPECT_FALSE(fs::exists(folders_.dir(record_.key) / "quarantine"));
}

TEST_F(QuarantineOfAJob, IsJudgedAsAnyPushIsAndToldOfInTheJobLog) {
  auto images = open();
  auto quarantine = layout();
  const auto digest = fakes::write_image(quarantine, {3000}, 1);

  const auto pushed = push(*images, "reg.example/grp/app:1", digest);

  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().kind, ErrorKind::unavailable) << pushed.error().text();
  EXPECT_EQ(audited("gate_rejected").size(), 1U);
  EXPECT_TRUE(audited("push_intent").empty());
  EXPECT_NE(images->summary().find("refused  reg.example/grp/app:1"), std::string::npos);
  EXPECT_NE(said_.find("reg.example/grp/app:1 was not pushed\n"), std::string::npos) << said_;
  EXPECT_TRUE(images->list()->empty()) << "it is none of the job's images";
}

TEST_F(QuarantineOfAJob, IsForThePlacesThatPolicyNames) {
  auto images = open();
  auto quarantine = layout();
  const auto digest = fakes::write_image(quarantine, {3000}, 1);

  EXPECT_TRUE(images->may_push(*oci::Reference::parse("reg.example/grp/app")).ok());
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(images->may_push(*oci::Reference::parse("other.example/grp/app")).error().kind,
              ErrorKind::denied);
  EXPECT_EQ(audited("push_denied").size(), 1U) << "told once";
  EXPECT_EQ(push(*images, "other.example/grp/app:1", digest).error().kind, ErrorKind::denied);
  EXPECT_EQ(images->registry_at("reg.example"), "reg.example");
  EXPECT_EQ(images->registry_at("other.example"), std::nullopt);
}

TEST_F(QuarantineOfAJob, TellsOfSoManyRefusedRepositoriesAndRefusesTheOthersToo) {
  auto images = open();

  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(images->may_push(*oci::Reference::parse("other.example/app" + std::to_string(i)))
                  .error()
                  .kind,
              ErrorKind::denied);

  EXPECT_EQ(audited("push_denied").size(), 65U); // the last says that there were more
  const auto summary = images->summary();
  EXPECT_NE(summary.find("refused  other.example/app63\n"), std::string::npos);
  EXPECT_EQ(summary.find("other.example/app64"), std::string::npos);
  EXPECT_EQ(said_.find("other.example/app64"), std::string::npos);
}

TEST_F(QuarantineOfAJob, IsNotJudgedWhereItCannotBeRead) {
  auto images = open();
  auto quarantine = layout();
  const auto digest = fakes::write_image(quarantine, {3000}, 1);
  const auto tree = oci::read_tree(quarantine, digest);
  fs::remove(quarantine.blob_path(tree->images.at(0).manifest.config.digest));

  const auto pushed = push(*images, "reg.example/grp/app:1", digest);

  ASSERT_FALSE(pushed.ok());
  for (const auto* event : {"gate_rejected", "gate_error", "push_intent"})
    EXPECT_TRUE(audited(event).empty()) << event;
  EXPECT_EQ(images->summary(), "");
}

TEST_F(ImagesTest, ASummaryHasAnEndAndSaysHowManyPushesItLeavesOut) {
  stock("reg.example/grp/app:1");
  auto images = this->images();

  for (int i = 0; i < 103; ++i)
    EXPECT_FALSE(push(*images, "reg.example/grp/app:1").ok()); // there is no scanner

  const auto summary = images->summary();
  std::size_t told = 0;
  for (auto at = summary.find("refused  "); at != std::string::npos;
       at = summary.find("refused  ", at + 1))
    ++told;
  EXPECT_EQ(told, 100U);
  EXPECT_NE(summary.find("and 3 more pushes, which the audit log has\n"), std::string::npos);
  EXPECT_EQ(audited("gate_rejected").size(), 103U);
}

TEST_F(QuarantineOfAJob, HoldsStatementsUntilTheirIndexComesAndSaysSo) {
  auto images = open();
  auto quarantine = layout();
  const std::string statement = R"({"_type":"https://in-toto.io/Statement/v0.1"})";
  const auto blob = *quarantine.write_blob(statement);
  const auto manifest = *quarantine.write_blob(
      std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciManifest +
      "\",\"config\":" +
      fakes::descriptor_json("application/vnd.oci.empty.v1+json", blob.str(), statement.size()) +
      ",\"layers\":[" +
      fakes::descriptor_json("application/vnd.in-toto+json", blob.str(), statement.size()) + "]}");

  EXPECT_TRUE(push(*images, "reg.example/grp/app@" + manifest.str(), manifest).ok());

  EXPECT_NE(images->summary().find("held     reg.example/grp/app@"), std::string::npos);
  EXPECT_TRUE(audited("push_intent").empty());
  EXPECT_FALSE(push(*images, "reg.example/grp/app:1", manifest).ok()) << "by a tag it is judged";
}

std::string pid_that_is_gone() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = 0;
  (void)::waitpid(child, &status, 0);
  return std::to_string(child);
}

TEST_F(ImagesTest, WhatAKilledScanLeftIsCollectedAndALivingScanStays) {
  const auto gate = config_.slipway.state_dir / "gate";
  const auto gone = pid_that_is_gone();
  const auto alive = std::to_string(::getpid());
  for (const auto& name : {"scan-" + gone + "-aaaaaa", "scan-" + alive + "-bbbbbb",
                           std::string{"scan-cccccc"}, std::string{"verdicts"}})
    fs::create_directories(gate / name);
  api_->containers["slipway-scan-x"] = {
      {{"labels",
        {{"io.slipway.role", "scanner"}, {"io.slipway.owner", "owner"}, {"io.slipway.pid", gone}}}},
      true,
      "id-x"};

  const auto collected = collect_leftovers(tools(), Leftovers::old);

  ASSERT_TRUE(collected.ok()) << collected.error().text();
  EXPECT_FALSE(fs::exists(gate / ("scan-" + gone + "-aaaaaa")));
  EXPECT_TRUE(fs::exists(gate / ("scan-" + alive + "-bbbbbb")));
  EXPECT_TRUE(fs::exists(gate / "scan-cccccc")) << "nobody knows whose: kept until it is old";
  EXPECT_TRUE(fs::exists(gate / "verdicts"));
  EXPECT_EQ(api_->removed, std::vector<std::string>{"slipway-scan-x"});
}

// Its script may sleep for hours, and builders are few.
TEST_F(ImagesTest, AJobThatBuildsNothingHoldsNoBuilder) {
  const auto folder = config_.slipway.state_dir / "builders";
  const auto id = backends::buildkit::names_for("domain", "owner").id;
  std::unique_ptr<fakes::Http2Server> daemon;
  api_->on_start = [&](const std::string&) {
    daemon = std::make_unique<fakes::Http2Server>(folder / id / "socket/buildkitd.sock");
  };
  api_->instead = [](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (request.body.find("slipway-j1-aa-build") == std::string::npos) return std::nullopt;
    return fakes::FakePodmanApi::trouble(500, "the build's own sandbox does not start");
  };
  const auto is_free = [&](std::chrono::milliseconds patience) {
    const auto lock = lock_file(folder / id / "use.lock", LOCK_EX, patience);
    return lock.ok() && lock->get() >= 0;
  };
  const auto tools = this->tools();
  BuildPlace place{tools, record_, "domain", "domain"};
  {
    const BuildPlace::Use use{place};
    const auto opened = place.open(BuildPlace::Builder::beside);
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.error().text().find("starting the build sandbox"), std::string::npos)
        << opened.error().text();
    int looked = 0; // the control
    while (is_free(std::chrono::milliseconds{0}) && ++looked < 1000)
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    EXPECT_LT(looked, 1000);
  }

  EXPECT_TRUE(is_free(std::chrono::seconds{10}));
}

TEST_F(ImagesTest, WhatTellsOfAKilledScanStaysUntilItsSandboxIsRemoved) {
  const auto folder =
      config_.slipway.state_dir / "gate" / ("scan-" + pid_that_is_gone() + "-aaaaaa");
  fs::create_directories(folder);
  bool is_down = true;
  api_->instead = [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (!is_down || !request.target.starts_with("/containers/json")) return std::nullopt;
    return fakes::FakePodmanApi::trouble(500, "busy");
  };

  EXPECT_FALSE(collect_leftovers(tools(), Leftovers::old).ok());
  EXPECT_TRUE(fs::exists(folder));
  is_down = false;
  EXPECT_TRUE(collect_leftovers(tools(), Leftovers::old).ok());
  EXPECT_FALSE(fs::exists(folder));
}

TEST(ScannerConfig, LimitsTheScannerAsJobsAreLimitedButNotBelowWhatAScanNeeds) {
  config::Config config;
  EXPECT_EQ(scanner_config(config.gate, config).limits.memory_bytes, 0U);
  config.sandbox.cpus = 1.5;
  config.sandbox.memory_bytes = 64UL << 20;

  const auto small = scanner_config(config.gate, config);
  config.sandbox.memory_bytes = 8ULL << 30;
  const auto large = scanner_config(config.gate, config);

  EXPECT_EQ(small.limits.memory_bytes, 2ULL << 30);
  EXPECT_EQ(small.limits.cpus, 1.5);
  EXPECT_EQ(large.limits.memory_bytes, 8ULL << 30);
}

} // namespace
} // namespace slipway::image
