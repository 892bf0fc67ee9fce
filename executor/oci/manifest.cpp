// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/manifest.hpp"

#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace slipway::oci {
namespace {

using nlohmann::json;

Error refused(const std::string& where, const std::string& why) {
  return Error{ErrorKind::bad_input, where + ": " + why, "", {}};
}

void tell(Flaw* flaw, Flaw what) {
  if (flaw != nullptr) *flaw = what;
}

// An object whose members are no case variants of those that somebody reads.
Status check_object(const json& value, const std::string& where,
                    std::initializer_list<const char*> known, Flaw* flaw) {
  if (!value.is_object()) return refused(where, "not an object");
  for (const auto& [key, member] : value.items()) {
    for (const char* name : known) {
      if (is_case_variant(key, name)) {
        tell(flaw, Flaw::ambiguous_json);
        return refused(where, "the key '" + key + "' is a case variant of '" + name +
                                  "', which readers understand differently");
      }
    }
  }
  return {};
}

const json* member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Status read_text(const json& object, const char* name, const std::string& where,
                 std::string& into) {
  const json* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_string()) return refused(where + "." + name, "not a string");
  into = value->get<std::string>();
  return {};
}

/// A value costs many times its bytes once it is kept: "{}" in a history a hundred.
constexpr std::size_t kMaxEntries = 4096;

Status check_number(const json& value, const std::string& where) {
  if (value.size() <= kMaxEntries) return {};
  return refused(where, "more than " + std::to_string(kMaxEntries) + " entries");
}

Status read_texts(const json& object, const char* name, const std::string& where,
                  std::vector<std::string>& into) {
  const json* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_array()) return refused(where + "." + name, "not an array");
  if (auto few = check_number(*value, where + "." + name); !few) return few;
  for (const auto& entry : *value) {
    if (!entry.is_string()) return refused(where + "." + name, "holds something that is no string");
    into.push_back(entry.get<std::string>());
  }
  return {};
}

Status read_map(const json& object, const char* name, const std::string& where,
                std::map<std::string, std::string>& into) {
  const json* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_object()) return refused(where + "." + name, "not an object");
  if (auto few = check_number(*value, where + "." + name); !few) return few;
  for (const auto& [key, entry] : value->items()) {
    if (!entry.is_string()) return refused(where + "." + name + "." + key, "not a string");
    into.emplace(key, entry.get<std::string>());
  }
  return {};
}

// The keys of {"5432/tcp": {}}.
Status read_keys(const json& object, const char* name, const std::string& where,
                 std::vector<std::string>& into) {
  const json* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_object()) return refused(where + "." + name, "not an object");
  if (auto few = check_number(*value, where + "." + name); !few) return few;
  for (const auto& [key, entry] : value->items())
    into.push_back(key);
  return {};
}

Result<Digest> read_digest(const json& value, const std::string& where, Flaw* flaw) {
  if (!value.is_string()) return refused(where, "not a string");
  auto digest = Digest::parse(value.get_ref<const std::string&>());
  if (!digest) {
    tell(flaw, Flaw::digest_form);
    return refused(where, digest.error().what);
  }
  return digest;
}

Result<Platform> read_platform(const json& value, const std::string& where, Flaw* flaw) {
  if (auto fine = check_object(value, where, {"architecture", "os", "variant"}, flaw); !fine) {
    return std::move(fine).error();
  }
  Platform platform;
  for (const auto& [name, into] :
       {std::pair{"architecture", &platform.architecture}, std::pair{"os", &platform.os},
        std::pair{"variant", &platform.variant}}) {
    if (auto fine = read_text(value, name, where, *into); !fine) return std::move(fine).error();
  }
  return platform;
}

// Embedded content has to be what the digest says: some readers take it instead of the blob.
Status check_embedded(const json& value, const Descriptor& descriptor, const std::string& where,
                      Flaw* flaw) {
  if (!value.is_string()) return refused(where + ".data", "not a string");
  const auto& text = value.get_ref<const std::string&>();
  std::string bytes(text.size() / 4 * 3 + 3, '\0');
  const int decoded = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                      reinterpret_cast<const unsigned char*>(text.data()),
                                      static_cast<int>(text.size()));
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=')
    ++padding;
  if (decoded < 0 || static_cast<std::size_t>(decoded) < padding) {
    return refused(where + ".data", "no base64");
  }
  bytes.resize(static_cast<std::size_t>(decoded) - padding);
  if (bytes.size() != descriptor.size || Digest::of(bytes) != descriptor.digest) {
    tell(flaw, Flaw::ambiguous_manifest);
    return refused(where + ".data", "is not the content that the digest names");
  }
  return {};
}

Result<Descriptor> read_descriptor(const json& value, const std::string& where, Flaw* flaw) {
  if (auto fine = check_object(value, where,
                               {"mediaType", "digest", "size", "urls", "annotations", "data",
                                "platform", "artifactType"},
                               flaw);
      !fine) {
    return std::move(fine).error();
  }
  const json* digest_text = member(value, "digest");
  if (digest_text == nullptr) return refused(where + ".digest", "missing");
  auto digest = read_digest(*digest_text, where + ".digest", flaw);
  if (!digest) return std::move(digest).error();
  const json* size = member(value, "size");
  if (size == nullptr) return refused(where + ".size", "missing");
  // 2^53: above it, readers that keep numbers as doubles see another size.
  if (!size->is_number_unsigned() || size->get<std::uint64_t>() > (1ULL << 53)) {
    return refused(where + ".size", "not a size");
  }
  Descriptor descriptor{.media_type = {},
                        .digest = *std::move(digest),
                        .size = size->get<std::uint64_t>(),
                        .platform = {},
                        .annotations = {},
                        .artifact_type = {},
                        .has_urls = false};
  if (auto fine = read_text(value, "mediaType", where, descriptor.media_type); !fine) {
    return std::move(fine).error();
  }
  if (descriptor.media_type.empty()) return refused(where + ".mediaType", "missing");
  if (auto fine = read_text(value, "artifactType", where, descriptor.artifact_type); !fine) {
    return std::move(fine).error();
  }
  if (auto fine = read_map(value, "annotations", where, descriptor.annotations); !fine) {
    return std::move(fine).error();
  }
  if (const json* urls = member(value, "urls")) {
    if (!urls->is_array()) return refused(where + ".urls", "not an array");
    descriptor.has_urls = !urls->empty();
  }
  if (const json* platform = member(value, "platform")) {
    auto read = read_platform(*platform, where + ".platform", flaw);
    if (!read) return std::move(read).error();
    descriptor.platform = *std::move(read);
  }
  if (const json* data = member(value, "data")) {
    if (auto fine = check_embedded(*data, descriptor, where, flaw); !fine)
      return std::move(fine).error();
  }
  return descriptor;
}

Result<std::vector<Descriptor>> read_descriptors(const json& object, const char* name, Flaw* flaw) {
  const json* value = member(object, name);
  if (value == nullptr || !value->is_array()) return refused(name, "missing or not an array");
  std::vector<Descriptor> descriptors;
  for (const auto& entry : *value) {
    auto read = read_descriptor(
        entry, std::string{name} + "[" + std::to_string(descriptors.size()) + "]", flaw);
    if (!read) return std::move(read).error();
    descriptors.push_back(*std::move(read));
  }
  return descriptors;
}

Result<json> parse_object(std::string_view text, const std::string& what, std::size_t limit,
                          Flaw* flaw) {
  if (text.size() > limit) {
    return refused(what, "larger than the limit of " + std::to_string(limit) + " bytes");
  }
  if (auto fine = check_json(text, what, flaw); !fine) return std::move(fine).error();
  auto document = json::parse(text, nullptr, false);
  if (!document.is_object()) return refused(what, "not a JSON object");
  return document;
}

} // namespace

std::vector<std::string> layer_commands(const ImageConfig& config) {
  std::vector<std::string> commands;
  for (const auto& entry : config.history) {
    if (!entry.empty_layer) commands.push_back(entry.created_by);
  }
  if (commands.size() != config.diff_ids.size()) commands.clear();
  return commands;
}

bool is_index_type(std::string_view media_type) {
  return media_type == kMediaTypeOciIndex || media_type == kMediaTypeDockerIndex;
}

bool is_manifest_type(std::string_view media_type) {
  return media_type == kMediaTypeOciManifest || media_type == kMediaTypeDockerManifest;
}

bool is_image_config_type(std::string_view type) {
  return type == "application/vnd.oci.image.config.v1+json" ||
         type == "application/vnd.docker.container.image.v1+json";
}

std::optional<Compression> layer_compression(const std::string& type) {
  if (type == "application/vnd.oci.image.layer.v1.tar" ||
      type == "application/vnd.docker.image.rootfs.diff.tar") {
    return Compression::none;
  }
  if (type == "application/vnd.oci.image.layer.v1.tar+gzip" ||
      type == "application/vnd.docker.image.rootfs.diff.tar.gzip") {
    return Compression::gzip;
  }
  if (type == "application/vnd.oci.image.layer.v1.tar+zstd" ||
      type == "application/vnd.docker.image.rootfs.diff.tar.zstd") {
    return Compression::zstd;
  }
  return std::nullopt;
}

Result<std::variant<Manifest, Index>> parse_manifest(std::string_view text, Flaw* flaw) {
  // Each of its values takes many times the byte that it may be.
  if (std::count_if(text.begin(), text.end(),
                    [](char c) { return c == ',' || c == '{' || c == '['; }) > kMostManifestValues)
    return refused("manifest", "has more than " + std::to_string(kMostManifestValues) + " values");
  auto parsed = parse_object(text, "manifest", kMaxManifestBytes, flaw);
  if (!parsed) return std::move(parsed).error();
  const json& document = *parsed;
  if (auto fine = check_object(document, "manifest",
                               {"schemaVersion", "mediaType", "artifactType", "config", "layers",
                                "manifests", "annotations", "subject", "fsLayers", "history"},
                               flaw);
      !fine) {
    return std::move(fine).error();
  }
  const json* version = member(document, "schemaVersion");
  if (version == nullptr || !version->is_number_integer() || version->get<std::int64_t>() != 2) {
    return refused("manifest.schemaVersion", "not 2 (schema 1 images are not supported)");
  }
  if (document.contains("fsLayers")) {
    tell(flaw, Flaw::ambiguous_manifest);
    return refused("manifest", "has the members of a schema 1 manifest");
  }
  // CVE-2021-41190: one reader takes it for a manifest, another for an index.
  if (document.contains("manifests") &&
      (document.contains("layers") || document.contains("config"))) {
    tell(flaw, Flaw::ambiguous_manifest);
    return refused("manifest",
                   "has 'manifests' beside 'layers' or 'config': readers would disagree "
                   "about what it is");
  }
  std::string media_type;
  if (auto fine = read_text(document, "mediaType", "manifest", media_type); !fine) {
    return std::move(fine).error();
  }
  std::string artifact_type;
  if (auto fine = read_text(document, "artifactType", "manifest", artifact_type); !fine) {
    return std::move(fine).error();
  }
  std::map<std::string, std::string> annotations;
  if (auto fine = read_map(document, "annotations", "manifest", annotations); !fine) {
    return std::move(fine).error();
  }

  if (document.contains("manifests")) {
    if (media_type.empty()) media_type = kMediaTypeOciIndex;
    if (!is_index_type(media_type)) {
      tell(flaw, Flaw::ambiguous_manifest);
      return refused("manifest.mediaType", "'" + media_type + "' does not go with 'manifests'");
    }
    auto manifests = read_descriptors(document, "manifests", flaw);
    if (!manifests) return std::move(manifests).error();
    return std::variant<Manifest, Index>{
        Index{.media_type = std::move(media_type),
              .artifact_type = std::move(artifact_type),
              .manifests = *std::move(manifests),
              .annotations = std::move(annotations),
              .has_subject = member(document, "subject") != nullptr}};
  }

  if (media_type.empty()) media_type = kMediaTypeOciManifest;
  if (!is_manifest_type(media_type)) {
    if (is_index_type(media_type)) tell(flaw, Flaw::ambiguous_manifest);
    return refused("manifest.mediaType", "'" + media_type + "' is no image manifest");
  }
  const json* config = member(document, "config");
  if (config == nullptr) return refused("manifest.config", "missing");
  auto config_descriptor = read_descriptor(*config, "config", flaw);
  if (!config_descriptor) return std::move(config_descriptor).error();
  // BuildKit writes null where there are none, and Go's readers take it so.
  const auto listed = document.find("layers");
  const bool none = listed != document.end() && listed->is_null();
  auto layers = none ? Result<std::vector<Descriptor>>{std::vector<Descriptor>{}}
                     : read_descriptors(document, "layers", flaw);
  if (!layers) return std::move(layers).error();
  return std::variant<Manifest, Index>{
      Manifest{.media_type = std::move(media_type),
               .artifact_type = std::move(artifact_type),
               .config = *std::move(config_descriptor),
               .layers = *std::move(layers),
               .annotations = std::move(annotations),
               .has_subject = member(document, "subject") != nullptr}};
}

Result<ImageConfig> parse_image_config(std::string_view text, Flaw* flaw) {
  auto parsed = parse_object(text, "image config", kMaxConfigBytes, flaw);
  if (!parsed) return std::move(parsed).error();
  const json& document = *parsed;
  if (auto fine = check_object(
          document, "image config",
          {"architecture", "os", "variant", "created", "config", "rootfs", "history"}, flaw);
      !fine) {
    return std::move(fine).error();
  }
  ImageConfig image;
  auto platform = read_platform(document, "image config", flaw);
  if (!platform) return std::move(platform).error();
  image.platform = *std::move(platform);
  if (auto fine = read_text(document, "created", "image config", image.created); !fine) {
    return std::move(fine).error();
  }

  if (const json* config = member(document, "config")) {
    const std::string where = "image config.config";
    if (auto fine = check_object(*config, where,
                                 {"User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels",
                                  "OnBuild", "Shell", "ExposedPorts", "Volumes", "Healthcheck"},
                                 flaw);
        !fine) {
      return std::move(fine).error();
    }
    for (const auto& [name, into] :
         {std::pair{"User", &image.user}, std::pair{"WorkingDir", &image.working_dir}}) {
      if (auto fine = read_text(*config, name, where, *into); !fine) return std::move(fine).error();
    }
    for (const auto& [name, into] :
         {std::pair{"Env", &image.env}, std::pair{"Entrypoint", &image.entrypoint},
          std::pair{"Cmd", &image.cmd}, std::pair{"OnBuild", &image.on_build},
          std::pair{"Shell", &image.shell}}) {
      if (auto fine = read_texts(*config, name, where, *into); !fine)
        return std::move(fine).error();
    }
    for (const auto& [name, into] :
         {std::pair{"ExposedPorts", &image.exposed_ports}, std::pair{"Volumes", &image.volumes}}) {
      if (auto fine = read_keys(*config, name, where, *into); !fine) return std::move(fine).error();
    }
    if (auto fine = read_map(*config, "Labels", where, image.labels); !fine)
      return std::move(fine).error();
    image.has_healthcheck = member(*config, "Healthcheck") != nullptr;
  }

  const json* rootfs = member(document, "rootfs");
  if (rootfs == nullptr) return refused("image config.rootfs", "missing");
  if (auto fine = check_object(*rootfs, "image config.rootfs", {"type", "diff_ids"}, flaw); !fine) {
    return std::move(fine).error();
  }
  if (const json* type = member(*rootfs, "type"); type != nullptr && *type != "layers") {
    return refused("image config.rootfs.type", "not 'layers'");
  }
  if (const json* diff_ids = member(*rootfs, "diff_ids")) {
    if (!diff_ids->is_array()) return refused("image config.rootfs.diff_ids", "not an array");
    if (auto few = check_number(*diff_ids, "image config.rootfs.diff_ids"); !few)
      return std::move(few).error();
    for (const auto& entry : *diff_ids) {
      auto digest = read_digest(
          entry, "image config.rootfs.diff_ids[" + std::to_string(image.diff_ids.size()) + "]",
          flaw);
      if (!digest) return std::move(digest).error();
      image.diff_ids.push_back(*std::move(digest));
    }
  }

  if (const json* history = member(document, "history")) {
    if (!history->is_array()) return refused("image config.history", "not an array");
    if (auto few = check_number(*history, "image config.history"); !few)
      return std::move(few).error();
    for (const auto& entry : *history) {
      const auto where = "image config.history[" + std::to_string(image.history.size()) + "]";
      if (auto fine =
              check_object(entry, where, {"created", "created_by", "comment", "empty_layer"}, flaw);
          !fine) {
        return std::move(fine).error();
      }
      ImageConfig::History step;
      for (const auto& [name, into] :
           {std::pair{"created", &step.created}, std::pair{"created_by", &step.created_by},
            std::pair{"comment", &step.comment}}) {
        if (auto fine = read_text(entry, name, where, *into); !fine) return std::move(fine).error();
      }
      if (const json* empty = member(entry, "empty_layer")) {
        if (!empty->is_boolean()) return refused(where + ".empty_layer", "not a boolean");
        step.empty_layer = empty->get<bool>();
      }
      image.history.push_back(std::move(step));
    }
  }
  return image;
}

std::string to_json(const Descriptor& descriptor) {
  // Ordered: people read index.json too.
  nlohmann::ordered_json object;
  object["mediaType"] = descriptor.media_type;
  object["digest"] = descriptor.digest.str();
  object["size"] = descriptor.size;
  if (!descriptor.artifact_type.empty()) object["artifactType"] = descriptor.artifact_type;
  if (!descriptor.annotations.empty()) object["annotations"] = descriptor.annotations;
  if (descriptor.platform) {
    auto& platform = object["platform"];
    platform["architecture"] = descriptor.platform->architecture;
    platform["os"] = descriptor.platform->os;
    if (!descriptor.platform->variant.empty()) platform["variant"] = descriptor.platform->variant;
  }
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

} // namespace slipway::oci
