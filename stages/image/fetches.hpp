// SPDX-License-Identifier: Apache-2.0
// What a build names behind an address, fetched for a job whose image has no program for it: by
// the host's own git or curl in a sandbox that
//   - has the job's ids and is in the job's own network namespace: it reaches what the job reaches,
//     by the job's egress rule, and nothing more;
//   - has no privilege, and no capability that the job's sandbox has not;
//   - holds the job's workspace, the host's /usr read-only, and no credential: a login comes with
//     each call, from the job;
//   - ends with the job.
// slipway itself reads nothing of what is fetched: it hands it on.
#pragma once

#include "executor/broker/fetch_service.hpp"
#include "executor/sandbox/programs.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/state/job_record.hpp"
#include "stages/image/images.hpp"

#include <filesystem>
#include <mutex>
#include <string>

namespace slipway::image {

struct FetchParts {
  std::string job;   ///< value of the label io.slipway.job
  std::string owner; ///< of io.slipway.owner
  std::string container;
  std::string joins; ///< the job's sandbox
  sandbox::IdSlot ids;
  sandbox::Limits limits;
  std::string workspace_volume;
  std::string workspace; ///< where that is, as in the job
  std::filesystem::path init;
  std::filesystem::path shim;
};

/// The sandbox, without its root (use_host_tools adds that). Pure.
sandbox::SandboxSpec fetch_spec(const FetchParts& parts);

/// The program that an order asks for, from the folder `programs` of the host. Errors: bad_input
/// (none that is lent; a folder or file outside of `workspace`); misconfigured (this host has not
/// got it).
Result<engine_api::ScriptRequest> fetch_request(const broker::FetchOrder& order,
                                                const std::string& workspace,
                                                const std::filesystem::path& programs = "/usr/bin");

class JobFetches final : public broker::FetchService {
public:
  /// All is lent.
  JobFetches(const Tools& tools, const state::JobRecord& record);

  Result<int> run(const broker::FetchOrder& order, const broker::SessionStreams& streams) override;
  Status context(const broker::RemoteContext& wanted, const Use& use,
                 const broker::Cancelled& cancelled) override;

private:
  /// Errors: unavailable (it ended too often); those of Podman.
  Status open();
  bool answers() const;

  const Tools& tools_;
  const state::JobRecord& record_;
  std::filesystem::path socket_;
  sandbox::ScriptRunner runner_;
  std::mutex opening_;
  int starts_ = 0; ///< since the script began; under opening_
};

} // namespace slipway::image
