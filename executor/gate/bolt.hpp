// SPDX-License-Identifier: Apache-2.0
// Reads bbolt files: whether there is a top-level bucket with something in it (Trivy answers "no
// vulnerabilities" for a release that its DB does not know, so somebody has to look), and the whole
// of it before a new one is taken. Every offset and count of the file is checked; a query reads a
// few pages, whatever its size. Source: go.etcd.io/bbolt v1.4.3, internal/common (page, meta,
// inode, bucket).
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

class BoltFile {
public:
  /// Errors: not_found; bad_input (no bbolt file, or of another version); io.
  static Result<BoltFile> open(const std::filesystem::path& file);
  /// True where a bucket of this name has at least one entry. Errors: bad_input (a page is not what
  /// its parent says); io.
  Result<bool> has_bucket(std::string_view name) const;

  /// The names of all top-level buckets, in order. Errors: bad_input; io.
  Result<std::vector<std::string>> buckets() const;

  /// Told of one entry: the buckets that it lies in, the outermost first, its key and its value.
  using Visit = std::function<Status(const std::vector<std::string>& buckets, std::string_view key,
                                     std::string_view value)>;
  /// Reads every page of the tree and tells each entry that is no bucket, in the order of the keys.
  /// Errors: bad_input (a page is not what its parent says, is used twice, or holds keys where no
  /// search finds them; nested too deep); io; those of `visit`.
  Status walk(const Visit& visit) const;

  /// Told of one entry, as Visit; false ends the search.
  using Look = std::function<bool(const std::vector<std::string>& buckets, std::string_view key,
                                  std::string_view value)>;
  /// The same for what lies in one top-level bucket; where there is none nothing is told. Errors:
  /// as walk.
  Status search(std::string_view bucket, const Look& look) const;

private:
  class Walk;
  BoltFile(UniqueFd fd, std::uint64_t size, std::uint32_t page_size, std::uint64_t root)
      : fd_{std::move(fd)}, size_{size}, page_size_{page_size}, root_{root} {}
  Result<std::string> read_page(std::uint64_t id) const;
  /// The value of a top-level bucket: where its entries are. None: there is no such bucket.
  Result<std::optional<std::string>> find_bucket(std::string_view name) const;
  struct Names;
  Status add_names(std::uint64_t page, Names& names) const;
  UniqueFd fd_;
  std::uint64_t size_;
  std::uint32_t page_size_;
  std::uint64_t root_; ///< page of the top-level bucket
};

} // namespace slipway::gate
