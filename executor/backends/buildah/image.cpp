// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/image.hpp"

#include <nlohmann/json.hpp>

#include <utility>
#include <variant>

namespace slipway::backends::buildah {

namespace {

using Json = nlohmann::ordered_json;

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

oci::Descriptor described(std::string type, std::string_view bytes) {
  return oci::Descriptor{std::move(type), oci::Digest::of(bytes), bytes.size(), {}, {}, "", false};
}

} // namespace

Status learn_layers(const oci::Layout& bases, const oci::Digest& image, KnownLayers& known) {
  const auto tree = oci::read_tree(bases, image);
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
  if (auto strict = oci::parse_image_config(docker_config); !strict)
    return std::move(strict).error();
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

Result<Converted> convert(std::string_view docker_config, std::string_view exported,
                          const KnownLayers& known) {
  auto config = oci_config(docker_config);
  if (!config) return std::move(config).error().in("reading the image's config");
  auto facts = oci::parse_image_config(*config);
  if (!facts) return std::move(facts).error().in("reading the image's config");
  auto parsed = oci::parse_manifest(exported);
  if (!parsed) return std::move(parsed).error().in("reading the exported manifest");
  const auto* manifest = std::get_if<oci::Manifest>(&*parsed);
  if (manifest == nullptr) return bad("the tool exported an index and not an image");
  if (manifest->layers.size() != facts->diff_ids.size())
    return bad("the image has " + std::to_string(manifest->layers.size()) + " layers and " +
               std::to_string(facts->diff_ids.size()) + " diff ids");

  Converted made;
  made.config = *std::move(config);
  Json layers = Json::array();
  for (std::size_t at = 0; at < manifest->layers.size(); ++at) {
    oci::Descriptor layer = manifest->layers[at];
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
    layers.push_back(Json::parse(oci::to_json(layer)));
  }
  Json document = {{"schemaVersion", 2}, {"mediaType", oci::kMediaTypeOciManifest}};
  document["config"] =
      Json::parse(oci::to_json(described("application/vnd.oci.image.config.v1+json", made.config)));
  document["layers"] = std::move(layers);
  made.manifest = document.dump();
  return made;
}

} // namespace slipway::backends::buildah
