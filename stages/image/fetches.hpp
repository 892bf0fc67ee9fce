// SPDX-License-Identifier: Apache-2.0
// What a build names behind an address, fetched for a job whose image has no program for it: by
// the host's own git or curl in a sandbox that
//   - has the job's ids and is in the job's own network namespace: it reaches what the job reaches,
//     by the job's egress rule, and nothing more;
//   - has no privilege, and no capability that the job's sandbox has not; what runs there has the
//     ids of whoever asks, or those of nobody;
//   - holds the job's workspace, the host's /usr read-only (but /usr/local and /usr/src), and no
//     credential: a login comes with each call, from the job;
//   - has no process but its init while nothing is fetched, and ends with the script.
// slipway itself reads nothing of what is fetched: it hands it on.
#pragma once

#include "executor/broker/fetch_service.hpp"
#include "executor/sandbox/programs.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/state/job_record.hpp"
#include "stages/image/images.hpp"

#include <atomic>
#include <cstdint>
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

/// The ids in the job, "UID:GID", of who asks, by the sandbox's uid_map and gid_map as the host
/// reads them. `init_pid`: of the job's init, which asks for whoever has come to its ports. Errors:
/// denied (that one; nobody whom the host sees; an id of no job's). Source: user_namespaces(7).
/// Pure.
Result<std::string> fetch_user(const broker::Peer& peer, std::int64_t init_pid,
                               const std::string& uid_map, const std::string& gid_map);

/// The program that an order asks for, from the folder `programs` of the host; its user is for the
/// caller to say. Errors: bad_input (none that is lent; a folder or file outside of `workspace`);
/// misconfigured (this host has not got it).
Result<engine_api::ScriptRequest> fetch_request(const broker::FetchOrder& order,
                                                const std::string& workspace,
                                                const std::filesystem::path& programs = "/usr/bin");

/// What the request prints, for as long as it does and whoever reads it wants it: FetchService's
/// `context` with `runner` for a sandbox. `words`: its input.
Status take_context(const sandbox::ScriptRunner& runner, const engine_api::ScriptRequest& request,
                    const std::string& words, const broker::FetchService::Use& use,
                    const broker::Cancelled& cancelled);

class JobFetches final : public broker::FetchService {
public:
  /// All is lent. `runner`: the sandbox's own where it is empty. What a script that was killed has
  /// left running is removed.
  JobFetches(const Tools& tools, const state::JobRecord& record, sandbox::ScriptRunner runner = {});
  JobFetches(const JobFetches&) = delete;
  JobFetches& operator=(const JobFetches&) = delete;
  /// Removes the sandbox.
  ~JobFetches() override;

  Result<int> run(const broker::FetchOrder& order, const broker::SessionStreams& streams) override;
  Status context(const broker::RemoteContext& wanted, const Use& use,
                 const broker::Cancelled& cancelled) override;

private:
  class Turn;

  /// Errors: denied (the operator's choice).
  Status may_lend() const;
  /// Makes sure that it runs, and that it stays until `leave`. Errors: timed_out; unavailable
  /// (cancelled; it ended too often); those of Podman.
  Status enter(const broker::Cancelled& cancelled);
  /// The last one to leave ends what it left behind.
  void leave();
  /// Ends all but init. False where that does not answer. For when nobody is in it.
  bool sweep() const;
  /// The next one starts it anew.
  void take_down();
  Status start();
  /// Removes a folder of `context` with all that is in it.
  void remove_folder(const std::string& folder, const broker::Cancelled& cancelled) const;
  std::string container() const;

  const Tools& tools_;
  const state::JobRecord& record_;
  std::filesystem::path socket_;
  sandbox::ScriptRunner runner_;
  std::timed_mutex opening_; ///< of what follows
  int starts_ = 0;           ///< since the script began
  int fetching_ = 0;         ///< how many are in it
  bool is_up_ = false;
  std::int64_t init_pid_ = 0; ///< of the job; set before the first one is in it, as what follows
  std::string uid_map_;       ///< of the sandbox
  std::string gid_map_;
  std::atomic<int> contexts_ = 0;
};

} // namespace slipway::image
