// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/scratch_dir.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/scan_owner.hpp"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>

namespace slipway::gate {

Result<ScratchDir> ScratchDir::under(const std::filesystem::path& parent) {
  if (auto made = make_directory(parent, 0700); !made) return std::move(made).error();
  std::string path = (parent / (scratch_name_begin() + "XXXXXX")).string();
  if (::mkdtemp(path.data()) == nullptr) return io_error("mkdtemp", errno, path);
  return ScratchDir{std::move(path)};
}

ScratchDir::ScratchDir(ScratchDir&& other) noexcept : path_{std::exchange(other.path_, {})} {}

ScratchDir::~ScratchDir() {
  std::error_code ignored; // the next sweep of the cache folder gets what is left
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

} // namespace slipway::gate
