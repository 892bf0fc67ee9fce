// SPDX-License-Identifier: Apache-2.0
// Licences that the policy denies, and misconfigurations that it wants looked for.
#include "executor/gate/licenses.hpp"
#include "tests/unit/executor/gate/gate_fixture.hpp"

namespace slipway::gate {
namespace {

struct Licence {
  const char* name;
  const char* expression;
  const char* denied; ///< by "GPL-3*" and "agpl*"
};
class DeniedLicense : public testing::TestWithParam<Licence> {};
TEST_P(DeniedLicense, IsFoundInAnExpression) {
  EXPECT_EQ(denied_license(GetParam().expression, {"GPL-3*", "agpl*"}), GetParam().denied);
  EXPECT_EQ(denied_license(GetParam().expression, {}), "");
}
INSTANTIATE_TEST_SUITE_P(
    Each, DeniedLicense,
    testing::Values(
        Licence{"Alone", "GPL-3.0-only", "GPL-3.0-only"}, Licence{"Another", "GPL-2.0-only", ""},
        Licence{"InOtherLetters", "gpl-3.0", "gpl-3.0"},
        Licence{"AChoice", "GPL-3.0-only OR MIT", ""},
        Licence{"NoChoice", "GPL-3.0-only OR AGPL-3.0-only", "GPL-3.0-only"},
        Licence{"Both", "MIT AND GPL-3.0-only", "GPL-3.0-only"},
        Licence{"AndBeforeOr", "MIT OR Apache-2.0 AND GPL-3.0-only", ""},
        Licence{"Parentheses", "(MIT OR Apache-2.0) AND (GPL-3.0-only)", "GPL-3.0-only"},
        Licence{"AnException", "GPL-3.0-only WITH Classpath-exception-2.0",
                "GPL-3.0-only WITH Classpath-exception-2.0"},
        Licence{"Words", "GPL-3 or later", "GPL-3 or later"},
        Licence{"BrokenParentheses", "GPL-3.0-only OR (MIT", "GPL-3.0-only OR (MIT"},
        Licence{"NoOperand", "GPL-3.0-only OR", "GPL-3.0-only OR"}, Licence{"Nothing", "", ""}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });
TEST(DeniedLicense, HasAnEndHoweverDeepItIs) {
  EXPECT_EQ(denied_license(std::string(1UL << 20, '(') + "GPL-3.0-only", {"GPL-3*"}), "");
  EXPECT_EQ(denied_license("((((GPL-3.0-only))))", {"GPL-3*"}), "GPL-3.0-only");
}

class GateLicenses : public Gate {
protected:
  GateLicenses() {
    parts_.packages = R"([{"Name":"libssl3","Version":"3.3.2-r0","Licenses":["Apache-2.0"]},)"
                      R"({"Name":"bash","Version":"5.2","Licenses":["GPL-3.0-or-later"],)"
                      R"("Identifier":{"PURL":"pkg:apk/alpine/bash@5.2"}}])";
    policy_.denied_licenses = {"GPL-3*"};
  }
};
TEST_F(GateLicenses, APackageUnderADeniedOneBlocks) {
  const auto judged = verdict();

  EXPECT_FALSE(judged.passed);
  ASSERT_EQ(judged.findings.size(), 1U) << judged.for_people();
  EXPECT_EQ(judged.findings.front().kind, FindingKind::license);
  EXPECT_NE(
      judged.for_people().find("HIGH  GPL-3.0-or-later  licence of bash 5.2  [alpine 3.21.3]"),
      std::string::npos)
      << judged.for_people();
  EXPECT_TRUE(judged.counts.empty()) << "it is no vulnerability";

  policy_.denied_licenses = {"AGPL*"};
  EXPECT_TRUE(verdict().passed);
  policy_.denied_licenses.clear();
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateLicenses, AWaiverForThePackageLetsItPassUntilItsDay) {
  auto until = waiver("GPL-3.0-or-later");
  until.purl = "pkg:apk/alpine/bash";
  policy_.waivers = {until};

  const auto judged = verdict();

  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_TRUE(judged.findings.front().waived);
  EXPECT_TRUE(verdict().from_cache);
  EXPECT_EQ(verdict().findings.front().kind, FindingKind::license) << "and is remembered as one";
  policy_.waivers.front().purl = "pkg:apk/alpine/zsh";
  EXPECT_FALSE(verdict().passed);
}

class GateMisconfigurations : public Gate {
protected:
  GateMisconfigurations() {
    policy_.misconfig_threshold = Severity::high;
    found("HIGH", "FAIL");
  }
  void found(const std::string& severity, const std::string& status) {
    parts_.more_results =
        R"(,{"Target":"/layout","Class":"config","Type":"dockerfile","Misconfigurations":[)"
        R"({"ID":"DS-0002","Title":"Image user should not be 'root'","Message":"Specify a USER",)"
        R"("Resolution":"Add 'USER <non root user name>'","Severity":")" +
        severity + R"(","Status":")" + status + "\"}]}";
  }
};
TEST_F(GateMisconfigurations, BlockAtTheirThresholdAndTellWhatToDo) {
  const auto judged = verdict();

  EXPECT_FALSE(judged.passed);
  const auto text = judged.for_people();
  EXPECT_NE(text.find("HIGH  DS-0002  misconfiguration of the image"), std::string::npos) << text;
  EXPECT_NE(text.find("What to do: Add 'USER <non root user name>'"), std::string::npos) << text;
  EXPECT_TRUE(judged.counts.empty());

  policy_.misconfig_threshold = Severity::critical;
  EXPECT_TRUE(verdict("").passed);
  policy_.misconfig_threshold = Severity::high;
  found("MEDIUM", "FAIL");
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(verdict("").findings.size(), 1U) << "it is told all the same";
  found("CRITICAL", "PASS");
  EXPECT_TRUE(verdict("").findings.empty());
  found("of a kind that nobody knows", "FAIL");
  EXPECT_FALSE(verdict("").passed);
}
TEST_F(GateMisconfigurations, ThatNobodyLookedForDeny) {
  parts_.more_results.clear();
  EXPECT_EQ(only_code(), "coverage_partial");
  expect_passes_with("coverage_partial");
  policy_.misconfig_threshold.reset();
  EXPECT_TRUE(verdict().passed);
}
TEST_F(GateMisconfigurations, AreWaivedLikeOthers) {
  policy_.waivers = {waiver("DS-0002")};
  EXPECT_TRUE(verdict().passed);
  policy_.waivers = {waiver("DS-0001")};
  EXPECT_FALSE(verdict().passed);
}
TEST(Misconfigurations, AreLookedForOnlyWhereTheyAreAsked) {
  const auto root = oci::Digest::of("x");
  const auto value_of = [&](bool wanted) {
    const auto words = trivy_arguments("/l", root, "/c", wanted);
    const auto at = std::find(words.begin(), words.end(), "--image-config-scanners");
    return *std::next(at);
  };
  EXPECT_EQ(value_of(false), "secret");
  EXPECT_EQ(value_of(true), "secret,misconfig");
}

} // namespace
} // namespace slipway::gate
