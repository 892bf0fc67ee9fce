// SPDX-License-Identifier: Apache-2.0
// The story of one image: build, judge, push. What the broker's HTTP edge asks for (ImageService),
// told in steps that a reviewer can name.
#pragma once

#include "config/config.hpp"
#include "executor/audit/audit.hpp"
#include "executor/backends/build_backend.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/secret.hpp"
#include "executor/broker/container_service.hpp"
#include "executor/broker/fetch_service.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/push_statements.hpp"
#include "executor/broker/registry_endpoint.hpp"
#include "executor/broker/session_service.hpp"
#include "executor/egress/proxy.hpp"
#include "executor/gate/gate.hpp"
#include "executor/leaks/secrets.hpp"
#include "executor/policy/logins.hpp"
#include "executor/policy/policy.hpp"
#include "executor/report/report.hpp"
#include "executor/sandbox/id_slots.hpp"
#include "executor/sandbox/memory_watch.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/signing/statement.hpp"
#include "executor/state/build_notes.hpp"
#include "executor/state/image_store.hpp"
#include "executor/state/job_record.hpp"
#include "executor/state/quarantine.hpp"
#include "stages/image/leases.hpp"
#include "stages/image/push_client.hpp"
#include "stages/image/routing.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::image {

struct Tools {
  const config::Config& config;
  sandbox::Podman& podman;
  state::JobFolders& folders;
  audit::AuditLog& audit;
  const Clock& clock;
  std::string owner;
  WiredBackends backends; ///< what builds here
  sandbox::SlotPlan slots = {};
  egress::Proxy* proxy = nullptr; ///< lent; where builds of a closed network get out
  int stop_fd = -1;               ///< as job::Tools::stop_fd
  std::function<std::string(std::string_view)> masked = {}; ///< without the job's masked values
};

class JobReports;
class JobsLeakScanner;
class JobContainers;
class JobFetches;
class JobSessions;
struct SessionBase;

class Images final : public broker::ImageService, public broker::QuarantineService {
public:
  /// `logins`: the job's own; pushed with only where the registry's entry says credential = "job".
  /// `job_secrets`: what the job itself holds, by name, of what some issuer's settings name.
  /// `leakable`: what no image of this job may hold.
  Images(const Tools& tools, state::JobRecord record, std::vector<policy::Login> logins,
         std::map<std::string, Secret> job_secrets = {},
         const std::vector<leaks::KnownSecret>& leakable = {});
  ~Images() override;

  Result<broker::BuildOutcome> build(broker::BuildRequest request, const broker::Progress& progress,
                                     const broker::Cancelled& cancelled) override;
  Result<broker::PushOutcome> push(const oci::Reference& reference,
                                   const broker::Progress& progress,
                                   const broker::Cancelled& cancelled) override;
  Result<std::vector<broker::Report>> reports(const oci::Reference& reference) override;
  Result<broker::ImageSummary> pull(const oci::Reference& reference, const std::string& platform,
                                    const broker::Progress& progress,
                                    const broker::Cancelled& cancelled) override;
  Result<bool> log_in(broker::RegistryLogin login) override;
  /// TOLD hears of each secret that the script gives to a build or by a login, before it is used;
  /// from any thread. To be set before the service is used.
  void on_secrets(std::function<void(const std::vector<leaks::KnownSecret>&)> told) {
    on_secrets_ = std::move(told);
  }
  Result<std::vector<broker::ImageSummary>> list() override;
  Result<broker::ImageSummary> find(const std::string& name) override;
  Status tag(const std::string& source, const oci::Reference& target) override;
  Result<std::vector<std::string>> remove(const std::string& name, bool force) override;
  Status save(const std::vector<std::string>& names, Taker taker,
              const std::function<Status(std::string_view)>& sink) override;
  Status files(const std::string& name, const std::function<Status(std::string_view)>& sink,
               const broker::Cancelled& cancelled) override;
  Result<UniqueFd> unnamed_file() override;
  Result<std::vector<std::string>>
  load(const std::function<Result<std::size_t>(char*, std::size_t)>& source) override;
  Result<broker::Manifest> edit_index(const broker::IndexRequest& request,
                                      const broker::Progress& progress,
                                      const broker::Cancelled& cancelled) override;
  Result<broker::Manifest> manifest(const std::string& name, bool remote) override;
  std::vector<oci::Platform> platforms() override;
  Result<std::pair<oci::Descriptor, std::vector<oci::Platform>>>
  remote(const oci::Reference& reference) override;

  /// Copies `source`, named by its digest and with every platform, to `target`: judged and pushed
  /// as if this job had built it. Errors: bad_input (no digest, no tag to set); those of pull and
  /// push.
  Result<broker::PushOutcome> promote(const oci::Reference& source, const oci::Reference& target,
                                      const broker::Progress& progress);
  /// The configs of what a Dockerfile names, of one platform ("" = the default): as a rule one. No
  /// layer is fetched, and nothing is learnt of the host. Errors: denied (what policy::may_pull
  /// says; the registry's own word); as pull.
  Result<std::vector<oci::ImageConfig>> base_configs(const oci::Reference& reference,
                                                     const std::string& platform);
  /// The job's own `/v2/`, for a server; null where its rule gives it none. `say` gets lines for
  /// the job log. Errors: io.
  Result<broker::RequestHandler*> registry_endpoint(broker::Progress say);
  std::optional<std::string> registry_at(const std::string& host) const override;
  Status may_push(const oci::Reference& repository) override;
  Status push_quarantined(const oci::Reference& reference, const oci::Digest& manifest,
                          const broker::Cancelled& cancelled) override;
  Result<oci::Digest> current(const oci::Reference& tag,
                              const broker::Cancelled& cancelled) override;

  /// What each push of this job gets beside the image.
  broker::PushStatements statements() const {
    return {.provenance = effective_.sign, .sbom = effective_.sign && tools_.config.signing.sbom};
  }
  /// The job's own container engine, for the broker.
  broker::ContainerService& containers();
  /// Its working containers, likewise.
  broker::SessionService& sessions();
  /// What its builds name behind addresses, likewise.
  broker::FetchService& fetches();

  /// The summary block for the job log: one entry per push, and one per image that was built and
  /// not pushed; "" where there was nothing.
  std::string summary() const;
  /// As BuildPlace::networks().
  std::vector<std::string> build_networks() const;
  /// As BuildPlace::builders().
  std::vector<std::string> builders() const;

private:
  Result<state::ImageStore*> store();
  enum class Purpose { push, pull };
  engine_api::RegistryAccess anonymous_access(const std::string& registry) const;
  Result<engine_api::RegistryAccess> access_for(const oci::Reference& reference,
                                                Purpose purpose) const;
  /// Orders the login where an issuer mints it. The client writes down what becomes of that, and
  /// the last word in `told`. Errors: misconfigured; io.
  Result<PushClient> client_for(const oci::Reference& reference, Purpose purpose,
                                engine_api::RegistryAccess& access,
                                std::optional<engine_api::LeaseNote>& told);
  Status admit_pull(const oci::Reference& reference) const;
  /// See JobsLeakScanner::lend; and whoever asked by on_secrets() is told.
  Status lend(const std::vector<leaks::KnownSecret>& more);
  /// Where a build of this script was lent anything: see JobsLeakScanner::mark_leaks.
  Result<bool> mark_leaks(const oci::Layout& layout, const oci::Digest& manifest);
  /// Writes down that Docker's builder is started, and why the policy allows it. Errors: io.
  Status note_dind_build();
  struct EveryPlatform {};
  struct OnePlatform {
    std::string name; ///< "" = the default
  };
  /// Types of their own: no word in a job's request can mean all of an index.
  using Platforms = std::variant<EveryPlatform, OnePlatform>;
  struct Fetched {
    oci::Digest digest; ///< of what was asked for
    oci::Digest root;   ///< of what the name means: an index, where one of its images was asked for
  };
  Result<Fetched> fetch(const oci::Reference& reference, const Platforms& platforms,
                        oci::Layout& into, const broker::Progress& progress,
                        const broker::Cancelled& cancelled);
  /// What a part of an index is, which is in the job's store afterwards. Errors: bad_input (an
  /// index where an image is wanted); those of fetch.
  Result<oci::Digest> part_of_index(const broker::IndexPart& part, const broker::Progress& progress,
                                    const broker::Cancelled& cancelled);
  Result<backends::BaseImage> base_from(const oci::Reference& reference, bool pull,
                                        const std::string& platform,
                                        const broker::Progress& progress,
                                        const broker::Cancelled& cancelled);
  /// See SessionImages.
  Result<SessionBase> session_base(const std::string& name, const std::string& pull,
                                   const broker::Progress& progress,
                                   const broker::Cancelled& cancelled);
  Result<oci::Digest> enter_committed(const oci::Digest& manifest,
                                      const std::vector<oci::Reference>& names,
                                      const state::BuildNote& note,
                                      const broker::Progress& progress);
  /// What the scopes, one for each platform, take from outside; `configs` gets those of each, and
  /// the scopes the triggers of their bases.
  Result<std::vector<backends::BaseImage>>
  bases_for(const broker::BuildRequest& request, const dockerfile::Dockerfile& parsed,
            std::vector<dockerfile::Scope>& scopes, std::vector<router::BaseConfigs>& configs,
            const broker::Progress& progress, const broker::Cancelled& cancelled);
  /// `configs`: of each platform. Errors: those of the decision where no backend is chosen; io (the
  /// audit log).
  Result<router::Decision> choose_backend(const broker::BuildRequest& request,
                                          const dockerfile::Dockerfile& parsed,
                                          const std::vector<router::BaseConfigs>& configs,
                                          const router::Context& context) const;
  /// The manifest of an image below an index of the job's store. Errors: not_found.
  Result<broker::Manifest> child_of(const std::string& index, const std::string& digest);
  /// What may be pushed once it is judged: an image of the job's store, or what its quarantine
  /// holds.
  struct Candidate {
    oci::Layout& layout;
    oci::Digest manifest;
    std::vector<std::string> repo_digests;
    state::Quarantine* quarantine = nullptr; ///< whose layout it is, and which counts its bytes
  };
  /// Two at a time: each scan has a sandbox with limits of its own. Errors: unavailable (cancelled
  /// while it waited); those of the gate.
  Result<gate::Judgement> judge(const Candidate& candidate, const std::string& repository,
                                const broker::Progress& progress,
                                const broker::Cancelled& cancelled);
  Result<engine_api::WorkerAnswer> push_candidate(const Candidate& candidate,
                                                  const oci::Reference& reference,
                                                  const broker::Progress& progress,
                                                  const broker::Cancelled& cancelled);
  /// What slipway-push signs about the image, whose SBOM is put beside it; nullopt where policy
  /// wants no signature. Errors: misconfigured (an SBOM above its limit); denied (the quarantine is
  /// full); io.
  Result<std::optional<engine_api::SigningOrder>> signing_for(const report::Subject& pushed_as,
                                                              const gate::Verdict& verdict,
                                                              const Candidate& candidate) const;
  /// What an earlier script of the job built too; nothing where the job did not build it.
  state::BuildNote build_of(const oci::Digest& manifest) const;
  /// Until it is pushed, or refused.
  void note_built(const oci::Digest& manifest, const std::vector<oci::Reference>& tags,
                  const std::string& line);
  /// Is this the first that is said of a place to which policy forbids pushes, and not yet one of
  /// too many?
  bool is_news(const std::string& place);
  /// Writes down that the job took the image out, each image once and so many of them: it may do it
  /// as often as it likes. Errors: io.
  Status note_saved(const oci::Digest& manifest);
  /// The whole image, for every platform. Errors: those of access_for.
  Result<engine_api::PullRequest> pull_request(const oci::Reference& reference,
                                               const oci::Layout& into) const;
  /// For a question that nobody asks any more once the stage has to end.
  broker::Cancelled until_stopped() const;
  /// Asks the registry what the reference is. Errors: not_found, denied, unavailable, timed_out.
  /// `platform`: the manifest and the config of this one, into the job's store; none: the manifest
  /// alone.
  Result<engine_api::WorkerAnswer>
  look_at(const oci::Reference& reference, const broker::Cancelled& cancelled,
          const std::optional<std::string>& platform = std::nullopt);
  /// What a job said, as the audit log may have it: without masked values. Not for what was pushed:
  /// the registry shows that, and no job may hide where it went.
  std::string masked(std::string_view text) const;
  /// One entry of the summary. Called under noting_.
  void add_note(std::string text);
  /// The same, on the image with this manifest.
  void note(const oci::Digest& manifest, std::string text);
  /// Repositories of the registry of TO that hold layers of IMAGE, as this script saw.
  std::set<std::string> mount_sources(const Candidate& candidate, const oci::ImageTree& tree,
                                      const oci::Reference& to);

  Tools tools_;
  state::JobRecord record_;
  policy::Subject subject_;
  policy::Effective effective_;
  mutable std::mutex logging_in_;
  std::vector<policy::Login> logins_;
  std::map<std::string, Secret> job_secrets_;
  Leases leases_;
  std::unique_ptr<JobsLeakScanner> leaks_;
  std::function<void(const std::vector<leaks::KnownSecret>&)> on_secrets_;
  std::unique_ptr<BuildPlace> place_;
  std::unique_ptr<JobContainers> containers_;
  std::unique_ptr<JobSessions> sessions_;
  std::unique_ptr<JobFetches> fetches_;
  std::mutex opening_; ///< of the store
  std::unique_ptr<state::ImageStore> store_;
  mutable std::mutex noting_;
  std::vector<std::string> notes_;
  std::size_t more_notes_ = 0;            ///< that the summary only counts
  std::set<oci::Digest> from_registries_; ///< leaks::keys_of what was pulled
  /// Registry and repository of layers that were pulled.
  std::map<oci::Digest, std::set<std::pair<std::string, std::string>>> origins_;
  std::counting_semaphore<2> scans_{2};
  std::unique_ptr<JobReports> reports_;
  state::BuildNotes builds_; ///< of all scripts of this job
  std::unique_ptr<state::Quarantine> quarantine_;
  std::unique_ptr<broker::RegistryEndpoint> endpoint_;
  broker::Progress say_;
  std::set<oci::Digest> saved_; ///< that the audit log has; under noting_
  bool saved_too_many_ = false;
  bool refused_too_many_ = false;
  std::set<std::string> refused_;               ///< places that the job was told of
  std::map<std::string, std::string> unpushed_; ///< manifest digest → entry of the summary
};

/// A sandbox that a job can end is started so often in one script, and no more.
constexpr int kMostStarts = 10;

/// The ids of a job's sandboxes.
sandbox::IdSlot slot_of(const state::JobRecord& record);

/// Of what runs a build's steps: as a job's own. Not the size of one file: what a backend keeps is
/// larger, and has a bound of its own.
sandbox::Limits step_limits(const Tools& tools);

/// The gate's own words for a configured section.
gate::GatePolicy gate_policy(const config::Gate& section, const config::Config& config);
/// Bytes that a scan may take; 0: as many as it wants. It needs memory of its own, however little
/// jobs get: without it every image is denied.
std::uint64_t scanner_memory(const config::Config& config);
gate::ScannerConfig scanner_config(const config::Gate& section, const config::Config& config);

/// Says once a job what the host does not enforce of a sandbox's limits; what slipway has to look
/// after is written down for `run`. Errors: io.
Status look_after(const Tools& tools, const std::string& job, const std::string& name,
                  const sandbox::ContainerFacts& sandbox,
                  const std::function<void(std::string_view)>& say);

/// Ends what has too much memory of what look_after() wrote down for JOB, as long as it lives.
/// CONFIG and FOLDERS are lent to it; SAY is called from a thread of the watch.
std::unique_ptr<sandbox::MemoryWatch> watch_memory(const config::Config& config,
                                                   const state::JobFolders& folders,
                                                   const std::string& job,
                                                   std::function<void(std::string_view)> say);
/// What it says of a sandbox, in bytes.
std::string memory_notice(const std::string& name, std::uint64_t bytes, std::uint64_t most);

enum class Leftovers {
  old,   ///< what was idle for too long
  unused ///< also every builder, cache and base image that is not in use
};

/// Removes what outlives jobs: builders, their caches, base images, scratch of killed scans,
/// expired verdicts.
Status collect_leftovers(const Tools& tools, Leftovers which);

} // namespace slipway::image
