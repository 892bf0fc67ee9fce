// SPDX-License-Identifier: Apache-2.0
// The job's own container engine as the broker asks for it: by policy, on first use, once.
#pragma once

#include "executor/broker/container_service.hpp"
#include "executor/policy/policy.hpp"
#include "executor/state/job_record.hpp"
#include "stages/image/images.hpp"

#include <filesystem>
#include <mutex>

namespace slipway::image {

class JobContainers final : public broker::ContainerService {
public:
  JobContainers(const Tools& tools, const state::JobRecord& record,
                const policy::Effective& effective);

  Status may_run() override;
  Result<UniqueFd> connect() override;
  bool is_started() override;
  unsigned api() override;
  const broker::ContainerRules& rules() const override { return rules_; }

private:
  Status start();

  const Tools& tools_;
  const state::JobRecord& record_;
  const policy::Effective& effective_;
  std::filesystem::path folder_;
  broker::ContainerRules rules_;
  std::mutex starting_;
  int starts_ = 0; ///< since the script began; under starting_
};

/// Connects (non-blocking) to a socket that a sandbox made: what is no socket, a link to another
/// one for instance, is refused. Errors: unavailable.
Result<UniqueFd> connect_to_sandbox(const std::filesystem::path& socket);

} // namespace slipway::image
