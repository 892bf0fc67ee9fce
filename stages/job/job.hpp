// SPDX-License-Identifier: Apache-2.0
// The story of one job, top to bottom: prepare makes its sandboxes, run enters them, cleanup
// removes them, and reap does that for jobs whose runner died.
#pragma once

#include "config/config.hpp"
#include "executor/audit/audit.hpp"
#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/egress/proxy.hpp"
#include "executor/policy/logins.hpp"
#include "executor/policy/policy.hpp"
#include "executor/sandbox/disk_use.hpp"
#include "executor/sandbox/egress.hpp"
#include "executor/sandbox/id_slots.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/sandbox/script_client.hpp"
#include "executor/state/job_record.hpp"

#include <chrono>
#include <ctime>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::job {

struct ServiceSpec {
  std::string image;
  std::vector<std::string> aliases;
  std::vector<std::string> entrypoint;
  bool has_entrypoint = false;
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> env;
  std::vector<std::string> pull_policies;
  std::string user = {};     ///< overrides the image's USER
  std::string platform = {}; ///< "" = this machine's
};

/// A job in no CI system's words.
struct JobSpec {
  std::string key;
  std::int64_t job_id = 0;
  policy::Subject subject;
  std::int64_t project_id = 0;
  std::string ref;
  std::string sha;
  state::ProcessIdentity runner;
  /// What the runner keeps as long as it knows the job: gone means over. "" = nothing is known of.
  std::filesystem::path payload;
  std::string image;
  std::string masked_image; ///< the same without masked values, for the audit log; "" = image
  std::vector<std::string> entrypoint;
  bool has_entrypoint = false;
  std::string user; ///< overrides the image's USER
  std::string platform;
  /// Tried in turn; none = the configured default.
  std::vector<std::string> pull_policies;
  bool helper_network = true; ///< false: nothing in the helper needs to reach anything
  std::vector<ServiceSpec> services;
  std::vector<std::string> docker_names; ///< host names at which scripts expect Docker
  std::string docker_certs;              ///< $DOCKER_TLS_CERTDIR; "" = only /certs
  std::vector<policy::Login> logins;     ///< for pulls of the job's and the services' images
};

/// Where a script runs.
enum class Where { job, helper };

/// Lines for the job log.
using Say = std::function<void(std::string_view line)>;

struct Tools {
  const config::Config& config;
  sandbox::Podman& podman;
  state::JobFolders& folders;
  audit::AuditLog& audit;
  const Clock& clock;
  std::string service_user;     ///< whose subordinate ids are used
  std::string owner;            ///< label value that names this installation
  sandbox::SlotPlan slots = {}; ///< jobs have one of `slots.jobs`
  int stop_fd = -1;             ///< lent: readable once the stage has to end; -1: none
};

/// Labels of everything that slipway makes.
inline constexpr const char* kLabelJob = "io.slipway.job";
inline constexpr const char* kLabelOwner = "io.slipway.owner";
inline constexpr const char* kLabelRole = "io.slipway.role";

/// What sandboxes must not reach: the brokered registries and, where slipway mints with the role of
/// an EC2 instance, its metadata service, at which everybody is that role.
sandbox::Egress egress_of(const config::Config& config);

/// The variables by which programs find the proxy of a closed network, at `host`.
std::vector<std::pair<std::string, std::string>> proxy_env(const std::string& host,
                                                           const std::string& no_proxy);

class Jobs {
public:
  explicit Jobs(Tools tools) : tools_{std::move(tools)} {}

  /// Admits the job's images. Errors: denied, bad_input.
  Status admit(const JobSpec& spec) const;
  /// Makes everything the job needs; may be called again after a failure. On failure what it made
  /// is removed by the next prepare or by cleanup.
  Status prepare(const JobSpec& spec, const Say& say);
  /// Runs one script in the job's or the helper's sandbox. Errors: not_found (no such job: cleaned
  /// up already), unavailable, …
  Result<sandbox::ScriptResult> run(const state::JobRecord& record, Where where,
                                    const sandbox::ScriptIo& io);
  /// The proxies of the job's closed network, to be kept while its sandboxes need them: the job's
  /// with its services, and in `helper` also the helper's, which reaches `sources` too (the GitLab
  /// server that the payload names). None where the network is not closed. The first is the job's
  /// own; where the rule says "none" it refuses all that it is asked for. Errors: io; those of
  /// resolving registries.
  Result<std::vector<std::unique_ptr<egress::Proxy>>>
  open_proxies(const state::JobRecord& record, Where where, const std::vector<std::string>& sources,
               const Say& say);
  /// Ends and removes everything of the job. Absent things are no error.
  Status cleanup(const std::string& key);
  /// Cleans up after jobs whose runner no longer lives. Returns how many.
  Result<int> reap();
  /// Removes sandboxes, networks and workspaces of jobs that have no folder any more: what a
  /// `podman run` that outlived its slipway made. Folders are made before and removed after
  /// everything else, so no live job is hit.
  Status sweep();
  /// Cleans up every job of this installation, their caches too. Returns how many.
  Result<int> cleanup_all();

  /// From time to time while a script runs: the way to registries' names stays closed where they
  /// get other addresses. `known`: empty at first, then kept by the caller. Errors: those of
  /// sandbox::follow_egress.
  Status follow_registries(std::optional<sandbox::Addresses>& known);
  /// What the job's sandboxes and its part of the state folder have on disk since `since`, with
  /// what its cache and `builders` (BuildPlace::builders()) have since then, whoever used them.
  /// Errors: those of sandbox::disk_use.
  Result<sandbox::DiskUse> disk_use(const state::JobRecord& record,
                                    const std::vector<std::string>& builders, std::time_t since,
                                    std::chrono::seconds deadline) const;
  /// Says, each once a job, which registries its sandboxes were kept from, and builds on
  /// `build_networks` not longer ago than `within`. Nothing in a closed network, whose proxy tells.
  /// Errors: those of sandbox::refusals.
  Status tell_refused(const state::JobRecord& record,
                      const std::vector<std::string>& build_networks, std::chrono::seconds within,
                      const Say& say);
  /// Says once a job that so many connections and packets of a script in a closed network went past
  /// the proxy.
  void tell_unrouted(const state::JobRecord& record, std::uint64_t count, const Say& say) const;

  /// Host paths of a job's sockets.
  std::filesystem::path script_socket(const std::string& key, const std::string& role) const;
  std::filesystem::path broker_socket(const std::string& key) const;
  std::filesystem::path registry_socket(const std::string& key) const;
  /// An id slot, record's own.
  static sandbox::IdSlot slot_of(const state::JobRecord& record);

private:
  /// The job's record; of a torn one, what its labels tell. Errors: not_found; those of Podman.
  Result<state::JobRecord> recorded(const std::string& key);
  /// Makes the job's folder and takes its lock, so that no reaper sees one without the other.
  Result<UniqueFd> open_folder(const std::string& key);
  /// By the policies that the operator allows, in turn. Errors: denied (none is allowed); those of
  /// the last.
  Result<sandbox::ImageFacts> pull(const std::string& image,
                                   const std::vector<std::string>& policies,
                                   const std::string& platform, const JobSpec& spec,
                                   const Say& say);
  Result<sandbox::ImageFacts> pull_by(const std::string& image, const std::string& policy,
                                      const std::string& platform, const JobSpec& spec,
                                      const Say& say);
  Result<std::vector<std::string>> allowed_policies(const std::vector<std::string>& wanted) const;
  Result<sandbox::SandboxSpec> base_spec(const state::JobRecord& record,
                                         const std::string& role) const;
  Status start_job_sandbox(const JobSpec& spec, const state::JobRecord& record,
                           const sandbox::ImageFacts& image, const Say& say);
  /// Network and volumes.
  Status make_ground(const state::JobRecord& record, sandbox::Network& network);
  /// Whether the job's Docker endpoints are there for its services, too: only where nobody else is
  /// on that network.
  bool serves_network(const JobSpec& spec) const;
  /// "" where the network has no addresses to give, or no more of them: Podman gives one.
  std::string service_address(int number) const;
  /// Services by all their names in the sandbox's hosts file. In a closed network nobody else
  /// answers for them; in others Podman's one name server does for all jobs, and drops questions
  /// when the host is busy.
  void name_services(const JobSpec& job, const state::JobRecord& record,
                     sandbox::SandboxSpec& spec) const;
  std::unique_ptr<egress::Proxy> make_proxy(const state::JobRecord& record,
                                            const policy::Effective& effective,
                                            egress::ProxyPolicy policy,
                                            const std::vector<std::string>& allow, const Say& say);
  /// Of one user's Podman one installation (state_dir) has jobs at a time: the egress rule and the
  /// ids of sandboxes are told by its records. Errors: misconfigured (another has), io, timed_out.
  Status claim_engine() const;
  /// What is kept from all live jobs, whichever configuration began them.
  sandbox::Egress egress_of_all() const;
  Status close_way_to_registries();
  /// Starts once GROUND says that network and volumes are there.
  Status start_helper_sandbox(const JobSpec& job, const state::JobRecord& record,
                              const std::shared_future<Status>& ground, const Say& say);
  /// Leads the names of brokered registries to slipway's `/v2/` in the job's sandbox, see
  /// docs/registry-endpoint.md.
  Status add_registry_endpoint(const state::JobRecord& record, sandbox::SandboxSpec& spec) const;
  /// Says once a job what the host does not enforce of its limits; what slipway has to look after
  /// is written down.
  Status look_after(const std::string& key, const std::string& name,
                    const sandbox::ContainerFacts& container, const Say& say);
  Status start_services(const JobSpec& spec, const state::JobRecord& record, const Say& say);
  /// A service and where it is expected to answer.
  struct AwaitedService {
    std::string container;
    std::string host;
    std::vector<std::string> ports; ///< one of them is enough, as for GitLab
  };
  Status wait_for_services(const state::JobRecord& record,
                           const std::vector<AwaitedService>& services, const Say& say);
  Status start_service(const ServiceSpec& service, int number, const JobSpec& job,
                       const state::JobRecord& record, const sandbox::ImageFacts& image,
                       const Say& say);
  Status remove_all(const state::JobRecord& record);
  /// All of the job and its folder, whose lock the caller holds.
  Status remove_job(const state::JobRecord& record);
  Status clear_engine(const std::string& key);
  /// What killed builds by Docker's builder left: each has a file in the job's folder.
  Status clear_builders(const std::string& key);
  Tools tools_;
  sandbox::Network network_; ///< of the job that is being prepared
};

} // namespace slipway::job
