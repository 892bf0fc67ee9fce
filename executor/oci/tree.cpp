// SPDX-License-Identifier: Apache-2.0
// What a digest stands for: reads the tree below it.
#include "executor/oci/layout.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace slipway::oci {
namespace {

constexpr std::size_t kMaxManifests = 64;
/// Of all configs below one digest, each as often as it is named: all are kept.
constexpr std::size_t kMaxAllConfigBytes = 32UL << 20;
constexpr int kMaxIndexLevels = 2;
constexpr std::size_t kMaxLayers = 512;
constexpr const char* kInToto = "application/vnd.in-toto+json";

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

bool is_called_attestation(const Descriptor& descriptor) {
  const auto type = descriptor.annotations.find("vnd.docker.reference.type");
  return type != descriptor.annotations.end() && type->second == "attestation-manifest";
}

// An attestation is not scanned, so all of its marks have to agree: a real image that is only
// annotated as one stays an image.
bool is_attestation(const Descriptor& descriptor, const Manifest& manifest) {
  if (!is_called_attestation(descriptor)) return false;
  if (!descriptor.platform || descriptor.platform->os != "unknown" ||
      descriptor.platform->architecture != "unknown") {
    return false;
  }
  if (!manifest.artifact_type.empty() &&
      manifest.artifact_type != "application/vnd.docker.attestation.manifest.v1+json") {
    return false;
  }
  if (manifest.layers.empty()) return false;
  for (const auto& layer : manifest.layers) {
    if (layer.media_type != kInToto) return false;
  }
  return true;
}

class TreeReader {
public:
  TreeReader(const Layout& layout, ImageTree& tree, Flaw& flaw)
      : layout_{layout}, tree_{tree}, flaw_{flaw} {}

  Status read(const Descriptor& descriptor, int index_levels_above) {
    if (++reads_ > kMaxTreeReads) {
      return refused("more than " + std::to_string(kMaxTreeReads) +
                     " manifests and indexes below one digest");
    }
    auto text = layout_.read_blob(descriptor.digest, kMaxManifestBytes);
    if (!text) return std::move(text).error();
    manifest_bytes_ += text->size();
    if (manifest_bytes_ > kMaxAllManifestBytes) {
      return refused("manifests and indexes of more than " + std::to_string(kMaxAllManifestBytes) +
                     " bytes below one digest");
    }
    if (text->size() != descriptor.size) {
      flaw_ = Flaw::wrong_bytes;
      return refused("manifest " + descriptor.digest.str() + " has " +
                     std::to_string(text->size()) + " bytes, its descriptor says " +
                     std::to_string(descriptor.size));
    }
    auto parsed = parse_manifest(*text, &flaw_);
    if (!parsed) return std::move(parsed).error().in("manifest " + descriptor.digest.str());
    if (auto* index = std::get_if<Index>(&*parsed))
      return read_index(descriptor, *index, index_levels_above);
    return read_image(descriptor, std::get<Manifest>(std::move(*parsed)));
  }

private:
  Status read_index(const Descriptor& descriptor, const Index& index, int index_levels_above) {
    if (index_levels_above >= kMaxIndexLevels) {
      return refused("index " + descriptor.digest.str() + " lies deeper than " +
                     std::to_string(kMaxIndexLevels) + " levels of indexes");
    }
    if (auto fine = agrees(descriptor, index.media_type); !fine) return fine;
    for (const auto& child : index.manifests) {
      if (child.has_urls) {
        flaw_ = Flaw::foreign_content;
        return refused("manifest " + child.digest.str() + " is named by urls");
      }
      if (!is_index_type(child.media_type) && !is_manifest_type(child.media_type)) {
        return refused("index " + descriptor.digest.str() + " names " + child.digest.str() +
                       " of type '" + child.media_type + "', which is no manifest");
      }
      if (auto done = read(child, index_levels_above + 1); !done) return done;
    }
    tree_.index_digests.push_back(descriptor.digest);
    if (!index.artifact_type.empty())
      tree_.odd_indexes.emplace_back(descriptor.digest,
                                     "an artifact of type '" + index.artifact_type + "'");
    if (index.has_subject)
      tree_.odd_indexes.emplace_back(descriptor.digest, "a part of another manifest (subject)");
    return add(descriptor);
  }

  Status read_image(const Descriptor& descriptor, Manifest manifest) {
    if (tree_.images.size() >= kMaxManifests) {
      return refused("more than " + std::to_string(kMaxManifests) + " manifests below one digest");
    }
    if (auto fine = agrees(descriptor, manifest.media_type); !fine) return fine;
    if (manifest.layers.size() > kMaxLayers) {
      return refused("manifest " + descriptor.digest.str() + " has more than " +
                     std::to_string(kMaxLayers) + " layers");
    }
    if (auto done = add(manifest.config); !done) return done;
    for (const auto& layer : manifest.layers) {
      if (auto done = add(layer); !done) return done;
    }
    ImageTree::Image image{.descriptor = descriptor,
                           .manifest = std::move(manifest),
                           .config = {},
                           .is_attestation = false,
                           .called_attestation = is_called_attestation(descriptor)};
    image.is_attestation = is_attestation(descriptor, image.manifest);
    if (!image.is_attestation && is_image_config_type(image.manifest.config.media_type)) {
      auto text = layout_.read_blob(image.manifest.config.digest, kMaxConfigBytes);
      if (!text) return std::move(text).error().in("manifest " + descriptor.digest.str());
      config_bytes_ += text->size();
      if (config_bytes_ > kMaxAllConfigBytes) {
        return refused("image configs of more than " + std::to_string(kMaxAllConfigBytes) +
                       " bytes below one digest");
      }
      auto config = parse_image_config(*text, &flaw_);
      if (!config) return std::move(config).error().in("manifest " + descriptor.digest.str());
      image.config = *std::move(config);
    }
    tree_.images.push_back(std::move(image));
    return add(descriptor);
  }

  Status agrees(const Descriptor& descriptor, const std::string& media_type) {
    if (descriptor.media_type.empty() || descriptor.media_type == media_type) return {};
    flaw_ = Flaw::ambiguous_manifest;
    return refused("manifest " + descriptor.digest.str() + " says that it is '" + media_type +
                   "', its descriptor says '" + descriptor.media_type + "'");
  }

  // Each blob once, in the order of completion: children before parents.
  Status add(const Descriptor& descriptor) {
    if (descriptor.has_urls) {
      flaw_ = Flaw::foreign_content;
      return refused("blob " + descriptor.digest.str() +
                     " is named by urls: foreign content cannot be judged and is not pushed");
    }
    auto size = layout_.blob_size(descriptor.digest);
    if (!size) return std::move(size).error();
    if (*size != descriptor.size) {
      flaw_ = Flaw::wrong_bytes;
      return refused("blob " + descriptor.digest.str() + " has " + std::to_string(*size) +
                     " bytes, its descriptor says " + std::to_string(descriptor.size));
    }
    if (seen_.insert(descriptor.digest).second) tree_.blobs.push_back(descriptor);
    return {};
  }

  const Layout& layout_;
  ImageTree& tree_;
  Flaw& flaw_;
  std::set<Digest> seen_;
  std::size_t reads_ = 0;
  std::size_t manifest_bytes_ = 0;
  std::size_t config_bytes_ = 0;
};

} // namespace

Result<ImageTree> read_tree(const Layout& layout, const Digest& root, Flaw* flaw) {
  Flaw unused{};
  auto& told = flaw != nullptr ? *flaw : unused;
  auto size = layout.blob_size(root);
  if (!size) return std::move(size).error();
  // index.json says more about the root than its digest does (an attestation's annotations), but it
  // is not covered by the digest: nothing of it is taken over.
  Descriptor descriptor{.media_type = {},
                        .digest = root,
                        .size = *size,
                        .platform = {},
                        .annotations = {},
                        .artifact_type = {},
                        .has_urls = false};
  ImageTree tree{.root = root,
                 .root_media_type = {},
                 .root_size = *size,
                 .images = {},
                 .index_digests = {},
                 .odd_indexes = {},
                 .blobs = {}};
  if (auto done = TreeReader{layout, tree, told}.read(descriptor, 0); !done) {
    return std::move(done).error().in("reading image " + root.str());
  }
  auto text = layout.read_blob(root, kMaxManifestBytes);
  if (!text) return std::move(text).error();
  auto parsed = parse_manifest(*text);
  if (!parsed) return std::move(parsed).error();
  tree.root_media_type =
      std::visit([](const auto& document) { return document.media_type; }, *parsed);
  tree.blobs.back().media_type = tree.root_media_type;
  for (auto& image : tree.images) {
    if (image.descriptor.digest == root) image.descriptor.media_type = tree.root_media_type;
  }
  return tree;
}

Result<ImageTree::Image> select_platform(const ImageTree& tree, const Platform& wanted) {
  std::vector<const ImageTree::Image*> images;
  for (const auto& image : tree.images) {
    if (image.config) images.push_back(&image);
  }
  if (images.size() == 1) return *images.front();
  const ImageTree::Image* near = nullptr;
  for (const auto* image : images) {
    const auto& has =
        image->descriptor.platform ? *image->descriptor.platform : image->config->platform;
    if (has == wanted) return *image;
    // "linux/arm64" and "linux/arm64/v8" are written for each other.
    if (near == nullptr && has.os == wanted.os && has.architecture == wanted.architecture &&
        (has.variant.empty() || wanted.variant.empty())) {
      near = image;
    }
  }
  if (near != nullptr) return *near;
  return Error{
      ErrorKind::not_found, "no image for " + wanted.str() + " below " + tree.root.str(), "", {}};
}

} // namespace slipway::oci
