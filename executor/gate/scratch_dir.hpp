// SPDX-License-Identifier: Apache-2.0
// A private folder that is gone with its owner. Its name says whose it is, for what a dead one
// left.
#pragma once

#include "executor/base/result.hpp"

#include <filesystem>

namespace slipway::gate {

class ScratchDir {
public:
  /// Makes one in `parent`, and that where it is missing. Errors: io.
  static Result<ScratchDir> under(const std::filesystem::path& parent);
  ScratchDir(ScratchDir&& other) noexcept;
  ScratchDir& operator=(ScratchDir&&) = delete;
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir();
  const std::filesystem::path& path() const { return path_; }

private:
  explicit ScratchDir(std::filesystem::path path) : path_{std::move(path)} {}
  std::filesystem::path path_;
};

} // namespace slipway::gate
