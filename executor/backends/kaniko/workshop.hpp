// SPDX-License-Identifier: Apache-2.0
// Where one build of Kaniko runs: a sandbox whose root becomes the image.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/programs.hpp"

#include <filesystem>
#include <functional>
#include <memory>

namespace slipway::backends::kaniko {

/// A sandbox made for one build. Its end removes it, with everything that runs in it.
class Workshop {
public:
  Workshop() = default;
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;
  virtual ~Workshop() = default;
  /// Runs a program in it.
  virtual const sandbox::ScriptRunner& run() const = 0;
};

/// Fills the folder that the sandbox has at Places::inputs, read-only and before it starts.
using FillInputs = std::function<Status(const std::filesystem::path& folder)>;

/// Opens one. Errors: as WorkshopPool::open.
using OpenWorkshop = std::function<Result<std::unique_ptr<Workshop>>(const FillInputs& fill)>;

} // namespace slipway::backends::kaniko
