// SPDX-License-Identifier: Apache-2.0
// The gate with the real scanner in its real sandbox. Started as root, this program starts itself
// again as an unprivileged user (tests/lib/as-user), because rootless Podman is what it is about.
#include "executor/base/file.hpp"
#include "executor/gate/canary.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate_worker/gate_process.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/fake_leak_scanner.hpp"
#include "tests/fakes/signing_key.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <pwd.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <sstream>

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
    const fs::path built = variable("SLIPWAY_BIN", "");
    config_.init =
        (built.empty() ? fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin"
                       : built) /
        "slipway-init";
    fs::create_directories(dir_ / "none");
    make_db_of(tools() / "trivydb/facts.json");
    ids_ = {.first = 1, .size = 65536};
    layout_ = oci::Layout::create(dir_ / "layout").value().path();
  }
  void TearDown() override {
    if (!dir_.empty()) fs::remove_all(dir_);
  }

  // In the place of the DB that is there.
  void make_db_of(const fs::path& facts) {
    fs::remove_all(config_.db_dir);
    fs::create_directories(config_.db_dir);
    process::Command make;
    make.argv = {(tools() / "trivydb/bin/make-trivy-db").string(),
                 "--out",
                 config_.db_dir.string(),
                 "--facts",
                 facts.string(),
                 "--changelogs",
                 (dir_ / "none").string()};
    auto made = runner_.run(make);
    ASSERT_TRUE(made.ok()) << made.error().text();
    ASSERT_TRUE(process::succeeded(made->ending)) << made->err;
    for (const auto& entry : fs::directory_iterator(config_.db_dir))
      fs::permissions(entry, fs::perms{0644});
  }

  Result<Judgement> judge(const oci::Digest& root,
                          const std::string& repository = "reg:5000/grp/app") {
    sandbox::Podman podman{engine_, runner_};
    SandboxedTrivy trivy{config_, podman, ids_, "gate-test"};
    SystemClock clock;
    fakes::FakeLeakScanner leaks;
    leaks.can_be_executed = [this] { return executables_; };
    leaks.changed_packages = changed_packages_;
    auto layout = oci::Layout::open(layout_);
    leaks.named_as_sboms = [&](const oci::Digest& manifest) {
      return gate_worker::GateProcess{config_.init.parent_path() / "slipway-gate"}.false_sboms(
          *layout, manifest, 64UL << 20);
    };
    return TrivyGate{config_, trivy, leaks, clock}.judge(*layout, root, policy_, repository);
  }
  // The gate's code for the first denial, or the finding that blocks; "" = passed.
  std::string denied_for(const oci::Digest& root) {
    auto judged = judge(root);
    EXPECT_TRUE(judged.ok()) << judged.error().text();
    if (!judged || judged->verdict.passed) return "";
    const auto& verdict = judged->verdict;
    said_ = verdict.for_people();
    if (!verdict.denials.empty()) return verdict.denials.front().code;
    return verdict.findings.front().id;
  }
  // The scanner takes only what the layout's index names.
  void name_in_index(const oci::Digest& manifest) const {
    auto layout = oci::Layout::open(layout_);
    const oci::Descriptor descriptor{.media_type = oci::kMediaTypeOciManifest,
                                     .digest = manifest,
                                     .size = *layout->blob_size(manifest),
                                     .platform = {},
                                     .annotations = {},
                                     .artifact_type = {},
                                     .has_urls = false};
    EXPECT_TRUE(layout->write_index({descriptor}).ok());
  }
  // The control: a gate that asks the same scanner in the same way and looks at its findings alone.
  // True where it lets the image pass.
  bool passes_the_scanner_alone(const oci::Digest& manifest) {
    name_in_index(manifest);
    sandbox::Podman podman{engine_, runner_};
    auto report = SandboxedTrivy{config_, podman, ids_, "gate-test"}.scan(layout_, manifest);
    EXPECT_TRUE(report.ok()) << report.error().text();
    if (!report) return false;
    auto parsed = parse_report(report->json);
    EXPECT_TRUE(parsed.ok());
    return parsed && parsed->findings.empty();
  }
  oci::Digest image(const std::vector<std::pair<std::string, std::string>>& files) {
    auto layout = oci::Layout::open(layout_);
    const auto tar = fakes::tar_of(files);
    return fakes::write_image_of(*layout, {{tar, oci::Digest::of(tar).str()}});
  }
  // Alpine with the vulnerable package, and this os-release.
  oci::Digest alpine_of(const std::string& os_release, const std::string& release,
                        const std::vector<std::pair<std::string, std::string>>& more = {}) {
    std::vector<std::pair<std::string, std::string>> files{{"lib/apk/db/installed", kVulnerable}};
    if (!os_release.empty()) files.emplace_back("etc/os-release", os_release);
    if (!release.empty()) files.emplace_back("etc/alpine-release", release);
    files.insert(files.end(), more.begin(), more.end());
    return image(files);
  }
  static constexpr const char* kVulnerable =
      "P:libssl3\nV:3.3.2-r0\nA:x86_64\nS:1\nI:1\nT:SSL\nU:https://openssl.org\n"
      "L:Apache-2.0\no:openssl\nm:a@b\nt:1\nc:1\n\n";
  oci::Digest alpine(const std::string& openssl) {
    auto layout = oci::Layout::open(layout_);
    return fakes::write_alpine(*layout, openssl);
  }

  // The same image with this in its config.
  oci::Digest with_history(const oci::Digest& image, const std::string& history) {
    return with_more_config(image, "\"history\":" + history);
  }
  oci::Digest with_more_config(const oci::Digest& image, const std::string& members) {
    auto layout = oci::Layout::open(layout_);
    auto config =
        *layout->read_blob(oci::read_tree(*layout, image)->images.front().manifest.config.digest,
                           oci::kMaxConfigBytes);
    config.insert(config.size() - 1, "," + members);
    const auto config_digest = *layout->write_blob(config);
    auto manifest = *layout->read_blob(image, oci::kMaxManifestBytes);
    const auto from = manifest.find("\"config\":");
    const auto to = manifest.find(",\"layers\"");
    manifest.replace(from, to - from,
                     "\"config\":" + fakes::blob_json("application/vnd.oci.image.config.v1+json",
                                                      config_digest, config.size()));
    return *layout->write_blob(manifest);
  }

  sandbox::Engine engine_;
  process::LocalRunner runner_;
  ScannerConfig config_;
  sandbox::IdSlot ids_;
  GatePolicy policy_;
  std::vector<oci::Executable> executables_; ///< of the image
  std::function<Result<std::vector<oci::PackageChange>>()> changed_packages_ = [] {
    return std::vector<oci::PackageChange>{};
  };
  std::string said_; ///< by the last verdict that denied
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

// Attempts to get past the gate that the real scanner lets pass. The control of each: the scanner
// by itself, with the same arguments and DB, finds nothing.
struct Silence {
  const char* name;
  const char* code;
  const char* os_release;
  const char* release;
  std::vector<std::pair<std::string, std::string>> more;
  const char* packages = nullptr; ///< in place of the vulnerable one
};
class SilentTrivy : public TrivyInItsSandbox, public testing::WithParamInterface<Silence> {};

TEST_P(SilentTrivy, DoesNotOpenTheGate) {
  const auto& row = GetParam();
  auto digest = alpine_of(row.os_release, row.release, row.more);
  if (row.packages != nullptr)
    digest = image({{"etc/os-release", row.os_release}, {"lib/apk/db/installed", row.packages}});

  EXPECT_EQ(denied_for(digest), row.code);
  EXPECT_TRUE(passes_the_scanner_alone(digest));
}
INSTANTIATE_TEST_SUITE_P(
    Table, SilentTrivy,
    testing::Values(
        Silence{"NoSystem", "no_os", "", "", {}},
        Silence{"UnsupportedSystem",
                "os_unsupported",
                "ID=fedora\nVERSION_ID=40\n",
                "",
                {{"etc/fedora-release", "Fedora release 40 (Forty)\n"}}},
        Silence{"NoPackages", "no_packages", "ID=alpine\nVERSION_ID=3.21.3\n", "3.21.3\n", {}, ""},
        Silence{"UnknownRelease",
                "release_not_covered",
                "ID=alpine\nVERSION_ID=3.99.0\n",
                "3.99.0\n",
                {}},
        Silence{"EndOfLife", "os_end_of_life", "ID=alpine\nVERSION_ID=3.10.0\n", "3.10.0\n", {}},
        Silence{"OtherRepositories",
                "release_mixed",
                "ID=alpine\nVERSION_ID=3.21.3\n",
                "3.21.3\n",
                {{"etc/apk/repositories", "https://dl-cdn.alpinelinux.org/alpine/v3.10/main\n"}}}),
    [](const auto& row) { return row.param.name; });

TEST_F(TrivyInItsSandbox, IsNotFooledByABlobWithOtherBytes) {
  auto layout = oci::Layout::open(layout_);
  const auto digest = alpine("3.3.2-r0");
  // The bytes that are scanned are good ones, under the name of the bad.
  const auto bad = layout->blob_path(oci::Digest::of(fakes::alpine_layer("3.3.2-r0")));
  fs::remove(bad);
  ASSERT_TRUE(replace_file(bad, fakes::alpine_layer("3.3.3-r0"), 0444).ok());

  EXPECT_EQ(denied_for(digest), "blob_mismatch");
  EXPECT_TRUE(passes_the_scanner_alone(digest));
}

TEST_F(TrivyInItsSandbox, IsNotFooledByASecondLayerUnderTheSameDiffId) {
  auto layout = oci::Layout::open(layout_);
  const auto good = fakes::alpine_layer("3.3.3-r0");
  const auto bad = fakes::tar_of({{"lib/apk/db/installed", kVulnerable}});
  const auto id = oci::Digest::of(good).str();
  const auto digest = fakes::write_image_of(*layout, {{good, id}, {bad, id}});

  EXPECT_EQ(denied_for(digest), "diff_id_duplicate");
  EXPECT_TRUE(passes_the_scanner_alone(digest));
  const auto honest =
      fakes::write_image_of(*layout, {{good, id}, {bad, oci::Digest::of(bad).str()}});
  EXPECT_EQ(denied_for(honest), "CVE-2024-12797");
}

TEST_F(TrivyInItsSandbox, IsNotFooledByAnImageCalledAttestation) {
  auto layout = oci::Layout::open(layout_);
  const auto good = fakes::write_alpine(*layout, "3.3.3-r0");
  const auto bad = fakes::write_alpine(*layout, "3.3.2-r0");
  const auto index_with = [&](const std::string& marks) {
    return *layout->write_blob(
        R"({"schemaVersion":2,"manifests":[)" +
        fakes::blob_json(oci::kMediaTypeOciManifest, good, *layout->blob_size(good),
                         R"(,"platform":{"os":"linux","architecture":"amd64"})") +
        "," + fakes::blob_json(oci::kMediaTypeOciManifest, bad, *layout->blob_size(bad), marks) +
        "]}");
  };
  EXPECT_EQ(
      denied_for(index_with(
          R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"})")),
      "attestation_disguise");
  // Who scans the first image alone lets the index pass; under its own name the second is scanned.
  EXPECT_TRUE(passes_the_scanner_alone(good));
  EXPECT_EQ(denied_for(index_with(R"(,"platform":{"os":"linux","architecture":"arm64"})")),
            "CVE-2024-12797");
}

TEST_F(TrivyInItsSandbox, FindsASecretBelowACommandOfTheHistory) {
  auto layout = oci::Layout::open(layout_);
  std::string key = "-----BEGIN RSA PRIVATE KEY-----\n";
  for (int line = 0; line < 12; ++line)
    key += "MIIEowIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaU7oq9dWwJwZ0pL\n";
  key += "-----END RSA PRIVATE KEY-----\n";
  const auto first = fakes::tar_of({{"app/id_rsa", key}});
  const auto second = fakes::alpine_layer("3.3.3-r0");
  const auto honest = fakes::write_image_of(
      *layout, {{first, oci::Digest::of(first).str()}, {second, oci::Digest::of(second).str()}});
  // The same image with a history in which the first layer looks like a base image.
  const auto hiding = with_history(
      honest,
      R"([{"created_by":"COPY a"},{"created_by":"CMD [\"sh\"]","empty_layer":true},{"created_by":"COPY b"}])");

  EXPECT_EQ(denied_for(honest), "private-key");
  EXPECT_EQ(denied_for(hiding), "private-key");
  EXPECT_TRUE(passes_the_scanner_alone(hiding));
  policy_.base_secrets = false;
  EXPECT_EQ(denied_for(hiding), "");
}

// Trivy takes the last of them, or any case of the letters, and so sees no layer; who takes the
// first, or the exact word, runs them all.
TEST_F(TrivyInItsSandbox, IsNotFooledByLayersThatStandTwiceInTheConfig) {
  const auto honest = alpine("3.3.2-r0");
  const auto twice = with_more_config(honest, R"("rootfs":{"type":"layers","diff_ids":[]})");

  EXPECT_EQ(denied_for(honest), "CVE-2024-12797");
  EXPECT_FALSE(passes_the_scanner_alone(honest));
  EXPECT_EQ(denied_for(twice), "json_ambiguous");
  EXPECT_TRUE(passes_the_scanner_alone(twice));
}

TEST_F(TrivyInItsSandbox, IsNotFooledByLayersInAnotherCaseInTheConfig) {
  const auto disguised =
      with_more_config(alpine("3.3.2-r0"), R"("RootFS":{"type":"layers","diff_ids":[]})");

  EXPECT_EQ(denied_for(disguised), "json_ambiguous");
  EXPECT_TRUE(passes_the_scanner_alone(disguised));
}

// Trivy is told to pass over SBOMs, by their names.
TEST_F(TrivyInItsSandbox, IsNotFooledByAKeyThatIsAnSbomByName) {
  std::string key = "-----BEGIN RSA PRIVATE KEY-----\n";
  for (int line = 0; line < 12; ++line)
    key += "MIIEowIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaU7oq9dWwJwZ0pL\n";
  key += "-----END RSA PRIVATE KEY-----\n";
  const auto with = [&](const std::string& name, const std::string& content) {
    auto layout = oci::Layout::open(layout_);
    const auto base = fakes::alpine_layer("3.3.3-r0");
    const auto more = fakes::tar_of({{name, content}});
    return fakes::write_image_of(
        *layout, {{base, oci::Digest::of(base).str()}, {more, oci::Digest::of(more).str()}});
  };

  const auto honest = with("app/key.txt", key);
  EXPECT_EQ(denied_for(honest), "private-key");
  EXPECT_FALSE(passes_the_scanner_alone(honest));
  for (const std::string name :
       {"app/key.spdx", "app/key.spdx.json", "app/key.cdx", "key.cdx.json"}) {
    const auto disguised = with(name, key);
    EXPECT_EQ(denied_for(disguised), "coverage_partial") << name;
    EXPECT_NE(said_.find("/" + name + " is none"), std::string::npos) << said_;
    EXPECT_TRUE(passes_the_scanner_alone(disguised)) << name;
  }
  EXPECT_EQ(denied_for(with("app/sbom.cdx.json", R"({"bomFormat":"CycloneDX"})")), "");
}

TEST_F(TrivyInItsSandbox, DoesNotTakeADatabaseWithoutTheDistributionForGoodNews) {
  const auto digest =
      image({{"etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n"},
             {"etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n"},
             {"var/lib/dpkg/status",
              "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\n"
              "Source: openssl\nVersion: 3.0.1\n\n"}});

  EXPECT_EQ(denied_for(digest), "release_not_covered");
  EXPECT_TRUE(passes_the_scanner_alone(digest));
}

TEST_F(TrivyInItsSandbox, ScansInSilenceWithAnOldDatabaseWhereTheGateDoesNot) {
  const auto metadata = config_.db_dir / "metadata.json";
  ASSERT_TRUE(
      replace_file(
          metadata,
          R"({"Version":2,"UpdatedAt":"2022-01-01T00:00:00Z","NextUpdate":"2022-01-02T00:00:00Z","DownloadedAt":"2022-01-01T00:00:00Z"})",
          0644)
          .ok());
  const auto digest = alpine("3.3.3-r0");

  EXPECT_EQ(denied_for(digest), "db_stale");
  EXPECT_TRUE(passes_the_scanner_alone(digest));
}

TEST_F(TrivyInItsSandbox, NamesThePackageThatAWaiverIsFor) {
  config::Waiver waiver;
  waiver.id = "CVE-2024-12797";
  waiver.purl = "pkg:apk/alpine/libssl3";
  waiver.owner = "team-x";
  waiver.expires = SystemClock{}.now() + std::chrono::hours{24 * 10};
  policy_.waivers = {waiver};
  EXPECT_EQ(denied_for(alpine("3.3.2-r0")), "");
  policy_.waivers[0].purl = "pkg:apk/alpine/libcrypto3";
  EXPECT_EQ(denied_for(alpine("3.3.2-r0")), "CVE-2024-12797");
}

TEST_F(TrivyInItsSandbox, RefusesAScannerThatIsNotThePinnedOne) {
  config_.trivy_sha256 = std::string(64, 'a');

  auto judged = judge(alpine("3.3.3-r0"));

  ASSERT_TRUE(judged.ok()) << judged.error().text();
  ASSERT_FALSE(judged->verdict.denials.empty());
  EXPECT_EQ(judged->verdict.denials.front().code, "scanner_untrusted");
  EXPECT_TRUE(judged->verdict.could_not_judge());
}

/// Runs commands, and puts another file where the scanner is just before its sandbox is started.
class SwappingRunner final : public process::ProcessRunner {
public:
  SwappingRunner(process::ProcessRunner& real, fs::path at, fs::path other)
      : real_{real}, at_{std::move(at)}, other_{std::move(other)} {}
  Result<process::Output> run(const process::Command& command) override {
    const auto& words = command.argv;
    if (std::find(words.begin(), words.end(), "--attach") != words.end()) {
      const auto fresh = at_.string() + ".new";
      fs::copy_file(other_, fresh, fs::copy_options::overwrite_existing);
      fs::rename(fresh, at_);
      ++swapped;
    }
    return real_.run(command);
  }
  int swapped = 0;

private:
  process::ProcessRunner& real_;
  fs::path at_;
  fs::path other_;
};

// The scanner's file is another one between the check and the run. What runs is what was checked.
// The control: a sandbox that has the file itself, as it had before there was a sealed copy.
TEST_F(TrivyInItsSandbox, RunsWhatItCheckedWhateverBecomesOfTheFile) {
  const auto other = fs::read_symlink("/proc/self/exe").parent_path() / "look_around";
  const auto real = config_.trivy;
  config_.trivy = dir_ / "trivy";
  fs::copy_file(real, config_.trivy);
  config_.trivy_sha256 = oci::Digest::of(*read_file(real, 1UL << 30)).hex();
  const auto bad = alpine("3.3.2-r0");
  name_in_index(bad);
  SwappingRunner swapping{runner_, config_.trivy, other};
  sandbox::Podman podman{engine_, swapping};

  auto report = SandboxedTrivy{config_, podman, ids_, "gate-test"}.scan(layout_, bad);

  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_EQ(swapping.swapped, 1);
  auto parsed = parse_report(report->json);
  ASSERT_TRUE(parsed.ok()) << parsed.error().text() << report->json;
  EXPECT_FALSE(parsed->findings.empty());
  EXPECT_EQ(denied_for(bad), "scanner_untrusted"); // the file is another one by now

  fs::copy_file(real, config_.trivy, fs::copy_options::overwrite_existing);
  sandbox::SandboxSpec spec;
  spec.name = "slipway-scan-control-" + std::to_string(::getpid());
  spec.labels = {{"io.slipway.owner", "gate-test"}};
  spec.image = *podman.toolbox_image();
  spec.entrypoint = {"/opt/trivy"};
  spec.command = {"--version"};
  spec.user = "65534:65534";
  spec.working_dir = "/tmp";
  spec.ids = ids_;
  spec.read_only_root = true;
  spec.tmpfs = {{"/tmp", "rw,size=1m"}};
  spec.allow(sandbox::HostMount{{config_.trivy.string(), "/opt/trivy", true}, "the attack"});
  auto said = podman.run_attached(spec, std::chrono::seconds{60}, 1UL << 20);
  ASSERT_TRUE(said.ok()) << said.error().text();
  EXPECT_EQ(swapping.swapped, 2);
  EXPECT_NE(said->out.find("ids 65534:65534"), std::string::npos) << said->out << said->err;
}

TEST_F(TrivyInItsSandbox, LooksForMisconfigurationsWhereThePolicyWantsThem) {
  const auto plain = alpine("3.3.3-r0");
  const auto built = with_history(plain, R"([{"created_by":"COPY / / # buildkit"}])");
  EXPECT_EQ(denied_for(built), "");
  policy_.misconfig_threshold = Severity::high;
  EXPECT_EQ(denied_for(built), "coverage_partial") << "the scanner was not asked";
  config_.misconfigurations = true;

  EXPECT_EQ(denied_for(built), "DS-0002");
  EXPECT_NE(said_.find("What to do: Add 'USER"), std::string::npos) << said_;
  EXPECT_EQ(denied_for(plain), "coverage_partial") << "of this one there is nothing to judge by";

  policy_.misconfig_threshold = Severity::critical;
  EXPECT_EQ(denied_for(built), "");
}

TEST_F(TrivyInItsSandbox, DeniesWhatWasChangedInTheDatabaseAlone) {
  auto layout = oci::Layout::open(layout_);
  const auto two_layers = [&](const std::vector<std::pair<std::string, std::string>>& upper) {
    const auto base = fakes::alpine_layer("3.3.2-r0");
    const auto tar = fakes::tar_of(upper);
    return fakes::write_image_of(
        *layout, {{base, oci::Digest::of(base).str()}, {tar, oci::Digest::of(tar).str()}});
  };
  std::string database = kVulnerable;
  database.replace(database.find("3.3.2-r0"), 8, "3.3.3-r0");
  const auto forged = two_layers({{"lib/apk/db/installed", database}});
  changed_packages_ = [] {
    return std::vector<oci::PackageChange>{{"libssl3", "3.3.2-r0", "3.3.3-r0", "", "", false}};
  };

  EXPECT_EQ(denied_for(forged), "package_forged");
  EXPECT_TRUE(passes_the_scanner_alone(forged));

  database = kVulnerable;
  database.replace(database.find("libssl3"), 7, "harmless");
  database.replace(database.find("o:openssl"), 9, "o:harmless");
  const auto removed = two_layers({{"lib/apk/db/installed", database}});
  changed_packages_ = [] {
    return std::vector<oci::PackageChange>{
        {.name = "libssl3", .old_version = "3.3.2-r0", .remains = "usr/lib/libssl.so.3"}};
  };
  EXPECT_EQ(denied_for(removed), "package_removed");
  EXPECT_TRUE(passes_the_scanner_alone(removed));

  changed_packages_ = [] { return std::vector<oci::PackageChange>{}; };
  EXPECT_EQ(denied_for(two_layers({{"app", "x"}})), "CVE-2024-12797");
}

TEST_F(TrivyInItsSandbox, FindsLicencesThatThePolicyDenies) {
  const auto digest = alpine("3.3.3-r0");
  policy_.denied_licenses = {"GPL-*"};
  EXPECT_EQ(denied_for(digest), "");
  policy_.denied_licenses = {"apache-*"};
  EXPECT_EQ(denied_for(digest), "Apache-2.0");
  EXPECT_NE(said_.find("licence of libssl3 3.3.3-r0"), std::string::npos) << said_;
}

TEST_F(TrivyInItsSandbox, LooksUpWhatASignedSbomSaysOfAStaticProgram) {
  const std::string program = "\x7f"
                              "ELF a program that no scanner can read";
  const auto scratch = image({{"app", program}});
  const auto sbom_of = [&](const std::string& openssl, const oci::Digest& file) {
    return R"({"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[)"
           R"({"type":"operating-system","name":"alpine","version":"3.21.3"},)"
           R"({"type":"file","name":"/app","hashes":[{"alg":"SHA-256","content":")" +
           file.hex() + R"("}]},{"type":"library","name":"openssl","version":")" + openssl +
           R"(","purl":"pkg:apk/alpine/openssl@)" + openssl + R"(?arch=x86_64&distro=3.21.3"}]})";
  };
  const auto key = fakes::SigningKey::ec("P-256");
  ASSERT_TRUE(replace_file(dir_ / "owner.pub", key.public_pem(), 0644).ok());
  policy_.allow_scratch = true;
  EXPECT_EQ(denied_for(scratch), "scratch_no_packages");
  policy_.sboms = {{dir_ / "app.cdx.json"}, {dir_ / "owner.pub"}};
  executables_ = {{"app", oci::Digest::of(program)}};
  const auto with = [&](const std::string& text) {
    EXPECT_TRUE(replace_file(dir_ / "app.cdx.json", text, 0644).ok());
    EXPECT_TRUE(replace_file(dir_ / "app.cdx.json.sig", key.sign(text), 0644).ok());
    return denied_for(scratch);
  };

  EXPECT_EQ(with(sbom_of("3.3.2-r0", oci::Digest::of(program))), "CVE-2024-12797") << said_;
  EXPECT_EQ(with(sbom_of("3.3.3-r0", oci::Digest::of(program))), "");
  EXPECT_EQ(with(sbom_of("3.3.3-r0", oci::Digest::of("another"))), "scratch_no_packages");
  // Without a system and in the other format; Trivy says less of such a document.
  EXPECT_EQ(with(R"({"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app",)"
                 R"("dataLicense":"CC0-1.0","documentNamespace":"https://example.com/app",)"
                 R"("creationInfo":{"created":"2026-11-20T00:00:00Z","creators":["Tool: x"]},)"
                 R"("files":[{"SPDXID":"SPDXRef-f","fileName":"app","checksums":[)"
                 R"({"algorithm":"SHA256","checksumValue":")" +
                 oci::Digest::of(program).hex() +
                 R"("}]}],"packages":[{"SPDXID":"SPDXRef-p","name":"pyyaml","versionInfo":"5.3",)"
                 R"("downloadLocation":"NONE","externalRefs":[{"referenceCategory":)"
                 R"("PACKAGE-MANAGER","referenceType":"purl","referenceLocator":)"
                 R"("pkg:pypi/pyyaml@5.3"}]}]})"),
            "CVE-2020-14343");
}

TEST_F(TrivyInItsSandbox, TakesNoSbomInTheImageForWhatTheImageIsMadeOf) {
  const std::string sbom = R"({"bomFormat":"CycloneDX","specVersion":"1.6","version":1,)"
                           R"("components":[{"type":"library","name":"requests",)"
                           R"("version":"2.32.0","purl":"pkg:pypi/requests@2.32.0"}]})";
  policy_.allow_scratch = true;
  EXPECT_EQ(denied_for(image({{"app", "\x7f"
                                      "ELF"},
                              {"x.cdx.json", sbom}})),
            "scratch_no_packages");
  // The control: a package that is there.
  EXPECT_EQ(denied_for(image({{"app", "\x7f"
                                      "ELF"},
                              {"usr/lib/python3/dist-packages/requests-2.32.0.dist-info/METADATA",
                               "Metadata-Version: 2.1\nName: requests\nVersion: 2.32.0\n"}})),
            "");
}

constexpr const char* kOldCurl =
    "Package: curl\nStatus: install ok installed\nArchitecture: amd64\n"
    "Maintainer: Curl <curl@packages.debian.org>\nVersion: 7.88.1-10+deb12u1\n\n";

/// As SandboxedTrivy, but it reads the SBOMs of an image.
class CredulousTrivy final : public SandboxedScanner {
public:
  CredulousTrivy(const ScannerConfig& config, sandbox::Podman& podman, sandbox::IdSlot ids)
      : SandboxedScanner{
            {"trivy",
             config.trivy,
             "",
             config.db_dir,
             "",
             [](const std::string& layout, const oci::Digest& manifest, const std::string& cache) {
               auto words = trivy_arguments(layout, manifest, cache);
               const auto at = std::find(words.begin(), words.end(), "--skip-files");
               words.erase(at, at + 2);
               return words;
             },
             trivy_sbom_arguments,
             {}},
            config,
            podman,
            ids,
            "gate-test",
            nullptr} {}
};

// It claims the database of packages, which Trivy then does not read. The control: Trivy by its
// own arguments finds one harmless package.
TEST_F(TrivyInItsSandbox, LetsNoSbomInTheImageStandForItsPackages) {
  const std::string sbom =
      R"({"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[)"
      R"({"bom-ref":"a","type":"library","name":"requests","version":"2.32.0",)"
      R"("purl":"pkg:pypi/requests@2.32.0","properties":[)"
      R"({"name":"aquasecurity:trivy:PkgType","value":"python-pkg"},)"
      R"({"name":"aquasecurity:trivy:FilePath","value":"var/lib/dpkg/status"}]},)"
      R"({"bom-ref":"b","type":"library","name":"tzdata","version":"2024a-0+deb12u1",)"
      R"("purl":"pkg:deb/debian/tzdata@2024a-0+deb12u1?arch=all&distro=debian-12"}]})";
  const auto of = [&](const char* curl) {
    return image({{"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"},
                  {"etc/debian_version", "12.5\n"},
                  {"var/lib/dpkg/status", curl},
                  {"x.cdx.json", sbom}});
  };

  const auto bad = of(kOldCurl);
  EXPECT_EQ(denied_for(bad), "CVE-2023-38545") << said_;
  name_in_index(bad);
  sandbox::Podman podman{engine_, runner_};
  auto credulous = CredulousTrivy{config_, podman, ids_}.scan(layout_, bad);
  ASSERT_TRUE(credulous.ok()) << credulous.error().text();
  const auto report = parse_report(credulous->json);
  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_TRUE(report->findings.empty());
  EXPECT_EQ(report->os_packages + report->language_packages, 0); // not counted even there
  EXPECT_FALSE(report->packages.empty());
  // Nor does it hide that there is no database.
  EXPECT_EQ(denied_for(of("")), "no_packages") << said_;
}

// What Trivy takes for a third party's it does not look up. The control: the same upgrade by the
// distribution, and the same package where the base had none.
TEST_F(TrivyInItsSandbox, DeniesAPackageThatBecameAThirdPartysInAnotherVersion) {
  auto layout = oci::Layout::open(layout_);
  const std::string status = "Package: tzdata\nStatus: install ok installed\nArchitecture: all\n"
                             "Version: 2024a-0+deb12u1\n\n";
  const auto curl_by = [](const std::string& maintainer) {
    return "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: " +
           maintainer + "\nVersion: 9.0\n\n";
  };
  const auto image_of = [&](const std::string& below, const std::string& above) {
    const auto base = fakes::tar_of({{"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"},
                                     {"etc/debian_version", "12.5\n"},
                                     {"var/lib/dpkg/status", status + below}});
    const auto upper = fakes::tar_of({{"var/lib/dpkg/status", status + above},
                                      {"var/lib/dpkg/info/curl.list", "/usr/bin/curl\n"},
                                      {"usr/bin/curl", "new"}});
    const auto root = fakes::write_image_of(
        *layout, {{base, oci::Digest::of(base).str()}, {upper, oci::Digest::of(upper).str()}});
    changed_packages_ = [this, &layout, root] {
      return gate_worker::GateProcess{config_.init.parent_path() / "slipway-gate"}.package_changes(
          *layout, root, 64UL << 20);
    };
    return root;
  };

  const auto disowned = image_of(kOldCurl, curl_by("cudatools <cudatools@nvidia.com>"));
  EXPECT_EQ(denied_for(disowned), "package_disowned") << said_;
  EXPECT_TRUE(passes_the_scanner_alone(disowned));
  EXPECT_EQ(denied_for(image_of(kOldCurl, curl_by("Curl <curl@packages.debian.org>"))), "")
      << said_;
  EXPECT_EQ(denied_for(image_of("", curl_by("cudatools <cudatools@nvidia.com>"))), "") << said_;
}

/// Trivy, whose findings somebody takes away.
class SilencedTrivy final : public Scanner {
public:
  explicit SilencedTrivy(Scanner& real) : real_{real} {}
  Result<Report> scan(const fs::path& layout_dir, const oci::Digest& manifest) override {
    auto report = real_.scan(layout_dir, manifest);
    if (!report) return report;
    // As another member of the report: everything else is true.
    for (auto at = report->json.find("\"Vulnerabilities\""); at != std::string::npos;
         at = report->json.find("\"Vulnerabilities\"", at))
      report->json.replace(at, 17, "\"Nothing\"");
    return report;
  }
  Result<Report> scan_sbom(const fs::path& dir) override { return real_.scan_sbom(dir); }
  std::string version() const override { return real_.version(); }

private:
  Scanner& real_;
};

TEST_F(TrivyInItsSandbox, IsNotBelievedWhereItFindsNothing) {
  sandbox::Podman podman{engine_, runner_};
  SandboxedTrivy trivy{config_, podman, ids_, "gate-test"};
  SilencedTrivy silenced{trivy};
  SystemClock clock;
  fakes::FakeLeakScanner leaks;
  auto layout = oci::Layout::open(layout_);
  const auto bad = alpine("3.3.2-r0");
  const auto codes = [&] {
    auto judged = TrivyGate{config_, silenced, leaks, clock}.judge(*layout, bad, policy_, "r/a");
    EXPECT_TRUE(judged.ok());
    std::string all;
    for (const auto& denial : judged->verdict.denials)
      all += denial.code;
    return all;
  };

  EXPECT_EQ(codes(), "canary_not_found");
  config_.canaries = false; // the control
  EXPECT_EQ(codes(), "");
  EXPECT_EQ(denied_for(bad), "CVE-2024-12797");
}

constexpr const char* kAdvisory =
    R"({"bucket":"@B","package":"@P","vulnerability":"CVE-2024-12797",)"
    R"("advisory":@A})";

// A DB that names these buckets, each with one advisory.
std::string facts_of_db(const std::vector<std::array<std::string, 3>>& advisories) {
  std::string sources;
  std::string rows;
  for (const auto& [bucket, package, advisory] : advisories) {
    std::string row = kAdvisory;
    const std::vector<std::pair<std::string, std::string>> texts{
        {"@B", bucket.starts_with("Red Hat") ? "Red Hat" : bucket},
        {"@P", package},
        {"@A", advisory}};
    for (const auto& [mark, text] : texts)
      row.replace(row.find(mark), 2, text);
    rows += (rows.empty() ? "" : ",") + row;
    const auto source = bucket.starts_with("Red Hat") ? "Red Hat" : bucket;
    sources += (sources.empty() ? "\"" : ",\"") + source +
               R"(":{"ID":"x","Name":"x","URL":"https://x.invalid"})";
  }
  return "{\"data_sources\":{" + sources + "},\"advisories\":[" + rows +
         R"(],"red_hat_repositories":{"rhel-8-for-x86_64-baseos-rpms":[7],)"
         R"("rhel-9-for-x86_64-baseos-rpms":[1,3],"rhel-9-for-x86_64-appstream-rpms":[4]},)"
         R"("vulnerabilities":{"CVE-2024-12797":{"Title":"x","Severity":"HIGH"}}})";
}

/// Root file systems of a Rocky Linux with packages that rpm built and installed, and the layers
/// between them.
class RpmInTrivysSandbox : public TrivyInItsSandbox {
protected:
  using Files = std::map<std::string, std::string>;

  void SetUp() override {
    if (!fs::exists("/usr/bin/rpmbuild")) SLIPWAY_SKIP("rpm is not installed");
    TrivyInItsSandbox::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const auto facts = dir_ / "facts.json";
    ASSERT_TRUE(
        replace_file(facts,
                     facts_of_db({{"rocky 9", "openssl", R"({"FixedVersion":"1:3.0.7-1.el9"})"}}),
                     0644)
            .ok());
    make_db_of(facts);
    for (const auto* version : {"3.0.6", "3.0.8"})
      build({"openssl", version, "/usr/lib64/openssl", version});
    for (const auto* version : {"1", "2"})
      build({"macros", version, "/usr/lib64/macros", "the same in each"});
    install("base", {"openssl-3.0.6", "macros-1"}, {"-i"});
  }
  struct Made {
    std::string name;
    std::string version;
    std::string file;
    std::string content;
  };
  void build(const Made& made) {
    std::string spec = R"(Name: @N
Version: @V
Release: 1.el9
Epoch: 1
Summary: s
License: x
BuildArch: noarch
Vendor: Rocky Enterprise Software Foundation
%description
d
%install
mkdir -p %{buildroot}$(dirname @F) %{buildroot}/etc
printf '@C' >%{buildroot}@F
touch -d @1000000000 %{buildroot}@F
echo c >%{buildroot}/etc/@N.conf
%files
@F
%config(noreplace) /etc/@N.conf
)";
    const std::map<std::string, std::string> words{
        {"@N", made.name}, {"@V", made.version}, {"@F", made.file}, {"@C", made.content}};
    for (const auto& [mark, word] : words)
      for (auto at = spec.find(mark); at != std::string::npos; at = spec.find(mark))
        spec.replace(at, mark.size(), word);
    const auto file = dir_ / (made.name + ".spec");
    ASSERT_TRUE(replace_file(file, spec, 0644).ok());
    run({"/usr/bin/rpmbuild", "-bb", "--quiet", "--define", "_topdir " + (dir_ / "rpm").string(),
         "--define", "_rpmdir " + dir_.string(), "--define",
         "_build_name_fmt %%{NAME}-%%{VERSION}.rpm", file.string()});
  }
  void run(const std::vector<std::string>& argv) {
    process::Command command;
    command.argv = argv;
    command.env = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}, {"HOME", dir_.string()}};
    command.cwd = dir_.string();
    auto ran = runner_.run(command);
    ASSERT_TRUE(ran.ok()) << ran.error().text();
    ASSERT_TRUE(process::succeeded(ran->ending)) << argv[0] << ": " << ran->out << ran->err;
  }
  void rpm(const std::string& root, const std::vector<std::string>& arguments) {
    std::vector<std::string> argv{"/usr/bin/unshare", "--user",      "--map-root-user",
                                  "/usr/bin/rpm",     "--root",      (dir_ / root).string(),
                                  "--dbpath",         "/var/lib/rpm"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    run(argv);
  }
  void install(const std::string& root, const std::vector<std::string>& packages,
               std::vector<std::string> how) {
    fs::create_directories(dir_ / root);
    how.emplace_back("--nodeps");
    for (const auto& package : packages)
      how.push_back((dir_ / (package + ".rpm")).string());
    rpm(root, how);
  }
  /// A copy of the base.
  std::string root_of(const std::string& name) {
    fs::copy(dir_ / "base", dir_ / name, fs::copy_options::recursive);
    return name;
  }
  Files files_of(const std::string& root) {
    Files files;
    for (const auto& entry : fs::recursive_directory_iterator(dir_ / root))
      if (entry.is_regular_file() && entry.path().filename() != ".rpm.lock")
        files[entry.path().lexically_relative(dir_ / root)] =
            *read_file(entry.path().string(), 64UL << 20);
    return files;
  }
  /// The base, and above it what is otherwise in ROOT: what did not change is in no layer.
  oci::Digest image_with(const std::string& root) {
    auto lower = files_of("base");
    const auto now = files_of(root);
    std::vector<std::pair<std::string, std::string>> upper{{"app", "x"}};
    for (const auto& [path, content] : now)
      if (!lower.contains(path) || lower.at(path) != content) upper.emplace_back(path, content);
    for (const auto& [path, content] : lower) {
      const auto slash = path.rfind('/') + 1;
      if (!now.contains(path))
        upper.emplace_back(path.substr(0, slash) + ".wh." + path.substr(slash), "");
    }
    lower["etc/os-release"] = "ID=\"rocky\"\nVERSION_ID=\"9.3\"\nPRETTY_NAME=\"Rocky Linux 9.3\"\n";
    lower["etc/rocky-release"] = "Rocky Linux release 9.3 (Blue Onyx)\n";
    const auto base = fakes::tar_of({lower.begin(), lower.end()});
    const auto layer = fakes::tar_of(upper);
    auto layout = oci::Layout::open(layout_);
    const auto image = fakes::write_image_of(
        *layout, {{base, oci::Digest::of(base).str()}, {layer, oci::Digest::of(layer).str()}});
    changed_packages_ = [this, image] {
      auto read = oci::Layout::open(layout_);
      return gate_worker::GateProcess{config_.init.parent_path() / "slipway-gate"}.package_changes(
          *read, image, 64UL << 20);
    };
    return image;
  }
  fs::path database_of(const std::string& root) const {
    return dir_ / root / "var/lib/rpm/rpmdb.sqlite";
  }
  // In each header, as a script of three lines does it.
  void edit(const std::string& root, const std::string& from, const std::string& to) {
    sqlite3* database = nullptr;
    ASSERT_EQ(::sqlite3_open(database_of(root).c_str(), &database), SQLITE_OK);
    sqlite3_stmt* all = nullptr;
    std::map<int, std::string> headers;
    ::sqlite3_prepare_v2(database, "SELECT hnum, blob FROM Packages", -1, &all, nullptr);
    while (::sqlite3_step(all) == SQLITE_ROW)
      headers[::sqlite3_column_int(all, 0)] = {
          static_cast<const char*>(::sqlite3_column_blob(all, 1)),
          static_cast<std::size_t>(::sqlite3_column_bytes(all, 1))};
    ::sqlite3_finalize(all);
    for (auto& [number, header] : headers) {
      for (auto at = header.find(from); at != std::string::npos; at = header.find(from, at + 1))
        header.replace(at, from.size(), to);
      sqlite3_stmt* update = nullptr;
      ::sqlite3_prepare_v2(database, "UPDATE Packages SET blob = ?1 WHERE hnum = ?2", -1, &update,
                           nullptr);
      ::sqlite3_bind_blob(update, 1, header.data(), static_cast<int>(header.size()), nullptr);
      ::sqlite3_bind_int(update, 2, number);
      EXPECT_EQ(::sqlite3_step(update), SQLITE_DONE);
      ::sqlite3_finalize(update);
    }
    EXPECT_EQ(::sqlite3_close(database), SQLITE_OK);
  }
};

TEST_F(RpmInTrivysSandbox, AForgedVersionDenies) {
  edit(root_of("edited"), "3.0.6", "3.0.8");
  const auto edited = image_with("edited");
  EXPECT_EQ(denied_for(edited), "package_forged");
  EXPECT_NE(said_.find("openssl of the image"), std::string::npos) << said_;
  EXPECT_TRUE(passes_the_scanner_alone(edited));

  install(root_of("justdb"), {"openssl-3.0.8"}, {"-U", "--justdb"});
  const auto justdb = image_with("justdb");
  EXPECT_EQ(denied_for(justdb), "package_forged");
  EXPECT_TRUE(passes_the_scanner_alone(justdb));

  edit(root_of("rebuilt"), "1.el9", "9.el9"); // of a package, too, whose files no upgrade changes
  EXPECT_EQ(denied_for(image_with("rebuilt")), "package_forged");
  EXPECT_NE(said_.find("macros of the image"), std::string::npos) << said_;
}
TEST_F(RpmInTrivysSandbox, AnUpgradeAndARemovalAreWhatTheyAre) {
  EXPECT_EQ(denied_for(image_with(root_of("same"))), "CVE-2024-12797");
  rpm(root_of("rebuilt"), {"--rebuilddb"});
  EXPECT_NE(*read_file(database_of("rebuilt").string(), 64UL << 20),
            *read_file(database_of("base").string(), 64UL << 20));
  EXPECT_EQ(denied_for(image_with("rebuilt")), "CVE-2024-12797");
  install(root_of("upgraded"), {"openssl-3.0.8", "macros-2"}, {"-U"});
  EXPECT_EQ(denied_for(image_with("upgraded")), "") << said_;
  rpm(root_of("without"), {"-e", "openssl"});
  EXPECT_EQ(denied_for(image_with("without")), "") << said_;
  fs::remove_all(dir_ / root_of("emptied") / "var/lib/rpm");
  EXPECT_EQ(denied_for(image_with("emptied")), "no_packages");
}
// Other than a Debian package.
TEST_F(RpmInTrivysSandbox, APackageOfAnotherVendorIsLookedUpAsWell) {
  edit(root_of("disowned"), "Rocky Enterprise", "Other Enterprise");
  EXPECT_EQ(denied_for(image_with("disowned")), "CVE-2024-12797");
}
TEST_F(RpmInTrivysSandbox, APackageThatWasTakenOutDenies) {
  rpm(root_of("removed"), {"-e", "--justdb", "openssl"});
  const auto removed = image_with("removed");
  EXPECT_EQ(denied_for(removed), "package_removed");
  EXPECT_NE(said_.find("usr/lib64/openssl"), std::string::npos) << said_;
  EXPECT_TRUE(passes_the_scanner_alone(removed));
}
// Trivy takes the packages up to there.
TEST_F(RpmInTrivysSandbox, ADatabaseThatIsDamagedDenies) {
  rpm(root_of("other"), {"-e", "--justdb", "openssl"});
  install("other", {"openssl-3.0.6"}, {"-i", "--justdb"}); // as the last one
  auto bytes = *read_file(database_of("other").string(), 64UL << 20);
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kSecondRow = kPage + 8 + 2;
  ASSERT_EQ(bytes.substr(kPage, 5), (std::string{13, 0, 0, 0, 2})) << "the table of packages";
  EXPECT_EQ(denied_for(image_with("other")), "CVE-2024-12797");
  const auto row = kPage + static_cast<unsigned char>(bytes[kSecondRow]) * 256UL +
                   static_cast<unsigned char>(bytes[kSecondRow + 1]);
  bytes[row] = '\xff'; // so long that it would go on in a page that there is not
  ASSERT_TRUE(replace_file(database_of("other"), bytes, 0644).ok());

  const auto damaged = image_with("other");
  EXPECT_EQ(denied_for(damaged), "coverage_partial");
  EXPECT_TRUE(passes_the_scanner_alone(damaged));
}

// Every system that an image is made of here is one that the real scanner reads.
TEST_F(TrivyInItsSandbox, FindsTheCanaryOfEverySystem) {
  const auto facts = dir_ / "facts.json";
  const std::string rpm = R"({"FixedVersion":"1:3.0.7-1.el9"})";
  const std::vector<std::array<std::string, 3>> systems{
      {"debian 12", "curl", R"({"FixedVersion":"7.88.1-10+deb12u4"})"},
      {"ubuntu 24.04", "openssl", R"({"FixedVersion":"3.0.13-0ubuntu3.5"})"},
      {"ubuntu 22.04", "openssl", R"({"Status":1})"},
      {"alpine 3.21", "openssl", R"({"FixedVersion":"3.3.3-r0"})"},
      {"alma 9", "openssl", rpm},
      {"rocky 9", "openssl", rpm},
      {"Oracle Linux 9", "openssl", rpm},
      {"Azure Linux 3.0", "openssl", R"({"FixedVersion":"0:3.3.2-2.azl3"})"},
      {"amazon linux 2023", "openssl", R"({"FixedVersion":"1:3.0.8-1.amzn2023"})"},
      {"amazon linux 2", "openssl", R"({"FixedVersion":"1:1.0.2k-24.amzn2"})"},
      {"Red Hat 9", "openssl",
       R"({"Entries":[{"FixedVersion":"1:1.1.1k-9.el8","Affected":[7],"Cves":[{"ID":"CVE-2024-12797"}]},)"
       R"({"FixedVersion":"1:3.0.7-1.el9","Affected":[3],"Cves":[{"ID":"CVE-2024-12797"}]}]})"},
      {"CBL-Mariner 2.0", "openssl", R"({"FixedVersion":"0:1.1.1k-30.cm2"})"},
      {"Photon OS 5.0", "openssl", R"({"FixedVersion":"3.0.8-1.ph5"})"},
      {"SUSE Linux Enterprise 15.6", "openssl", R"({"FixedVersion":"3.1.4-150600.5.24.1"})"},
      {"SUSE Linux Enterprise Micro 5.5", "openssl", R"({"FixedVersion":"1.1.1l-150500.17.1"})"},
      {"openSUSE Leap 15.6", "openssl", R"({"FixedVersion":"3.1.4-150600.5.24.1"})"},
      {"openSUSE Tumbleweed", "openssl", R"({"FixedVersion":"3.4.0-2.1"})"},
      {"wolfi", "openssl", R"({"FixedVersion":"3.4.1-r0"})"},
      {"chainguard", "openssl", R"({"FixedVersion":"3.4.1-r0"})"},
  };
  ASSERT_TRUE(replace_file(facts, facts_of_db(systems), 0644).ok());
  make_db_of(facts);
  sandbox::Podman podman{engine_, runner_};
  SandboxedTrivy trivy{config_, podman, ids_, "gate-test"};

  for (const auto& system : systems) {
    auto wrong = prove_scanner(trivy, config_, {"trivy", "db", {}}, system[0]);
    ASSERT_TRUE(wrong.ok()) << wrong.error().text();
    EXPECT_EQ(*wrong, "") << system[0];
  }
}

// One line is enough for Trivy to leave a package out.
TEST_F(TrivyInItsSandbox, IsNotFooledByAPackageThatItCannotRead) {
  const std::string tzdata = "Package: tzdata\nStatus: install ok installed\nArchitecture: all\n"
                             "Version: 2024a-0+deb12u1\n\n";
  const auto with = [&](const std::string& status) {
    return image({{"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"},
                  {"etc/debian_version", "12.5\n"},
                  {"var/lib/dpkg/status", tzdata + status}});
  };

  const auto bad = with(std::string{"x\n"} + kOldCurl);
  EXPECT_EQ(denied_for(bad), "coverage_partial") << said_;
  EXPECT_TRUE(passes_the_scanner_alone(bad));
  EXPECT_EQ(denied_for(with(kOldCurl)), "CVE-2023-38545");
}

// One file more makes Trivy look up another distribution's advisories, and say nothing. The
// control: the same scanner with the same DB by itself.
TEST_F(TrivyInItsSandbox, IsNotFooledByAFileOfAnotherSystem) {
  const auto facts = dir_ / "facts.json";
  ASSERT_TRUE(
      replace_file(
          facts,
          facts_of_db({{"debian 12", "curl", R"({"FixedVersion":"7.88.1-10+deb12u4"})"},
                       {"ubuntu 22.04", "curl", R"({"FixedVersion":"7.81.0-1ubuntu1.14"})"}}),
          0644)
          .ok());
  make_db_of(facts);
  const std::string packages = std::string{"Package: base-files\nStatus: install ok installed\n"
                                           "Architecture: amd64\nVersion: 12.4+deb12u5\n\n"} +
                               kOldCurl;
  const auto with = [&](const std::vector<std::pair<std::string, std::string>>& more) {
    std::vector<std::pair<std::string, std::string>> files{
        {"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"},
        {"etc/debian_version", "12.5\n"},
        {"var/lib/dpkg/status", packages}};
    files.insert(files.end(), more.begin(), more.end());
    return image(files);
  };

  EXPECT_EQ(denied_for(with({})), "CVE-2024-12797");
  const auto forged = with({{"etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\n"}});
  EXPECT_EQ(denied_for(forged), "release_mixed") << said_;
  EXPECT_TRUE(passes_the_scanner_alone(forged));
}

// Most of what Java builds make says in itself what it is, and not all: without the DB that knows
// the rest Trivy gives no report.
TEST_F(TrivyInItsSandbox, LooksIntoJavaArchivesWhereItHasTheirDatabase) {
  process::Command make;
  make.argv = {SLIPWAY_SOURCE_DIR "/tests/lib/java_samples.py", dir_.string()};
  auto made = runner_.run(make);
  ASSERT_TRUE(made.ok()) << made.error().text();
  ASSERT_TRUE(process::succeeded(made->ending)) << made->err;
  const auto facts = dir_ / "facts.json";
  ASSERT_TRUE(
      replace_file(
          facts,
          facts_of_db(
              {{"alpine 3.21", "curl", R"({"FixedVersion":"8.12.0-r0"})"},
               {"maven::GitHub Security Advisory Maven", "org.apache.logging.log4j:log4j-core",
                R"({"VulnerableVersions":["<2.15.0"],"PatchedVersions":["2.15.0"]})"}}),
          0644)
          .ok());
  make_db_of(facts);
  const auto with = [&](const char* jar) {
    return image({{"etc/os-release", "ID=alpine\nVERSION_ID=3.21.3\n"},
                  {"etc/alpine-release", "3.21.3\n"},
                  {"lib/apk/db/installed", kVulnerable},
                  {"app/lib.jar", read_file(dir_ / jar, 1UL << 20).value()}});
  };

  config_.java_db_dir = dir_ / "none-here";
  EXPECT_EQ(denied_for(with("named.jar")), "java_db_missing");
  EXPECT_NE(said_.find("no such file: " + (dir_ / "none-here/trivy-java.db").string()),
            std::string::npos)
      << said_;
  config_.java_db_dir = dir_ / "java-db"; // and so the verdict above is not remembered
  for (const char* jar : {"named.jar", "unnamed.jar"})
    EXPECT_EQ(denied_for(with(jar)), "CVE-2024-12797") << jar << ": " << said_;

  // Without a word Trivy passes over what it cannot look up in a damaged one.
  const auto whole = read_file(dir_ / "java-db/trivy-java.db", 1UL << 20).value();
  auto logged = whole;
  logged[18] = logged[19] = 2;
  for (const auto& damaged :
       {std::string{"no database"}, whole.substr(0, whole.size() - 4096), logged}) {
    ASSERT_TRUE(replace_file(dir_ / "java-db/trivy-java.db", damaged, 0644).ok());
    EXPECT_EQ(denied_for(with("unnamed.jar")), "java_db_missing") << said_;
  }
}

// The DB names the release, and what it holds for it is of no use: the scanner is silent. The
// control: so is the scanner alone, and the gate without canaries.
TEST_F(TrivyInItsSandbox, DoesNotTakeADatabaseThatWasEmptiedForGoodNews) {
  const auto facts = dir_ / "facts.json";
  ASSERT_TRUE(
      replace_file(facts,
                   facts_of_db({{"alpine 3.21", "openssl", R"({"FixedVersion":"0"})"},
                                {"debian 12", "curl", R"({"FixedVersion":"7.88.1-10+deb12u4"})"}}),
                   0644)
          .ok());
  make_db_of(facts);
  const auto bad = alpine("3.3.2-r0");

  EXPECT_EQ(denied_for(bad), "canary_not_found");
  EXPECT_TRUE(passes_the_scanner_alone(bad));
  config_.canaries = false;
  EXPECT_EQ(denied_for(bad), "");
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

// The scanner by itself, in a folder and with an image in which a job has put its files. The
// control of each: without the argument that is about it.
TEST_F(TrivyInItsSandbox, BeginsOnlyOnceTheImageIsVerified) {
  sandbox::Podman podman{engine_, runner_};
  SandboxedTrivy trivy{config_, podman, ids_, "gate-test"};
  const auto image = alpine("3.3.2-r0");
  name_in_index(image);

  int asked = 0;
  const auto refused = trivy.scan_after(layout_, image, [&] { return ++asked > 1; });
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().what.find("gave no sealed program"), std::string::npos)
      << refused.error().what;
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(podman.list("io.slipway.owner", "gate-test")->empty());

  std::vector<bool> were_running;
  const auto scanned = trivy.scan_after(layout_, image, [&] {
    const auto all = podman.list("io.slipway.owner", "gate-test");
    were_running.push_back(all && all->size() == 1 && all->front().running);
    return true;
  });
  ASSERT_TRUE(scanned.ok()) << scanned.error().text();
  EXPECT_EQ(were_running, std::vector<bool>{true}) << "its sandbox was there before";
  EXPECT_NE(scanned->json.find("SchemaVersion"), std::string::npos);
}

TEST_F(TrivyInItsSandbox, ReadsNoIgnoreFileAndNoSettingsOfAJob) {
  const std::string ignored = "CVE-2024-12797\n";
  const std::string settings = "pkg:\n  types:\n    - library\n";
  const auto digest = alpine_of("ID=alpine\nVERSION_ID=3.21.3\n", "3.21.3\n",
                                {{".trivyignore", ignored}, {"trivy.yaml", settings}});
  name_in_index(digest);
  const auto finds = [&](const char* file, const std::string& content, const char* left_out) {
    const auto here = dir_ / "here";
    fs::remove_all(here);
    fs::create_directories(here);
    EXPECT_TRUE(replace_file(here / file, content));
    process::Command command;
    command.argv = trivy_arguments(layout_, digest, dir_ / "cache");
    if (left_out != nullptr) {
      const auto at = std::find(command.argv.begin(), command.argv.end(), left_out);
      command.argv.erase(at, at + 2);
    }
    command.argv.insert(command.argv.begin(), config_.trivy.string());
    command.cwd = here.string();
    auto said = runner_.run(command);
    EXPECT_TRUE(said.ok() && process::succeeded(said->ending)) << (said ? said->err : "");
    auto report = parse_report(said ? said->out : "");
    EXPECT_TRUE(report.ok());
    return report && !report->findings.empty();
  };

  EXPECT_TRUE(finds(".trivyignore", ignored, nullptr));
  EXPECT_FALSE(finds(".trivyignore", ignored, "--ignorefile"));
  EXPECT_TRUE(finds("trivy.yaml", settings, nullptr));
  EXPECT_FALSE(finds("trivy.yaml", settings, "--config"));
  EXPECT_EQ(denied_for(digest), "CVE-2024-12797");
}

// What each fact of tests/programs/look_around.cpp is, by its first word.
std::multimap<std::string, std::string> facts_of(const std::string& text) {
  std::multimap<std::string, std::string> facts;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    const auto blank = line.find(' ');
    facts.emplace(line.substr(0, blank), blank == std::string::npos ? "" : line.substr(blank + 1));
  }
  return facts;
}

std::vector<std::string> all_of(const std::multimap<std::string, std::string>& facts,
                                const std::string& what) {
  std::vector<std::string> values;
  for (auto [at, end] = facts.equal_range(what); at != end; ++at)
    values.push_back(at->second);
  std::sort(values.begin(), values.end());
  return values;
}

// A program in Trivy's place: it has the scanner's rights, and says what it could do with them.
TEST_F(TrivyInItsSandbox, SeesNoNetworkNoEnvironmentNoFilesAndNoOtherProcess) {
  using Words = std::vector<std::string>;
  config_.trivy = fs::read_symlink("/proc/self/exe").parent_path() / "look_around";
  ASSERT_EQ(::setenv("TRIVY_SEVERITY", "LOW", 1), 0);
  ASSERT_EQ(::setenv("HTTPS_PROXY", "http://proxy.invalid:1", 1), 0);
  sandbox::Podman podman{engine_, runner_};

  auto report =
      SandboxedTrivy{config_, podman, ids_, "gate-test"}.scan(layout_, alpine("3.3.3-r0"));

  ASSERT_TRUE(report.ok()) << report.error().text();
  const auto inside = facts_of(report->json);
  SCOPED_TRACE(report->json);
  // What Podman gives every process, and nothing of ours.
  std::vector<std::string> names;
  for (const auto& entry : all_of(inside, "env"))
    names.push_back(entry.substr(0, entry.find('=')));
  EXPECT_EQ(names, (Words{"HOME", "HOSTNAME", "PATH", "TERM", "container"}));
  EXPECT_EQ(all_of(inside, "cwd"), (Words{"/tmp"}));
  EXPECT_EQ(all_of(inside, "here"), (Words{}));
  EXPECT_EQ(all_of(inside, "fd"), (Words{"0", "1", "2"}));
  EXPECT_EQ(all_of(inside, "process"), (Words{"1"}));
  EXPECT_EQ(all_of(inside, "interface"), (Words{"lo"}));
  EXPECT_EQ(all_of(inside, "route"), (Words{"Network is unreachable"}));
  EXPECT_EQ(all_of(inside, "socket"), (Words{}));
  EXPECT_EQ(all_of(inside, "ids"), (Words{"65534:65534"}));
  EXPECT_EQ(all_of(inside, "status"),
            (Words{"CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"}));
  EXPECT_EQ(all_of(inside, "write"), (Words{"/ Read-only file system", "/etc Read-only file system",
                                            "/opt/cache/db Read-only file system",
                                            "/opt/layout Read-only file system", "/tmp possible"}));

  // The control: outside, the same program sees all of that.
  process::Command command;
  command.argv = {config_.trivy.string()};
  command.env = {{"TRIVY_SEVERITY", "LOW"}};
  command.cwd = engine_.home.string();
  auto said = runner_.run(command);
  ASSERT_TRUE(said.ok()) << said.error().text();
  const auto outside = facts_of(said->out);
  EXPECT_EQ(all_of(outside, "env"), (Words{"TRIVY_SEVERITY=LOW"}));
  const auto here = all_of(outside, "here");
  EXPECT_NE(std::find(here.begin(), here.end(), dir_.filename().string()), here.end());
  EXPECT_GT(all_of(outside, "process").size(), 1U);
  EXPECT_GT(all_of(outside, "interface").size(), 1U);
  EXPECT_EQ(all_of(outside, "route"), (Words{"there is one"}));
  EXPECT_FALSE(all_of(outside, "socket").empty());
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
