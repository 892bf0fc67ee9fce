// SPDX-License-Identifier: Apache-2.0
// A small OCI image in a layout: layers of pseudo-random bytes, a config, a manifest.
#pragma once

#include "executor/oci/layout.hpp"

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace slipway::fakes {

/// A folder that goes away with its owner.
class TempDir {
public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "slipway-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

inline std::string random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 engine{seed};
  std::string bytes(size, '\0');
  for (auto& byte : bytes)
    byte = static_cast<char>(engine() & 0xff);
  return bytes;
}

inline std::string descriptor_json(const char* type, const std::string& digest, std::size_t size,
                                   const std::string& more = "") {
  return std::string{"{\"mediaType\":\""} + type + "\",\"digest\":\"" + digest +
         "\",\"size\":" + std::to_string(size) + more + "}";
}

/// Writes an image with one layer per size; the layers differ by `seed`. Gives the manifest's
/// digest.
inline oci::Digest write_image(oci::Layout& layout, const std::vector<std::size_t>& layer_sizes,
                               unsigned seed, const std::string& architecture = "amd64") {
  std::string layers;
  std::string diff_ids;
  for (std::size_t i = 0; i < layer_sizes.size(); ++i) {
    const auto bytes = random_bytes(layer_sizes[i], seed + static_cast<unsigned>(i));
    const auto digest = layout.write_blob(bytes);
    layers += (i == 0 ? "" : ",") + descriptor_json("application/vnd.oci.image.layer.v1.tar",
                                                    digest->str(), bytes.size());
    diff_ids += (i == 0 ? "\"" : ",\"") + digest->str() + "\"";
  }
  const std::string config = "{\"architecture\":\"" + architecture +
                             "\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\","
                             "\"diff_ids\":[" +
                             diff_ids + "]}}";
  const auto config_digest = layout.write_blob(config);
  const std::string manifest = std::string{"{\"schemaVersion\":2,\"mediaType\":\""} +
                               oci::kMediaTypeOciManifest + "\",\"config\":" +
                               descriptor_json("application/vnd.oci.image.config.v1+json",
                                               config_digest->str(), config.size()) +
                               ",\"layers\":[" + layers + "]}";
  return *layout.write_blob(manifest);
}

/// An index over two images of different platforms.
inline oci::Digest write_index_of(oci::Layout& layout, const oci::Digest& amd64,
                                  const oci::Digest& arm64, const char* second = "arm64",
                                  const std::string& more = "") {
  const auto child = [&](const oci::Digest& digest, const char* architecture) {
    return descriptor_json(oci::kMediaTypeOciManifest, digest.str(), *layout.blob_size(digest),
                           std::string{",\"platform\":{\"os\":\"linux\",\"architecture\":\""} +
                               architecture + "\"}");
  };
  return *layout.write_blob(std::string{"{\"schemaVersion\":2,\"mediaType\":\""} +
                            oci::kMediaTypeOciIndex + "\",\"manifests\":[" + child(amd64, "amd64") +
                            "," + child(arm64, second) + "]" + more + "}");
}

} // namespace slipway::fakes
