// SPDX-License-Identifier: Apache-2.0
// A database of packages that was changed, and not its packages.
#include "tests/unit/executor/gate/gate_fixture.hpp"

namespace slipway::gate {
namespace {

class GatePackageChanges : public Gate {
protected:
  GatePackageChanges() {
    leaks_.changed_packages = [this] {
      ++asked_;
      return changes_;
    };
    with_curl();
    const auto one = fakes::alpine_layer("3.3.2-r0");
    const auto two = fakes::tar_of({{"app", "x"}});
    root_ = fakes::write_image_of(
        layout_, {{one, oci::Digest::of(one).str()}, {two, oci::Digest::of(two).str()}});
  }
  void with_curl(const std::string& more = "") {
    parts_.packages =
        R"([{"Name":"libssl3","Version":"3"},{"Name":"curl","Version":"8")" + more + "}]";
  }

  std::vector<oci::PackageChange> changes_;
  int asked_ = 0;
};

TEST_F(GatePackageChanges, AForgedVersionDenies) {
  EXPECT_TRUE(verdict("").passed) << "what came with files is no matter";
  changes_ = {{"curl", "7", "8", "m", "m", false}};
  EXPECT_EQ(only_code(), "package_forged");
  EXPECT_NE(
      verdict().for_people().find("curl of the image for linux/amd64 is said to be 8 instead of 7"),
      std::string::npos);
  expect_passes_with("package_forged");
}
TEST_F(GatePackageChanges, APackageThatBecameAThirdPartysDenies) {
  changes_ = {{"curl", "8", "8", "Debian", "support@docker.com", true}};
  EXPECT_TRUE(verdict("").passed) << "of no matter while the scanner looks it up";
  with_curl(R"(,"Repository":{"Class":"third-party"})");
  EXPECT_EQ(only_code(), "package_disowned");
  expect_passes_with("package_disowned");
  changes_.front().new_version = "9";
  EXPECT_EQ(only_code(), "package_disowned") << "also one that really takes its place";
  EXPECT_NE(verdict().for_people().find("names 'support@docker.com' as its maintainer instead of "
                                        "'Debian'. Keep the distribution's package, or ask the "
                                        "operator for a [[gate_allow]]"),
            std::string::npos)
      << verdict().for_people();
  expect_passes_with("package_disowned");
}
TEST_F(GatePackageChanges, AThirdPartysPackageFromTheBeginningIsTold) {
  with_curl(R"(,"Repository":{"Class":"third-party"})");
  changes_ = {{"curl", "8", "9", "support@docker.com", "support@docker.com", true}};

  const auto upgraded = verdict("");

  EXPECT_TRUE(upgraded.passed);
  EXPECT_NE(upgraded.for_people().find("1 packages of the image for linux/amd64 are from third "
                                       "parties"),
            std::string::npos)
      << upgraded.for_people();
  changes_.clear();
  EXPECT_TRUE(verdict("").passed) << "and one that no layer below had";
}
TEST_F(GatePackageChanges, APackageThatWasTakenOutOfTheDatabaseDenies) {
  changes_ = {{.name = "openssl", .old_version = "3.3.2-r0", .remains = "usr/bin/openssl"}};
  EXPECT_EQ(only_code(), "package_removed");
  EXPECT_NE(verdict().for_people().find("openssl 3.3.2-r0 of the image for linux/amd64 is in the "
                                        "database of packages no longer, and its files are still "
                                        "there (usr/bin/openssl)"),
            std::string::npos);
  expect_passes_with("package_removed");
}
TEST_F(GatePackageChanges, AreAskedForOnlyWhereALayerMayHaveChangedSomething) {
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(asked_, 1);
  parts_.os = R"({"Family":"alma","Name":"9.4"})";
  (void)verdict("");
  EXPECT_EQ(asked_, 2) << "whatever the kind of its database";
  parts_.os = R"({"Family":"alpine","Name":"3.21.3"})";
  root_ = fakes::write_alpine(layout_, "3.3.2-r0"); // of one layer
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(asked_, 2);
}
TEST_F(GatePackageChanges, ThatCannotBeToldDeny) {
  leaks_.changed_packages = []() -> Result<std::vector<oci::PackageChange>> {
    return Error{ErrorKind::bad_input, "too many files", "", {}};
  };
  EXPECT_EQ(only_code(), "coverage_partial");
  expect_passes_with("coverage_partial");
}

} // namespace
} // namespace slipway::gate
