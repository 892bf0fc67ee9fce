// SPDX-License-Identifier: Apache-2.0
#include "executor/registry/blob_list.hpp"

#include <algorithm>
#include <set>

namespace slipway::registry {

namespace {

Error no_list(const std::string& why, const std::string& hint = "") {
  return Error{ErrorKind::bad_input, "the list of blobs to push " + why, hint, {}};
}

} // namespace

Result<BlobList> BlobList::from(const std::vector<engine_api::PushBlob>& blobs,
                                const oci::Digest& root) {
  if (blobs.empty()) { // an upgrade is not the job's fault
    return Error{ErrorKind::unavailable,
                 "the list of blobs to push is empty",
                 "where slipway was upgraded while the job ran: run the job again",
                 {}};
  }
  if (blobs.size() > engine_api::kMaxPushBlobs) {
    return no_list("has " + std::to_string(blobs.size()) + " entries; at most " +
                       std::to_string(engine_api::kMaxPushBlobs) + " are pushed at once",
                   "push an image of fewer layers and platforms");
  }
  std::vector<Entry> entries;
  std::set<oci::Digest> seen;
  for (const auto& one : blobs) {
    auto digest = oci::Digest::parse(one.digest);
    if (!digest) return std::move(digest).error().in("reading the list of blobs to push");
    if (!seen.insert(*digest).second) return no_list("names " + one.digest + " twice");
    const bool is_manifest_type = oci::is_manifest_type(one.media_type);
    if (one.is_manifest && !is_manifest_type && !oci::is_index_type(one.media_type))
      return no_list("has a manifest, " + one.digest + ", that is of no manifest's type");
    if (one.is_manifest && one.size > oci::kMaxManifestBytes) {
      return no_list("has a manifest, " + one.digest + ", of " + std::to_string(one.size) +
                     " bytes; at most " + std::to_string(oci::kMaxManifestBytes) + " are allowed");
    }
    if (one.is_image && (!one.is_manifest || !is_manifest_type))
      return no_list("wants " + one.digest + " to be signed, which is no image's manifest");
    entries.push_back({{one.is_manifest ? one.media_type : std::string{},
                        *std::move(digest),
                        one.size,
                        {},
                        {},
                        "",
                        false},
                       one.is_manifest,
                       one.is_image});
  }
  if (entries.back().blob.digest != root || !entries.back().is_manifest)
    return no_list("does not end with the judged manifest " + root.str());
  return BlobList{std::move(entries)};
}

bool BlobList::is_signed(const oci::Digest& digest) const {
  return digest == root().digest ||
         std::any_of(entries_.begin(), entries_.end(), [&](const auto& entry) {
           return entry.is_image && entry.blob.digest == digest;
         });
}

} // namespace slipway::registry
