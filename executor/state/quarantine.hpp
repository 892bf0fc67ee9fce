// SPDX-License-Identifier: Apache-2.0
// What a job's registry clients sent and nobody has judged yet: blobs and manifests in an OCI
// layout of the job's own, and uploads that are under way.
// - Every digest is computed here, from the bytes that were written.
// - An upload belongs to the repository that it was begun for; its id is a random number, and is
//   looked up, never made a path.
// - What it may hold is limited: bytes, blobs, uploads, and the disk that has to stay free.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::state {

struct QuarantineLimits {
  std::uint64_t bytes = 20UL << 30; ///< of all blobs and uploads together
  std::size_t blobs = 8192;
  std::size_t uploads = 64;     ///< that are under way; one more ends the longest idle one
  std::size_t names = 4096;     ///< of manifests
  std::uint64_t disk_floor = 0; ///< bytes of the file system that stay free
  std::function<std::uint64_t()> free_bytes = {}; ///< of it; unset: as the kernel says
};

/// One job's, from one script to the next. Calls may come from several threads.
class Quarantine {
public:
  using Limits = QuarantineLimits;
  /// Opens the quarantine in DIR, making it (0700) where there is none. Errors: io.
  static Result<std::unique_ptr<Quarantine>> open(const std::filesystem::path& dir,
                                                  const Limits& limits);
  Quarantine(const Quarantine&) = delete;
  Quarantine& operator=(const Quarantine&) = delete;
  ~Quarantine();

  oci::Layout& layout() noexcept { return layout_; }
  const oci::Layout& layout() const noexcept { return layout_; }

  /// Begins an upload; returns its id. Where there are as many as there may be, the one that has
  /// been idle for longest ends: clients that went away do not say so. Errors: denied (a limit; all
  /// are being written to); io.
  Result<std::string> begin(const std::string& repository);
  /// Appends what `source` gives until it returns 0; the upload's size afterwards. Where `offset`
  /// is set it has to be the size before. Errors: not_found (no such upload of this repository);
  /// bad_input (another offset; somebody else is writing to it); denied (a limit); io; those of
  /// `source`: of what came before them nothing is taken back.
  Result<std::uint64_t> append(const std::string& repository, const std::string& id,
                               std::optional<std::uint64_t> offset,
                               const oci::Layout::Source& source);
  /// Errors: not_found.
  Result<std::uint64_t> size_of(const std::string& repository, const std::string& id);
  /// Makes the upload a blob; it ends whatever comes of it. Errors: not_found; bad_input (other
  /// bytes than `digest` names; somebody is writing to it); denied (too many blobs); io.
  Status finish(const std::string& repository, const std::string& id, const oci::Digest& digest);
  /// Errors: not_found.
  Status abandon(const std::string& repository, const std::string& id);

  /// Stores what slipway has whole, a manifest or an SBOM, as a blob. Errors: denied (a limit); io.
  Result<oci::Digest> keep(std::string_view bytes);
  /// Notes that `target` (a tag or a digest) of the repository is this manifest. Errors: denied (a
  /// limit); io.
  Status name(const std::string& repository, const std::string& target, const oci::Digest& digest);
  /// Errors: not_found (the job pushed nothing under that name); io.
  Result<oci::Digest> named(const std::string& repository, const std::string& target) const;
  /// The tags of the repository that are named, in order. Errors: io.
  Result<std::vector<std::string>> tags(const std::string& repository) const;

private:
  struct Upload;
  struct Held;
  Quarantine(std::filesystem::path dir, oci::Layout layout, const Limits& limits);
  /// Errors: not_found; bad_input (another request holds it).
  Result<Held> hold(const std::string& repository, const std::string& id);
  Status take(std::uint64_t bytes);
  void give_back(std::uint64_t bytes);
  Status has_space() const;
  /// Ends the longest idle upload; false: somebody writes to each. Called under mutex_.
  bool make_room();
  std::filesystem::path name_file(const std::string& repository, const std::string& target) const;

  std::filesystem::path dir_;
  oci::Layout layout_;
  Limits limits_;
  std::mutex mutex_; ///< of what follows
  std::map<std::string, std::shared_ptr<Upload>> uploads_;
  std::uint64_t uses_ = 0;  ///< of uploads, so far
  std::uint64_t bytes_ = 0; ///< of blobs and uploads
  std::size_t blobs_ = 0;
  std::size_t names_ = 0;
};

} // namespace slipway::state
