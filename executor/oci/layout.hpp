// SPDX-License-Identifier: Apache-2.0
// An OCI image layout directory: oci-layout, index.json, blobs/sha256/. The broker owns every
// layout that it judges or pushes. Files in it are regular files of mode 0444 in folders of mode
// 0755, so that a sandbox with other ids can read them through a bind mount; what keeps them
// private is the parent folder (0700), which the caller makes. Source: OCI image-spec,
// image-layout.md.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/manifest.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace slipway::oci {

/// A blob on its way into a layout: hashed as it is written, and gone with this object unless it is
/// finished.
class BlobWriter {
public:
  BlobWriter(BlobWriter&&) noexcept;
  BlobWriter& operator=(BlobWriter&&) = delete;
  ~BlobWriter();
  /// Errors: io; it has no finish afterwards.
  Status write(std::string_view bytes);
  std::uint64_t size() const noexcept;
  /// Gives it its name in the layout, once. Errors: bad_input (other bytes than `expected` names:
  /// it is gone then); io.
  Status finish(const Digest& expected);

private:
  friend class Layout;
  struct State;
  explicit BlobWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// One layout directory, held by a descriptor so that a renamed or replaced path changes nothing.
class Layout {
public:
  /// Opens an existing layout. Errors: not_found; bad_input (no or wrong oci-layout file).
  static Result<Layout> open(const std::filesystem::path& dir);
  /// Makes DIR (0755, see above) a layout where it is none yet, keeps it otherwise. Errors: io;
  /// bad_input (DIR is a layout of another version).
  static Result<Layout> create(const std::filesystem::path& dir);

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path blob_path(const Digest& digest) const;
  bool has_blob(const Digest& digest) const;
  /// With so many bytes. In a layout that outlives its machine's power a blob may be cut off: what
  /// is written anew takes its place.
  bool has_blob(const Digest& digest, std::uint64_t size) const;
  /// The blobs that are there, `most` at most, in no order. Errors: io.
  Result<std::vector<Digest>> blobs(std::size_t most) const;
  /// Size in bytes. Errors: not_found; bad_input (not a regular file: links are refused).
  Result<std::uint64_t> blob_size(const Digest& digest) const;
  /// Opens for reading, O_NOFOLLOW, regular files only. Errors: not_found; bad_input; io.
  Result<UniqueFd> open_blob(const Digest& digest) const;
  /// Reads whole and verifies the digest. Errors: as open_blob; bad_input (too large, wrong bytes).
  Result<std::string> read_blob(const Digest& digest, std::size_t limit) const;
  /// Stores bytes; a blob already there is kept where it is as long. Errors: io.
  Result<Digest> write_blob(std::string_view bytes);
  /// Stores a stream of exactly `size` bytes that must have `expected`'s digest; nothing is left
  /// behind on failure. `source` fills a buffer and returns the bytes put there, 0 at the end; it
  /// is asked once more after the last byte, so one cut out of a longer stream has to count for
  /// itself. Errors: bad_input (short, long, other digest); io; those of `source`.
  using Source = std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>;
  Status write_blob_stream(const Digest& expected, std::uint64_t size, const Source& source);
  /// A blob whose digest and size are known at its end only. The layout outlives the writer.
  /// Errors: io.
  Result<BlobWriter> begin_blob();
  /// Hard-links a blob of another layout where that is ours and readable for all, else copies it.
  /// Errors: not_found; bad_input (not a regular file; a copy with wrong bytes); io.
  Status link_blob(const Layout& from, const Digest& digest);

  /// index.json's descriptors. Errors: bad_input; not_found.
  Result<std::vector<Descriptor>> index() const;
  /// Replaces index.json. Errors: io.
  Status write_index(const std::vector<Descriptor>& descriptors);

private:
  Layout(std::filesystem::path path, UniqueFd blobs)
      : path_{std::move(path)}, blobs_{std::move(blobs)} {}
  std::filesystem::path path_;
  UniqueFd blobs_; ///< blobs/sha256
};

/// Everything that a manifest or index digest stands for, read and digest-checked.
struct ImageTree {
  Digest root;
  std::string root_media_type;
  std::uint64_t root_size = 0;
  struct Image {
    Descriptor descriptor; ///< of the manifest, as its parent names it
    Manifest manifest;
    std::optional<ImageConfig> config; ///< none for attestations and other non-images
    bool is_attestation = false;       ///< in-toto layers only, and annotated as such
    bool called_attestation = false;   ///< annotated as such, whatever else it is
  };
  std::vector<Image> images;         ///< every manifest below root, in order
  std::vector<Digest> index_digests; ///< indexes below and including root
  /// Of those: each that calls itself more than a list, and how.
  std::vector<std::pair<Digest, std::string>> odd_indexes;
  /// All blobs (manifests, indexes, configs, layers), each once, children before parents.
  std::vector<Descriptor> blobs;
};

/// Reads the tree below `root` (at most 64 manifests, two levels of index). Digests of manifests,
/// indexes and configs are verified, layers are not read. Errors: not_found; bad_input, of which
/// `flaw` (may be null) is told the kind.
Result<ImageTree> read_tree(const Layout& layout, const Digest& root, Flaw* flaw = nullptr);

struct LayerContent; // layer.hpp

/// What layers expand to, kept in a folder of ours. A layer's digest says all about its bytes, so
/// what was found once holds for every layer of that digest and type; that a file has these bytes
/// is verified each time all the same.
class KnownLayers {
public:
  /// DIR is made when something is remembered first.
  explicit KnownLayers(std::filesystem::path dir) : dir_{std::move(dir)} {}
  const std::filesystem::path& dir() const noexcept { return dir_; }
  /// The diff id; none where it is not known, or expands to more than `max_expanded` bytes.
  std::optional<Digest> diff_id(const Descriptor& layer, std::uint64_t max_expanded) const;
  /// Reads the layer now, so that verify_tree need not expand it. What is wrong with it is
  /// verify_tree's to say.
  void learn(const Layout& layout, const Descriptor& layer, std::uint64_t max_expanded) const;
  /// Remembers what a LayerReader proved, where there is nothing odd about it.
  void note(const Descriptor& layer, const LayerContent& content) const;

private:
  friend class TreeVerifier;
  std::optional<std::pair<Digest, std::uint64_t>> recall(const Descriptor& layer,
                                                         std::uint64_t max_expanded) const;
  std::filesystem::path file_of(const Descriptor& layer) const;
  std::filesystem::path dir_;
};

/// What verify_tree demands.
struct VerifyRules {
  std::uint64_t max_layer = 20UL << 30; ///< bytes that one layer may expand to
  std::uint64_t max_image = 60UL << 30; ///< bytes that the layers of one image may expand to
  const KnownLayers* known = nullptr;   ///< saves expanding a layer twice
  std::set<Flaw> tolerated;             ///< of lazy_layer and hidden_bytes: told, not refused
  std::set<Digest> artifacts = {};      ///< manifests that were found to be no images
};

/// What was tolerated, with words that name image and layer.
using Tolerated = std::vector<std::pair<Flaw, std::string>>;

/// Verifies every blob's size and digest and every layer's diff id (gzip, zstd or plain), in
/// constant memory. Refuses what would let somebody read other bytes than these: one diff id on
/// unequal layers, `urls`, encrypted and unknown layer types, indexes for lazy pulling, bytes of a
/// compressed stream that the diff id does not cover, attestations that are none; and expansion
/// beyond the limits. Errors: bad_input, naming image and layer, of which `flaw` (may be null) is
/// told the kind; not_found; io.
Result<Tolerated> verify_tree(const Layout& layout, const ImageTree& tree, const VerifyRules& rules,
                              Flaw* flaw = nullptr);

/// The same without any tolerance, and no limit for the whole image.
Status verify_tree(const Layout& layout, const ImageTree& tree, std::uint64_t max_layer,
                   const KnownLayers* known = nullptr);

/// The image of `wanted`'s platform below root (the only one, if there is just one). Errors:
/// not_found.
Result<ImageTree::Image> select_platform(const ImageTree& tree, const Platform& wanted);

} // namespace slipway::oci
