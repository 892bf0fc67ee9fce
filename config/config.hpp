// SPDX-License-Identifier: Apache-2.0
// The operator's configuration: /etc/slipway/config.toml and policy.d/*.toml beside it. One plain
// struct per section with its defaults; a key that no section knows is an error with file, line and
// column, never ignored.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/engine_api/issuer_spec.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::config {

/// [slipway]: where slipway keeps its own things.
struct Slipway {
  std::filesystem::path state_dir =
      "/var/lib/slipway";            ///< job records, image stores, verdict cache
  std::filesystem::path runtime_dir; ///< sockets; "" = $XDG_RUNTIME_DIR/slipway
  std::filesystem::path log_file;    ///< "" = STATE_DIR/slipway.log
  std::string log_level = "info";    ///< debug | info | warning | error
  std::filesystem::path audit_file;  ///< "" = STATE_DIR/audit.jsonl
};

/// [gitlab]: how jobs look.
struct Gitlab {
  std::filesystem::path helper_binary = "/usr/bin/gitlab-runner"; ///< or gitlab-runner-helper
  std::string helper_network = "as_needed";                       ///< as_needed | always
  std::string shell = "bash";                                     ///< bash | sh
  std::string builds_dir = "/builds";
  std::string cache_dir = "/cache";
  std::string default_image;                    ///< for jobs without `image:`
  std::vector<std::string> allowed_images{"*"}; ///< globs on the normalised reference
  std::vector<std::string> allowed_services{"*"};
  std::vector<std::string> pull_policies{"always"}; ///< allowed; the first is the default
  std::chrono::seconds service_wait{30};            ///< for the ports of all services together
  std::chrono::seconds stop_grace{10};              ///< SIGTERM to SIGKILL inside the sandbox
};

/// Keys `egress`, `egress_allow` and `egress_learn` of [sandbox], and of a rule: what a job's
/// sandboxes may connect to; docs/egress.md.
struct Egress {
  std::string mode = "open-except-registries"; ///< open-except-registries | allowlist | none
  std::vector<std::string> allow; ///< "host", "*.host", "host:port": executor/egress/allowlist.hpp
  bool learn = false;             ///< the proxy lets all pass and writes down what
  /// True where a job's networks have no way out of their own.
  bool closes() const { return mode != "open-except-registries"; }
};

/// [sandbox]
struct Sandbox {
  std::filesystem::path podman = "/usr/bin/podman";
  int id_slots = 16; ///< ranges of 65536 subordinate ids for jobs; bounded by /etc/subuid
  std::int64_t pids = 4096;
  std::uint64_t memory_bytes = 0;       ///< 0 = no limit asked
  double cpus = 0;                      ///< 0 = no limit asked
  std::uint64_t file_bytes = 0;         ///< largest single file (RLIMIT_FSIZE); 0 = none
  std::uint64_t disk_floor = 1UL << 30; ///< free space below which running jobs are ended
  bool block_registries = true;         ///< drop sandboxes' traffic to the [[registry]] hosts
  bool isolate_networks = true;
  bool lend_tools = true; ///< the host's git and curl fetch for jobs whose image has none
  Egress egress;          ///< of jobs whose rule says nothing else
};

/// [programs]: slipway's own; "" = beside the slipway executable.
struct Programs {
  std::filesystem::path init;
  std::filesystem::path shim;
  std::filesystem::path push;
  std::filesystem::path gate;
  std::filesystem::path pkcs11;
};

/// [[registry]]: a registry that slipway brokers. Sandboxes cannot reach it themselves.
struct Registry {
  std::string host; ///< as in references: "registry.example:5000"
  std::filesystem::path ca_file;
  bool plain_http = false;
  std::string credential = "none"; ///< operator | issuer | job | none
  std::string issuer;              ///< credential = issuer: name of a [[credential]] entry
  std::string username;            ///< credential = operator
  std::filesystem::path password_file;
  std::vector<std::string> realm_hosts; ///< token servers that may be shown the credential
  bool basic_auth = false; ///< registry without token server: push with the credential itself
  bool push = true;        ///< false: base images only
  std::vector<std::string>
      pull; ///< globs on registry/repository that every job may pull with the operator's credential
};

/// [buildkit]
struct Buildkit {
  std::filesystem::path buildkitd = "/usr/local/bin/buildkitd";
  std::filesystem::path buildctl = "/usr/local/bin/buildctl";
  std::filesystem::path runc = "/usr/sbin/runc";
  int warm_builders = 4;
  std::chrono::seconds idle{600};
  std::uint64_t disk_bytes = 20UL << 30;
  std::uint64_t bases_bytes = 20UL << 30;      ///< base images of one project and trust domain
  std::vector<std::string> allowed_bases{"*"}; ///< globs on what Dockerfiles may name
};

/// [buildah]: Buildah and `podman build`, and the stores that they share.
struct Buildah {
  std::filesystem::path buildah = "/usr/bin/buildah"; ///< "" = it builds nothing
  std::filesystem::path podman = "/usr/bin/podman";   ///< "" = it builds nothing
  int stores = 4;
  std::chrono::seconds idle{14 * 24 * 3600};
  std::uint64_t disk_bytes = 20UL << 30; ///< of one store
};

/// [kaniko].
struct Kaniko {
  std::filesystem::path executor = "/kaniko/executor"; ///< "" = it builds nothing
};

/// [dind]: the dockerd that runs jobs' containers and that `dind` builds with, where a rule says
/// so.
struct Dind {
  /// Folder with dockerd; what it does not have (docker, containerd, runc, …) is taken from /usr.
  /// "" = all of it is.
  std::filesystem::path tools;
};

/// [gate] and the gate keys of a rule.
struct Gate {
  std::filesystem::path trivy = "/usr/local/bin/trivy";
  std::string trivy_sha256;
  std::filesystem::path db_dir = "/var/lib/slipway/trivy-db";
  std::filesystem::path java_db_dir = "/var/lib/slipway/trivy-java-db"; ///< holds trivy-java.db
  std::filesystem::path grype; ///< the second scanner; "" = there is none
  std::string grype_sha256;
  std::filesystem::path grype_db_dir = "/var/lib/slipway/grype-db"; ///< holds 6/vulnerability.db
  std::string threshold = "high"; ///< low | medium | high | critical
  bool fixed_only = true;
  bool secrets_block = true;
  bool allow_scratch = false;
  int fixed_grace_days = 0;        ///< a fixable finding blocks only so long after it was published
  bool base_secrets = true;        ///< secrets in what the history calls the base image block too
  int waiver_max_days = 180;       ///< how far ahead a [[waiver]] or [[gate_allow]] may end
  std::filesystem::path kev_file;  ///< known exploited vulnerabilities, CISA's JSON; "" = none
  std::filesystem::path epss_file; ///< scores of FIRST, CSV or gzip of it; "" = none
  std::chrono::seconds kev_max_age{14 * 24 * 3600};
  std::chrono::seconds epss_max_age{7 * 24 * 3600};
  bool kev_blocks = true;
  bool kev_spared = false;         ///< fixed_only and fixed_grace_days hold for kev_blocks, too
  double epss_threshold = 0;       ///< 0 to 1; 0 = no score blocks
  double cvss_threshold = 0;       ///< 0 to 10; likewise
  std::string misconfig_threshold; ///< as `threshold`; "" = misconfigurations are not looked for
  std::vector<std::string> denied_licenses; ///< globs on names of licences that block
  std::vector<std::string> vex_files;       ///< OpenVEX documents, each signed by one of vex_keys
  std::vector<std::string> vex_keys;    ///< public keys of those who may say what does not block
  std::vector<std::string> sbom_files;  ///< SBOMs for images from scratch, signed likewise
  std::vector<std::string> sbom_keys;   ///< public keys of those who may say what these are made of
  std::uint64_t max_layer = 20UL << 30; ///< what one layer may expand to
  std::uint64_t max_image = 60UL << 30; ///< what the layers of one image may expand to
  std::vector<std::string> leak_exempt; ///< variables whose values may be in an image
  std::vector<std::string> artifacts;   ///< of a rule: types that are pushed without a scan
  std::chrono::seconds db_warn_age{24 * 3600};
  std::chrono::seconds db_max_age{5 * 24 * 3600};
  std::chrono::seconds timeout{600};
};

/// [db]: what a vulnerability DB has to be like before it takes the place of the one in db_dir.
struct Db {
  std::filesystem::path key_file;  ///< PEM, public: Ed25519 or ECDSA P-256; "" = two mirrors agree
  std::vector<std::string> canary; ///< "BUCKET/PACKAGE/ID" that has to be in it
  std::uint64_t max_size = 8UL << 30; ///< of trivy.db, and of what is downloaded
  std::chrono::seconds timeout{1800}; ///< for one download
};

/// [[db_source]]: where `slipway db update` looks. One of image and path is set.
struct DbSource {
  std::string kind = "advisories"; ///< or "java"
  std::string image;               ///< "registry.example:5000/mirror/trivy-db:2"
  std::filesystem::path path;      ///< db.tar.gz, or a folder with trivy.db and metadata.json
};

/// [identity]: ID tokens of jobs. A token that is there is judged; see docs/identity.md.
struct Identity {
  std::string issuer;                        ///< as in the tokens' `iss`; "" = none is judged
  bool required = false;                     ///< jobs without a token fail in prepare
  std::string variable = "SLIPWAY_ID_TOKEN"; ///< its name under id_tokens:
  std::string audience = "slipway";
  std::string algorithm = "RS256"; ///< RS256 | ES256; what a token says is not obeyed
  bool hide = true;                ///< scripts of the job do not see the token
  std::string keys_url;            ///< "" = ISSUER/oauth/discovery/keys
  std::filesystem::path ca_file;   ///< "" = the system's
  std::string proxy;
  bool plain_http = false;
};

/// [signing]: what slipway-push attaches to what it pushes; docs/supply-chain.md.
struct Signing {
  std::filesystem::path key_file;   ///< PEM, ECDSA P-256; slipway-push alone reads it
  std::vector<std::string> command; ///< instead of a key file: a program that signs
  std::filesystem::path
      pkcs11_module;      ///< or: a shared library of PKCS #11; slipway-pkcs11 loads it
  std::string pkcs11_uri; ///< RFC 7512: the private key in its token
  std::vector<std::string> pkcs11_environment; ///< NAME=value: what the module gets
  std::filesystem::path public_key_file;       ///< PEM, of the key of `command` or the token
  std::chrono::seconds timeout{30};            ///< of one signature by `command` or the token
  std::string builder_id;                      ///< a URI: who built, in the provenance
  bool sbom = true;                            ///< is attached too
  std::vector<std::string> formats{"bundle"};  ///< of the signature: "bundle", "simple"
  bool has(std::string_view format) const {
    return std::find(formats.begin(), formats.end(), format) != formats.end();
  }
  bool is_on() const { return !key_file.empty() || !command.empty() || !pkcs11_module.empty(); }
};

/// [push]
struct Push {
  std::chrono::seconds token_lifetime{900}; ///< longer-lived credentials are refused; at most 900
};

/// Which backends may build: what a rule says, or the default.
struct BackendPolicy {
  std::vector<std::string> order{"buildkit", "buildah", "podman", "kaniko", "dind"};
  std::string pin;                 ///< this one or none; "" = by the order
  std::vector<std::string> banned; ///< never, whatever the order says
  bool dind = false;               ///< a container engine of the job's own is allowed …
  std::string dind_justification;  ///< … and why: goes to the audit log
};

/// [[rule]] of a policy file: what differs for some projects. The first rule that matches is used.
struct Rule {
  std::string origin;                 ///< "FILE:LINE"
  std::string project = "*";          ///< glob on the full path, "*" also crosses "/"
  std::optional<bool> only_protected; ///< key `protected`: ref protected or not; absent: both
  std::vector<std::string> sources;   ///< key `source`: of pipelines, in GitLab's words; empty: all
  std::vector<std::string>
      runner_tags;               ///< key `runner_tag`: one of them is --runner-tag; empty: all
  std::vector<std::string> refs; ///< key `ref`: globs, of which one matches; empty: all
  std::optional<std::string> threshold;
  std::optional<bool> fixed_only;
  std::optional<bool> secrets_block;
  std::optional<bool> allow_scratch;
  std::optional<bool> base_secrets;
  std::optional<int> fixed_grace_days;
  std::optional<bool> kev_blocks;
  std::optional<bool> kev_spared;
  std::optional<double> epss_threshold;
  std::optional<double> cvss_threshold;
  std::optional<std::string> misconfig_threshold;
  std::optional<std::vector<std::string>> denied_licenses;
  std::optional<std::vector<std::string>> vex_files;
  std::optional<std::vector<std::string>> vex_keys;
  std::optional<std::vector<std::string>> sbom_files;
  std::optional<std::vector<std::string>> sbom_keys;
  std::optional<std::vector<std::string>> leak_exempt;
  std::optional<bool> sign;                    ///< absent: where [signing] has a key
  std::optional<bool> push;                    ///< false: no push from these jobs
  std::optional<bool> save;                    ///< false: these jobs take no image out as files
  std::optional<bool> forward_logins;          ///< false: `docker login` fails for other registries
  std::vector<std::string> repositories;       ///< globs on registry/repository that may be pushed;
                                               ///< empty: see policy::admit_push
  std::vector<std::string> static_credentials; ///< passwords without an end that may be pushed with
  std::optional<std::string> egress;
  std::optional<std::vector<std::string>> egress_allow;
  std::optional<bool> egress_learn;
  bool registry_endpoint = false;     ///< registry clients of the job reach slipway's `/v2/`
  std::vector<std::string> artifacts; ///< types of what is no image and may be pushed
  BackendPolicy backends;             ///< keys `backends`, `backend`, `ban_backends`, `dind`,
                                      ///< `dind_justification`
  std::vector<std::string> platforms; ///< that builds may be for; empty: all
  std::string
      cache_domain; ///< sets builders and caches of these jobs apart from the project's other
};

/// [[waiver]] of a policy file: a finding that somebody answers for until a day. Whatever it names
/// of repositories, digest and purl has to fit.
struct Waiver {
  std::string origin;                    ///< "FILE:LINE"
  std::string id;                        ///< "CVE-2023-45853", or the rule that found a secret
  std::vector<std::string> repositories; ///< globs on registry/repository
  std::string digest;                    ///< of what is pushed, or of an image in that index
  std::string purl;                      ///< config/package_url.hpp
  std::string path;                      ///< glob on the file of a secret; narrows, is no scope
  std::string owner;
  std::string ticket;
  std::string reason;
  WallTime expires; ///< 00:00 UTC of the day from which it is over
};

/// [[gate_allow]] of a policy file: a row of the gate's table that does not deny for some
/// repositories until a day.
struct Allowance {
  std::string origin; ///< "FILE:LINE"
  std::string code;   ///< one of allowable_codes()
  std::vector<std::string> repositories;
  std::string owner;
  std::string reason;
  WallTime expires; ///< as of a waiver
};

struct Config {
  Slipway slipway;
  Gitlab gitlab;
  Sandbox sandbox;
  Programs programs;
  std::vector<Registry> registries;
  /// [[credential]]: issuers, their settings checked and completed (config/credential_types.hpp).
  std::vector<engine_api::IssuerSpec> credentials;
  Buildkit buildkit;
  Buildah buildah;
  Kaniko kaniko;
  Dind dind;
  Gate gate;
  Db db;
  std::vector<DbSource> db_sources;
  Identity identity;
  Signing signing;
  Push push;
  std::vector<Rule> rules;
  std::vector<Waiver> waivers;
  std::vector<Allowance> allowances;
  std::filesystem::path file;           ///< where it was read from
  std::vector<std::string> runner_tags; ///< no key of it: --runner-tag
};

/// Reads FILE and the *.toml of the folder policy.d beside it, in the order of their names.
/// Errors: not_found, misconfigured ("FILE:LINE:COLUMN: unknown key 'x' in [gate]; did you mean
/// …").
Result<Config> load(const std::filesystem::path& file);

/// The same from text; `name` stands in messages. `policy` files likewise.
Result<Config> parse(const std::string& text, const std::string& name);
Status parse_policy(const std::string& text, const std::string& name, Config& into);

/// [[expect]] of a file for `slipway policy test`: what policy has to say about one job.
struct Expectation {
  std::string origin; ///< "FILE:LINE"
  std::string project;
  bool ref_protected = false;
  std::string source = {};                   ///< see Rule; "" = not known
  std::vector<std::string> runner_tags = {}; ///< see Rule
  std::string ref = {};                      ///< full_ref(); "" = not known
  /// image | service | base | push | backend | platform | connect | cache_domain
  std::string subject;
  std::string value; ///< a reference, a backend's name, "linux/arm64", "HOST:PORT"; or the domain
  bool allow = true; ///< not of cache_domain, which is that value
  std::optional<std::string> rule; ///< end of the matching rule's origin; "" = no rule matches
};
/// Errors: misconfigured, as parse; a file without any [[expect]].
Result<std::vector<Expectation>> parse_expectations(const std::string& text,
                                                    const std::string& name);

/// The effective configuration as TOML. Values of secrets are never in it: only their files' names.
std::string print(const Config& config);

/// The [[credential]] entry of this name; null where there is none.
const engine_api::IssuerSpec* credential_named(const Config& config, std::string_view name);
/// True for what mints nothing, a password that somebody set: a rule has to name it.
bool is_static(const engine_api::IssuerSpec& credential);

/// The denials that [[gate_allow]] may lift. All others mean that the image was not judged at all,
/// or that it is not what it says it is. docs/gate.md explains each.
const std::set<std::string>& allowable_codes();

/// Waivers and allowances that end further ahead than [gate] waiver_max_days: they count for
/// nothing. One line each, with file and line.
std::vector<std::string> too_far_ahead(const Config& config, WallTime now);
/// True where an end lies further ahead than `max_days`.
bool is_too_far(WallTime expires, WallTime now, int max_days);

/// Where TEXT matches PATTERN: '*' any run, '?' one character.
bool glob_matches(std::string_view pattern, std::string_view text);

/// A ref, or a glob on refs, as `ref` in a [[rule]] and --ref have it, in full: what does not begin
/// with "refs/" is of a branch. "" stays "".
std::string full_ref(std::string_view text);
/// Can a job have this ref: no glob, a branch, or "refs/" and a branch, a tag or a merge request.
bool is_ref(std::string_view text);

} // namespace slipway::config
