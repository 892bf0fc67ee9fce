// SPDX-License-Identifier: Apache-2.0
// Archives and images with chosen contents, made by libarchive's writers.
#pragma once

#include "executor/oci/layout.hpp"
#include "tests/fakes/sample_image.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::fakes {

using Files = std::vector<std::pair<std::string, std::string>>;

/// A writer's output in memory. `setup` chooses format and filter.
template <typename Setup, typename Fill> std::string written_by(Setup setup, Fill fill) {
  std::string out;
  archive* to = ::archive_write_new();
  setup(to);
  ::archive_write_set_bytes_in_last_block(to, 1);
  ::archive_write_open(
      to, &out, nullptr,
      [](archive*, void* data, const void* bytes, std::size_t size) {
        static_cast<std::string*>(data)->append(static_cast<const char*>(bytes), size);
        return static_cast<la_ssize_t>(size);
      },
      nullptr);
  fill(to);
  ::archive_write_close(to);
  ::archive_write_free(to);
  return out;
}

inline void add_files(archive* to, const Files& files, const std::string& xattr = "") {
  for (const auto& [path, content] : files) {
    archive_entry* entry = ::archive_entry_new();
    ::archive_entry_set_pathname(entry, path.c_str());
    ::archive_entry_set_filetype(entry, AE_IFREG);
    ::archive_entry_set_perm(entry, 0644);
    ::archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
    if (!xattr.empty())
      ::archive_entry_xattr_add_entry(entry, "user.x", xattr.data(), xattr.size());
    ::archive_write_header(to, entry);
    ::archive_write_data(to, content.data(), content.size());
    ::archive_entry_free(entry);
  }
}

inline std::string tar_of(const Files& files, const std::string& xattr = "") {
  return written_by(
      [](archive* to) {
        ::archive_write_set_format_pax_restricted(to);
        ::archive_write_set_format_option(to, nullptr, "xattrheader", "SCHILY");
      },
      [&](archive* to) { add_files(to, files, xattr); });
}

/// `stored`: not compressed. `password`: "" for none.
inline std::string zip_of(const Files& files, bool stored = false,
                          const std::string& password = "") {
  return written_by(
      [&](archive* to) {
        ::archive_write_set_format_zip(to);
        if (stored) {
          ::archive_write_zip_set_compression_store(to);
        } else {
          ::archive_write_zip_set_compression_deflate(to);
        }
        if (!password.empty()) {
          ::archive_write_set_options(to, "zip:encryption=traditional");
          ::archive_write_set_passphrase(to, password.c_str());
        }
      },
      [&](archive* to) { add_files(to, files); });
}

/// `by`: "gzip", "zstd", "xz", "bzip2".
inline std::string packed(const std::string& bytes, const char* by) {
  return written_by(
      [&](archive* to) {
        ::archive_write_set_format_raw(to);
        // By name libarchive would bring every filter that it has, and what those link.
        const std::string_view name = by;
        if (name == "gzip") ::archive_write_add_filter_gzip(to);
        if (name == "zstd") ::archive_write_add_filter_zstd(to);
        if (name == "xz") ::archive_write_add_filter_xz(to);
        if (name == "bzip2") ::archive_write_add_filter_bzip2(to);
      },
      [&](archive* to) {
        add_files(to, {{"data", bytes}});
      });
}

/// An image whose layers, config and annotations a test says.
struct PackedImage {
  struct Layer {
    std::string tar;
    std::string packing; ///< "", "gzip" or "zstd"
    std::string created_by = "RUN make";
  };
  std::vector<Layer> layers;
  std::string config = R"({"Env":["PATH=/bin"]})";
  std::string annotations = "{}";
  std::string diff_id = {}; ///< "": that of each layer

  oci::Digest write(oci::Layout& layout) const {
    std::string descriptors;
    std::string diff_ids;
    std::string history;
    for (const auto& layer : layers) {
      const auto bytes =
          layer.packing.empty() ? layer.tar : packed(layer.tar, layer.packing.c_str());
      const auto type = "application/vnd.oci.image.layer.v1.tar" +
                        (layer.packing.empty() ? "" : "+" + layer.packing);
      const std::string comma = descriptors.empty() ? "" : ",";
      descriptors +=
          comma + descriptor_json(type.c_str(), layout.write_blob(bytes)->str(), bytes.size());
      diff_ids +=
          comma + "\"" + (diff_id.empty() ? oci::Digest::of(layer.tar).str() : diff_id) + "\"";
      history += comma + "{\"created_by\":\"" + layer.created_by + "\"}";
    }
    const auto json = R"({"architecture":"amd64","os":"linux","config":)" + config +
                      R"(,"rootfs":{"type":"layers","diff_ids":[)" + diff_ids +
                      R"(]},"history":[)" + history + "]}";
    const auto manifest = std::string{R"({"schemaVersion":2,"mediaType":")"} +
                          oci::kMediaTypeOciManifest + R"(","config":)" +
                          descriptor_json("application/vnd.oci.image.config.v1+json",
                                          layout.write_blob(json)->str(), json.size()) +
                          ",\"layers\":[" + descriptors + "],\"annotations\":" + annotations + "}";
    return *layout.write_blob(manifest);
  }
};

} // namespace slipway::fakes
