// SPDX-License-Identifier: Apache-2.0
// What the broker's HTTP edge needs of a job's container engine. Implemented in stages/image, faked
// in the broker's tests. All calls may come from several threads at once.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/broker/container_policy.hpp"

namespace slipway::broker {

class ContainerService {
public:
  virtual ~ContainerService() = default;
  /// Errors: denied (the policy allows this job no containers; names the key).
  virtual Status may_run() = 0;
  /// A new connection (non-blocking) to the Engine API of the job's own engine, which is started
  /// where it does not run yet. Errors: those of may_run; unavailable, misconfigured (it does not
  /// start).
  virtual Result<UniqueFd> connect() = 0;
  /// False where nothing has needed an engine yet: then there is nothing in it.
  virtual bool is_started() = 0;
  /// N of the newest API 1.N that the engine speaks, whether it runs yet or not; kOldestApi or
  /// more.
  virtual unsigned api() { return kOldestApi; }
  virtual const ContainerRules& rules() const = 0;
};

} // namespace slipway::broker
