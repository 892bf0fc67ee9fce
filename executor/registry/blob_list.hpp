// SPDX-License-Identifier: Apache-2.0
// What a push sends, as whoever asked for it read it out of the judged tree: slipway-push holds a
// credential, and a key at times, so it parses nothing that a job wrote.
//
// Who asks is believed as to what belongs to the root. The bytes of each blob are hashed, and the
// root has the digest that the pass is for; so a list that leaves a blob out makes a push that the
// registry refuses, or an image that cannot be pulled, and never other bytes under the judged
// digest. A blob too many lies in the repository without a name. That an image is to be signed is
// taken on that word as well: it comes from where the pass comes from.
#pragma once

#include "executor/base/result.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/manifest.hpp"

#include <vector>

namespace slipway::registry {

class BlobList {
public:
  struct Entry {
    oci::Descriptor blob;     ///< digest and size; of a manifest the media type too
    bool is_manifest = false; ///< a manifest or an index
    bool is_image = false;    ///< a manifest below the root that is signed as well
  };

  /// Checks the list's form: engine_api::kMaxPushBlobs at most, each digest once, manifests of a
  /// known type and size, the last of them `root`. Errors: bad_input.
  static Result<BlobList> from(const std::vector<engine_api::PushBlob>& blobs,
                               const oci::Digest& root);

  /// In the order of the request; the last one is the root. Never empty.
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  const oci::Descriptor& root() const noexcept { return entries_.back().blob; }
  /// The root, or an image that is signed with it.
  bool is_signed(const oci::Digest& digest) const;

private:
  explicit BlobList(std::vector<Entry> entries) : entries_{std::move(entries)} {}
  std::vector<Entry> entries_;
};

} // namespace slipway::registry
