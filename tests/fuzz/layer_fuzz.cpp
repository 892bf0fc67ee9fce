// SPDX-License-Identifier: Apache-2.0
// A layer of any bytes, read as plain tar, gzip and zstd: an answer or an Error, in bounded memory.
#include "executor/oci/layout.hpp"

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace {

slipway::oci::Layout& layout() {
  static const std::string dir = "/dev/shm/slipway-layer-fuzz-" + std::to_string(::getpid());
  static auto made = slipway::oci::Layout::create(dir);
  static const int cleanup = std::atexit([] { std::filesystem::remove_all(dir); });
  (void)cleanup;
  return *made;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway::oci;
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  auto digest = layout().write_blob(bytes);
  if (!digest) return 0;
  for (const char* type :
       {"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd"}) {
    Descriptor layer{.media_type = type,
                     .digest = *digest,
                     .size = size,
                     .platform = {},
                     .annotations = {},
                     .artifact_type = {},
                     .has_urls = false};
    ImageConfig config;
    config.diff_ids = {*digest};
    ImageTree::Image image{.descriptor = layer,
                           .manifest = {.media_type = kMediaTypeOciManifest,
                                        .artifact_type = {},
                                        .config = layer,
                                        .layers = {layer},
                                        .annotations = {},
                                        .has_subject = false},
                           .config = config,
                           .is_attestation = false,
                           .called_attestation = false};
    const ImageTree tree{.root = *digest,
                         .root_media_type = kMediaTypeOciManifest,
                         .root_size = size,
                         .images = {image},
                         .index_digests = {},
                         .odd_indexes = {},
                         .blobs = {layer}};
    (void)verify_tree(layout(), tree, 1UL << 20).ok();
  }
  std::filesystem::remove(layout().blob_path(*digest));
  return 0;
}
