// SPDX-License-Identifier: Apache-2.0
// Inside the push worker: the right to push one digest to one repository. The gate's ScanPass is
// made in another process; what it says travels in the request, and only a request whose pass
// covers exactly what it asks for becomes a PushPermit. Minting and pushing demand one.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/oci/digest.hpp"

#include <string>

namespace slipway::credentials {

class PushPermit {
public:
  /// Errors: denied (the pass is for another digest or repository, or is over); bad_input.
  static Result<PushPermit> from(const engine_api::PushRequest& request, const Clock& clock);

  const oci::Digest& digest() const noexcept { return digest_; }
  const std::string& host() const noexcept { return host_; }
  const std::string& repository() const noexcept { return repository_; } ///< "grp/app"
  WallTime expires_at() const noexcept { return expires_at_; }
  /// To be asked before whatever the permit is for: a push may go on for longer than its pass.
  /// Errors: denied (it is over).
  Status check(const Clock& clock) const;

private:
  PushPermit(oci::Digest digest, std::string host, std::string repository, WallTime expires_at)
      : digest_{std::move(digest)}, host_{std::move(host)}, repository_{std::move(repository)},
        expires_at_{expires_at} {}
  oci::Digest digest_;
  std::string host_;
  std::string repository_;
  WallTime expires_at_;
};

} // namespace slipway::credentials
