// SPDX-License-Identifier: Apache-2.0
// Where one build of Buildah or Podman runs: a sandbox on the store of its project and trust
// domain.
#pragma once

#include "executor/base/result.hpp"
#include "executor/sandbox/programs.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace slipway::backends::buildah {

/// A sandbox made for one build. Its end removes it, with everything that runs in it, and gives the
/// store to the next build.
class Workshop {
public:
  Workshop() = default;
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;
  virtual ~Workshop() = default;
  /// Runs a program in it.
  virtual const sandbox::ScriptRunner& run() const = 0;
  /// Shared where subordinate ids do not suffice.
  virtual const sandbox::IdSlot& ids() const = 0;
  /// The build before this one did not come to its end: it may have left things in the store.
  virtual bool was_cut_short() const = 0;
  /// The build has come to its end, whatever that was; the store has so many bytes now.
  virtual void finished(std::uint64_t bytes) = 0;
  /// The store does not work as it should: it is removed at the end.
  virtual void spoil() = 0;
};

/// Opens one: waits where another build has the store (`waiting` is called once then). Errors: as
/// StorePool::open.
using OpenWorkshop = std::function<Result<std::unique_ptr<Workshop>>(
    bool network, const sandbox::BuildClock& clock, const std::function<void()>& waiting)>;

} // namespace slipway::backends::buildah
