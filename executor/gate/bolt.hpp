// SPDX-License-Identifier: Apache-2.0
// Reads just enough of a bbolt file to tell whether it has a top-level bucket with something in it.
// Trivy answers "no vulnerabilities" for a release that its DB does not know, so somebody has to
// look. Every offset and count of the file is checked; a query reads a few pages, whatever its
// size. Source: go.etcd.io/bbolt v1.4.3, internal/common (page, meta, inode, bucket).
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace slipway::gate {

class BoltFile {
public:
  /// Errors: not_found; bad_input (no bbolt file, or of another version); io.
  static Result<BoltFile> open(const std::filesystem::path& file);
  /// True where a bucket of this name has at least one entry. Errors: bad_input (a page is not what
  /// its parent says); io.
  Result<bool> has_bucket(std::string_view name) const;

private:
  BoltFile(UniqueFd fd, std::uint64_t size, std::uint32_t page_size, std::uint64_t root)
      : fd_{std::move(fd)}, size_{size}, page_size_{page_size}, root_{root} {}
  Result<std::string> read_page(std::uint64_t id) const;
  UniqueFd fd_;
  std::uint64_t size_;
  std::uint32_t page_size_;
  std::uint64_t root_; ///< page of the top-level bucket
};

} // namespace slipway::gate
