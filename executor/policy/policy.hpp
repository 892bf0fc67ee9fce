// SPDX-License-Identifier: Apache-2.0
// What the operator's configuration says for one job: admission, push rights and the gate's policy.
// Decided from the job payload's job_info and git_info, a judged ID token and the operator's own
// words only, never from variables that a user can set.
#pragma once

#include "config/config.hpp"
#include "executor/base/result.hpp"
#include "executor/egress/allowlist.hpp"
#include "executor/oci/reference.hpp"
#include "executor/state/job_record.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::policy {

/// Whom a decision is about. Source: JOB_RESPONSE_FILE, job_info and git_info.
struct Subject {
  std::string project; ///< "grp/app"
  bool ref_protected = false;
  std::int64_t project_id = 0;               ///< 0 = not known
  std::string source = {};                   ///< the pipeline's, by its ID token; "" = not known
  std::vector<std::string> runner_tags = {}; ///< what the operator calls this runner: --runner-tag
  std::string ref = {};                      ///< in full: "refs/tags/v1"; "" = not known
};

/// A job's ref in full, by what git_info says of it: its type decides, for a branch may be named
/// "refs/tags/v1". Merge requests are branches by their type. "" without a name or a known type.
/// Source: GitLab Runner 19.4, common/spec/spec.go, GitInfo.
std::string full_ref_of_job(const std::string& ref, const std::string& ref_type);

/// As prepare wrote it down.
Subject subject_of(const state::JobRecord& record);

/// The gate and push settings after the first matching rule.
struct Effective {
  config::Gate gate;
  bool sign = false; ///< unsigned, nothing is tagged
  bool push = true;
  bool save = true;                            ///< images as files: archives, outputs of builds
  bool forward_logins = true;                  ///< of jobs, to registries that no entry names
  std::vector<std::string> repositories;       ///< globs; empty: all
  std::vector<std::string> static_credentials; ///< [[credential]] entries without an end
  config::BackendPolicy backends;
  std::vector<std::string> platforms; ///< that builds may be for; empty: all
  std::string cache_domain;           ///< "" = the project's own
  config::Egress egress;
  bool registry_endpoint = false; ///< the job has a `/v2/` of its own: docs/registry-endpoint.md
  std::string rule;               ///< origin of the rule that matched; "" = none did
};

Effective effective_for(const config::Config& config, const Subject& subject);

/// Errors: denied, naming image and key.
Status admit_image(const config::Config& config, const oci::Reference& image);
Status admit_base(const config::Config& config, const oci::Reference& image);
Status admit_service(const config::Config& config, const oci::Reference& image);
/// `platforms`: "linux/amd64", of a build or of what came of it.
Status admit_platforms(const Effective& effective, const std::vector<std::string>& platforms);
/// Where the rule names no repositories, a registry with the operator's credential or an issuer
/// takes pushes to the project's own path only (HOST/PROJECT and below): the credential could do
/// more than the job may. A static credential is for jobs whose rule names it.
Status admit_push(const config::Config& config, const Effective& effective, const Subject& subject,
                  const oci::Reference& target);

/// May this job take images out as files, which nothing has judged: `docker save`, outputs of
/// builds. Errors: denied, naming key and rule.
Status admit_save(const Effective& effective, const Subject& subject);

/// Is a login for `server` (as clients name it: "", "reg.example:5000",
/// "https://index.docker.io/v1/") of any use: may the job push anything to its host, or have
/// anything pulled from there? In doubt it is. The host that it is to be forwarded to, for pulls of
/// this job; none where a [[registry]] entry has it, for slipway has credentials of its own.
/// Errors: denied, saying what keeps the job from both, or that its rule does not forward.
Result<std::optional<std::string>> admit_login(const config::Config& config,
                                               const Effective& effective, std::string_view server);

/// May this job pull the image with the operator's credential or one of the issuer: it may push
/// there, or the registry's entry opens it to all jobs (`pull`).
bool operator_may_pull(const config::Config& config, const Effective& effective,
                       const Subject& subject, const oci::Reference& image);

/// The [[registry]] entry for a reference's host; none where slipway does not broker it.
const config::Registry* registry_for(const config::Config& config, const oci::Reference& reference);

/// The hosts that a registry is reached at by its clients: Docker Hub has one name in references,
/// and others on the network.
std::vector<std::string> hosts_of(const std::string& registry);

/// Where clients look for a registry.
struct Contact {
  std::vector<std::string> names; ///< host names, no address
  std::uint16_t port = 443;
  bool plain_http = false;
  /// Does the Host of a request ("registry.example", "registry.example:5000") mean it?
  bool is_meant_by(std::string_view host) const;
};
/// None for a registry that is pushed to by nobody, or that is named by an address: no name leads
/// its clients anywhere else.
std::optional<Contact> contact_of(const config::Registry& registry);

/// True for names and literal addresses of the machine itself and of its link: localhost, 127/8,
/// ::1, 169.254/16, fe80::/10, with or without a port.
bool is_local_host(std::string_view registry);

/// What is said where a job wants to pull from such an address without a [[registry]] entry.
Error local_host_refused(const oci::Reference& image);

/// Whether slipway itself may fetch this image for the job. Out of a closed network a pull is a way
/// like any other, by its name alone: it may go to a [[registry]] and, with an allowlist, to a host
/// that the list has. While a rule learns, the host is written down. Errors: denied, io.
Status admit_fetch(const config::Config& config, const Effective& effective, const Subject& subject,
                   const oci::Reference& image);

/// The same question, asked by nobody's job: nothing is written down.
Status may_fetch(const config::Config& config, const Effective& effective,
                 const oci::Reference& image);

/// Whether slipway would pull this image for a job of this policy: `allowed_bases`, no address of
/// the runner itself, and may_fetch. Writes nothing. Errors: denied, naming what forbids it.
Status may_pull(const config::Config& config, const Effective& effective,
                const oci::Reference& image);

/// May a job's own program connect there, by the target's name alone: the proxy and the firewall
/// judge its addresses, too. A name that is learnt may be connected to. Errors: denied.
Status may_connect(const config::Config& config, const Effective& effective,
                   const egress::Target& target);

/// What jobs connected to while their rule learned; see executor/egress/learned.hpp.
std::filesystem::path learned_dir(const config::Config& config);

/// The trust domain of a job: jobs of different domains never share a builder or a cache. Protected
/// refs stand apart from all others; so do a project that took the path of one that was deleted,
/// and jobs whose rule has a `cache_domain`.
std::string trust_domain(const Subject& subject, const Effective& effective);

/// The domain of builders that serve several jobs: the trust domain, in a closed network apart also
/// by what jobs may connect to, as a step may find the proxy of another job that builds beside it.
std::string builder_domain(const Subject& subject, const Effective& effective);

} // namespace slipway::policy
