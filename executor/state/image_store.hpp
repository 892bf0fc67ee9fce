// SPDX-License-Identifier: Apache-2.0
// The images that a job has: an OCI layout for the bytes and one file for the names.
// - A name is of one image at a time; an image may have many names or none.
// - Whoever reads the names file sees the state before or after a change, also after a crash.
// - Blobs go away with the last image that uses them.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace slipway::state {

constexpr std::size_t kMaxStoredImages = 4096;
constexpr std::size_t kMaxNamesPerImage = 1024;
constexpr std::size_t kMaxNamesBytes = 16UL << 20;
/// Of the manifests and configs of all images: whoever lists them reads each.
constexpr std::uint64_t kMaxDescriptionBytes = 64ULL << 20;

struct StoredImage {
  oci::Digest manifest_digest; ///< of the root: a manifest or an index
  oci::Digest image_id;        ///< config digest of the host platform's image, else of the first
  std::vector<oci::Reference> tags;
  std::vector<std::string> repo_digests; ///< "reg/app@sha256:…"
  std::uint64_t size = 0;                ///< sum of the layers as stored
  std::vector<std::uint64_t> layer_sizes;
  std::string config_json;
  oci::ImageConfig config;
  std::string media_type = oci::kMediaTypeOciManifest; ///< of the root
};

/// One job's images. Calls may come from several threads and, guarded by a lock file, processes.
class ImageStore {
public:
  /// Opens the store in DIR, making it (0700) where there is none. Errors: io; bad_input (the names
  /// file cannot be read).
  static Result<ImageStore> open(const std::filesystem::path& dir);

  /// Where builds, pulls and loads put blobs before `add`.
  oci::Layout& layout() noexcept { return layout_; }
  const oci::Layout& layout() const noexcept { return layout_; }

  /// Makes the image below `root` known and gives it the tags, taking them from whoever had them.
  /// Adding a known image adds the tags. Errors: denied (a limit); bad_input, not_found (a blob is
  /// missing: put the blobs again and add again, another request's removal may have taken them).
  Result<StoredImage> add(const oci::Digest& root, const std::vector<oci::Reference>& tags);
  /// Gives the image that `source` names (as in `find`) one more tag. Errors: as find.
  Status tag(const std::string& source, const oci::Reference& target);
  /// Notes under which registry name the image is known by digest ("reg/app@sha256:…").
  /// Errors: not_found.
  Status note_repo_digest(const oci::Digest& manifest_digest, const std::string& repo_digest);

  /// By reference, image ID (whole or prefix, with or without sha256:), manifest digest or repo
  /// digest. Errors: not_found; bad_input (ambiguous prefix).
  Result<StoredImage> find(const std::string& name) const;
  /// Newest last added first. Of the configs it gives what a list shows, `platform`, `created` and
  /// `labels`, and no `config_json`: of thousands of images the whole would not fit into memory.
  Result<std::vector<StoredImage>> list() const;

  /// What `docker rmi` does and prints: a name goes ("Untagged: …"); the image goes with its last
  /// name ("Deleted: …"). Removal by ID takes all names of one repository, and of several only with
  /// `force`. Errors: not_found; bad_input (ambiguous); denied (several repositories, no force).
  Result<std::vector<std::string>> remove(const std::string& name, bool force);

  /// A test makes it small.
  std::uint64_t max_description_bytes = kMaxDescriptionBytes;

private:
  struct Record;
  struct Names;
  struct Guard;
  struct Shared {
    std::mutex mutex;
    UniqueFd lock_file;
  };

  ImageStore(std::filesystem::path dir, oci::Layout layout, std::unique_ptr<Shared> shared)
      : dir_{std::move(dir)}, layout_{std::move(layout)}, shared_{std::move(shared)} {}

  Result<Names> read_names() const;
  Status write_names(const Names& names);
  Result<StoredImage> load(const Record& record) const;
  static Result<std::size_t> locate(const Names& names, const std::string& name);
  void delete_blobs(const oci::Digest& root, const Names& left);

  std::filesystem::path dir_;
  oci::Layout layout_;
  std::unique_ptr<Shared> shared_;
};

} // namespace slipway::state
