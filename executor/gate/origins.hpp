// SPDX-License-Identifier: Apache-2.0
// Which layer brought what a scanner found, and which instruction made that layer.
#pragma once

#include "executor/gate/gate.hpp"
#include "executor/oci/layout.hpp"

#include <map>
#include <string>
#include <vector>

namespace slipway::gate {

/// Of one image: by diff id, which is what scanners name, the layer as its manifest has it.
class Origins {
public:
  explicit Origins(const oci::ImageTree::Image& image);
  /// Puts layer and instruction where a finding's `layer` has the scanner's diff id; what is no
  /// layer of this image becomes "".
  void name(std::vector<Finding>& findings) const;

private:
  struct Origin {
    std::string layer;
    std::string made_by;
  };
  std::map<std::string, Origin> by_diff_id_;
};

} // namespace slipway::gate
