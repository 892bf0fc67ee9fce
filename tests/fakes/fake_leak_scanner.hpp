// SPDX-License-Identifier: Apache-2.0
// A leak scanner that remembers what it was asked about; without an answer it finds nothing. It
// verifies in the test's own process.
#pragma once

#include "executor/gate/gate.hpp"

#include <functional>
#include <vector>

namespace slipway::fakes {

class FakeLeakScanner final : public gate::ContentReader {
public:
  std::vector<oci::Digest> seen;
  std::function<Result<gate::LeakFindings>()> answer = [] { return gate::LeakFindings{}; };
  std::function<Result<std::vector<oci::Executable>>()> can_be_executed = [] {
    return std::vector<oci::Executable>{};
  };
  std::function<Result<std::vector<oci::PackageChange>>()> changed_packages = [] {
    return std::vector<oci::PackageChange>{};
  };
  std::function<Result<std::vector<std::string>>(const oci::Digest&)> named_as_sboms =
      [](const oci::Digest& /*manifest*/) { return std::vector<std::string>{}; };
  Result<gate::LeakFindings> search(const oci::Layout& /*layout*/,
                                    const oci::ImageTree& tree) override {
    seen.push_back(tree.root);
    return answer();
  }
  Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::ImageTree& tree,
                                const oci::VerifyRules& rules, oci::Flaw* flaw) override {
    return oci::verify_tree(layout, tree, rules, flaw);
  }
  Result<std::vector<oci::Executable>> executables(const oci::Layout& /*layout*/,
                                                   const oci::Digest& /*manifest*/) override {
    return can_be_executed();
  }
  Result<std::vector<oci::PackageChange>>
  package_changes(const oci::Layout& /*layout*/, const oci::Digest& /*manifest*/) override {
    return changed_packages();
  }
  Result<std::vector<std::string>> false_sboms(const oci::Layout& /*layout*/,
                                               const oci::Digest& manifest) override {
    return named_as_sboms(manifest);
  }
};

} // namespace slipway::fakes
