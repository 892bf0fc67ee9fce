// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/database.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate/verdict_cache.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <set>
#include <tuple>

namespace slipway::gate {
namespace {

/// Raised whenever the same input may lead to another verdict: old verdicts are then forgotten.
constexpr const char* kJudgementVersion = "1";

// Families whose packages Trivy 0.69.3 looks up. For any other it reports nothing, and exits with
// 0. Source: trivy 0.69.3, pkg/detector/ospkg/detect.go.
constexpr std::array<std::string_view, 25> kFamilies{"alma",
                                                     "alpine",
                                                     "amazon",
                                                     "azurelinux",
                                                     "bottlerocket",
                                                     "cbl-mariner",
                                                     "centos",
                                                     "chainguard",
                                                     "debian",
                                                     "echo",
                                                     "minimos",
                                                     "opensuse",
                                                     "opensuse-leap",
                                                     "opensuse-tumbleweed",
                                                     "opensuse.leap",
                                                     "opensuse.tumbleweed",
                                                     "oracle",
                                                     "photon",
                                                     "redhat",
                                                     "rocky",
                                                     "slem",
                                                     "sles",
                                                     "suse linux enterprise server",
                                                     "ubuntu",
                                                     "wolfi"};

// Released by thieves of Trivy's signing keys in March 2026 (CVE-2026-33634).
constexpr std::array<std::string_view, 3> kMalicious{"0.69.4", "0.69.5", "0.69.6"};

std::string hours(std::chrono::seconds age) {
  return std::to_string(std::chrono::duration_cast<std::chrono::hours>(age).count()) + " h";
}

std::string policy_json(const GatePolicy& policy) {
  return nlohmann::json{{"threshold", severity_name(policy.threshold)},
                        {"fixed_only", policy.fixed_only},
                        {"unknown_blocks_when_fixable", policy.unknown_blocks_when_fixable},
                        {"secrets_block", policy.secrets_block},
                        {"allow_scratch", policy.allow_scratch},
                        {"db_warn_age_h", policy.db_warn_age.count()},
                        {"db_max_age_h", policy.db_max_age.count()},
                        {"max_layer_bytes", policy.max_layer_bytes},
                        {"pass_lifetime_s", policy.pass_lifetime.count()}}
      .dump();
}

bool blocks(const Finding& finding, const GatePolicy& policy) {
  if (finding.is_secret) return policy.secrets_block;
  const bool fixable = !finding.fixed.empty();
  // Nobody has rated it yet: too new to be called harmless.
  if (finding.severity == Severity::unknown && policy.threshold != Severity::unknown) {
    return policy.unknown_blocks_when_fixable && fixable;
  }
  return finding.severity >= policy.threshold && (fixable || !policy.fixed_only);
}

// A private folder that is gone with its owner.
class ScratchDir {
public:
  static Result<ScratchDir> under(const std::filesystem::path& parent) {
    if (auto made = make_directory(parent, 0700); !made) return std::move(made).error();
    std::string path = (parent / "scan-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) return io_error("mkdtemp", errno, path);
    return ScratchDir{std::move(path)};
  }
  ScratchDir(ScratchDir&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  ScratchDir& operator=(ScratchDir&&) = delete;
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir() {
    std::error_code ignored; // the next sweep of the cache folder gets what is left
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

private:
  explicit ScratchDir(std::filesystem::path path) : path_{std::move(path)} {}
  std::filesystem::path path_;
};

// The scanner takes the first image that it finds in a layout, so it gets a layout that holds one.
Status fill_single_image(const oci::Layout& from, const oci::ImageTree::Image& image,
                         const std::filesystem::path& dir) {
  auto layout = oci::Layout::create(dir);
  if (!layout) return std::move(layout).error();
  auto plain = image.descriptor;
  plain.media_type = image.manifest.media_type;
  plain.annotations.clear();
  for (const auto& digest : {plain.digest, image.manifest.config.digest}) {
    if (auto done = layout->link_blob(from, digest); !done) return done;
  }
  for (const auto& layer : image.manifest.layers) {
    if (auto done = layout->link_blob(from, layer.digest); !done) return done;
  }
  return layout->write_index({plain});
}

// Collects what is said about one tree.
class Bench {
public:
  Bench(Verdict& verdict, const GatePolicy& policy) : verdict_{verdict}, policy_{policy} {}

  void deny(std::string code, std::string message) {
    add({std::move(code), std::move(message), false});
  }
  void deny_operator(std::string code, std::string message) {
    add({std::move(code), std::move(message), true});
  }
  void warn(std::string text) {
    auto& warnings = verdict_.warnings;
    if (std::find(warnings.begin(), warnings.end(), text) == warnings.end() &&
        warnings.size() < 50) {
      warnings.push_back(std::move(text));
    }
  }

  void judge_report(const oci::ImageTree::Image& image, const ScanReport& report,
                    const std::string& diagnostics, const std::string& who) {
    if (std::find(kMalicious.begin(), kMalicious.end(), report.trivy_version) != kMalicious.end()) {
      deny_operator("scanner_malicious", "Trivy " + report.trivy_version +
                                             " is a known malicious release. Install 0.69.3, and "
                                             "treat what this machine holds as stolen.");
    }
    if (!report.trivy_version.empty())
      verdict_.scanner = "trivy " + printable(report.trivy_version, 40);

    std::vector<std::string> diff_ids;
    for (const auto& digest : image.config->diff_ids)
      diff_ids.push_back(digest.str());
    if (report.image_id != image.manifest.config.digest.str() || report.diff_ids != diff_ids) {
      deny_operator("report_mismatch",
                    "The scanner's report is about another image than " + who +
                        ". Nothing is concluded from it; try again, and report it if it stays.");
      return;
    }
    const bool scratch_is_fine = policy_.allow_scratch && report.language_packages > 0;
    judge_os(report, who, scratch_is_fine);
    if (report.suppressed > 0) {
      deny_operator("findings_suppressed", "Something made the scanner hide " +
                                               std::to_string(report.suppressed) + " findings of " +
                                               who + ", although slipway gives it no ignore list.");
    }
    const auto coverage = read_diagnostics(diagnostics, scratch_is_fine);
    for (const auto& line : coverage.gaps) {
      deny("coverage_partial", "The scanner could not look at all of " + who + ": " + line);
    }
    for (const auto& line : coverage.warnings)
      warn(line);
    if (report.third_party_packages > 0) {
      warn(std::to_string(report.third_party_packages) + " packages of " + who +
           " are from third parties: their vulnerabilities are not known to the scanner");
    }
    for (auto finding : report.findings) {
      if (several_images) finding.target = name_of(image) + ": " + finding.target;
      take(std::move(finding));
    }
  }

  void finish() {
    std::stable_sort(verdict_.findings.begin(), verdict_.findings.end(),
                     [](const Finding& a, const Finding& b) {
                       return std::tuple{!a.blocks, -static_cast<int>(a.severity)} <
                              std::tuple{!b.blocks, -static_cast<int>(b.severity)};
                     });
    const bool blocked = !verdict_.findings.empty() && verdict_.findings.front().blocks;
    verdict_.passed = verdict_.denials.empty() && !blocked;
  }

  static std::string name_of(const oci::ImageTree::Image& image) {
    const auto& platform = image.descriptor.platform ? *image.descriptor.platform
                           : image.config            ? image.config->platform
                                                     : oci::Platform{};
    return printable(platform.str(), 60);
  }

  bool several_images = false;

private:
  void add(Denial denial) {
    for (const auto& known : verdict_.denials) {
      if (known.code == denial.code && known.message == denial.message) return;
    }
    verdict_.denials.push_back(std::move(denial));
  }

  void judge_os(const ScanReport& report, const std::string& who, bool scratch_is_fine) {
    const auto os = printable(report.os_family + " " + report.os_name, 80);
    if (!report.has_os) {
      if (scratch_is_fine) return;
      deny("no_os", policy_.allow_scratch
                        ? "No operating system and no language package was found in " + who +
                              ", so nothing was looked up. An image from scratch passes only where "
                              "the scanner can read what its program is made of (Go and Rust "
                              "binaries that keep their build information)."
                        : "No operating system was found in " + who +
                              ", so its packages cannot be looked up. Use a base image that keeps "
                              "/etc/os-release and its package database, or ask the operator to "
                              "allow scratch images for this repository.");
      return;
    }
    if (std::find(kFamilies.begin(), kFamilies.end(), report.os_family) == kFamilies.end()) {
      deny("os_unsupported", "The scanner knows no vulnerabilities for " + os + " (" + who +
                                 "). Use a base image of a supported distribution, such as Debian, "
                                 "Ubuntu, Alpine or a RHEL-like one.");
      return;
    }
    if (report.os_end_of_life) {
      deny("os_end_of_life", os + " (" + who +
                                 ") gets no security updates any more: what was found is not all "
                                 "there is. Use a newer base image.");
    }
    if (report.os_packages == 0) {
      deny("no_packages", "The package database of " + os + " (" + who +
                              ") is missing or empty, so nothing was looked up. Keep "
                              "/var/lib/dpkg, /lib/apk/db or the rpm database in the image.");
    }
  }

  void take(Finding finding) {
    const auto key = std::tuple{finding.id, finding.package, finding.installed, finding.target};
    if (!seen_.insert(key).second) return;
    finding.blocks = blocks(finding, policy_);
    if (!finding.is_secret) ++verdict_.counts[finding.severity];
    verdict_.findings.push_back(std::move(finding));
  }

  Verdict& verdict_;
  const GatePolicy& policy_;
  std::set<std::tuple<std::string, std::string, std::string, std::string>> seen_;
};

std::string scanner_identity(const ScannerConfig& config) {
  if (!config.trivy_sha256.empty()) return config.trivy_sha256;
  struct stat facts {};
  if (::stat(config.trivy.c_str(), &facts) != 0) return "none";
  return std::to_string(facts.st_ino) + " " + std::to_string(facts.st_size) + " " +
         std::to_string(facts.st_mtim.tv_sec) + " " + std::to_string(facts.st_ctim.tv_sec);
}

} // namespace

oci::KnownLayers known_layers(const ScannerConfig& config) {
  return oci::KnownLayers{config.cache_dir / "layers"};
}

TrivyGate::TrivyGate(ScannerConfig config, Scanner& scanner, LeakScanner& leaks, const Clock& clock)
    : config_{std::move(config)}, scanner_{scanner}, leaks_{leaks}, clock_{clock} {}

Result<Judgement> TrivyGate::judge(const oci::Layout& layout, const oci::Digest& root,
                                   const GatePolicy& policy, const std::string& repository) {
  const auto now = clock_.now();
  Verdict verdict{.digest = root,
                  .passed = false,
                  .denials = {},
                  .findings = {},
                  .warnings = {},
                  .counts = {},
                  .judged_at = now,
                  .expires_at = now,
                  .scanner = scanner_.version(),
                  .db_updated_at = {},
                  .policy_digest = oci::Digest::of(policy_json(policy)).str(),
                  .from_cache = false};
  Bench bench{verdict, policy};
  std::vector<std::string> passing_notes; // true now, not part of what is remembered
  const auto conclude = [&]() -> Judgement {
    bench.finish();
    verdict.warnings.insert(verdict.warnings.begin(), passing_notes.begin(), passing_notes.end());
    Judgement judgement{.verdict = std::move(verdict), .pass = std::nullopt};
    if (judgement.verdict.passed && !repository.empty()) {
      judgement.pass =
          ScanPass{root, repository, judgement.verdict.expires_at, judgement.verdict.policy_digest};
    }
    return judgement;
  };

  auto tree = oci::read_tree(layout, root);
  if (!tree) {
    if (tree.error().kind != ErrorKind::bad_input && tree.error().kind != ErrorKind::not_found) {
      return std::move(tree).error().in("judging " + root.str());
    }
    bench.deny("image_invalid", "The image cannot be read: " + tree.error().text());
    return conclude();
  }

  // First of all, and whatever was remembered: each job has secrets of its own.
  auto leaks = leaks_.search(layout, *tree);
  if (!leaks) return std::move(leaks).error().in("judging " + root.str());
  for (auto& note : leaks->notes)
    passing_notes.push_back(std::move(note));
  if (!leaks->denials.empty()) {
    verdict.scanner.clear(); // it was not asked
    for (auto& denial : leaks->denials)
      (denial.operators ? bench.deny_operator(std::move(denial.code), std::move(denial.message))
                        : bench.deny(std::move(denial.code), std::move(denial.message)));
    return conclude();
  }

  auto database = read_database(config_.db_dir);
  if (!database) {
    switch (database.error().kind) {
    case ErrorKind::not_found:
      bench.deny_operator("db_missing", "There is no vulnerability DB in " +
                                            config_.db_dir.string() +
                                            ". The operator has to install one.");
      break;
    case ErrorKind::bad_input:
      bench.deny_operator("db_invalid", "The vulnerability DB in " + config_.db_dir.string() +
                                            " cannot be used: " + database.error().text());
      break;
    default:
      return std::move(database).error().in("judging " + root.str());
    }
    return conclude();
  }
  verdict.db_updated_at = database->updated_at;
  const auto age = now - database->updated_at;
  if (age > policy.db_max_age) {
    bench.deny_operator("db_stale", "The vulnerability DB is " + hours(age) +
                                        " old, the policy allows " + hours(policy.db_max_age) +
                                        ". The operator has to update it.");
    return conclude();
  }
  if (age < -std::chrono::hours{24}) {
    bench.deny_operator(
        "db_from_future",
        "The vulnerability DB claims to be of " + rfc3339(database->updated_at) +
            ", which lies ahead: its age cannot be told. Check the clock and the DB.");
    return conclude();
  }
  if (age > policy.db_warn_age)
    passing_notes.push_back("the vulnerability DB is " + hours(age) + " old");
  if (config_.trivy_sha256.empty())
    passing_notes.push_back("the scanner is not pinned: set [gate] trivy_sha256");
  verdict.expires_at = std::min(now + policy.pass_lifetime,
                                database->updated_at + std::chrono::seconds{policy.db_max_age});

  // Everything that the verdict depends on. The end of a key's life is in its file.
  const auto key = oci::Digest::of(
      nlohmann::json{{"image", root.str()},
                     {"repository", repository},
                     {"policy", policy_json(policy)},
                     {"scanner", scanner_.version() + " " + scanner_identity(config_)},
                     {"arguments", trivy_arguments("", root, "")},
                     {"db", database->identity},
                     {"slipway", std::string{SLIPWAY_VERSION} + " " + kJudgementVersion}}
          .dump());
  const bool by_hand =
      repository.empty(); // a layout that others may write to: nothing is remembered
  if (!by_hand) {
    if (auto known = load_verdict(config_.cache_dir, key, root, now)) {
      verdict = *std::move(known);
      return conclude();
    }
  }

  const auto layers = known_layers(config_);
  if (auto fine =
          oci::verify_tree(layout, *tree, policy.max_layer_bytes, by_hand ? nullptr : &layers);
      !fine) {
    if (fine.error().kind != ErrorKind::bad_input && fine.error().kind != ErrorKind::not_found) {
      return std::move(fine).error().in("judging " + root.str());
    }
    bench.deny("blob_mismatch", "The image is not what it says it is: " + fine.error().text() +
                                    ". Build it again; if it stays, report it.");
    return conclude();
  }

  std::set<oci::Digest> wanted;
  for (const auto& image : tree->images) {
    if (image.is_attestation) continue;
    if (!image.config) {
      bench.deny("not_an_image", "Manifest " + image.descriptor.digest.str() +
                                     " is no container image (config of type '" +
                                     printable(image.manifest.config.media_type, 100) +
                                     "'), so it cannot be scanned.");
      return conclude();
    }
    wanted.insert(image.descriptor.digest);
  }
  if (wanted.empty()) {
    bench.deny("no_image", "There is no image below " + root.str() +
                               ", so there is nothing to judge and nothing to push.");
    return conclude();
  }
  bench.several_images = wanted.size() > 1;

  for (const auto& image : tree->images) {
    if (wanted.erase(image.descriptor.digest) == 0) continue; // attestation, or judged already
    const auto who = "the image for " + Bench::name_of(image);
    auto scratch = ScratchDir::under(config_.cache_dir);
    if (!scratch) return std::move(scratch).error().in("judging " + root.str());
    const auto dir = scratch->path() / "layout";
    if (auto filled = fill_single_image(layout, image, dir); !filled)
      return std::move(filled).error().in("judging " + root.str());
    auto scanned = scanner_.scan(dir, image.descriptor.digest);
    if (!scanned) {
      const auto& error = scanned.error();
      const auto why = error.text() + (error.hint.empty() ? "" : " (" + error.hint + ")");
      if (error.kind == ErrorKind::timed_out) {
        bench.deny_operator("scanner_timed_out",
                            "The scanner did not finish " + who + " in time: " + why);
      } else if (error.kind == ErrorKind::misconfigured) {
        bench.deny_operator("scanner_untrusted",
                            "The scanner cannot be trusted or is not installed: " + why);
      } else {
        bench.deny_operator("scanner_failed", "There is no scan report for " + who + ": " + why);
      }
      return conclude();
    }
    auto report = parse_report(scanned->json);
    if (!report) {
      bench.deny_operator("report_invalid", "The scanner's report on " + who +
                                                " cannot be used: " + report.error().text());
      return conclude();
    }
    bench.judge_report(image, *report, scanned->diagnostics, who);
  }

  bench.finish();
  if (verdict.passed && !by_hand && verdict.expires_at > now) {
    if (auto saved = save_verdict(config_.cache_dir, key, verdict); !saved) {
      passing_notes.push_back("the verdict could not be remembered (" + saved.error().text() +
                              "); the next push scans again");
    }
  }
  return conclude();
}

} // namespace slipway::gate
