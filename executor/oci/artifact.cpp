// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/artifact.hpp"

#include "executor/oci/layer.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace slipway::oci {
namespace {

constexpr const char* kEmptyConfig = "application/vnd.oci.empty.v1+json";

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

// Docker takes the last two for a config too. Source: moby 20.10, distribution/registry.go.
bool is_called_image_config(std::string_view type) {
  return type == "application/vnd.oci.image.config.v1+json" ||
         type == "application/vnd.docker.container.image.v1+json" ||
         type == "application/octet-stream" || type == "text/html";
}

// Of whatever a runtime unpacks, or of whatever hides what it unpacks.
bool is_layer_type(const std::string& type) {
  if (layer_compression(type) || type.ends_with("+encrypted")) return true;
  constexpr std::array<const char*, 4> kMarks{"image.layer", "image.rootfs", "foreign",
                                              "nondistributable"};
  return std::any_of(kMarks.begin(), kMarks.end(),
                     [&](const char* mark) { return type.find(mark) != std::string::npos; });
}

// A reader that is less strict than ours may take it for JSON: behind a byte order mark, with bytes
// that are no UTF-8, with something behind its end.
bool is_object_for_some(const std::string& text) {
  const auto begin = text.find_first_not_of("\xEF\xBB\xBF \t\r\n");
  return begin != std::string::npos && text[begin] == '{';
}

// By what runtimes look for in it, in any spelling that one of them would read.
bool looks_like_image_config(const std::string& text) {
  const auto document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_object()) return false;
  return std::any_of(document.items().begin(), document.items().end(), [](const auto& member) {
    return member.key() == "rootfs" || is_case_variant(member.key(), "rootfs");
  });
}

} // namespace

bool may_be_artifact(std::string_view type) {
  const auto slash = type.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == type.size()) return false;
  const bool plain =
      std::all_of(type.begin(), type.end(), [](char c) { return c > ' ' && c < 127; });
  return plain && !is_called_image_config(type) && !is_layer_type(std::string{type}) &&
         !type.starts_with("application/vnd.oci.image.") &&
         !type.starts_with("application/vnd.docker.") && type != kEmptyConfig;
}

std::optional<std::string> artifact_type(const ImageTree::Image& image) {
  if (image.is_attestation || image.called_attestation) return std::nullopt;
  const auto& manifest = image.manifest;
  const auto named = [](const std::string& type) {
    return may_be_artifact(type) ? std::optional{type} : std::nullopt;
  };
  std::optional<std::string> of_layers;
  for (const auto& layer : manifest.layers) {
    if (is_layer_type(layer.media_type) && image.config) return std::nullopt; // an image
    if (of_layers && *of_layers != layer.media_type) {
      of_layers = "";
      continue;
    }
    of_layers = layer.media_type;
  }
  if (image.config && manifest.layers.empty()) return std::nullopt; // an image without layers
  if (!manifest.artifact_type.empty()) return named(manifest.artifact_type);
  if (!image.config && manifest.config.media_type != kEmptyConfig)
    return named(manifest.config.media_type);
  return of_layers ? named(*of_layers) : std::nullopt;
}

// A text may be both: a reader of tar asks for little more than the sum of the first block. Source:
// tar(5); the sum of signed bytes is taken too.
bool begins_as_tar(const std::string& text) {
  constexpr std::size_t kHeader = 512;
  constexpr std::size_t kSumAt = 148;
  constexpr std::size_t kSumBytes = 8;
  if (text.size() < kHeader) return false;
  const auto field = std::string_view{text}.substr(kSumAt, kSumBytes);
  if (field.find_first_not_of("01234567 ") != std::string_view::npos) return false;
  long said = 0;
  for (const char c : field)
    if (c != ' ') said = said * 8 + (c - '0');
  long plain = static_cast<long>(kSumBytes) * ' ';
  long with_sign = plain;
  for (std::size_t i = 0; i < kHeader; ++i) {
    if (i >= kSumAt && i < kSumAt + kSumBytes) continue;
    plain += static_cast<unsigned char>(text[i]);
    with_sign += static_cast<signed char>(text[i]);
  }
  return said == plain || said == with_sign;
}

bool is_statements_only(const ImageTree& tree) {
  if (tree.images.size() != 1 || !tree.index_digests.empty()) return false;
  const auto& layers = tree.images.front().manifest.layers;
  return !layers.empty() && std::all_of(layers.begin(), layers.end(), [](const auto& layer) {
    return layer.media_type == "application/vnd.in-toto+json";
  });
}

Status verify_artifact(const Layout& layout, const ImageTree::Image& image) {
  for (const auto& layer : image.manifest.layers) {
    if (is_layer_type(layer.media_type))
      return refused("holds " + layer.digest.str() + " of type '" + layer.media_type +
                     "', which is a layer of an image");
  }
  const auto& config = image.manifest.config;
  bool as_image = image.config.has_value() || is_called_image_config(config.media_type);
  if (!as_image) {
    auto size = layout.blob_size(config.digest);
    if (!size) return std::move(size).error();
    if (*size > kMaxConfigBytes)
      return refused("has a config of more than " + std::to_string(kMaxConfigBytes) + " bytes");
    auto text = layout.read_blob(config.digest, kMaxConfigBytes);
    if (!text) return std::move(text).error();
    if (is_object_for_some(*text) && !check_json(*text, "config"))
      return refused("has a config that readers understand differently");
    as_image = looks_like_image_config(*text);
  }
  if (!as_image) return {};
  for (const auto& layer : image.manifest.layers) {
    const std::string not_json =
        "has the config of an image, and " + layer.digest.str() + " is no JSON document";
    auto size = layout.blob_size(layer.digest);
    if (!size) return std::move(size).error();
    if (*size > kMaxArtifactDocument)
      return refused(not_json + " of at most " + std::to_string(kMaxArtifactDocument) + " bytes");
    auto text = layout.read_blob(layer.digest, kMaxArtifactDocument);
    if (!text) return std::move(text).error();
    if (begins_as_tar(*text) || !check_json(*text, "document")) return refused(not_json);
  }
  return {};
}

} // namespace slipway::oci
