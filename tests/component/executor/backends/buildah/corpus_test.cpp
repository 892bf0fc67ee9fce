// SPDX-License-Identifier: Apache-2.0
// Every case of tests/corpus, built by each backend that may build it: what the case says has to be
// in the image, and all images have to be the same. See tests/corpus/README.md.
#include "executor/base/file.hpp"
#include "executor/router/choice.hpp"
#include "executor/router/requirements.hpp"
#include "tests/component/executor/backends/buildah/world.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace slipway::backends::buildah {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = fs::path{SLIPWAY_SOURCE_DIR} / "tests/corpus";
const std::string kCompare = std::string{SLIPWAY_SOURCE_DIR} + "/tests/lib/compare_images.py";

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator{kCorpus})
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Corpus : public testing::TestWithParam<std::string> {
protected:
  static void SetUpTestSuite() {
    if (World::why_not().empty()) world = std::make_unique<World>();
  }
  static void TearDownTestSuite() { world.reset(); }
  void SetUp() override {
    if (!world) SLIPWAY_SKIP(World::why_not());
    ASSERT_EQ(world->problem, "");
  }

  /// "" where the program says that all is well, else its words.
  static std::string compare(std::vector<std::string> words) {
    process::Command command;
    command.argv = {"/usr/bin/python3", kCompare};
    command.argv.insert(command.argv.end(), words.begin(), words.end());
    auto ran = world->runner.run(command);
    if (!ran) return ran.error().text();
    return process::succeeded(ran->ending) ? "" : ran->out + ran->err;
  }
  static Result<Built> build_with(const std::string& backend, const BuildJob& job) {
    world->said.clear();
    if (backend == "kaniko") {
      if (World::kaniko_executor().empty())
        return Error{ErrorKind::not_found, "no Kaniko here", "", {}};
      return world->build_with_kaniko(job);
    }
    if (backend == "dind") return world->build_with_dind(job);
    if (backend != "buildkit")
      return world->build(job, backend == "podman" ? Tool::podman : Tool::buildah);
    BuildBackend* const kit = world->buildkit();
    if (kit == nullptr) return Error{ErrorKind::not_found, "no BuildKit here", "", {}};
    return kit->build(job, *world->result);
  }

  /// Why the router gives a backend no such build; "" where it does.
  static std::string against(const Descriptor& descriptor, const fs::path& folder,
                             const BuildJob& job) {
    const auto file = dockerfile::parse(read_file(folder / "Dockerfile", 1UL << 20).value());
    router::BaseConfigs configs;
    for (const auto& base : world->base_images) {
      auto name = base.familiar_name;
      if (name.ends_with(":latest")) name.resize(name.size() - 7);
      configs[name] = *oci::read_tree(*world->bases, base.digest)->images.at(0).config;
    }
    router::Flags flags;
    flags.scope.build_args = job.build_args;
    flags.scope.target = job.target;
    for (const auto& label : job.labels)
      flags.labels.push_back(label.first);
    router::Context context;
    context.ignore_file = fs::exists(folder / ".dockerignore");
    context.dockerfile_ignore_file = fs::exists(folder / "Dockerfile.dockerignore");
    context.container_ignore_file = fs::exists(folder / ".containerignore");
    for (const auto& source : router::literal_sources(*file)) {
      const auto status = fs::symlink_status(folder / source);
      if (fs::exists(status)) context.sources[source] = router::kind_of(status);
    }
    const auto wanted = router::requirements(*file, configs, context, flags);
    std::string reasons;
    for (const auto& one : *wanted)
      if (!router::can(descriptor, one.feature).can)
        reasons += router::reason_against(descriptor, one) + "\n";
    return reasons;
  }

  static std::unique_ptr<World> world;
};
std::unique_ptr<World> Corpus::world;

TEST_P(Corpus, IsTheSameFromEveryBackend) {
  const fs::path folder = kCorpus / GetParam();
  const auto facts =
      nlohmann::json::parse(read_file(folder / "case.json", 1UL << 20).value(), nullptr, false);
  ASSERT_TRUE(facts.is_object()) << folder << "/case.json";
  const fs::path copy = world->dir / "case";
  fs::remove_all(copy);
  fs::copy(folder, copy, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  if (fs::exists(copy / "prepare")) {
    process::Command prepare;
    prepare.argv = {(copy / "prepare").string()};
    prepare.env = {{"PATH", "/usr/bin:/bin"}};
    prepare.cwd = copy;
    const auto ran = world->runner.run(prepare);
    ASSERT_TRUE(ran.ok() && process::succeeded(ran->ending)) << ran->err;
  }
  auto job = world->job("");
  world->bring(copy, "/builds/app");
  job.target = facts.value("target", "");
  const auto args = facts.value("args", nlohmann::json::object());
  const auto labels = facts.value("labels", nlohmann::json::object());
  const auto refused = facts.value("refused", nlohmann::json::object());
  const auto differs = facts.value("differs", nlohmann::json::object());
  for (const auto& [name, value] : args.items())
    job.build_args.emplace_back(name, value.get<std::string>());
  for (const auto& [name, value] : labels.items())
    job.labels.emplace_back(name, value.get<std::string>());

  const auto layout = world->result->path().string();
  std::string first;
  for (const auto& backend : facts.at("backends").get<std::vector<std::string>>()) {
    const auto built = build_with(backend, job);
    if (!built && built.error().kind == ErrorKind::not_found) continue;
    ASSERT_TRUE(built.ok()) << backend << ": " << built.error().text() << "\n" << world->said;
    const auto digest = built->manifest.str();
    (void)world->config_of(built->manifest); // every blob and diff id
    EXPECT_EQ(compare({"--check", (folder / "case.json").string(), layout, digest}), "")
        << "what " << backend << " built is not what the case says";
    std::string known; // what is told of it in docs/backends.md
    for (const auto& line : differs.value(backend, std::vector<std::string>{}))
      known += line + "\n";
    if (!first.empty())
      EXPECT_EQ(compare({layout, first, layout, digest}), known)
          << "the first backend's image and that of " << backend << " differ";
    else
      first = digest;
  }
  // Docker's builder is asked wherever the router allows it: the others' image is the measure.
  // A newer one is asked for what it alone can.
  bool has_dind = false;
  for (const auto& tools : {fs::path{}, World::newer_dockerd()}) {
    const auto daemon = dockerd::find_daemon(tools);
    if (daemon.empty() || has_dind) break;
    const auto program = dockerd::probe(world->runner, daemon, tools);
    if (!program || !against(dockerd::descriptor_of(*program), copy, job).empty()) continue;
    has_dind = true;
    const auto built = world->build_with_dind(job, tools);
    ASSERT_TRUE(built.ok()) << "dind " << program->version << ": " << built.error().text() << "\n"
                            << world->said;
    (void)world->config_of(built->manifest);
    std::string known;
    for (const auto& line : differs.value("dind", std::vector<std::string>{}))
      known += line + "\n";
    EXPECT_EQ(compare({layout, first, layout, built->manifest.str()}), known)
        << "the first backend's image and that of dind differ";
  }
  const auto wrong = facts.value("wrong", std::vector<std::string>{});
  const auto reasons = against(kaniko::descriptor_of({"v1.24.0"}), copy, job);
  EXPECT_EQ(reasons.empty(), !refused.contains("kaniko")) << reasons;
  for (const auto& [backend, words] : refused.items()) {
    const auto built = build_with(backend, job);
    if (backend == "kaniko") {
      EXPECT_NE(reasons.find(words.get<std::string>()), std::string::npos) << reasons;
      if (!built && built.error().kind == ErrorKind::not_found) continue;
      // What would have come of it.
      std::string seen = built ? "" : built.error().what + "\n";
      if (built) seen = compare({layout, first, layout, built->manifest.str()});
      std::string known;
      for (const auto& line : wrong)
        known += line + "\n";
      EXPECT_EQ(seen, known) << world->said;
      continue;
    }
    ASSERT_FALSE(built.ok()) << backend << " builds it now: say so in its case.json";
    EXPECT_TRUE(is_the_jobs_fault(built.error().kind)) << built.error().text();
    EXPECT_NE(built.error().what.find(words.get<std::string>()), std::string::npos)
        << built.error().what;
    EXPECT_EQ(world->said, "") << backend << " began";
  }
}

INSTANTIATE_TEST_SUITE_P(All, Corpus, testing::ValuesIn(cases()), [](const auto& one) {
  std::string name;
  bool upper = true;
  for (const char c : one.param) {
    if (c == '-') {
      upper = true;
      continue;
    }
    name += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return name;
});

} // namespace
} // namespace slipway::backends::buildah
