// SPDX-License-Identifier: Apache-2.0
#include "stages/image/index_draft.hpp"

#include "executor/oci/manifest.hpp"
#include "executor/oci/platform.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <utility>

namespace slipway::image {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostChildren = 64; ///< as oci::read_tree

Error no_child(const oci::Digest& child) {
  return Error{ErrorKind::not_found,
               "the manifest list has no image with the digest " + child.str(),
               "",
               {}};
}

/// Writes the part's platform and annotations into a descriptor. Errors: bad_input.
Status write_over(const broker::IndexPart& part, Json& descriptor) {
  for (const auto& [key, value] :
       {std::pair{"architecture", part.platform.architecture}, std::pair{"os", part.platform.os},
        std::pair{"variant", part.platform.variant}}) {
    if (value.empty()) continue;
    if (value.size() > 32 ||
        value.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") != std::string::npos)
      return Error{ErrorKind::bad_input,
                   "'" + value.substr(0, 100) + "' cannot be a platform's " + key,
                   "write it in lower case, as in linux/arm/v7",
                   {}};
    descriptor["platform"][key] = value;
  }
  if (!part.os_version.empty()) {
    if (part.os_version.size() > 64 ||
        part.os_version.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789._-") != std::string::npos)
      return Error{ErrorKind::bad_input,
                   "'" + part.os_version.substr(0, 100) + "' cannot be a version of a system",
                   "write it as in 10.0.20348.1",
                   {}};
    descriptor["platform"]["os.version"] = part.os_version;
  }
  for (const auto& [key, value] : part.annotations)
    descriptor["annotations"][key] = value;
  return {};
}

/// Of an index that has been read before: what is in it fits. Errors: those of the layout.
Result<Json> index_json(const oci::Layout& layout, const oci::Digest& root) {
  auto text = layout.read_blob(root, oci::kMaxManifestBytes);
  if (!text) return std::move(text).error();
  Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains("manifests") || !json["manifests"].is_array())
    return Error{ErrorKind::bad_input, root.str() + " is no index", "", {}};
  return json;
}

} // namespace

Status IndexDraft::read(const oci::Layout& layout, const oci::Digest& root) {
  if (auto tree = oci::read_tree(layout, root); !tree) return std::move(tree).error();
  auto json = index_json(layout, root);
  if (!json) return std::move(json).error();
  for (const auto& child : (*json)["manifests"])
    children_.push_back({child.at("digest").get<std::string>(), child.dump()});
  if (json->contains("annotations")) annotations_ = (*json)["annotations"].dump();
  return {};
}

Result<bool> IndexDraft::add(const oci::Layout& layout, const oci::Digest& root,
                             const broker::IndexPart& part) {
  auto tree = oci::read_tree(layout, root);
  if (!tree) return std::move(tree).error();
  const bool is_index = oci::is_index_type(tree->root_media_type);
  Json descriptors = Json::array();
  if (is_index) {
    auto json = index_json(layout, root);
    if (!json) return std::move(json).error();
    descriptors = std::move((*json)["manifests"]);
  } else {
    Json one{
        {"mediaType", tree->root_media_type}, {"digest", root.str()}, {"size", tree->root_size}};
    for (const auto& image : tree->images) {
      if (!image.config || image.config->platform.architecture.empty()) continue;
      const auto& platform = image.config->platform;
      one["platform"] = {{"architecture", platform.architecture}, {"os", platform.os}};
      if (!platform.variant.empty()) one["platform"]["variant"] = platform.variant;
    }
    descriptors.push_back(std::move(one));
  }
  broker::IndexPart changes = part;
  if (is_index) { // its children have their own
    changes.platform = {};
    changes.os_version.clear();
  }
  for (auto& descriptor : descriptors) {
    if (auto applied = write_over(changes, descriptor); !applied) return std::move(applied).error();
    if (auto done = put({descriptor.at("digest").get<std::string>(), descriptor.dump()}); !done)
      return std::move(done).error();
  }
  return is_index;
}

Status IndexDraft::put(Child child) {
  const auto known = std::find_if(children_.begin(), children_.end(),
                                  [&](const Child& one) { return one.digest == child.digest; });
  if (known != children_.end()) {
    *known = std::move(child);
    return {};
  }
  if (children_.size() >= kMostChildren)
    return Error{ErrorKind::bad_input,
                 "a manifest list of more than " + std::to_string(kMostChildren) + " images",
                 "",
                 {}};
  children_.push_back(std::move(child));
  return {};
}

Status IndexDraft::annotate(const oci::Digest& child, const broker::IndexPart& part) {
  bool is_there = false;
  for (auto& one : children_) {
    if (one.digest != child.str()) continue;
    Json descriptor = Json::parse(one.json);
    if (auto applied = write_over(part, descriptor); !applied) return applied;
    one.json = descriptor.dump();
    is_there = true;
  }
  if (!is_there) return no_child(child);
  return {};
}

Status IndexDraft::remove(const oci::Digest& child) {
  if (std::erase_if(children_, [&](const Child& one) { return one.digest == child.str(); }) == 0)
    return no_child(child);
  return {};
}

Status IndexDraft::keep(const std::vector<oci::Platform>& platforms) {
  const auto is_wanted = [&](const Json& platform) {
    const oci::Platform has{platform.value("architecture", ""), platform.value("os", ""),
                            platform.value("variant", "")};
    return std::any_of(platforms.begin(), platforms.end(), [&](const oci::Platform& wanted) {
      return oci::is_same_platform(has, wanted);
    });
  };
  std::set<std::string> kept;
  for (const auto& child : children_)
    if (const Json json = Json::parse(child.json);
        json.contains("platform") && is_wanted(json["platform"]))
      kept.insert(child.digest);
  if (kept.empty())
    return Error{ErrorKind::bad_input,
                 "no image of the sources is for the platforms that are asked for",
                 "`docker manifest inspect` shows what a source has",
                 {}};
  std::erase_if(children_, [&](const Child& child) {
    const Json json = Json::parse(child.json);
    const bool attests =
        json.contains("annotations") &&
        kept.contains(json["annotations"].value("vnd.docker.reference.digest", std::string{}));
    return !kept.contains(child.digest) && !attests;
  });
  return {};
}

void IndexDraft::annotate_index(const std::string& key, const std::string& value) {
  Json annotations = annotations_.empty() ? Json::object() : Json::parse(annotations_);
  annotations[key] = value;
  annotations_ = annotations.dump();
}

std::string IndexDraft::json() const {
  Json manifests = Json::array();
  for (const auto& child : children_)
    manifests.push_back(Json::parse(child.json));
  Json index{{"schemaVersion", 2},
             {"mediaType", oci::kMediaTypeOciIndex},
             {"manifests", std::move(manifests)}};
  if (!annotations_.empty()) index["annotations"] = Json::parse(annotations_);
  return index.dump();
}

} // namespace slipway::image
