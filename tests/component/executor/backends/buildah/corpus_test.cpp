// SPDX-License-Identifier: Apache-2.0
// Every case of tests/corpus, built by each backend that the router gives it to: what the case says
// has to be in the image, and all images have to be the same. Where the router refuses, the case
// says why, and what comes of it all the same. See tests/corpus/README.md.
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
#include <iterator>
#include <memory>
#include <regex>
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
  /// Why this machine cannot ask a backend; "" where it can.
  static std::string missing(const std::string& backend) {
    if (backend == "buildkit" && World::buildkit_tools().empty())
      return "SLIPWAY_BUILDKIT_TOOLS names no folder";
    if (backend == "podman" && !fs::exists("/usr/bin/podman")) return "install podman";
    if (backend == "newer-buildah" && World::newer_buildah().empty())
      return "SLIPWAY_TEST_BUILDAH names no program";
    if (backend == "kaniko" && World::kaniko_executor().empty())
      return "SLIPWAY_TEST_KANIKO names no program";
    if (backend == "dind" && dockerd::find_daemon().empty()) return "install docker.io";
    if (backend == "newer-dind" && World::newer_dockerd().empty())
      return "SLIPWAY_TEST_DOCKERD names no folder";
    return "";
  }
  /// Errors: those of the backend, which is not `missing`.
  static Result<Built> build_with(const std::string& backend, const BuildJob& job,
                                  bool is_checked = true) {
    world->said.clear();
    if (backend == "kaniko") return world->build_with_kaniko(job);
    if (backend == "dind") return world->build_with_dind(job);
    if (backend == "newer-dind") return world->build_with_dind(job, World::newer_dockerd());
    if (backend == "newer-buildah")
      return is_checked ? world->build_with_newer(job)
                        : world->build_unchecked(job, Tool::buildah, World::newer_buildah());
    if (backend != "buildkit") {
      const Tool tool = backend == "podman" ? Tool::podman : Tool::buildah;
      return is_checked ? world->build(job, tool) : world->build_unchecked(job, tool);
    }
    BuildBackend* const kit = world->buildkit();
    if (kit == nullptr) return Error{ErrorKind::internal, "no builder was started", "", {}};
    return kit->build(job, *world->result);
  }

  /// Every backend, as the versions are that Debian 12 and packaging/tools have: what the router
  /// says of them is asked whatever this machine has.
  static std::vector<std::pair<std::string, Descriptor>> everyone() {
    const auto of = [](Tool tool, const char* said) {
      return descriptor_of(*parse_version(tool, said));
    };
    dockerd::Program daemon;
    daemon.version = "20.10.24";
    dockerd::Program newer_daemon;
    newer_daemon.version = "28.5.2";
    return {{"buildkit", router::well_kept("buildkit")},
            {"buildah", of(Tool::buildah, "buildah version 1.28.2")},
            {"newer-buildah", of(Tool::buildah, "buildah version 1.41.4")},
            {"podman", of(Tool::podman, "podman version 4.3.1")},
            {"kaniko", kaniko::descriptor_of({"v1.24.0"})},
            {"dind", dockerd::descriptor_of(daemon)},
            {"newer-dind", dockerd::descriptor_of(newer_daemon)}};
  }

  /// What a build of `folder` asks of a backend.
  static std::vector<router::Requirement> wanted(const fs::path& folder, const BuildJob& job) {
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
    for (const auto& secret : job.secrets)
      flags.secrets.push_back(secret.first);
    for (const auto& key : job.ssh_keys)
      flags.ssh.push_back(key.first);
    for (std::size_t from = 0; from < job.platform.size();) {
      const auto comma = std::min(job.platform.find(',', from), job.platform.size());
      flags.platforms.push_back(job.platform.substr(from, comma - from));
      from = comma + 1;
    }
    router::Context context;
    context.ignore_file = fs::exists(folder / ".dockerignore");
    context.dockerfile_ignore_file = fs::exists(folder / "Dockerfile.dockerignore");
    context.container_ignore_file = fs::exists(folder / ".containerignore");
    for (const auto& source : router::literal_sources(*file)) {
      const auto status = fs::symlink_status(folder / source);
      if (fs::exists(status)) context.sources[source] = router::kind_of(status);
    }
    const auto list = router::requirements(*file, configs, context, flags);
    EXPECT_TRUE(list.ok()) << list.error().text();
    return list.ok() ? *list : std::vector<router::Requirement>{};
  }

  /// Why the router gives a backend no such build; "" where it does.
  static std::string against(const Descriptor& descriptor,
                             const std::vector<router::Requirement>& wanted) {
    std::string reasons;
    for (const auto& one : wanted)
      if (!router::can(descriptor, one.feature).can)
        reasons += router::reason_against(descriptor, one) + "\n";
    return reasons;
  }

  static std::unique_ptr<World> world;
};
std::unique_ptr<World> Corpus::world;

std::string lines_of(const nlohmann::json& lines) {
  std::string text;
  for (const auto& line : lines)
    text += line.get<std::string>() + "\n";
  return text;
}

/// "dind" for "newer-dind".
std::string older(const std::string& backend) {
  constexpr std::string_view kNewer = "newer-";
  return backend.starts_with(kNewer) ? backend.substr(kNewer.size()) : backend;
}

/// What a job only lends.
struct Lent {
  std::vector<std::pair<std::string, Secret>> secrets;
  std::vector<std::pair<std::string, Secret>> ssh_keys;
  std::unique_ptr<WebServer> web;
};

TEST_P(Corpus, IsTheSameFromEveryBackend) {
  const fs::path folder = kCorpus / GetParam();
  const auto facts =
      nlohmann::json::parse(read_file(folder / "case.json", 1UL << 20).value(), nullptr, false);
  ASSERT_TRUE(facts.is_object()) << folder << "/case.json";
  const fs::path copy = world->dir / "case";
  fs::remove_all(copy);
  fs::remove_all(world->dir / "beside");
  fs::copy(folder, copy, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  if (fs::exists(copy / "prepare")) {
    process::Command prepare;
    prepare.argv = {(copy / "prepare").string()};
    prepare.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", world->dir.string()}};
    prepare.cwd = copy;
    const auto ran = world->runner.run(prepare);
    ASSERT_TRUE(ran.ok() && process::succeeded(ran->ending)) << ran->err;
  }
  const auto object = [&](const char* key) { return facts.value(key, nlohmann::json::object()); };
  auto job = world->job("");
  Lent lent;
  // What is beside the context: not in it.
  if (fs::exists(copy / "beside")) fs::rename(copy / "beside", world->dir / "beside");
  if (fs::exists(world->dir / "beside/www")) {
    if (const auto why = missing("buildkit"); !why.empty()) SLIPWAY_SKIP(why);
    ASSERT_NE(world->buildkit(), nullptr); // keeps the network that the server is in
    lent.web = std::make_unique<WebServer>(world->podman->engine(), world->dir / "beside/www");
    ASSERT_EQ(lent.web->await(), "");
  }
  world->bring(copy, "/builds/app");
  const auto text = read_file(copy / "Dockerfile", 1UL << 20).value();
  std::copy_if(world->base_images.begin() + 3, world->base_images.end(),
               std::back_inserter(job.bases),
               [&](const auto& base) { return text.find(base.familiar_name) != text.npos; });
  job.target = facts.value("target", "");
  for (const auto& platform : facts.value("platforms", std::vector<std::string>{}))
    job.platform += (job.platform.empty() ? "" : ",") + platform;
  const auto args = object("args");
  const auto labels = object("labels");
  const auto secrets = object("secrets");
  const auto keys = object("ssh");
  for (const auto& [name, value] : args.items())
    job.build_args.emplace_back(name, value.get<std::string>());
  for (const auto& [name, value] : labels.items())
    job.labels.emplace_back(name, value.get<std::string>());
  for (const auto& [name, value] : secrets.items())
    lent.secrets.emplace_back(name, Secret{value.get<std::string>()});
  for (const auto& [name, value] : keys.items()) {
    const auto key = read_file(world->dir / "beside" / value.get<std::string>(), 1UL << 16);
    ASSERT_TRUE(key.ok()) << key.error().text();
    lent.ssh_keys.emplace_back(name, Secret{*key});
  }
  job.secrets = lent.secrets;
  job.ssh_keys = lent.ssh_keys;

  // What the router says of each, and what the case says that it says.
  const auto refused = object("refused");
  const auto itself = object("itself");
  const auto wrong = object("wrong");
  const auto differs = object("differs");
  const auto fails = object("fails");
  const auto may = facts.at("backends").get<std::vector<std::string>>();
  const auto is_given = [&](const std::string& backend) {
    return std::find(may.begin(), may.end(), backend) != may.end();
  };
  const auto needs = wanted(copy, job);
  for (const auto& [backend, descriptor] : everyone()) {
    const auto reasons = against(descriptor, needs);
    // A newer one is named where it is another's.
    const auto named = is_given(backend) || refused.contains(backend) ? backend : older(backend);
    EXPECT_NE(is_given(named), refused.contains(named))
        << backend << " is in one of \"backends\" and \"refused\"; the router says: " << reasons;
    EXPECT_EQ(reasons.empty(), is_given(named)) << "the router of " << backend << ": " << reasons;
    if (refused.contains(named)) {
      EXPECT_NE(reasons.find(refused[named].get<std::string>()), std::string::npos) << reasons;
    }
  }

  const auto layout = world->result->path().string();
  std::string first;
  std::vector<std::string> left_out;
  std::vector<std::string> builders = may;
  // A newer one is asked for what it alone may build, or where it is the only one here.
  if (is_given("dind") && !missing("dind").empty())
    std::replace(builders.begin(), builders.end(), std::string{"dind"}, std::string{"newer-dind"});
  for (const auto& backend : builders) {
    if (const auto why = missing(backend); !why.empty()) {
      left_out.push_back(backend + ": " + why);
      continue;
    }
    const auto built = build_with(backend, job);
    if (fails.contains(backend)) {
      ASSERT_FALSE(built.ok()) << backend << " builds it";
      EXPECT_NE(built.error().what.find(fails[backend].get<std::string>()), std::string::npos)
          << built.error().text();
      continue;
    }
    ASSERT_TRUE(built.ok()) << backend << ": " << built.error().text() << "\n" << world->said;
    const auto digest = built->manifest.str();
    (void)world->config_of(built->manifest); // every blob and diff id
    EXPECT_EQ(compare({"--check", (folder / "case.json").string(), layout, digest}), "")
        << "what " << backend << " built is not what the case says";
    // What is told of it in docs/backends.md.
    const auto known = lines_of(differs.value(differs.contains(backend) ? backend : older(backend),
                                              nlohmann::json::array()));
    if (first.empty()) {
      first = digest;
      continue;
    }
    EXPECT_EQ(compare({layout, first, layout, digest}), known)
        << "the first backend's image and that of " << backend << " differ";
  }

  // What the router keeps from happening.
  for (const auto& [backend, words] : refused.items()) {
    // Of the newer one, where it is refused too, the version is known.
    const auto tool =
        backend == "dind" && !is_given("newer-dind") ? std::string{"newer-dind"} : backend;
    if (itself.contains(backend)) {
      const auto built = build_with(backend, job);
      ASSERT_FALSE(built.ok()) << backend << " builds it now: say so in its case.json";
      EXPECT_TRUE(is_the_jobs_fault(built.error().kind)) << built.error().text();
      EXPECT_NE(built.error().what.find(itself[backend].get<std::string>()), std::string::npos)
          << built.error().what;
      EXPECT_EQ(world->said, "") << backend << " began";
    }
    if (!wrong.contains(backend)) {
      ADD_FAILURE() << "\"wrong\" does not say what " << backend << " makes of it";
      continue;
    }
    if (const auto why = missing(tool); !why.empty()) {
      left_out.push_back(tool + ": " + why);
      continue;
    }
    const auto built = build_with(tool, job, false);
    std::string seen = "builds it\n"; // which nobody else does
    if (!built)                       // a container's name and a pointer are others each time
      seen = std::regex_replace(built.error().what, std::regex{"[0-9a-f]{64}|0x[0-9a-f]+"}, "...") +
             "\n";
    else if (!first.empty())
      seen = compare({layout, first, layout, built->manifest.str()});
    EXPECT_EQ(seen, lines_of(wrong.value(backend, nlohmann::json::array())))
        << "what would come of " << backend << "\n"
        << world->said;
  }
  if (!left_out.empty()) {
    std::string all;
    for (const auto& one : left_out)
      all += (all.empty() ? "" : "; ") + one;
    SLIPWAY_SKIP("not asked: " + all);
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
