// SPDX-License-Identifier: Apache-2.0
// The gate: judges the bytes of one image tree and, where policy lets it pass, makes a ScanPass,
// the only key to a push. In doubt it denies and says why.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/executable.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/package_change.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::gate {

enum class Severity { unknown, low, medium, high, critical };
const char* severity_name(Severity severity); ///< "CRITICAL"
std::optional<Severity> parse_severity(std::string_view text);

enum class FindingKind {
  vulnerability,
  secret,           ///< `id` is the rule, `target` the file
  misconfiguration, ///< `id` is the check
  license,          ///< `id` is the licence, which the policy denies
};
const char* kind_name(FindingKind kind); ///< "license"
std::optional<FindingKind> parse_kind(std::string_view text);

/// What blocks for the attacks that are known or likely, beside the severity. Each adds blockers
/// and takes none away.
struct ThreatPolicy {
  std::filesystem::path kev_file;  ///< CISA's catalogue; "" = there is none
  std::filesystem::path epss_file; ///< FIRST's scores, plain or gzip; "" = there are none
  std::chrono::seconds kev_max_age{std::chrono::days{14}}; ///< by the date that the file names
  std::chrono::seconds epss_max_age{std::chrono::days{7}}; ///< likewise
  bool kev_blocks = true;    ///< what is in the catalogue blocks, whatever its severity
  bool kev_spared = false;   ///< `fixed_only` and the grace hold for that, too
  double epss_threshold = 0; ///< this and above blocks; 0 = no score does
  double cvss_threshold = 0; ///< likewise
  bool asks_kev() const { return !kev_file.empty() && kev_blocks; }
  bool asks_epss() const { return !epss_file.empty() && epss_threshold > 0; }
};

/// What the owners of the policy say: documents, each with a signature beside it (FILE.sig), and
/// the public keys that may have made it.
struct SignedFiles {
  std::vector<std::filesystem::path> files;
  std::vector<std::filesystem::path> keys;
};

/// What blocks, for one destination and ref (already resolved from the operator's policy).
struct GatePolicy {
  Severity threshold = Severity::high; ///< this and above block
  bool fixed_only = true;              ///< findings without a fixed version report, not block
  bool unknown_blocks_when_fixable = true;
  bool secrets_block = true;
  bool base_secrets = true;   ///< also those in layers that the history calls the base image's
  bool allow_scratch = false; ///< no OS: language packages must then be found, or be in `sboms`
  int fixed_grace_days = 0;   ///< a fixable vulnerability reports so long after its publication
  int waiver_max_days = 180;  ///< waivers and allowances that end further ahead count for nothing
  std::optional<Severity> misconfig_threshold; ///< this and above block; none: not looked for
  std::vector<std::string> denied_licenses;    ///< globs on SPDX names; packages under these block
  ThreatPolicy threats;
  SignedFiles vex;   ///< OpenVEX: findings that are excused
  SignedFiles sboms; ///< of what no scanner knows, in images that `allow_scratch` lets pass
  std::vector<std::string> artifacts;  ///< types of what is no image and passes without a scan
  std::vector<config::Waiver> waivers; ///< all of the operator's
  std::vector<config::Allowance> allowances; ///< likewise
  std::chrono::seconds db_warn_age{std::chrono::hours{24}};
  std::chrono::seconds db_max_age{std::chrono::hours{24 * 5}};
  std::uint64_t max_layer_bytes = 20UL << 30;                 ///< expanded, per layer
  std::uint64_t max_image_bytes = 60UL << 30;                 ///< expanded, all layers of one image
  std::chrono::seconds pass_lifetime{std::chrono::hours{24}}; ///< verdict cache, upper bound
};

struct ScannerConfig {
  std::filesystem::path trivy;         ///< the executable; a sealed copy of it runs
  std::filesystem::path init;          ///< slipway-init, which executes that
  std::string trivy_sha256;            ///< pin; "" = not pinned (said in the report)
  std::filesystem::path db_dir;        ///< holds trivy.db and metadata.json
  std::filesystem::path java_db_dir{}; ///< holds trivy-java.db and metadata.json, or is not there
  std::filesystem::path cache_dir;     ///< verdict cache, owned by slipway
  std::chrono::milliseconds deadline{std::chrono::minutes{10}};
  bool misconfigurations = false; ///< are looked for: takes seconds
  bool canaries = true; ///< what finds nothing has to show that it would have found something
  std::filesystem::path grype;        ///< the second scanner's executable; "" = there is none
  std::string grype_sha256;           ///< its pin; "" as above
  std::filesystem::path grype_db_dir; ///< what Grype calls its cache-dir: holds 6/vulnerability.db
  sandbox::Limits limits{}; ///< of the scanner's sandbox; its number of processes is fixed
};

/// What layers expand to, in ScannerConfig::cache_dir; the gate asks it, and who has time before
/// may fill it.
oci::KnownLayers known_layers(const std::filesystem::path& cache_dir);
struct Finding {
  std::string id;                   ///< CVE-…
  std::vector<std::string> aliases; ///< other names of the same vulnerability: "GHSA-…"
  std::string package;
  std::string installed;
  std::string fixed; ///< "" = no fix known
  Severity severity = Severity::unknown;
  std::string title;
  std::string target; ///< where: "debian 12", "app/go.mod"
  std::string url;
  std::string purl;    ///< "" = the scanner named none
  std::string path;    ///< the file of a secret
  WallTime published;  ///< the epoch = the scanner named no time
  std::string note;    ///< why it does not block, or why a waiver did not help; "" = nothing to say
  bool waived = false; ///< would block, but for the waiver or the statement in `note`
  bool blocks = false;
  bool os_package = false; ///< else a language package, or a secret
  FindingKind kind = FindingKind::vulnerability;
  std::string found_by = "trivy"; ///< "trivy", "grype", "trivy, grype"
  std::string layer;              ///< digest of the layer that brought it; "" = nobody says
  std::string made_by;            ///< the instruction that made that layer, without build arguments
  std::string dockerfile_line;    ///< its place, "Dockerfile:4"; "" = not known to who built it
  std::optional<double> cvss;     ///< base score; none = the scanner named none
  std::string cvss_source;        ///< whose: "nvd"
  std::optional<double> epss;     ///< none = not asked for, or not scored
  std::string kev_since;          ///< "2024-03-01"; "" = not asked for, or not in the catalogue
  std::string kev_due;            ///< by when the catalogue wants it mended; "" = not said
  bool kev_ransomware = false;    ///< known to be used by ransomware
  std::string threat;             ///< what it is to block for beside its severity; "" = nothing
  std::string remedy;             ///< of a misconfiguration: what its check says to do

  bool is_vulnerability() const { return kind == FindingKind::vulnerability; }

  /// "Dockerfile:4, RUN /bin/sh -c make": what is known of `dockerfile_line` and `made_by`.
  std::string origin() const;
};

struct Package {
  std::string name;
  std::string version; ///< "1:1.2.13.dfsg-1": with epoch and release
  std::string purl;    ///< "" = the scanner named none
  std::string path;    ///< the file that names it; "" = the system's package database
  std::vector<std::string> licenses;
  /// Of the source package, in Trivy's words (SrcName, SrcVersion, SrcRelease, SrcEpoch):
  /// advisories are for sources, and no package URL tells them.
  std::vector<std::pair<std::string, std::string>> source;
};

/// What one image of a tree is made of, as far as the scanner sees.
struct Inventory {
  oci::Digest manifest;
  std::string platform; ///< "linux/amd64"
  std::string os_family;
  std::string os_name;
  std::vector<Package> packages;
};

/// One reason for a denial that is not a finding: a row of the fail-closed table.
struct Denial {
  std::string code;    ///< "no_os", "db_stale", "blob_mismatch", …: docs/gate.md has them all
  std::string message; ///< for people: what, why, what to do
  /// The image is not to blame: the operator has to act, and what was denied may pass afterwards.
  bool operators = false;
};

/// A denial that the operator lifted for this repository.
struct Allowed {
  std::string code;
  std::string message; ///< that of the denial
  std::string owner;
  std::string reason;
  WallTime until;
  std::string by() const; ///< "by OWNER until 2026-12-24: REASON", printable
};

struct Verdict {
  oci::Digest digest; ///< of the judged root
  bool passed = false;
  std::vector<Denial> denials;
  std::vector<Allowed> allowed;
  std::vector<Finding> findings;     ///< all, blocking first
  std::vector<std::string> warnings; ///< "the vulnerability DB is 30 h old"
  std::map<Severity, int> counts;
  WallTime judged_at;
  WallTime expires_at;
  std::string scanner; ///< "trivy 0.69.3"; "" = no report was judged
  WallTime db_updated_at;
  std::string second_scanner; ///< "grype 0.121.3"; "" = none was asked
  WallTime second_db_built_at;
  // "sha256:…" of the DBs' files, told of a pass alone; "" = there is none:
  std::string db_digest;
  std::string java_db_digest;
  std::string second_db_digest;
  std::string policy_digest;
  std::string threshold; ///< of the policy: "HIGH"
  bool from_cache = false;
  std::vector<Inventory> inventories; ///< one for each image that was scanned; not in to_json()
  std::string scanners() const;       ///< "trivy 0.69.3, grype 0.121.3"; "" = likewise
  /// True where nothing but the operator's side stands in the way: the image was not judged.
  bool could_not_judge() const;
  /// One line for each denial that was lifted and each waived finding: what, by whom, until when.
  std::vector<std::string> exceptions() const;
  /// What a developer reads: findings with package, installed and fixed version, what to do.
  std::string for_people() const;
  std::string to_json() const;
};

/// Proof that the gate let exactly this digest pass to this repository. Only TrivyGate makes it.
class ScanPass {
public:
  const oci::Digest& digest() const noexcept { return digest_; }
  const std::string& repository() const noexcept { return repository_; } ///< "reg:5000/grp/app"
  WallTime expires_at() const noexcept { return expires_at_; }
  const std::string& policy_digest() const noexcept { return policy_digest_; }

private:
  friend class TrivyGate;
  ScanPass(oci::Digest digest, std::string repository, WallTime expires_at,
           std::string policy_digest)
      : digest_{std::move(digest)}, repository_{std::move(repository)}, expires_at_{expires_at},
        policy_digest_{std::move(policy_digest)} {}
  oci::Digest digest_;
  std::string repository_;
  WallTime expires_at_;
  std::string policy_digest_;
};

struct Judgement {
  Verdict verdict;
  std::optional<ScanPass> pass; ///< set exactly when verdict.passed and `repository` was given
};

/// Runs the scanner on one single-image layout and returns its JSON report. The layout's folder is
/// readable for all ids (0755, files 0444) below a private parent; its path holds neither ':' nor
/// '@'. The seam that a test replaces by golden reports; the real one starts a sandbox.
class Scanner {
public:
  virtual ~Scanner() = default;
  struct Report {
    std::string json;
    std::string diagnostics;
  };
  /// Errors: unavailable (no report, odd exit code), timed_out, misconfigured (not the pinned
  /// bytes).
  virtual Result<Report> scan(const std::filesystem::path& layout_dir,
                              const oci::Digest& manifest) = 0;
  /// scan(), but the scanner gets to run only once `may_begin`, which is called once and may wait
  /// for kMostWait, says so; what it needs comes up meanwhile. Errors: unavailable where it says
  /// no; those of scan().
  virtual Result<Report> scan_after(const std::filesystem::path& layout_dir,
                                    const oci::Digest& manifest,
                                    const std::function<bool()>& may_begin);
  /// Looks up what an SBOM names: the file kSbomFile of a folder as above. Errors: the same.
  virtual Result<Report> scan_sbom(const std::filesystem::path& dir) = 0;
  static constexpr const char* kSbomFile = "sbom.json";
  static constexpr std::chrono::seconds kMostWait{10}; ///< the scanner's own time runs already
  virtual std::string version() const = 0;

protected:
  static Error not_let_begin(); ///< what scan_after() says then
};

/// Judges a stored report of Trivy by a policy, as if its image were to be pushed to `repository`.
/// The image itself, the DB and the scanner are not looked at, so nothing follows from it but what
/// the policy would say; no pass is made. Errors: bad_input (no report of Trivy).
Result<Verdict> replay(std::string_view report, const GatePolicy& policy,
                       const std::string& repository, WallTime now);

/// What a search for leaked secrets says about one tree.
struct LeakFindings {
  std::vector<Denial> denials;
  std::vector<std::string> notes;
};

/// Reads an image's bytes for the gate, which are the job's and read elsewhere: the real one has
/// slipway-gate do it (stages/image).
class ContentReader {
public:
  virtual ~ContentReader() = default;
  /// Searches for the secrets of the job that pushes the image. Asked about every tree that is
  /// judged, before any other verdict counts: without one there is no gate, so no pass. Errors: it
  /// could not be searched, which is the operator's to mend.
  virtual Result<LeakFindings> search(const oci::Layout& layout, const oci::ImageTree& tree) = 0;
  /// oci::verify_tree(). Errors: those, and that nothing could be read.
  virtual Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::ImageTree& tree,
                                        const oci::VerifyRules& rules, oci::Flaw* flaw) = 0;
  /// The executables of one image, of every layer: gate_worker::find_executables(). Errors: those,
  /// and that nothing could be read.
  virtual Result<std::vector<oci::Executable>> executables(const oci::Layout& layout,
                                                           const oci::Digest& manifest) = 0;
  /// What its layers change of packages: gate_worker::package_changes(). Errors: likewise.
  virtual Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& layout,
                                                                  const oci::Digest& manifest) = 0;
  /// What the scanner passes over as SBOMs and is none: gate_worker::find_false_sboms(). Errors:
  /// likewise.
  virtual Result<std::vector<std::string>> false_sboms(const oci::Layout& layout,
                                                       const oci::Digest& manifest) = 0;
};

/// Trivy's arguments for a layout at `layout` and a DB below `cache`, both as the sandbox sees
/// them. Pure; part of what a cached verdict depends on. Source: trivy 0.69.3, pkg/flag.
std::vector<std::string> trivy_arguments(const std::string& layout, const oci::Digest& manifest,
                                         const std::string& cache, bool misconfigurations = false);
/// For the SBOM at `file`, likewise.
std::vector<std::string> trivy_sbom_arguments(const std::string& file, const std::string& cache);
/// Grype's likewise; the layout holds one image, so that nothing names it.
std::vector<std::string> grype_arguments(const std::string& layout);
std::vector<std::string> grype_sbom_arguments(const std::string& file);
/// What Grype has no flags for: all of its environment. Pure; part of what a cached verdict depends
/// on. Source: grype 0.121.3, cmd/grype/cli/options.
std::vector<std::pair<std::string, std::string>> grype_environment(const std::string& cache);

/// A scanner in its own sandbox: no network, no credential, no environment but its own, hermetic
/// flags.
class SandboxedScanner : public Scanner {
public:
  /// `started`: see Podman::run_attached.
  using Started = std::function<void(const sandbox::ContainerFacts&)>;
  Result<Report> scan(const std::filesystem::path& layout_dir,
                      const oci::Digest& manifest) override;
  Result<Report> scan_after(const std::filesystem::path& layout_dir, const oci::Digest& manifest,
                            const std::function<bool()>& may_begin) override;
  Result<Report> scan_sbom(const std::filesystem::path& dir) override;
  std::string version() const override;
  /// Removes the sandboxes of scans whose process is gone: it was killed. Errors: those of Podman.
  static Status remove_orphans(sandbox::Podman& podman, const std::string& owner_label);

protected:
  /// What differs from scanner to scanner.
  struct Program {
    std::string name; ///< "trivy": also the key of [gate], and with "_sha256" that of its pin
    std::filesystem::path file;
    std::string sha256; ///< pin; "" = not pinned
    std::filesystem::path db_dir;
    std::filesystem::path java_db_dir; ///< "" = there is none
    /// Of a layout, its manifest and the folder below which the DB is `db`, as the sandbox sees
    /// them.
    std::vector<std::string> (*arguments)(const std::string& layout, const oci::Digest& manifest,
                                          const std::string& cache);
    /// Of an SBOM's file, likewise.
    std::vector<std::string> (*sbom_arguments)(const std::string& file, const std::string& cache);
    std::vector<std::pair<std::string, std::string>> environment;
  };
  SandboxedScanner(Program program, ScannerConfig config, sandbox::Podman& podman,
                   sandbox::IdSlot ids, std::string owner_label, Started started);
  static constexpr const char* kCache = "/opt/cache"; ///< where the folder of the DB is

private:
  /// Of a folder that is mounted for it; `name` becomes part of the sandbox's.
  Result<Report> run(const std::filesystem::path& content, const std::string& name,
                     std::vector<std::string> arguments,
                     const std::function<bool()>& may_begin = nullptr);
  Program program_;
  ScannerConfig config_;
  sandbox::Podman& podman_;
  sandbox::IdSlot ids_;
  std::string owner_label_;
  Started started_;
};

class SandboxedTrivy final : public SandboxedScanner {
public:
  SandboxedTrivy(ScannerConfig config, sandbox::Podman& podman, sandbox::IdSlot ids,
                 std::string owner_label, Started started = nullptr);
};

/// The second scanner.
class SandboxedGrype final : public SandboxedScanner {
public:
  SandboxedGrype(ScannerConfig config, sandbox::Podman& podman, sandbox::IdSlot ids,
                 std::string owner_label, Started started = nullptr);
};

/// Judges and remembers: a verdict that let an image pass is kept in `cache_dir` under the digest
/// of everything it depends on (image, destination, policy, scanner, flags, DB, slipway itself),
/// until the earliest expiry of any of these. A remembered verdict spares the scan and the
/// re-reading of layers; manifests, configs and sizes are checked again, and whoever uploads hashes
/// the bytes on their way. Judging by hand (no repository) never uses the cache. Leaked secrets are
/// searched for each time, for each job has others.
/// Where the configuration names a second scanner, it is asked about every image, too: what it
/// finds blocks by the same policy, and nothing that it says takes back what the first one found.
class Bench;
class Exceptions;

class TrivyGate {
public:
  /// `second`: Grype; not asked where the configuration names none, and missed where it does.
  TrivyGate(ScannerConfig config, Scanner& scanner, ContentReader& contents, const Clock& clock,
            Scanner* second = nullptr);
  /// Judges `root` of `layout` for a destination ("" = by hand, no pass is made). A denial is not
  /// an error; an Error means that the gate could not judge (and nothing may be pushed).
  Result<Judgement> judge(const oci::Layout& layout, const oci::Digest& root,
                          const GatePolicy& policy, const std::string& repository);

private:
  /// Lent, for one judgement.
  struct Subject {
    const oci::Layout& layout;
    const oci::Digest& root;
    const GatePolicy& policy;
    const Exceptions& exceptions;
    const std::string& repository;
  };
  Verdict begin_verdict(const Subject& subject) const;
  /// Of all but leaked secrets. `is_pointless` is asked on the way: true ends it with an Error.
  Result<Judgement> judge_content(const Subject& subject, const oci::ImageTree& tree,
                                  oci::VerifyRules rules,
                                  const std::function<bool()>& is_pointless);
  static Judgement end(const Subject& subject, Bench& bench, Verdict& verdict);

  ScannerConfig config_;
  Scanner& scanner_;
  ContentReader& contents_;
  const Clock& clock_;
  Scanner* second_;
};

} // namespace slipway::gate
