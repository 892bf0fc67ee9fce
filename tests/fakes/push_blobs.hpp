// SPDX-License-Identifier: Apache-2.0
// PushRequest::blobs of an image in a layout, for tests of what stands below stages/image.
#pragma once

#include "executor/engine_api/push_protocol.hpp"
#include "executor/oci/layout.hpp"

#include <vector>

namespace slipway::fakes {

inline std::vector<engine_api::PushBlob> blobs_to_push(const oci::Layout& layout,
                                                       const oci::Digest& root) {
  std::vector<engine_api::PushBlob> list;
  const auto tree = oci::read_tree(layout, root);
  if (!tree) return list;
  for (const auto& blob : tree->blobs) {
    const bool image = oci::is_manifest_type(blob.media_type);
    list.push_back({blob.digest.str(), blob.size, blob.media_type,
                    image || oci::is_index_type(blob.media_type), image && blob.digest != root});
  }
  return list;
}

} // namespace slipway::fakes
