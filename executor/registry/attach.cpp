// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/manifest.hpp"
#include "executor/registry/registry.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace slipway::registry {

namespace {

constexpr const char* kEmptyType = "application/vnd.oci.empty.v1+json";
constexpr std::string_view kEmpty = "{}";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr std::size_t kMaxReferrers = 1000; ///< in one fallback tag, or layers under a tag

oci::Descriptor describe(const std::string& media_type, std::string_view bytes) {
  return {media_type, oci::Digest::of(bytes), bytes.size(), {}, {}, "", false};
}

std::string annotations_json(const std::map<std::string, std::string>& annotations) {
  return nlohmann::json(annotations).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// `type`: that of the older one.
bool replaces(const Attachment& attachment, const oci::Descriptor& old, const std::string& type) {
  return type == attachment.artifact_type && !attachment.same.empty() &&
         std::all_of(attachment.same.begin(), attachment.same.end(), [&](const std::string& name) {
           const auto found = old.annotations.find(name);
           const auto ours = attachment.annotations.find(name);
           return found != old.annotations.end() && ours != attachment.annotations.end() &&
                  found->second == ours->second;
         });
}

/// Are these signatures of the kind that `attachment` joins, and nothing else?
bool is_list_of(const Attachment& attachment, const oci::Manifest& manifest) {
  return !manifest.has_subject && manifest.artifact_type.empty() && !manifest.layers.empty() &&
         std::all_of(manifest.layers.begin(), manifest.layers.end(), [&](const auto& layer) {
           return layer.media_type == attachment.artifact_type && !layer.has_urls;
         });
}

} // namespace

Status Registry::put_small_blob(std::string_view bytes) {
  const auto blob = describe("", bytes);
  auto exists = blob_exists(blob);
  if (!exists) return std::move(exists).error();
  if (*exists) return {};
  auto session = begin_upload(blob, "");
  if (!session) return std::move(session).error();
  http::Request put;
  put.method = "PUT";
  put.url = (*session)->with_query("digest", blob.digest.str());
  put.headers = {{"Content-Type", "application/octet-stream"}};
  put.body = bytes;
  auto response = send(put, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status != 201 && response->status != 204)
    return error_of(*response, "uploading a signature");
  return {};
}

Status Registry::attach(const Attachment& attachment, const oci::Descriptor& subject) {
  if (!attachment.tag_suffix.empty()) return add_layer_under_tag(attachment, subject.digest);
  for (const std::string_view bytes : {kEmpty, std::string_view{attachment.bytes}}) {
    if (auto status = put_small_blob(bytes); !status) return status;
  }
  const std::string manifest =
      "{\"schemaVersion\":2,\"mediaType\":\"" + std::string{oci::kMediaTypeOciManifest} +
      "\",\"artifactType\":\"" + attachment.artifact_type +
      "\",\"config\":" + oci::to_json(describe(kEmptyType, kEmpty)) + ",\"layers\":[" +
      oci::to_json(describe(attachment.artifact_type, attachment.bytes)) +
      "],\"subject\":" + oci::to_json(subject) +
      ",\"annotations\":" + annotations_json(attachment.annotations) + "}";
  auto referrer = describe(oci::kMediaTypeOciManifest, manifest);
  auto listed = put_manifest(manifest, referrer.media_type, referrer.digest.str(), referrer.digest);
  if (!listed) return std::move(listed).error();
  if (*listed == subject.digest.str()) return {};
  referrer.artifact_type = attachment.artifact_type;
  referrer.annotations = attachment.annotations;
  return list_in_fallback_tag(referrer, attachment, subject.digest);
}

Status Registry::list_in_fallback_tag(const oci::Descriptor& referrer, const Attachment& attachment,
                                      const oci::Digest& subject) {
  const std::string tag = "sha256-" + subject.hex();
  std::vector<oci::Descriptor> all;
  auto there = get_manifest(tag);
  if (!there && there.error().kind != ErrorKind::not_found) return std::move(there).error();
  if (there) {
    auto parsed = oci::parse_manifest(there->bytes);
    if (!parsed) return std::move(parsed).error().in("reading the tag " + tag);
    const auto* index = std::get_if<oci::Index>(&*parsed);
    if (index == nullptr) {
      return Error{ErrorKind::bad_input,
                   "the tag " + tag + " of " + repository_ + " is no list of signatures",
                   "the registry has no referrers API, and this tag stands for it: remove it",
                   {}};
    }
    for (const auto& old : index->manifests) {
      if (!replaces(attachment, old, old.artifact_type)) all.push_back(old);
    }
  }
  all.push_back(referrer);
  if (all.size() > kMaxReferrers) {
    return Error{ErrorKind::bad_input,
                 "the tag " + tag + " of " + repository_ + " lists too many artifacts already",
                 "remove some",
                 {}};
  }
  std::string manifests;
  for (const auto& one : all)
    manifests += (manifests.empty() ? "" : ",") + oci::to_json(one);
  const std::string index = "{\"schemaVersion\":2,\"mediaType\":\"" +
                            std::string{oci::kMediaTypeOciIndex} + "\",\"manifests\":[" +
                            manifests + "]}";
  auto put = put_manifest(index, oci::kMediaTypeOciIndex, tag, oci::Digest::of(index));
  if (!put) return std::move(put).error();
  return {};
}

Status Registry::add_layer_under_tag(const Attachment& attachment, const oci::Digest& subject) {
  const std::string tag = "sha256-" + subject.hex() + attachment.tag_suffix;
  std::vector<oci::Descriptor> all;
  std::string annotations;
  auto there = get_manifest(tag);
  if (!there && there.error().kind != ErrorKind::not_found) return std::move(there).error();
  if (there) {
    auto parsed = oci::parse_manifest(there->bytes);
    const auto* manifest = parsed ? std::get_if<oci::Manifest>(&*parsed) : nullptr;
    if (manifest == nullptr || !is_list_of(attachment, *manifest)) {
      // Jobs cannot write there: it is nothing that this one could mend.
      return Error{ErrorKind::misconfigured,
                   "the tag " + tag + " of " + repository_ + " is no list of signatures" +
                       (parsed ? "" : ": " + parsed.error().what),
                   "those of the form \"simple\" are kept there: remove it",
                   {}};
    }
    const auto bytes = oci::Digest::of(attachment.bytes);
    for (const auto& layer : manifest->layers) {
      if (!replaces(attachment, layer, layer.media_type))
        all.push_back(layer);
      else if (layer.digest == bytes && layer.size == attachment.bytes.size() &&
               attachment.serves && attachment.serves(layer.annotations))
        return {};
    }
    if (!manifest->annotations.empty())
      annotations = ",\"annotations\":" + annotations_json(manifest->annotations);
  }
  all.push_back(describe(attachment.artifact_type, attachment.bytes));
  all.back().annotations = attachment.annotations;
  if (all.size() > kMaxReferrers) {
    return Error{ErrorKind::misconfigured,
                 "the tag " + tag + " of " + repository_ + " lists too many signatures already",
                 "remove some",
                 {}};
  }
  std::string layers;
  std::string diff_ids;
  for (const auto& one : all) {
    layers += (layers.empty() ? "" : ",") + oci::to_json(one);
    diff_ids += (diff_ids.empty() ? "\"" : ",\"") + one.digest.str() + "\"";
  }
  // As cosign writes it: an image of no system, whose layers are not compressed.
  const std::string config = R"({"architecture":"","os":"","config":{},"rootfs":{"type":"layers",)"
                             R"("diff_ids":[)" +
                             diff_ids + "]}}";
  for (const auto& bytes : {config, attachment.bytes}) {
    if (auto status = put_small_blob(bytes); !status) return status;
  }
  const std::string list = "{\"schemaVersion\":2,\"mediaType\":\"" +
                           std::string{oci::kMediaTypeOciManifest} +
                           "\",\"config\":" + oci::to_json(describe(kConfigType, config)) +
                           ",\"layers\":[" + layers + "]" + annotations + "}";
  auto put = put_manifest(list, oci::kMediaTypeOciManifest, tag, oci::Digest::of(list));
  if (!put) return std::move(put).error();
  return {};
}

} // namespace slipway::registry
