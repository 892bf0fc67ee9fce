// SPDX-License-Identifier: Apache-2.0
#include "stages/image/push_client.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::image {
namespace {

class BlobsToPush : public testing::Test {
protected:
  /// One character a blob: l(ayer or config), m(anifest), i(mage to sign).
  static std::string kinds(const std::vector<engine_api::PushBlob>& blobs) {
    std::string text;
    for (const auto& blob : blobs)
      text += blob.is_image ? 'i' : blob.is_manifest ? 'm' : 'l';
    return text;
  }
  fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path());
};

TEST_F(BlobsToPush, OfAnImageEndWithItsManifestWhichIsNotSignedTwice) {
  const auto root = fakes::write_image(layout_, {10, 20}, 1);

  const auto blobs = blobs_to_push(*oci::read_tree(layout_, root));

  EXPECT_EQ(kinds(blobs), "lllm");
  EXPECT_EQ(blobs.back().digest, root.str());
  EXPECT_EQ(blobs.back().size, *layout_.blob_size(root));
  EXPECT_EQ(blobs.back().media_type, oci::kMediaTypeOciManifest);
  EXPECT_EQ(blobs.front().media_type, "") << "words of the job's that nobody needs";
}

TEST_F(BlobsToPush, OfAnIndexSignImagesAndNoStatements) {
  const auto amd64 = fakes::write_image(layout_, {10}, 2);
  const auto statement = *layout_.write_blob(R"({"_type":"https://in-toto.io/Statement/v1"})");
  const auto config = *layout_.write_blob("{}");
  const auto attestation = *layout_.write_blob(
      std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciManifest +
      R"(","config":)" +
      fakes::descriptor_json("application/vnd.oci.empty.v1+json", config.str(), 2) +
      R"(,"layers":[)" +
      fakes::descriptor_json("application/vnd.in-toto+json", statement.str(),
                             *layout_.blob_size(statement)) +
      "]}");
  const auto root = *layout_.write_blob(
      std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciIndex +
      R"(","manifests":[)" +
      fakes::descriptor_json(oci::kMediaTypeOciManifest, amd64.str(), *layout_.blob_size(amd64)) +
      "," +
      fakes::descriptor_json(
          oci::kMediaTypeOciManifest, attestation.str(), *layout_.blob_size(attestation),
          R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{)"
          R"("vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":")" +
              amd64.str() + "\"}") +
      "]}");

  const auto blobs = blobs_to_push(*oci::read_tree(layout_, root));

  EXPECT_EQ(kinds(blobs), "llillmm");
  EXPECT_EQ(blobs[2].digest, amd64.str());
  EXPECT_EQ(blobs[5].digest, attestation.str());
  EXPECT_EQ(blobs.back().digest, root.str());
  EXPECT_EQ(blobs.back().media_type, oci::kMediaTypeOciIndex);
}

} // namespace
} // namespace slipway::image
