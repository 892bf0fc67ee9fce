// SPDX-License-Identifier: Apache-2.0
// A tiny image that a scanner takes for Alpine 3.21 with one package, made by hand: a ustar layer
// with os-release and the apk database.
#pragma once

#include "executor/oci/layout.hpp"

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace slipway::fakes {

inline void add_tar_file(std::string& tar, const std::string& name, const std::string& content) {
  std::string header(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text) {
    header.replace(at, text.size(), text);
  };
  const auto octal = [](std::size_t number, int digits) {
    char text[32];
    (void)std::snprintf(text, sizeof text, "%0*zo", digits, number);
    return std::string{text};
  };
  put(0, name);
  put(100, octal(0644, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(content.size(), 11));
  put(136, octal(0, 11));
  put(148, "        ");
  header[156] = '0';
  put(257, std::string{"ustar\0"
                       "00",
                       8});
  std::size_t sum = 0;
  for (const char c : header)
    sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string{"\0 ", 2});
  tar += header + content;
  tar.append((512 - content.size() % 512) % 512, '\0');
}

inline std::string tar_of(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string tar;
  for (const auto& [name, content] : files)
    add_tar_file(tar, name, content);
  tar.append(1024, '\0');
  return tar;
}

inline std::string alpine_layer(const std::string& openssl_version) {
  return tar_of({{"etc/os-release",
                  "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.21.3\nPRETTY_NAME=\"Alpine Linux "
                  "v3.21\"\n"},
                 {"etc/alpine-release", "3.21.3\n"},
                 {"lib/apk/db/installed",
                  "P:libssl3\nV:" + openssl_version +
                      "\nA:x86_64\nS:1\nI:1\nT:SSL shared libraries\nU:https://openssl.org\n"
                      "L:Apache-2.0\no:openssl\nm:a@b\nt:1\nc:1\n\n"}});
}

/// What a layer is made of, as a manifest names it.
struct SampleLayer {
  std::string bytes; ///< as stored
  std::string diff_id;
  std::string media_type = "application/vnd.oci.image.layer.v1.tar";
};

inline std::string blob_json(const std::string& type, const oci::Digest& digest, std::size_t size,
                             const std::string& more = "") {
  return "{\"mediaType\":\"" + type + "\",\"digest\":\"" + digest.str() +
         "\",\"size\":" + std::to_string(size) + more + "}";
}

inline oci::Digest write_image_of(oci::Layout& layout, const std::vector<SampleLayer>& layers,
                                  const std::string& architecture = "amd64") {
  std::string descriptors;
  std::string diff_ids;
  for (const auto& layer : layers) {
    const auto digest = *layout.write_blob(layer.bytes);
    descriptors +=
        (descriptors.empty() ? "" : ",") + blob_json(layer.media_type, digest, layer.bytes.size());
    diff_ids += (diff_ids.empty() ? "\"" : ",\"") + layer.diff_id + "\"";
  }
  const std::string config = "{\"architecture\":\"" + architecture +
                             "\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=b\"]},\"rootfs\":{"
                             "\"type\":\"layers\",\"diff_ids\":[" +
                             diff_ids + "]}}";
  const auto config_digest = *layout.write_blob(config);
  return *layout.write_blob(
      "{\"schemaVersion\":2,\"mediaType\":\"" + std::string{oci::kMediaTypeOciManifest} +
      "\",\"config\":" +
      blob_json("application/vnd.oci.image.config.v1+json", config_digest, config.size()) +
      ",\"layers\":[" + descriptors + "]}");
}

inline oci::Digest write_alpine(oci::Layout& layout, const std::string& openssl_version,
                                const std::string& architecture = "amd64") {
  const auto tar = alpine_layer(openssl_version);
  return write_image_of(layout, {{tar, oci::Digest::of(tar).str()}}, architecture);
}

} // namespace slipway::fakes
