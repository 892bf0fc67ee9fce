// SPDX-License-Identifier: Apache-2.0
// A scanner that finds nothing is believed only where it finds what it is shown. The control of
// each attack is the same one with canaries off: it passes.
#include "executor/gate/canary.hpp"
#include "executor/gate/database.hpp"
#include "tests/fakes/vulnerability_db.hpp"
#include "tests/unit/executor/gate/gate_fixture.hpp"

namespace slipway::gate {
namespace {

constexpr const char* kFixed = R"({"FixedVersion":"3.3.3-r0"})";

class Canaries : public Gate {
protected:
  Canaries() {
    config_.canaries = true;
    know({{"alpine 3.21", {{"openssl", {{"CVE-2024-12797", kFixed}}}}},
          {"debian 12", {{"curl", {{"CVE-2023-38545", R"({"FixedVersion":"7.88.1-10"})"}}}}}});
    // As Trivy does: what is in the image is found.
    scanner_.answer = [this](const std::filesystem::path& dir,
                             const oci::Digest& manifest) -> Result<Scanner::Report> {
      const auto shown = canary_in(dir, manifest);
      auto before = parts_;
      if (!shown.empty() && finds_) {
        ++proofs_;
        parts_.vulnerabilities = R"([{"VulnerabilityID":")" + found_ + R"(","PkgName":")" + shown +
                                 R"(","InstalledVersion":"0","Severity":"LOW"}])";
      }
      Scanner::Report report{report_for(dir, manifest), ""};
      parts_ = before;
      return report;
    };
  }
  void know(const fakes::Advisories& advisories, const char* updated = "2026-11-24T10:00:00Z") {
    write_db(updated, "2", fakes::advisory_db(advisories));
  }
  std::optional<ScanCanary> chosen(const std::string& bucket) {
    auto canary = choose_canary(config_.db_dir, bucket);
    EXPECT_TRUE(canary.ok());
    return canary ? *canary : std::nullopt;
  }
  void expect_denied_and_passes_without() {
    EXPECT_EQ(only_code(), "canary_not_found");
    config_.canaries = false;
    EXPECT_TRUE(verdict().passed);
    config_.canaries = true;
  }

  bool finds_ = true;
  std::string found_ = "CVE-2024-12797";
  int proofs_ = 0;
};

TEST_F(Canaries, AreFoundOnceForEachScannerAndDb) {
  EXPECT_TRUE(verdict().passed);
  EXPECT_EQ(proofs_, 1);
  EXPECT_TRUE(verdict("reg:5000/other").passed);
  EXPECT_EQ(proofs_, 1);
  scanner_.version_text = "fake 2";
  EXPECT_TRUE(verdict().passed);
  EXPECT_EQ(proofs_, 2);
  know({{"alpine 3.21", {{"openssl", {{"CVE-2024-12797", kFixed}}}}}}, "2026-11-24T11:00:00Z");
  EXPECT_TRUE(verdict().passed);
  EXPECT_EQ(proofs_, 3);
}

TEST_F(Canaries, CatchAScannerThatFindsNothing) {
  finds_ = false;
  expect_denied_and_passes_without();
  const auto judged = verdict();
  EXPECT_TRUE(judged.could_not_judge());
  const auto& message = judged.denials.front().message;
  EXPECT_NE(message.find("CVE-2024-12797 in the package openssl of alpine 3.21"), std::string::npos)
      << message;
  EXPECT_NE(message.find("slipway db update"), std::string::npos) << message;
  // It is not remembered that it failed.
  finds_ = true;
  EXPECT_TRUE(verdict().passed);
}

TEST_F(Canaries, CatchAScannerThatFindsSomethingElse) {
  found_ = "CVE-2024-1";
  expect_denied_and_passes_without();
}

TEST_F(Canaries, CatchADatabaseWithoutTheSystemsAdvisories) {
  know({{"alpine 3.21", {{"openssl", {}}}},
        {"debian 12", {{"curl", {{"CVE-2023-38545", R"({"FixedVersion":"7.88.1-10"})"}}}}}});
  expect_denied_and_passes_without();
}

TEST_F(Canaries, CatchADatabaseWhoseAdvisoriesSayNothing) {
  for (const char* empty :
       {"{}", R"({"FixedVersion":"0"})", "null", "[", R"({"FixedVersion":1})"}) {
    know({{"alpine 3.21", {{"openssl", {{"CVE-2024-12797", empty}}}}}});
    expect_denied_and_passes_without();
  }
}

TEST_F(Canaries, AreOfAnySystemWhereTheImagesOwnHasNone) {
  parts_.os = "";
  parts_.packages = "";
  parts_.more_results =
      R"({"Target":"app","Class":"lang-pkgs","Packages":[{"Name":"golang.org/x/net"}]})";
  policy_.allow_scratch = true;
  finds_ = false;
  expect_denied_and_passes_without();
  finds_ = true;
  // The fake's report on the proof has no system either, so its findings come with these results.
  parts_.more_results = "";
  parts_.os = R"({"Family":"redhat","Name":"10.1"})";
  parts_.packages = R"([{"Name":"libssl3"}])";
  EXPECT_TRUE(verdict().passed);
}

// Red Hat's advisories are in one bucket for all releases, and name products by numbers.
TEST_F(Canaries, OfRedHatAreOfTheReleasesProducts) {
  const auto with = [this](const char* advisory, const char* id = "CVE-2024-12797") {
    know({{"Red Hat CPE", {{"repository", {{"rhel-9-for-x86_64-baseos-rpms", "[3]"}}}}},
          {"Red Hat", {{"openssl", {{id, advisory}}}}}});
    return chosen("Red Hat 9");
  };
  const auto found =
      with(R"({"Entries":[{"FixedVersion":"1:1.1.1k-9.el8","Affected":[7],"Cves":[{"ID":"CVE-1"}]},
               {"FixedVersion":"1:3.0.7-1.el9","Affected":[3],"Cves":[{"ID":"CVE-2"}]}]})",
           "RHSA-2024:1");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->id, "CVE-2");
  EXPECT_EQ(found->fixed, "1:3.0.7-1.el9");
  const auto unfixed = with(R"({"Entries":[{"Affected":[3],"Cves":[{"Severity":2}]}]})");
  ASSERT_TRUE(unfixed.has_value());
  EXPECT_EQ(unfixed->id, "CVE-2024-12797");
  EXPECT_EQ(unfixed->fixed, "");
  for (const char* useless :
       {R"({"Entries":[{"FixedVersion":"1:3.0.7-1.el9","Affected":[7],"Cves":[{"ID":"CVE-1"}]}]})",
        R"({"Entries":[{"Affected":[3],"Arches":["s390x"],"Cves":[{"ID":"CVE-1"}]}]})",
        R"({"Entries":[{"Affected":"3","Cves":[{"ID":"CVE-1"}]}]})", R"({"Entries":7})"})
    EXPECT_FALSE(with(useless).has_value()) << useless;
}

TEST_F(Canaries, OfRedHatNeedAnAdvisoryOfTheRelease) {
  const auto knows = [this](const char* products) {
    know({{"Red Hat CPE", {{"repository", {{"rhel-9-for-x86_64-baseos-rpms", products}}}}},
          {"Red Hat",
           {{"openssl",
             {{"CVE-1", R"({"Entries":[{"Affected":[3],"Cves":[{"ID":"CVE-1"}]}]})"}}}}}});
    const auto known = has_advisories(config_.db_dir, "Red Hat 9");
    EXPECT_TRUE(known.ok());
    return known && *known;
  };
  EXPECT_TRUE(knows("[1,3]"));
  EXPECT_FALSE(knows("[1]"));
  EXPECT_FALSE(knows("\"3\""));
}

TEST_F(Canaries, AreNotAskedForWhatIsDeniedAnyway) {
  parts_.vulnerabilities = vulnerability("CRITICAL", "3.3.3-r0");
  EXPECT_FALSE(verdict().passed);
  EXPECT_EQ(scanner_.seen.size(), 1U);
}

TEST_F(Canaries, CatchAScannerThatFailsOnThem) {
  int scans = 0;
  scanner_.answer = [&, real = scanner_.answer](const auto& dir,
                                                const auto& manifest) -> Result<Scanner::Report> {
    if (++scans % 2 == 0) return Error{ErrorKind::unavailable, "it broke", "", {}};
    return real(dir, manifest);
  };
  EXPECT_EQ(only_code(), "canary_not_found");
  expect_passes_with("canary_not_found");
}

TEST_F(Canaries, TakeTheFirstAdvisoryThatCanBeLookedFor) {
  know(
      {{"rocky 9",
        {{"a:1::module", {{"CVE-1", R"({"FixedVersion":"1-1"})"}}},
         {"b", {{"CVE-2", R"({"Entries":[{"FixedVersion":"2-1","Arches":["aarch64"]}]})"}}},
         {"c",
          {{"CVE-3",
            R"({"Entries":[{"FixedVersion":"3-0","Arches":["aarch64"]},{"FixedVersion":"0:3-1","Arches":["x86_64"]},{"FixedVersion":"3-2","Arches":["x86_64"]}]})"}}}}},
       {"Oracle Linux 9",
        {{"glibc",
          {{"CVE-4", R"({"FixedVersion":"2:2.34-1.ksplice1.el9"})"},
           {"CVE-5", R"({"FixedVersion":"2:2.34-1.el9"})"}}}}},
       {"debian 12",
        {{"a", {{"CVE-6", R"({"Status":5})"}}}, {"b", {{"CVE-7", R"({"FixedVersion":"1:2"})"}}}}},
       {"ubuntu 24.04", {{"a", {{"CVE-8", R"({"Status":2})"}}}}}});
  EXPECT_EQ(chosen("rocky 9")->id, "CVE-3");
  EXPECT_EQ(chosen("rocky 9")->fixed, "0:3-1");
  EXPECT_EQ(chosen("Oracle Linux 9")->id, "CVE-5");
  EXPECT_EQ(chosen("debian 12")->id, "CVE-7");
  EXPECT_EQ(chosen("ubuntu 24.04")->id, "CVE-8"); // every version has it
  EXPECT_FALSE(chosen("ubuntu 22.04"));
  EXPECT_FALSE(chosen("wolfi"));
  EXPECT_FALSE(has_canary_for("alpine edge"));
  EXPECT_FALSE(has_canary_for("alpine 3.21\nx"));
}

} // namespace
} // namespace slipway::gate
