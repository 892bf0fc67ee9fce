// SPDX-License-Identifier: Apache-2.0
// The gate with the real scanner in its real sandbox. Started as root, this program starts itself
// again as an unprivileged user (tests/lib/as-user), because rootless Podman is what it is about.
#include "executor/base/file.hpp"
#include "executor/gate/gate.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/fake_leak_scanner.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace slipway::gate {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

fs::path tools() {
  return fs::path{variable("SLIPWAY_CACHE", "/var/cache/slipway")} / "tools";
}

class TrivyInItsSandbox : public testing::Test {
protected:
  void SetUp() override {
    config_.trivy = tools() / "trivy/bin/trivy";
    const auto make_db = tools() / "trivydb/bin/make-trivy-db";
    if (!fs::exists(config_.trivy) || !fs::exists(make_db)) {
      SLIPWAY_SKIP("no Trivy below " + tools().string() + "; packaging/tools/build makes it");
    }
    if (!fs::exists("/usr/bin/podman")) SLIPWAY_SKIP("podman is not installed");
    if (::geteuid() == 0) SLIPWAY_SKIP("cannot become an unprivileged user");
    const auto* user = ::getpwuid(::geteuid());
    engine_.home = user->pw_dir;
    engine_.runtime_dir = variable("XDG_RUNTIME_DIR", "/nonexistent");

    std::string dir = (engine_.home / "gate-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(dir.data()), nullptr);
    dir_ = dir;
    config_.db_dir = dir_ / "cache/db";
    config_.cache_dir = dir_ / "verdicts";
    fs::create_directories(config_.db_dir);
    fs::create_directories(dir_ / "none");
    process::Command make;
    make.argv = {make_db.string(),
                 "--out",
                 config_.db_dir.string(),
                 "--facts",
                 (tools() / "trivydb/facts.json").string(),
                 "--changelogs",
                 (dir_ / "none").string()};
    auto made = runner_.run(make);
    ASSERT_TRUE(made.ok()) << made.error().text();
    ASSERT_TRUE(process::succeeded(made->ending)) << made->err;
    for (const auto& entry : fs::directory_iterator(config_.db_dir))
      fs::permissions(entry, fs::perms{0644});
    ids_ = {.first = 1, .size = 65536};
    layout_ = oci::Layout::create(dir_ / "layout").value().path();
  }
  void TearDown() override {
    if (!dir_.empty()) fs::remove_all(dir_);
  }

  Result<Judgement> judge(const oci::Digest& root,
                          const std::string& repository = "reg:5000/grp/app") {
    sandbox::Podman podman{engine_, runner_};
    SandboxedTrivy trivy{config_, podman, ids_, "gate-test"};
    SystemClock clock;
    fakes::FakeLeakScanner leaks;
    auto layout = oci::Layout::open(layout_);
    return TrivyGate{config_, trivy, leaks, clock}.judge(*layout, root, {}, repository);
  }
  oci::Digest alpine(const std::string& openssl) {
    auto layout = oci::Layout::open(layout_);
    return fakes::write_alpine(*layout, openssl);
  }

  sandbox::Engine engine_;
  process::LocalRunner runner_;
  ScannerConfig config_;
  sandbox::IdSlot ids_;
  fs::path dir_;
  fs::path layout_;
};

TEST_F(TrivyInItsSandbox, DeniesAVulnerablePackageAndNamesTheFix) {
  auto judged = judge(alpine("3.3.2-r0"));

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  const auto text = judged->verdict.for_people();
  EXPECT_FALSE(judged->verdict.passed) << text;
  EXPECT_FALSE(judged->pass.has_value());
  EXPECT_NE(text.find("CVE-2024-12797"), std::string::npos) << text;
  EXPECT_NE(text.find("upgrade libssl3 to 3.3.3-r0 or later"), std::string::npos) << text;
}

TEST_F(TrivyInItsSandbox, PassesTheFixedPackageAndRemembersIt) {
  const auto digest = alpine("3.3.3-r0");

  auto first = judge(digest);
  ASSERT_TRUE(first.ok()) << first.error().text();
  ASSERT_TRUE(first->verdict.passed) << first->verdict.for_people();
  EXPECT_TRUE(first->pass.has_value());
  auto second = judge(digest);
  ASSERT_TRUE(second.ok()) << second.error().text();

  EXPECT_TRUE(second->verdict.from_cache);
  EXPECT_TRUE(second->pass.has_value());
}

TEST_F(TrivyInItsSandbox, FindsWhatASecondPlatformHides) {
  auto layout = oci::Layout::open(layout_);
  const auto good = fakes::write_alpine(*layout, "3.3.3-r0", "amd64");
  const auto bad = fakes::write_alpine(*layout, "3.3.2-r0", "arm64");
  const auto child = [&](const oci::Digest& digest, const std::string& architecture) {
    return fakes::blob_json(oci::kMediaTypeOciManifest, digest, *layout->blob_size(digest),
                            ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" + architecture +
                                "\"}");
  };
  const auto index = *layout->write_blob(
      "{\"schemaVersion\":2,\"mediaType\":\"" + std::string{oci::kMediaTypeOciIndex} +
      "\",\"manifests\":[" + child(good, "amd64") + "," + child(bad, "arm64") + "]}");

  auto judged = judge(index);

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  const auto text = judged->verdict.for_people();
  EXPECT_FALSE(judged->verdict.passed) << text;
  EXPECT_NE(text.find("linux/arm64"), std::string::npos) << text;
}

TEST_F(TrivyInItsSandbox, DeniesAnImageWithoutOperatingSystem) {
  auto layout = oci::Layout::open(layout_);
  const auto tar = fakes::tar_of({{"hello", "world"}});
  const auto digest = fakes::write_image_of(*layout, {{tar, oci::Digest::of(tar).str()}});

  auto judged = judge(digest);

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  ASSERT_FALSE(judged->verdict.denials.empty()) << judged->verdict.for_people();
  EXPECT_EQ(judged->verdict.denials.front().code, "no_os") << judged->verdict.for_people();
}

TEST_F(TrivyInItsSandbox, RefusesAScannerThatIsNotThePinnedOne) {
  config_.trivy_sha256 = std::string(64, 'a');

  auto judged = judge(alpine("3.3.3-r0"));

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  ASSERT_FALSE(judged->verdict.denials.empty());
  EXPECT_EQ(judged->verdict.denials.front().code, "scanner_untrusted");
  EXPECT_TRUE(judged->verdict.could_not_judge());
}

TEST_F(TrivyInItsSandbox, EndsAHangingScannerAndLeavesNoSandbox) {
  config_.deadline = std::chrono::milliseconds{100};

  auto judged = judge(alpine("3.3.3-r0"));

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  ASSERT_FALSE(judged->verdict.denials.empty());
  EXPECT_EQ(judged->verdict.denials.front().code, "scanner_timed_out")
      << judged->verdict.for_people();
  sandbox::Podman podman{engine_, runner_};
  auto left = podman.list("io.slipway.owner", "gate-test");
  ASSERT_TRUE(left.ok()) << left.error().text();
  EXPECT_TRUE(left->empty());
}

} // namespace
} // namespace slipway::gate

int main(int argc, char** argv) {
  const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto as_user = std::filesystem::path{SLIPWAY_SOURCE_DIR} / "tests/lib/as-user";
  if (::geteuid() == 0 && std::filesystem::exists(as_user)) {
    const auto user = slipway::gate::variable("SLIPWAY_TEST_USER", "slipway-test");
    std::vector<std::string> words{
        as_user.string(), user,
        "SLIPWAY_TESTS_MUST_RUN=" + slipway::gate::variable("SLIPWAY_TESTS_MUST_RUN", "0"),
        "SLIPWAY_CACHE=" + slipway::gate::variable("SLIPWAY_CACHE", "/var/cache/slipway"), self};
    words.insert(words.end(), argv + 1, argv + argc);
    std::vector<char*> pointers;
    for (auto& word : words)
      pointers.push_back(word.data());
    pointers.push_back(nullptr);
    ::execv(pointers[0], pointers.data());
    return 1;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
