// SPDX-License-Identifier: Apache-2.0
// What the gate knows about attacks on what was found: reads the operator's KEV and EPSS files for
// one judgement. A file that policy asks for and that cannot be used denies.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/gate/bench.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/threat_files.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::gate {

class Threats {
public:
  /// `policy` outlives this.
  Threats(const ThreatPolicy& policy, WallTime now);

  /// Opens what policy asks for, and says to `bench` until when it may be used. False where that
  /// was denied: the judgement ends.
  bool is_ready(Bench& bench);
  /// Differs whenever a byte of the data does. After is_ready().
  std::string identity() const { return identity_; }
  /// Tells the findings what the data says about them. False where the data cannot be used, which
  /// was denied: the judgement ends. Memory: that of the findings; the scores are read as a stream.
  bool annotate(Bench& bench, std::vector<Finding>& findings);

private:
  bool open_kev(Bench& bench);
  bool open_epss(Bench& bench);
  bool judge_age(Bench& bench, const std::string& name, WallTime of, std::chrono::seconds most);
  const ThreatPolicy& policy_;
  WallTime now_;
  std::optional<KevCatalogue> kev_;
  UniqueFd epss_;
  std::string epss_digest_;
  std::string identity_;
};

} // namespace slipway::gate
