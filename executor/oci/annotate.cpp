// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/annotate.hpp"

#include "executor/oci/platform.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace slipway::oci {

namespace {

using Json = nlohmann::ordered_json;

Error unfit(std::string what, std::string next = "") {
  return Error{ErrorKind::bad_input, std::move(what), std::move(next), {}};
}

/// By one name of a platform, whatever it is called.
Platform plain(const Platform& platform) {
  const auto parsed = parse_platform(platform.str());
  return parsed ? *parsed : platform;
}

/// Writes down those of `of` that are for `platform`; null: whatever it is.
void write_on(Json& object, Annotation::Of of, const Platform* platform,
              const std::vector<Annotation>& annotations) {
  for (const auto& one : annotations)
    if (one.of == of &&
        (!one.platform || (platform != nullptr && plain(*platform) == plain(*one.platform))))
      object["annotations"][one.key] = one.value;
}

Result<Json> manifest_json(const Layout& layout, const Digest& digest) {
  auto text = layout.read_blob(digest, kMaxManifestBytes);
  if (!text) return std::move(text).error();
  Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object()) return unfit(digest.str() + " is no manifest");
  return json;
}

/// Bytes that did not change stay as they were.
Result<std::pair<Digest, std::size_t>> store_json(Layout& layout, const Json& json) {
  const auto text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxManifestBytes)
    return unfit("a manifest would be larger than " + std::to_string(kMaxManifestBytes) +
                     " bytes with its annotations",
                 "leave some out");
  auto digest = layout.write_blob(text);
  if (!digest) return std::move(digest).error();
  return std::pair{*std::move(digest), text.size()};
}

} // namespace

Result<Digest> annotate(Layout& layout, const Digest& root,
                        const std::vector<Annotation>& annotations) {
  if (annotations.empty()) return root;
  const auto tree = read_tree(layout, root);
  if (!tree) return tree.error();
  const bool is_index = is_index_type(tree->root_media_type);
  if (!is_index && tree->root_media_type != kMediaTypeOciManifest)
    return unfit("an image of the type " + tree->root_media_type + " has no annotations");
  std::vector<Platform> platforms;
  for (const auto& image : tree->images)
    if (image.config) platforms.push_back(image.config->platform);
  if (auto suits = check_annotations(annotations, platforms); !suits)
    return std::move(suits).error();
  std::vector<std::pair<Digest, std::pair<Digest, std::size_t>>> written;
  for (const auto& image : tree->images) {
    if (!image.config || image.manifest.media_type != kMediaTypeOciManifest) continue;
    auto json = manifest_json(layout, image.descriptor.digest);
    if (!json) return std::move(json).error();
    const Json before = *json;
    write_on(*json, Annotation::Of::manifest, &image.config->platform, annotations);
    if (*json == before) continue;
    auto anew = store_json(layout, *json);
    if (!anew) return std::move(anew).error();
    written.emplace_back(image.descriptor.digest, *std::move(anew));
  }
  if (!is_index) return written.empty() ? root : written.front().second.first;
  auto index = manifest_json(layout, root);
  if (!index) return std::move(index).error();
  const Json before = *index;
  write_on(*index, Annotation::Of::index, nullptr, annotations);
  for (auto& child : (*index)["manifests"]) {
    for (const auto& image : tree->images)
      if (image.config && image.descriptor.digest.str() == child.value("digest", ""))
        write_on(child, Annotation::Of::descriptor, &image.config->platform, annotations);
    for (const auto& [was, is] : written)
      if (was.str() == child.value("digest", "")) {
        child["digest"] = is.first.str();
        child["size"] = is.second;
        break;
      }
  }
  if (*index == before) return root;
  auto anew = store_json(layout, *index);
  if (!anew) return std::move(anew).error();
  return std::move(anew->first);
}

Status check_annotations(const std::vector<Annotation>& annotations,
                         const std::vector<Platform>& platforms) {
  for (const auto& one : annotations) {
    if (one.of == Annotation::Of::index && platforms.size() < 2)
      return unfit("the annotation " + one.key.substr(0, 200) +
                       " is for an index, and an image for one platform has none",
                   "build for several platforms, or leave out its type: KEY=VALUE");
    if (one.platform && std::none_of(platforms.begin(), platforms.end(), [&](const auto& there) {
          return plain(there) == plain(*one.platform);
        }))
      return unfit("the annotation " + one.key.substr(0, 200) + " is for " + one.platform->str() +
                       ", and there is no image for that",
                   "build for it too, or leave out its platform");
  }
  return {};
}

} // namespace slipway::oci
