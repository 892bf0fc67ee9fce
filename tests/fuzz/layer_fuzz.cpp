// SPDX-License-Identifier: Apache-2.0
// A layer of any bytes, read as plain tar, gzip and zstd: an answer or an Error, in bounded memory.
// Files that are put together of two such layers have names below the tree and nowhere else.
#include "executor/gate_worker/image_files.hpp"
#include "executor/oci/layout.hpp"
#include "tests/fakes/packed.hpp"

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

void put_together(const std::string& bytes) {
  const auto image = slipway::fakes::PackedImage{.layers = {{bytes, ""}, {bytes, ""}}};
  std::string tar;
  const auto written = slipway::gate_worker::write_image_files(
      layout(), image.write(layout()), 1UL << 20, [&](std::string_view part) {
        tar += part;
        return slipway::Status{};
      });
  archive* from = ::archive_read_new();
  ::archive_read_support_format_tar(from);
  archive_entry* entry = nullptr;
  if (written && ::archive_read_open_memory(from, tar.data(), tar.size()) == ARCHIVE_OK)
    for (int code = ARCHIVE_OK; code == ARCHIVE_OK || code == ARCHIVE_WARN;) {
      code = ::archive_read_next_header(from, &entry);
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN) break;
      const auto name = "/" + std::string{::archive_entry_pathname(entry)} + "/";
      if (name.starts_with("//") || name.find("/../") != std::string::npos) std::abort();
    }
  ::archive_read_free(from);
  const auto blobs = layout().blobs(16);
  if (!blobs) std::abort();
  for (const auto& blob : *blobs)
    std::filesystem::remove(layout().blob_path(blob));
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
  put_together(std::string{bytes});
  return 0;
}
