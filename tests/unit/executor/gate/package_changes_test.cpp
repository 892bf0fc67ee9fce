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
    brought_by(R"("sha256:1")", R"("sha256:2")");
  }
  /// Two packages, each named first by this layer.
  void brought_by(const std::string& one, const std::string& other) {
    parts_.packages = R"([{"Name":"libssl3","Version":"3","Layer":{"DiffID":)" + one + "}}," +
                      R"({"Name":"curl","Version":"8","Layer":{"DiffID":)" + other + "}" +
                      (third_party_ ? R"(,"Repository":{"Class":"third-party"})" : "") + "}]";
  }

  std::vector<oci::PackageChange> changes_;
  bool third_party_ = false;
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
  third_party_ = true;
  brought_by(R"("sha256:1")", R"("sha256:1")");
  EXPECT_EQ(only_code(), "package_disowned");
  expect_passes_with("package_disowned");
  changes_.clear();
  EXPECT_TRUE(verdict("").passed) << "what was a third party's from the beginning is told";
}
TEST_F(GatePackageChanges, AreAskedForOnlyWhereALayerChangedSomething) {
  const auto lowest =
      '"' + oci::read_tree(layout_, root_)->images.front().config->diff_ids.front().str() + '"';
  brought_by(lowest, lowest);
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(asked_, 0);
  brought_by(lowest, R"("sha256:2")");
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(asked_, 1);
  brought_by(R"("sha256:2")", R"("sha256:2")");
  EXPECT_TRUE(verdict("").passed);
  EXPECT_EQ(asked_, 2) << "all of them were";
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
