// SPDX-License-Identifier: Apache-2.0
// What a digest stands for: reading the tree below it, and proving that its bytes are what they are
// said to be. Nothing here trusts a name, a size or a diff id before it has been recomputed.
#include "executor/base/file.hpp"
#include "executor/oci/layout.hpp"

#include <zlib.h>
#include <zstd.h>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <set>
#include <utility>

namespace slipway::oci {
namespace {

constexpr std::size_t kMaxManifests = 64;
constexpr int kMaxIndexLevels = 2;
constexpr std::size_t kMaxLayers = 512;
/// Raised whenever more is demanded of a layer than before: what was found earlier is forgotten.
constexpr const char* kKnownLayersVersion = "1";
constexpr const char* kInToto = "application/vnd.in-toto+json";

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

bool is_config_type(std::string_view type) {
  return type == "application/vnd.oci.image.config.v1+json" ||
         type == "application/vnd.docker.container.image.v1+json";
}

// An attestation is not scanned, so all of its marks have to agree: a real image that is only
// annotated as one stays an image.
bool is_attestation(const Descriptor& descriptor, const Manifest& manifest) {
  const auto type = descriptor.annotations.find("vnd.docker.reference.type");
  if (type == descriptor.annotations.end() || type->second != "attestation-manifest") return false;
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
  TreeReader(const Layout& layout, ImageTree& tree) : layout_{layout}, tree_{tree} {}

  Status read(const Descriptor& descriptor, int index_levels_above) {
    auto text = layout_.read_blob(descriptor.digest, kMaxManifestBytes);
    if (!text) return std::move(text).error();
    if (text->size() != descriptor.size) {
      return refused("manifest " + descriptor.digest.str() + " has " +
                     std::to_string(text->size()) + " bytes, its descriptor says " +
                     std::to_string(descriptor.size));
    }
    auto parsed = parse_manifest(*text);
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
      if (child.has_urls) return refused("manifest " + child.digest.str() + " is named by urls");
      if (!is_index_type(child.media_type) && !is_manifest_type(child.media_type)) {
        return refused("index " + descriptor.digest.str() + " names " + child.digest.str() +
                       " of type '" + child.media_type + "', which is no manifest");
      }
      if (auto done = read(child, index_levels_above + 1); !done) return done;
    }
    tree_.index_digests.push_back(descriptor.digest);
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
                           .is_attestation = false};
    image.is_attestation = is_attestation(descriptor, image.manifest);
    if (!image.is_attestation && is_config_type(image.manifest.config.media_type)) {
      auto text = layout_.read_blob(image.manifest.config.digest, kMaxConfigBytes);
      if (!text) return std::move(text).error().in("manifest " + descriptor.digest.str());
      auto config = parse_image_config(*text);
      if (!config) return std::move(config).error().in("manifest " + descriptor.digest.str());
      image.config = *std::move(config);
    }
    tree_.images.push_back(std::move(image));
    return add(descriptor);
  }

  static Status agrees(const Descriptor& descriptor, const std::string& media_type) {
    if (descriptor.media_type.empty() || descriptor.media_type == media_type) return {};
    return refused("manifest " + descriptor.digest.str() + " says that it is '" + media_type +
                   "', its descriptor says '" + descriptor.media_type + "'");
  }

  // Each blob once, in the order of completion: children before parents.
  Status add(const Descriptor& descriptor) {
    if (descriptor.has_urls) {
      return refused("blob " + descriptor.digest.str() +
                     " is named by urls: foreign content cannot be judged and is not pushed");
    }
    auto size = layout_.blob_size(descriptor.digest);
    if (!size) return std::move(size).error();
    if (*size != descriptor.size) {
      return refused("blob " + descriptor.digest.str() + " has " + std::to_string(*size) +
                     " bytes, its descriptor says " + std::to_string(descriptor.size));
    }
    if (seen_.insert(descriptor.digest).second) tree_.blobs.push_back(descriptor);
    return {};
  }

  const Layout& layout_;
  ImageTree& tree_;
  std::set<Digest> seen_;
};

enum class Compression { none, gzip, zstd };

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

// Receives what a layer expands to: hashes and counts it, keeps nothing.
class Expanded {
public:
  explicit Expanded(std::uint64_t limit) : limit_{limit} {}
  Status take(std::string_view bytes) {
    total_ += bytes.size();
    if (total_ > limit_)
      return refused("expands to more than " + std::to_string(limit_) + " bytes");
    hasher_.update(bytes);
    return {};
  }
  Digest finish() { return hasher_.finish(); }
  std::uint64_t size() const { return total_; }

private:
  std::uint64_t limit_;
  std::uint64_t total_ = 0;
  Hasher hasher_;
};

class Decompressor {
public:
  virtual ~Decompressor() = default;
  virtual Status feed(std::string_view bytes, Expanded& into) = 0;
  virtual Status end() = 0;
};

// Readers look at the first bytes, not at the media type; so the two have to agree.
class Plain final : public Decompressor {
public:
  Status feed(std::string_view bytes, Expanded& into) override {
    if (head_.size() < 4) {
      head_.append(bytes.substr(0, 4 - head_.size()));
      if (head_.starts_with("\x1f\x8b") || head_.starts_with("\x28\xb5\x2f\xfd")) {
        return refused("is compressed, its media type says plain tar");
      }
    }
    return into.take(bytes);
  }
  Status end() override { return {}; }

private:
  std::string head_;
};

// Any number of members in sequence, as RFC 1952 has it; anything else behind a member is refused.
class Gzip final : public Decompressor {
public:
  Gzip() { ready_ = ::inflateInit2(&stream_, 15 + 16) == Z_OK; }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;
  ~Gzip() override { ::inflateEnd(&stream_); }

  Status feed(std::string_view bytes, Expanded& into) override {
    if (!ready_) return Error{ErrorKind::internal, "zlib did not start", "", {}};
    // zlib does not write through next_in; its type predates const.
    stream_.next_in = reinterpret_cast<Bytef*>(
        const_cast<char*>(bytes.data())); // NOLINT(cppcoreguidelines-pro-type-const-cast)
    stream_.avail_in = static_cast<uInt>(bytes.size());
    for (;;) {
      if (between_members_) {
        if (stream_.avail_in == 0) return {};
        ::inflateReset(&stream_);
        between_members_ = false;
      }
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      const int answer = ::inflate(&stream_, Z_NO_FLUSH);
      if (answer != Z_OK && answer != Z_STREAM_END && answer != Z_BUF_ERROR) {
        return refused(seen_member_ ? "has trailing bytes behind the gzip stream"
                                    : "is no valid gzip stream");
      }
      const auto got = out_.size() - stream_.avail_out;
      if (auto fine = into.take({out_.data(), got}); !fine) return fine;
      if (answer == Z_STREAM_END) {
        between_members_ = true;
        seen_member_ = true;
        continue;
      }
      if (stream_.avail_in == 0 && stream_.avail_out != 0) return {};
      if (answer == Z_BUF_ERROR && got == 0) return {};
    }
  }
  Status end() override {
    return between_members_ ? Status{} : Status{refused("ends in the middle of the gzip stream")};
  }

private:
  z_stream stream_{};
  bool ready_ = false;
  bool between_members_ = false;
  bool seen_member_ = false;
  std::array<char, 128UL << 10> out_{};
};

class Zstd final : public Decompressor {
public:
  Zstd() : stream_{::ZSTD_createDStream()} {}
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  ~Zstd() override { ::ZSTD_freeDStream(stream_); }

  Status feed(std::string_view bytes, Expanded& into) override {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const auto before = in.pos;
      const auto answer = ::ZSTD_decompressStream(stream_, &out, &in);
      if (::ZSTD_isError(answer) != 0U) {
        return refused(std::string{"is no valid zstd stream: "} + ::ZSTD_getErrorName(answer));
      }
      if (auto fine = into.take({out_.data(), out.pos}); !fine) return fine;
      if (in.pos != before || out.pos != 0) whole_ = answer == 0;
      if (in.pos == in.size && out.pos < out.size) return {};
    }
  }
  Status end() override {
    return whole_ ? Status{} : Status{refused("ends in the middle of the zstd stream")};
  }

private:
  ZSTD_DStream* stream_;
  bool whole_ = false;
  std::array<char, 128UL << 10> out_{};
};

std::unique_ptr<Decompressor> make_decompressor(Compression compression) {
  switch (compression) {
  case Compression::none:
    return std::make_unique<Plain>();
  case Compression::gzip:
    return std::make_unique<Gzip>();
  case Compression::zstd:
    return std::make_unique<Zstd>();
  }
  return nullptr; // unreachable: every enumerator returns above
}

struct LayerContent {
  Digest diff_id;
  std::uint64_t expanded = 0;
};

// Reads a layer once: its digest and its diff id. Constant memory.
Result<LayerContent> verified_content(const Layout& layout, const Descriptor& layer,
                                      Compression compression, std::uint64_t max_expanded) {
  auto fd = layout.open_blob(layer.digest);
  if (!fd) return std::move(fd).error();
  Hasher raw;
  Expanded expanded{max_expanded};
  const auto decompressor = make_decompressor(compression);
  std::vector<char> chunk(128UL << 10);
  std::uint64_t size = 0;
  for (;;) {
    const ssize_t got = ::read(fd->get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno, layer.digest.str());
    if (got == 0) break;
    const std::string_view bytes{chunk.data(), static_cast<std::size_t>(got)};
    size += bytes.size();
    if (size > layer.size) break;
    raw.update(bytes);
    if (auto fine = decompressor->feed(bytes, expanded); !fine) return std::move(fine).error();
  }
  if (size != layer.size) return refused("has not the size of its descriptor");
  if (raw.finish() != layer.digest) return refused("has other bytes than its digest names");
  if (auto fine = decompressor->end(); !fine) return std::move(fine).error();
  const auto bytes = expanded.size();
  return LayerContent{expanded.finish(), bytes};
}

} // namespace

class TreeVerifier {
public:
  TreeVerifier(const Layout& layout, std::uint64_t max_expanded, const KnownLayers* memory)
      : layout_{layout}, max_expanded_{max_expanded}, memory_{memory} {}

  Status verify_image(const ImageTree::Image& image) {
    const auto& layers = image.manifest.layers;
    const auto& diff_ids = image.config->diff_ids;
    if (layers.size() != diff_ids.size()) {
      return refused("has " + std::to_string(layers.size()) + " layers, its config names " +
                     std::to_string(diff_ids.size()) + " diff ids");
    }
    // A scanner finds a layer by its diff id, first match: a second, other layer under the same id
    // would never be read.
    std::map<Digest, Digest> layer_of_diff_id;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto [known, fresh] = layer_of_diff_id.emplace(diff_ids[i], layers[i].digest);
      if (!fresh && known->second != layers[i].digest) {
        return refused("names diff id " + diff_ids[i].str() + " for two different layers, " +
                       known->second.str() + " and " + layers[i].digest.str());
      }
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto where = "layer " + std::to_string(i + 1) + " (" + layers[i].digest.str() + ") ";
      const auto compression = layer_compression(layers[i].media_type);
      if (!compression) {
        if (layers[i].media_type.find("foreign") != std::string::npos ||
            layers[i].media_type.find("nondistributable") != std::string::npos) {
          return refused(where +
                         "is of a type that must not be distributed: " + layers[i].media_type);
        }
        return refused(where + "is of an unknown type: " + layers[i].media_type);
      }
      const auto key = std::pair{layers[i].digest, layers[i].media_type};
      auto known = diff_id_of_.find(key);
      if (known == diff_id_of_.end()) {
        auto remembered =
            memory_ == nullptr ? std::nullopt : memory_->diff_id(layers[i], max_expanded_);
        if (remembered) {
          if (auto size = layout_.blob_size(layers[i].digest); !size || *size != layers[i].size)
            return refused(where + "has not the size of its descriptor");
          known = diff_id_of_.emplace(key, *std::move(remembered)).first; // bytes: verify_bytes
        } else {
          auto real = verified_content(layout_, layers[i], *compression, max_expanded_);
          if (!real) {
            if (real.error().kind == ErrorKind::bad_input)
              return refused(where + real.error().what);
            return std::move(real).error().in(where);
          }
          hashed_.insert(layers[i].digest);
          if (memory_ != nullptr) memory_->remember(layers[i], real->diff_id, real->expanded);
          known = diff_id_of_.emplace(key, std::move(real->diff_id)).first;
        }
      }
      if (known->second != diff_ids[i]) {
        return refused(where + "expands to " + known->second.str() + ", the config says " +
                       diff_ids[i].str());
      }
    }
    return {};
  }

  Status verify_bytes(const Descriptor& blob) {
    if (!hashed_.insert(blob.digest).second) return {};
    auto fd = layout_.open_blob(blob.digest);
    if (!fd) return std::move(fd).error();
    auto real = digest_of_fd(fd->get());
    if (!real) return std::move(real).error().in(blob.digest.str());
    if (*real != blob.digest)
      return refused("blob " + blob.digest.str() + " has other bytes than its digest names");
    return {};
  }

private:
  const Layout& layout_;
  std::uint64_t max_expanded_;
  const KnownLayers* memory_;
  std::map<std::pair<Digest, std::string>, Digest> diff_id_of_;
  std::set<Digest> hashed_;
};

std::filesystem::path KnownLayers::file_of(const Descriptor& layer) const {
  return dir_ / Digest::of(std::string{kKnownLayersVersion} + "\n" + layer.digest.str() + "\n" +
                           layer.media_type)
                    .hex();
}

std::optional<Digest> KnownLayers::diff_id(const Descriptor& layer,
                                           std::uint64_t max_expanded) const {
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
  return *std::move(digest);
}

void KnownLayers::remember(const Descriptor& layer, const Digest& diff_id,
                           std::uint64_t expanded) const {
  // Best effort: what is not remembered is read again.
  if (make_directory(dir_, 0700))
    (void)replace_file(file_of(layer), diff_id.str() + " " + std::to_string(expanded)).ok();
}

void KnownLayers::learn(const Layout& layout, const Descriptor& layer,
                        std::uint64_t max_expanded) const {
  const auto compression = layer_compression(layer.media_type);
  if (!compression || diff_id(layer, max_expanded)) return;
  auto real = verified_content(layout, layer, *compression, max_expanded);
  if (real) remember(layer, real->diff_id, real->expanded);
}

Result<ImageTree> read_tree(const Layout& layout, const Digest& root) {
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
                 .blobs = {}};
  if (auto done = TreeReader{layout, tree}.read(descriptor, 0); !done) {
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

Status verify_tree(const Layout& layout, const ImageTree& tree, std::uint64_t max_expanded,
                   const KnownLayers* known) {
  TreeVerifier verifier{layout, max_expanded, known};
  for (const auto& image : tree.images) {
    if (!image.config) continue;
    if (auto fine = verifier.verify_image(image); !fine) {
      return std::move(fine).error().in("verifying image " + image.descriptor.digest.str());
    }
  }
  for (const auto& blob : tree.blobs) {
    if (auto fine = verifier.verify_bytes(blob); !fine) {
      return std::move(fine).error().in("verifying " + tree.root.str());
    }
  }
  return {};
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
