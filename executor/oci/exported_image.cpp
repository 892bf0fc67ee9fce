// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/exported_image.hpp"

#include "executor/oci/blob_stream.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>
#include <variant>

namespace slipway::oci {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBlobsAtOnce = 256; // their names have to fit into one frame

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}

bool is_nothing(const Json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         ((value.is_array() || value.is_object()) && value.empty());
}

/// Those of `names` that say something, in this order.
Json members(const Json& object, std::initializer_list<const char*> names) {
  Json kept = Json::object();
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found != object.end() && !is_nothing(*found)) kept[name] = *found;
  }
  return kept;
}

/// Docker's name of a layer's type is that of its OCI twin. Source: OCI image-spec, media-types.md.
std::string oci_layer_type(const std::string& type) {
  static const std::map<std::string, std::string> kTwins{
      {"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"},
      {"application/vnd.docker.image.rootfs.diff.tar.gzip",
       "application/vnd.oci.image.layer.v1.tar+gzip"},
      {"application/vnd.docker.image.rootfs.diff.tar.zstd",
       "application/vnd.oci.image.layer.v1.tar+zstd"}};
  const auto twin = kTwins.find(type);
  return twin == kTwins.end() ? type : twin->second;
}

Descriptor described(std::string type, std::string_view bytes) {
  return Descriptor{std::move(type), Digest::of(bytes), bytes.size(), {}, {}, "", false};
}

} // namespace

Status learn_layers(const Layout& bases, const Digest& image, BaseLayers& known) {
  const auto tree = read_tree(bases, image);
  if (!tree) return tree.error();
  for (const auto& one : tree->images) {
    if (!one.config) continue;
    const auto& layers = one.manifest.layers;
    const auto& diff_ids = one.config->diff_ids;
    if (layers.size() != diff_ids.size())
      return bad("base image " + image.str() + " has " + std::to_string(layers.size()) +
                 " layers and " + std::to_string(diff_ids.size()) + " diff ids");
    for (std::size_t at = 0; at < layers.size(); ++at)
      known.emplace(diff_ids[at].str(), layers[at]);
  }
  return {};
}

Result<std::string> oci_config(std::string_view docker_config) {
  // Read strictly first: nothing that two readers understand differently gets through.
  if (auto strict = parse_image_config(docker_config); !strict) return std::move(strict).error();
  const Json given = Json::parse(docker_config, nullptr, false);
  Json config =
      members(given, {"created", "author", "architecture", "variant", "os", "os.version"});
  const auto inner = given.find("config");
  if (inner != given.end() && inner->is_object())
    config["config"] = members(*inner, {"User", "ExposedPorts", "Env", "Entrypoint", "Cmd",
                                        "Healthcheck", "ArgsEscaped", "Volumes", "WorkingDir",
                                        "Labels", "OnBuild", "StopSignal", "StopTimeout", "Shell"});
  config["rootfs"] = given.at("rootfs");
  const auto history = given.find("history");
  if (history != given.end() && history->is_array()) config["history"] = *history;
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Digest> only_image(std::string_view index) {
  auto parsed = parse_manifest(index);
  if (!parsed) return std::move(parsed).error().in("reading the export's index");
  const auto* list = std::get_if<Index>(&*parsed);
  if (list == nullptr || list->manifests.size() != 1) return bad("the export is not one image");
  return list->manifests[0].digest;
}

Result<ExportedImage> convert_exported(std::string_view docker_config, std::string_view exported,
                                       const BaseLayers& known) {
  auto config = oci_config(docker_config);
  if (!config) return std::move(config).error().in("reading the image's config");
  auto facts = parse_image_config(*config);
  if (!facts) return std::move(facts).error().in("reading the image's config");
  auto parsed = parse_manifest(exported);
  if (!parsed) return std::move(parsed).error().in("reading the exported manifest");
  const auto* manifest = std::get_if<Manifest>(&*parsed);
  if (manifest == nullptr) return bad("the tool exported an index and not an image");
  if (manifest->layers.size() != facts->diff_ids.size())
    return bad("the image has " + std::to_string(manifest->layers.size()) + " layers and " +
               std::to_string(facts->diff_ids.size()) + " diff ids");

  ExportedImage made;
  made.config = *std::move(config);
  Json layers = Json::array();
  for (std::size_t at = 0; at < manifest->layers.size(); ++at) {
    Descriptor layer = manifest->layers[at];
    if (const auto base = known.find(facts->diff_ids[at].str()); base != known.end()) {
      layer = base->second;
      made.from_bases.push_back(layer);
    } else {
      if (layer.size == 0)
        return bad("layer " + layer.digest.str() + " of the exported image is empty");
      made.from_store.push_back(layer);
    }
    layer.media_type = oci_layer_type(layer.media_type);
    layer.annotations.clear();
    layers.push_back(Json::parse(to_json(layer)));
  }
  Json document = {{"schemaVersion", 2}, {"mediaType", kMediaTypeOciManifest}};
  document["config"] =
      Json::parse(to_json(described("application/vnd.oci.image.config.v1+json", made.config)));
  document["layers"] = std::move(layers);
  made.manifest = document.dump();
  return made;
}

Result<Digest> store_exported(Layout& into, const Layout& bases, const ExportedImage& image,
                              const PrintBlobs& print) {
  for (const auto& blob : image.from_bases)
    if (!into.has_blob(blob.digest))
      if (Status linked = into.link_blob(bases, blob.digest); !linked)
        return std::move(linked).error();
  std::vector<Descriptor> wanted;
  std::uint64_t total = 0;
  for (const auto& blob : image.from_store) {
    const bool twice = std::any_of(wanted.begin(), wanted.end(),
                                   [&](const auto& other) { return other.digest == blob.digest; });
    if (twice || into.has_blob(blob.digest)) continue;
    if (blob.size > kMaxExportedBytes - total) return bad("the image is larger than 64 GiB");
    total += blob.size;
    wanted.push_back(blob);
  }
  for (std::size_t from = 0; from < wanted.size(); from += kBlobsAtOnce) {
    const std::size_t to = std::min(wanted.size(), from + kBlobsAtOnce);
    std::vector<Digest> names;
    for (std::size_t at = from; at < to; ++at)
      names.push_back(wanted[at].digest);
    Status stored = print(names, [&](int fd) { return store_blobs(into, wanted, from, to, fd); });
    if (!stored) return std::move(stored).error();
  }
  if (auto stored = into.write_blob(image.config); !stored) return std::move(stored).error();
  return into.write_blob(image.manifest);
}

} // namespace slipway::oci
