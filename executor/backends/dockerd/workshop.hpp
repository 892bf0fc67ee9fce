// SPDX-License-Identifier: Apache-2.0
// Where one build of Docker's builder runs: a sandbox that holds a daemon of this build alone.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/programs.hpp"

#include <functional>
#include <memory>

namespace slipway::backends::dockerd {

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

/// Opens one; without a network where that is false. Errors: as open_builder.
using OpenWorkshop = std::function<Result<std::unique_ptr<Workshop>>(bool network)>;

} // namespace slipway::backends::dockerd
