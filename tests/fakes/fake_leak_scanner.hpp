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
  Result<gate::LeakFindings> search(const oci::Layout& /*layout*/,
                                    const oci::ImageTree& tree) override {
    seen.push_back(tree.root);
    return answer();
  }
  Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::ImageTree& tree,
                                const oci::VerifyRules& rules, oci::Flaw* flaw) override {
    return oci::verify_tree(layout, tree, rules, flaw);
  }
};

} // namespace slipway::fakes
