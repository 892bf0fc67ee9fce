// SPDX-License-Identifier: Apache-2.0
// A leak scanner that remembers what it was asked about; without an answer it finds nothing.
#pragma once

#include "executor/gate/gate.hpp"

#include <functional>
#include <vector>

namespace slipway::fakes {

class FakeLeakScanner final : public gate::LeakScanner {
public:
  std::vector<oci::Digest> seen;
  std::function<Result<gate::LeakFindings>()> answer = [] { return gate::LeakFindings{}; };
  Result<gate::LeakFindings> search(const oci::Layout& /*layout*/,
                                    const oci::ImageTree& tree) override {
    seen.push_back(tree.root);
    return answer();
  }
};

} // namespace slipway::fakes
