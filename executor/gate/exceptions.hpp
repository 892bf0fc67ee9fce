// SPDX-License-Identifier: Apache-2.0
// What the operator has put up with, as far as it concerns one judgement: waivers for findings,
// allowances for rows of the fail-closed table, the grace of young findings, and what policy owners
// say in OpenVEX.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/vex.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::gate {

class Exceptions {
public:
  /// Keeps what may concern `repository` ("" = by hand: nothing that names repositories does) at
  /// `now`. What is over or ends too far ahead is kept to be named, and lifts nothing. Reads the
  /// documents of `policy.vex`.
  Exceptions(const GatePolicy& policy, const std::string& repository, WallTime now);

  /// Decides whether a finding of an image blocks: sets `blocks`, `waived` and `note`. Gives the
  /// time at which the decision ends, where it let the finding pass and ends.
  std::optional<WallTime> decide(Finding& finding, const ImageNames& image) const;

  /// The allowance that lifts this denial; null where there is none. Where one is over, `note` says
  /// so.
  const config::Allowance* allowance(const std::string& code, std::string& note) const;
  bool has_allowance(const std::string& code) const;

  /// Why no OpenVEX document counts; none where all do.
  const std::vector<std::string>& complaints() const { return vex_.complaints(); }

  /// What is live, for the key of a remembered verdict and the digest of the policy.
  std::string fingerprint() const;

private:
  enum class State { live, over, too_far };
  State state_of(WallTime expires) const;
  const GatePolicy& policy_;
  std::string repository_;
  WallTime now_;
  Vex vex_;
  std::vector<config::Waiver> waivers_;
  std::vector<config::Allowance> allowances_;
};

/// "2027-01-31"
std::string day_of(WallTime time);

} // namespace slipway::gate
