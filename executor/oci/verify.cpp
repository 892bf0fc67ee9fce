// SPDX-License-Identifier: Apache-2.0
// Proves that an image's bytes are what they are said to be. Nothing here trusts a size or a diff
// id before it has been recomputed.
#include "executor/base/file.hpp"
#include "executor/oci/artifact.hpp"
#include "executor/oci/layer.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

namespace slipway::oci {
namespace {

/// Raised whenever more is demanded of a layer than before: what was found earlier is forgotten.
constexpr const char* kKnownLayersVersion = "2";
/// SBOMs in attestations are the largest statements.
constexpr std::size_t kMaxStatementBytes = 128UL << 20;

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

// By these a lazy puller finds an index of its own and reads files by it, not by the layer's
// digest. Source: stargz-snapshotter, estargz; containers/storage, chunked; nydus-snapshotter;
// overlaybd; soci-snapshotter, soci_index.go, which has it at the image.
const std::string* lazy_annotation(const std::map<std::string, std::string>& annotations) {
  for (const auto& [key, value] : annotations) {
    for (const std::string_view prefix :
         {"containerd.io/snapshot/", "io.containers.estargz.", "io.github.containers.zstd-chunked.",
          "com.amazon.soci."}) {
      if (key.starts_with(prefix)) return &key;
    }
  }
  return nullptr;
}

bool is_encrypted(const Descriptor& layer) {
  return layer.media_type.ends_with("+encrypted") ||
         std::any_of(layer.annotations.begin(), layer.annotations.end(), [](const auto& entry) {
           return entry.first.starts_with("org.opencontainers.image.enc.");
         });
}

// Reads a layer once: its digest and its diff id.
Result<LayerContent> verified_content(const Layout& layout, const Descriptor& layer,
                                      Compression compression, std::uint64_t max_expanded,
                                      Flaw& flaw) {
  auto reader = LayerReader::open(layout, layer, compression, max_expanded);
  if (!reader) return std::move(reader).error();
  for (;;) {
    auto bytes = reader->next();
    if (!bytes) {
      flaw = reader->flaw();
      return std::move(bytes).error();
    }
    if (bytes->empty()) return reader->content();
  }
}

} // namespace

class TreeVerifier {
public:
  TreeVerifier(const Layout& layout, const VerifyRules& rules, Flaw& flaw)
      : layout_{layout}, rules_{rules}, flaw_{flaw} {}

  Status verify_image(const ImageTree::Image& image) {
    const auto& layers = image.manifest.layers;
    const auto& diff_ids = image.config->diff_ids;
    if (layers.size() != diff_ids.size()) {
      return refuse(Flaw::false_diff_id, "has " + std::to_string(layers.size()) +
                                             " layers, its config names " +
                                             std::to_string(diff_ids.size()) + " diff ids");
    }
    for (const auto* annotations : {&image.manifest.annotations, &image.descriptor.annotations}) {
      if (const auto* key = lazy_annotation(*annotations)) {
        if (auto fine =
                put_up_with(Flaw::lazy_layer, "has the annotation " + *key + " for lazy pulling");
            !fine)
          return fine;
      }
    }
    // A scanner finds a layer by its diff id, first match: a second, other layer under the same id
    // would never be read.
    std::map<Digest, Digest> layer_of_diff_id;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto [known, fresh] = layer_of_diff_id.emplace(diff_ids[i], layers[i].digest);
      if (!fresh && known->second != layers[i].digest) {
        return refuse(Flaw::duplicate_diff_id,
                      "names diff id " + diff_ids[i].str() + " for two different layers, " +
                          known->second.str() + " and " + layers[i].digest.str());
      }
    }
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto where = "layer " + std::to_string(i + 1) + " (" + layers[i].digest.str() + ") ";
      auto compression = compression_of(layers[i], where);
      if (!compression) return std::move(compression).error();
      if (const auto* key = lazy_annotation(layers[i].annotations)) {
        if (auto fine = put_up_with(Flaw::lazy_layer,
                                    where + "has the annotation " + *key + " for lazy pulling");
            !fine)
          return fine;
      }
      auto content = content_of(layers[i], *compression, where);
      if (!content) return std::move(content).error();
      if (content->diff_id != diff_ids[i]) {
        return refuse(Flaw::false_diff_id, where + "expands to " + content->diff_id.str() +
                                               ", the config says " + diff_ids[i].str());
      }
      total += content->expanded;
      if (total > rules_.max_image) {
        return refuse(Flaw::too_large, "its layers expand to more than " +
                                           std::to_string(rules_.max_image) + " bytes");
      }
      for (const auto& [flaw, words] : content->oddities) {
        if (auto fine = put_up_with(flaw, where + words); !fine) return fine;
      }
    }
    return {};
  }

  // It is not scanned, so it has to be what it is called: statements, and no file system that some
  // runtime would unpack all the same.
  Status verify_attestation(const ImageTree::Image& image) {
    for (const auto& layer : image.manifest.layers) {
      auto text = layout_.read_blob(layer.digest, kMaxStatementBytes);
      if (!text && text.error().kind == ErrorKind::io) return std::move(text).error();
      if (!text) return refuse(Flaw::false_attestation, text.error().what);
      hashed_.insert(layer.digest);
      if (!is_statement(*text)) {
        return refuse(Flaw::false_attestation, "is called an attestation, but " +
                                                   layer.digest.str() + " is no in-toto statement");
      }
    }
    const auto& config = image.manifest.config;
    if (config.media_type == "application/vnd.oci.empty.v1+json") return {};
    auto text = layout_.read_blob(config.digest, kMaxConfigBytes);
    if (!text) return std::move(text).error();
    auto parsed = parse_image_config(*text, &flaw_);
    if (!parsed) return std::move(parsed).error();
    std::vector<Digest> layers;
    for (const auto& layer : image.manifest.layers)
      layers.push_back(layer.digest);
    if (!is_image_config_type(config.media_type) || parsed->diff_ids != layers) {
      return refuse(Flaw::false_attestation,
                    "is called an attestation, but its config is that of an image");
    }
    return {};
  }

  Status verify_bytes(const Descriptor& blob) {
    if (!hashed_.insert(blob.digest).second) return {};
    auto fd = layout_.open_blob(blob.digest);
    if (!fd) return std::move(fd).error();
    auto real = digest_of_fd(fd->get());
    if (!real) return std::move(real).error().in(blob.digest.str());
    if (*real != blob.digest) {
      return refuse(Flaw::wrong_bytes,
                    "blob " + blob.digest.str() + " has other bytes than its digest names");
    }
    return {};
  }

  Tolerated tolerated;

private:
  Status refuse(Flaw flaw, const std::string& why) {
    flaw_ = flaw;
    return refused(why);
  }

  Status put_up_with(Flaw flaw, const std::string& words) {
    if (!rules_.tolerated.contains(flaw)) return refuse(flaw, words);
    tolerated.emplace_back(flaw, words);
    return {};
  }

  static bool is_statement(const std::string& text) {
    if (begins_as_tar(text) || !check_json(text, "statement")) return false;
    const auto top = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      return depth <= 1; // its subject and predicate may be large
    };
    const auto statement = nlohmann::json::parse(text, top, false);
    if (!statement.is_object()) return false;
    const auto type = statement.find("_type");
    return type != statement.end() && type->is_string() &&
           type->get_ref<const std::string&>().starts_with("https://in-toto.io/Statement/");
  }

  Result<Compression> compression_of(const Descriptor& layer, const std::string& where) {
    const auto& type = layer.media_type;
    if (is_encrypted(layer)) {
      flaw_ = Flaw::encrypted_layer;
      return refused(where + "is encrypted: what it holds cannot be judged");
    }
    if (const auto compression = layer_compression(type)) return *compression;
    if (type.find("foreign") != std::string::npos ||
        type.find("nondistributable") != std::string::npos) {
      flaw_ = Flaw::foreign_content;
      return refused(where + "is of a type that must not be distributed: " + type);
    }
    flaw_ = Flaw::unknown_layer_type;
    return refused(where + "is of an unknown type: " + type);
  }

  Result<LayerContent> content_of(const Descriptor& layer, Compression compression,
                                  const std::string& where) {
    const auto key = std::pair{layer.digest, layer.media_type};
    if (const auto seen = seen_.find(key); seen != seen_.end()) return seen->second;
    if (auto remembered = rules_.known == nullptr ? std::nullopt
                                                  : rules_.known->recall(layer, rules_.max_layer)) {
      if (auto size = layout_.blob_size(layer.digest); !size || *size != layer.size) {
        flaw_ = Flaw::wrong_bytes;
        return refused(where + "has not the size of its descriptor");
      }
      // Its bytes: verify_bytes.
      return seen_.emplace(key, LayerContent{remembered->first, remembered->second, {}})
          .first->second;
    }
    auto real = verified_content(layout_, layer, compression, rules_.max_layer, flaw_);
    if (!real) {
      if (real.error().kind == ErrorKind::bad_input) return refused(where + real.error().what);
      return std::move(real).error().in(where);
    }
    hashed_.insert(layer.digest);
    if (rules_.known != nullptr) rules_.known->note(layer, *real);
    return seen_.emplace(key, *std::move(real)).first->second;
  }

  const Layout& layout_;
  const VerifyRules& rules_;
  Flaw& flaw_;
  std::map<std::pair<Digest, std::string>, LayerContent> seen_;
  std::set<Digest> hashed_;
};

std::filesystem::path KnownLayers::file_of(const Descriptor& layer) const {
  return dir_ / Digest::of(std::string{kKnownLayersVersion} + "\n" + layer.digest.str() + "\n" +
                           layer.media_type)
                    .hex();
}

std::optional<std::pair<Digest, std::uint64_t>>
KnownLayers::recall(const Descriptor& layer, std::uint64_t max_expanded) const {
  const auto text = read_file(file_of(layer), 256);
  if (!text) return std::nullopt;
  const auto space = text->find(' ');
  auto digest = Digest::parse(text->substr(0, space));
  std::uint64_t expanded = 0;
  if (!digest || space == std::string::npos ||
      std::from_chars(text->data() + space + 1, text->data() + text->size(), expanded).ec !=
          std::errc{} ||
      expanded > max_expanded)
    return std::nullopt;
  return std::pair{*std::move(digest), expanded};
}

std::optional<Digest> KnownLayers::diff_id(const Descriptor& layer,
                                           std::uint64_t max_expanded) const {
  auto known = recall(layer, max_expanded);
  if (!known) return std::nullopt;
  return std::move(known->first);
}

void KnownLayers::note(const Descriptor& layer, const LayerContent& content) const {
  if (!content.oddities.empty()) return;
  // Best effort: what is not remembered is read again.
  if (make_directory(dir_, 0700))
    (void)replace_file(file_of(layer),
                       content.diff_id.str() + " " + std::to_string(content.expanded))
        .ok();
}

void KnownLayers::learn(const Layout& layout, const Descriptor& layer,
                        std::uint64_t max_expanded) const {
  const auto compression = layer_compression(layer.media_type);
  if (!compression || diff_id(layer, max_expanded)) return;
  Flaw unused{};
  auto real = verified_content(layout, layer, *compression, max_expanded, unused);
  if (real) note(layer, *real);
}

Result<Tolerated> verify_tree(const Layout& layout, const ImageTree& tree, const VerifyRules& rules,
                              Flaw* flaw) {
  Flaw unused{};
  TreeVerifier verifier{layout, rules, flaw != nullptr ? *flaw : unused};
  for (const auto& image : tree.images) {
    const bool artifact = rules.artifacts.contains(image.descriptor.digest);
    auto fine = image.is_attestation        ? verifier.verify_attestation(image)
                : image.config && !artifact ? verifier.verify_image(image)
                                            : Status{};
    if (!fine)
      return std::move(fine).error().in("verifying image " + image.descriptor.digest.str());
  }
  for (const auto& blob : tree.blobs) {
    if (auto fine = verifier.verify_bytes(blob); !fine) {
      return std::move(fine).error().in("verifying " + tree.root.str());
    }
  }
  return std::move(verifier.tolerated);
}

Status verify_tree(const Layout& layout, const ImageTree& tree, std::uint64_t max_layer,
                   const KnownLayers* known) {
  const VerifyRules rules{
      .max_layer = max_layer, .max_image = UINT64_MAX, .known = known, .tolerated = {}};
  auto verified = verify_tree(layout, tree, rules, nullptr);
  if (!verified) return std::move(verified).error();
  return {};
}

} // namespace slipway::oci
