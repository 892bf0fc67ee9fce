// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/cli/doctor.hpp"
#include "executor/oci/digest.hpp"
#include "tests/fakes/vulnerability_db.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <sstream>

namespace slipway::cli {
namespace {

class DoctorTest : public testing::Test {
protected:
  ~DoctorTest() override { std::filesystem::remove_all(dir_); }
  static std::filesystem::path fresh_folder() {
    char name[] = "/tmp/slipway-doctor-XXXXXX";
    return mkdtemp(name);
  }
  void use(engine_api::IssuerSpec spec) {
    config::Registry registry;
    registry.host = "reg:5000";
    registry.credential = "issuer";
    registry.issuer = spec.name;
    config_.registries.push_back(registry);
    config_.credentials.push_back(std::move(spec));
  }
  engine_api::IssuerSpec old_password() {
    const auto file = (dir_ / "pw").string();
    EXPECT_TRUE(replace_file(file, "x"));
    return {"old", "static", {{"password_file", file}, {"reason", "no token server"}}};
  }
  int examine() {
    std::ostringstream out;
    const int problems = doctor(
        config_, leases_, clock_, [this](const auto&) { return facts_; }, out);
    said_ = out.str();
    return problems;
  }
  bool says(const std::string& text) const { return said_.find(text) != std::string::npos; }

  std::filesystem::path dir_ = fresh_folder();
  config::Config config_;
  std::vector<state::LeaseRecord> leases_;
  FixedClock clock_{SystemClock{}.now()};
  Result<engine_api::IssuerFacts> facts_ = engine_api::IssuerFacts{true, true, false, false};
  std::string said_;
};

TEST_F(DoctorTest, SaysWhatAnIssuerCanDo) {
  use({"prod", "vault", {}});

  EXPECT_EQ(examine(), 0) << said_;
  EXPECT_TRUE(says("credential \"prod\" (vault), for reg:5000\n")) << said_;
  EXPECT_TRUE(says("revocable yes, listable yes, bypassable no")) << said_;
}

TEST_F(DoctorTest, SaysHowFarSlipwayGateIsConfinedAndWhetherItWorks) {
  struct Dead final : gate_worker::ImageReader {
    Result<leaks::Report> search(const oci::Layout& /*layout*/, const oci::Digest& /*root*/,
                                 const gate_worker::SearchTask& /*task*/) override {
      return leaks::Report{};
    }
    Result<oci::Tolerated> verify(const oci::Layout& /*layout*/, const oci::Digest& /*root*/,
                                  const oci::VerifyRules& /*rules*/, oci::Flaw* /*flaw*/) override {
      return Error{ErrorKind::internal, "it died", "", {}};
    }
    Result<std::vector<oci::Executable>> executables(const oci::Layout& /*layout*/,
                                                     const oci::Digest& /*manifest*/,
                                                     std::uint64_t /*max_layer*/) override {
      return std::vector<oci::Executable>{};
    }
    Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& /*layout*/,
                                                            const oci::Digest& /*manifest*/,
                                                            std::uint64_t /*max_layer*/) override {
      return std::vector<oci::PackageChange>{};
    }
    Result<std::vector<std::string>> false_sboms(const oci::Layout& /*layout*/,
                                                 const oci::Digest& /*manifest*/,
                                                 std::uint64_t /*max_layer*/) override {
      return std::vector<std::string>{};
    }
  } dead;
  const auto empty = *oci::Layout::create(dir_ / "empty");
  gate_worker::ReadsHere alive{clock_};
  std::ostringstream good;
  std::ostringstream bad;

  EXPECT_EQ(doctor_gate(alive, empty, 3, good), 0) << good.str();
  EXPECT_EQ(doctor_gate(dead, empty, 0, bad), 2) << bad.str();

  EXPECT_NE(good.str().find("seccomp and Landlock (ABI 3)\n"), std::string::npos) << good.str();
  EXPECT_NE(bad.str().find("it died"), std::string::npos) << bad.str();
  EXPECT_NE(bad.str().find("no Landlock"), std::string::npos) << bad.str();
}

/// Trivy, of any version; it finds what the DB of these tests knows, or nothing.
class OneFindingScanner final : public gate::Scanner {
public:
  Result<Report> scan(const std::filesystem::path& /*layout_dir*/,
                      const oci::Digest& /*manifest*/) override {
    ++scans;
    const std::string found = R"({"VulnerabilityID":"CVE-2024-12797","PkgName":"openssl",)"
                              R"("InstalledVersion":"0","Severity":"LOW"})";
    return Report{R"({"SchemaVersion":2,"Trivy":{"Version":")" + reported + R"("},"Metadata":{},)" +
                      R"("Results":[{"Target":"a","Class":"os-pkgs","Vulnerabilities":[)" +
                      (finds ? found : "") + "]}]}",
                  ""};
  }
  Result<Report> scan_sbom(const std::filesystem::path& /*dir*/) override {
    return Error{ErrorKind::unavailable, "no SBOM", "", {}};
  }
  std::string version() const override { return "trivy"; }

  std::string reported = "0.69.3";
  bool finds = true;
  int scans = 0;
};

class DoctorOfScannersTest : public DoctorTest {
protected:
  DoctorOfScannersTest() {
    scanner_.trivy = dir_ / "trivy";
    scanner_.db_dir = dir_ / "db";
    scanner_.cache_dir = dir_ / "gate";
    scanner_.trivy_sha256 = oci::Digest::of(kProgram).str();
    EXPECT_TRUE(replace_file(scanner_.trivy, kProgram, 0755));
    std::filesystem::create_directories(scanner_.db_dir);
    EXPECT_TRUE(
        replace_file(scanner_.db_dir / "trivy.db",
                     fakes::advisory_db(
                         {{"alpine 3.21",
                           {{"openssl", {{"CVE-2024-12797", R"({"FixedVersion":"3.3.3-r0"})"}}}}}}),
                     0644));
    EXPECT_TRUE(replace_file(scanner_.db_dir / "metadata.json",
                             R"({"Version":2,"UpdatedAt":"2026-11-24T10:00:00Z"})", 0644));
  }
  int examine_scanners() {
    std::ostringstream out;
    const int problems = doctor_scanners(scanner_, trivy_, grype_, out);
    said_ = out.str();
    return problems;
  }

  static constexpr const char* kProgram = "#!/bin/false\n";
  gate::ScannerConfig scanner_;
  OneFindingScanner trivy_;
  OneFindingScanner grype_;
};

TEST_F(DoctorOfScannersTest, SaysWhichOneRunsAndThatItFindsSomething) {
  EXPECT_EQ(examine_scanners(), 0);
  EXPECT_EQ(said_, "scanner " + scanner_.trivy.string() +
                       ": trivy 0.69.3, the pinned one, finds a vulnerability that it is shown\n");
}

TEST_F(DoctorOfScannersTest, AMissingOneIsAProblem) {
  std::filesystem::remove(scanner_.trivy);

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("problem: cannot read the scanner " + scanner_.trivy.string())) << said_;
  EXPECT_TRUE(says("what to do: install it with packaging/tools")) << said_;
}

TEST_F(DoctorOfScannersTest, WhatIsNotThePinnedOneIsAProblemAndNotStarted) {
  EXPECT_TRUE(replace_file(scanner_.trivy, "#!/bin/true\n", 0755));

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("is not the pinned scanner: it digests to sha256:")) << said_;
  EXPECT_EQ(trivy_.scans, 0);
}

TEST_F(DoctorOfScannersTest, OneWithoutAPinIsTold) {
  scanner_.trivy_sha256 = "";

  EXPECT_EQ(examine_scanners(), 0) << said_;
  EXPECT_TRUE(says(": trivy 0.69.3, not pinned, finds")) << said_;
  EXPECT_TRUE(says("it digests to " + oci::Digest::of(kProgram).str())) << said_;
  EXPECT_TRUE(says("set [gate] trivy_sha256")) << said_;
}

TEST_F(DoctorOfScannersTest, AMaliciousReleaseIsAProblemWhateverItFinds) {
  trivy_.reported = "0.69.5";

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("problem: Trivy 0.69.5 is a known malicious release")) << said_;
}

TEST_F(DoctorOfScannersTest, ASilentOneIsAProblemAlsoAfterItFoundSomething) {
  EXPECT_EQ(examine_scanners(), 0) << said_;
  trivy_.finds = false;

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("problem: The scanner does not find CVE-2024-12797 in the package openssl of "
                   "alpine 3.21, which its DB knows."))
      << said_;
  EXPECT_TRUE(std::filesystem::is_empty(scanner_.cache_dir));
}

TEST_F(DoctorOfScannersTest, WithoutADatabaseNothingIsProven) {
  std::filesystem::remove_all(scanner_.db_dir);

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("problem: whether it finds anything cannot be told: ")) << said_;
  EXPECT_EQ(trivy_.scans, 0);
}

TEST_F(DoctorOfScannersTest, TheSecondOneCountsWhereItIsWanted) {
  scanner_.grype = dir_ / "grype";
  scanner_.grype_db_dir = dir_ / "grype-db";

  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says("cannot read the scanner " + scanner_.grype.string())) << said_;
  EXPECT_TRUE(replace_file(scanner_.grype, kProgram, 0755));
  EXPECT_EQ(examine_scanners(), 1);
  EXPECT_TRUE(says(": grype, not pinned\n")) << said_;
  EXPECT_TRUE(says("set [gate] grype_sha256")) << said_;
}

TEST_F(DoctorTest, SaysHowFarSlipwayPushIsConfinedAndWhetherItWorks) {
  std::ostringstream good;
  std::ostringstream bad;

  EXPECT_EQ(doctor_push(Error{ErrorKind::bad_input, "no address", "", {}}, 3, good), 0);
  EXPECT_EQ(doctor_push(Error{ErrorKind::misconfigured, "it cannot", "allow it", {}}, 0, bad), 2);

  EXPECT_EQ(good.str(), "registries and issuers are asked by slipway-push, confined by seccomp and "
                        "Landlock (ABI 3)\n");
  EXPECT_NE(bad.str().find("slipway-push cannot work: it cannot"), std::string::npos) << bad.str();
  EXPECT_NE(bad.str().find("what to do: allow it"), std::string::npos) << bad.str();
  EXPECT_NE(bad.str().find("takes slipway-push over"), std::string::npos) << bad.str();
}

TEST_F(DoctorTest, SaysWhichBackendsBuildAndWhichRuleWantsAnother) {
  const std::vector<Tool> tools{
      {"buildkit", "/b", "v0.34.2", true, "", ""},
      {"podman", "", "", false, "it is switched off", "set `podman` in [buildah] to its path"}};
  std::ostringstream good;
  EXPECT_EQ(doctor_backends(config_, tools, good), 0);
  EXPECT_EQ(good.str(), "backend buildkit v0.34.2: builds here\n"
                        "backend podman: no: it is switched off\nbackends: 1, problems: 0\n");
  config::Rule rule;
  rule.origin = "p.toml:3";
  rule.backends.pin = "podman";
  config_.rules.push_back(rule);

  std::ostringstream bad;
  EXPECT_EQ(doctor_backends(config_, tools, bad), 1);
  EXPECT_NE(bad.str().find("rule p.toml:3 has its jobs' images built by podman, which does not "
                           "build here"),
            std::string::npos)
      << bad.str();
  config_.rules.clear();
  std::ostringstream none;
  EXPECT_EQ(doctor_backends(config_, {tools[1]}, none), 1);
}

TEST_F(DoctorTest, CallsTheDefaultEgressAGuardRailAndARuleThatLearnsAProblem) {
  std::ostringstream guard;
  EXPECT_EQ(doctor_egress(config_, guard), 0);
  EXPECT_EQ(guard.str(), "egress by default: open-except-registries, a guard rail: all but the "
                         "registries can be reached\n");
  config::Rule rule;
  rule.origin = "p.toml:3";
  rule.egress = "allowlist";
  rule.egress_learn = true;
  config_.rules.push_back(rule);

  std::ostringstream learns;
  EXPECT_EQ(doctor_egress(config_, learns), 1);
  EXPECT_NE(learns.str().find("egress by rule p.toml:3: allowlist\n"), std::string::npos);
  EXPECT_NE(learns.str().find("problem: rule p.toml:3 lets its jobs connect to everything"),
            std::string::npos);
}

TEST_F(DoctorTest, SaysWhatASandboxMayUseAndThatNothingBoundsItsMemory) {
  const auto said = [&] {
    std::ostringstream out;
    doctor_limits(config_, out);
    return out.str();
  };
  EXPECT_EQ(said(),
            "limits of each sandbox: 4096 processes; all jobs end below 1024 MiB of free "
            "disk\n  note: one job can take all of the machine's memory: [sandbox] memory\n");
  config_.sandbox.memory_bytes = 3UL << 30;
  config_.sandbox.cpus = 1.5;
  config_.sandbox.file_bytes = 64UL << 20;

  EXPECT_EQ(said(), "limits of each sandbox: 4096 processes, memory 3072 MiB, 1.5 processors, "
                    "files of 64 MiB; all jobs end below 1024 MiB of free disk\n");
}

TEST_F(DoctorTest, MissesWhatASignatureNeedsBeforeAPushDoes) {
  int problems = 0;
  const auto said = [&] {
    std::ostringstream out;
    problems = doctor_signing(config_, out);
    return out.str();
  };
  EXPECT_EQ(said(), "signing: nothing is signed, [signing] has no key\n");
  EXPECT_EQ(problems, 0);
  const auto there = dir_ / "there";
  ASSERT_TRUE(replace_file(there, "x", 0700));
  config_.signing.key_file = there;
  EXPECT_EQ(said(), "signing: by the key " + there.string() + "\n");
  EXPECT_EQ(problems, 0);
  ASSERT_TRUE(replace_file(there, "x", 0744));
  EXPECT_NE(said().find("is open to other users"), std::string::npos);
  EXPECT_EQ(problems, 1);
  config_.signing.key_file = dir_ / "gone";
  EXPECT_NE(said().find("key_file (" + (dir_ / "gone").string() + ") cannot be used: No such file"),
            std::string::npos)
      << said();
  EXPECT_EQ(problems, 1);

  config_.signing = {};
  config_.signing.pkcs11_module = there;
  config_.signing.public_key_file = there;
  config_.programs.pkcs11 = dir_ / "gone";
  EXPECT_NE(said().find("pkcs11 in [programs]"), std::string::npos) << said();
  EXPECT_EQ(problems, 1);
  config_.programs.pkcs11 = there;
  said();
  EXPECT_EQ(problems, 0) << said();

  config_.signing = {};
  config_.signing.command = {dir_ / "gone"};
  said();
  EXPECT_EQ(problems, 2) << said();
}

TEST_F(DoctorTest, SaysThatImagesLeaveAsFilesUnjudgedAndWhereNot) {
  const auto said = [&] {
    std::ostringstream out;
    doctor_save(config_, out);
    return out.str();
  };
  EXPECT_EQ(said(), "images as files (docker save, build -o): leave jobs without having been "
                    "judged, where no rule says save = false\n");
  config::Rule rule;
  rule.origin = "p.toml:3";
  rule.save = false;
  config_.rules.push_back(rule);

  EXPECT_NE(said().find("images as files by rule p.toml:3: none\n"), std::string::npos);
  config_.rules.back().backends.dind = true;
  EXPECT_NE(said().find("rule p.toml:3: none, but whatever their containers write"),
            std::string::npos);
}

TEST_F(DoctorTest, FindsWhatIsWrongAndSaysWhatToDo) {
  use({"prod", "vault", {}});
  facts_ = Error{ErrorKind::misconfigured, "cannot read role_id", "write the file", {}};
  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("problem: cannot read role_id\n    what to do: write the file")) << said_;

  facts_ = engine_api::IssuerFacts{false, false, true, false};
  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("a job can mint the same")) << said_;

  facts_ = engine_api::IssuerFacts{};
  config_.registries.clear();
  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("no registry uses it")) << said_;
}

TEST_F(DoctorTest, TellsTheAgeOfAStaticPasswordAndWhoMayUseIt) {
  use(old_password());
  config_.rules.emplace_back().static_credentials = {"old"};
  clock_.advance(std::chrono::hours{24 * 10 + 1});
  EXPECT_EQ(examine(), 0) << said_;
  EXPECT_TRUE(says("no token server\n  it is 10 days old")) << said_;

  clock_.advance(std::chrono::hours{24 * 90});
  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("the password is 100 days old")) << said_;

  config_.rules.clear();
  EXPECT_EQ(examine(), 2);
  EXPECT_TRUE(says("static_credentials = [\"old\"]")) << said_;
}

TEST_F(DoctorTest, FindsSecretsThatOthersCanRead) {
  use(old_password());
  config_.rules.emplace_back().static_credentials = {"old"};
  std::filesystem::permissions(dir_ / "pw", std::filesystem::perms{0644});

  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("password_file (" + (dir_ / "pw").string() + ") is open to other users"));
}

TEST_F(DoctorTest, CountsLeasesThatAreStuck) {
  leases_.resize(3);
  leases_[0].problem = "the issuer is down";
  leases_[1].problem = "cannot be revoked";
  leases_[1].until_end = true;

  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("could not be revoked yet: 1")) << said_;
}

TEST_F(DoctorTest, ListsLeasesWithTheirEnds) {
  std::ostringstream none;
  print_leases({}, none);
  EXPECT_EQ(none.str(), "no credential is out\n");

  state::LeaseRecord lease;
  lease.name = "slipway-1";
  lease.issuer = "prod";
  lease.registry = "reg:5000";
  lease.repository = "grp/app";
  lease.created = "2026-11-24T16:00:00Z";
  lease.owner = state::ProcessIdentity::self();
  std::vector<state::LeaseRecord> leases{lease, lease, lease};
  leases[1].owner = {};
  leases[2].expires_at = "2026-11-24T17:00:00Z";
  leases[2].problem = "it cannot be revoked";
  leases[2].until_end = true;
  std::ostringstream out;
  print_leases(leases, out);
  EXPECT_EQ(
      out.str(),
      "NAME       ISSUER  REPOSITORY        SINCE                 ENDS                  STATE\n"
      "slipway-1  prod    reg:5000/grp/app  2026-11-24T16:00:00Z  not known             in use\n"
      "slipway-1  prod    reg:5000/grp/app  2026-11-24T16:00:00Z  not known             left "
      "by a dead process\n"
      "slipway-1  prod    reg:5000/grp/app  2026-11-24T16:00:00Z  2026-11-24T17:00:00Z  it "
      "cannot be revoked; nothing but time ends it\n");
}

TEST_F(DoctorTest, SaysWhoSharesIdsAndHowManyWouldDo) {
  const sandbox::SlotWishes wishes{4, 4, 4};
  std::ostringstream enough;
  std::ostringstream few;

  doctor_ids(sandbox::plan_slots(14 * 65536, wishes), wishes, enough);
  doctor_ids(sandbox::plan_slots(65536, wishes), wishes, few);

  EXPECT_EQ(enough.str(),
            "id ranges of their own: jobs 4 of 4, builders 4 of 4, stores 4 of 4, scanners yes\n");
  EXPECT_NE(few.str().find("jobs 0 of 4"), std::string::npos);
  EXPECT_NE(few.str().find("917504 subordinate ids"), std::string::npos);
}

TEST(DoctorIds, SayWhereMoreJobsThanBuildersBuild) {
  const sandbox::SlotWishes wishes{8, 4, 8};
  std::ostringstream out;

  doctor_ids(sandbox::plan_slots(22 * 65536, wishes), wishes, out);

  EXPECT_NE(out.str().find("what to do: warm_builders and stores of at least 8"),
            std::string::npos);
}

} // namespace
} // namespace slipway::cli
