// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/bench.hpp"
#include "executor/gate/canary.hpp"
#include "executor/gate/database.hpp"
#include "executor/gate/exceptions.hpp"
#include "executor/gate/origins.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate/sboms.hpp"
#include "executor/gate/scratch_dir.hpp"
#include "executor/gate/second_scanner.hpp"
#include "executor/gate/threats.hpp"
#include "executor/gate/verdict_cache.hpp"
#include "executor/oci/artifact.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <set>
#include <string_view>

namespace slipway::gate {
namespace {

/// Raised whenever the same input may lead to another verdict: old verdicts are then forgotten.
constexpr const char* kJudgementVersion = "9";

// Where the files are is no part of it: what is in them is one of the key.
nlohmann::json threats_json(const ThreatPolicy& threats) {
  return {{"kev", threats.asks_kev()},
          {"kev_spared", threats.kev_spared},
          {"kev_max_age_s", threats.kev_max_age.count()},
          {"epss", threats.asks_epss()},
          {"epss_threshold", threats.epss_threshold},
          {"epss_max_age_s", threats.epss_max_age.count()},
          {"cvss_threshold", threats.cvss_threshold}};
}

// `exceptions`: those that are live and may concern the destination.
std::string policy_json(const GatePolicy& policy, const Exceptions& exceptions) {
  return nlohmann::json{
      {"threshold", severity_name(policy.threshold)},
      {"fixed_only", policy.fixed_only},
      {"unknown_blocks_when_fixable", policy.unknown_blocks_when_fixable},
      {"secrets_block", policy.secrets_block},
      {"base_secrets", policy.base_secrets},
      {"allow_scratch", policy.allow_scratch},
      {"fixed_grace_days", policy.fixed_grace_days},
      {"waiver_max_days", policy.waiver_max_days},
      {"misconfig", policy.misconfig_threshold ? severity_name(*policy.misconfig_threshold) : ""},
      {"denied_licenses", policy.denied_licenses},
      {"threats", threats_json(policy.threats)},
      {"artifacts", policy.artifacts},
      {"exceptions", exceptions.fingerprint()},
      {"db_warn_age_s", policy.db_warn_age.count()},
      {"db_max_age_s", policy.db_max_age.count()},
      {"max_layer_bytes", policy.max_layer_bytes},
      {"max_image_bytes", policy.max_image_bytes},
      {"pass_lifetime_s", policy.pass_lifetime.count()}}
      .dump();
}

Verdict empty_verdict(const oci::Digest& digest, WallTime now, const GatePolicy& policy,
                      const Exceptions& exceptions) {
  return Verdict{.digest = digest,
                 .passed = false,
                 .denials = {},
                 .allowed = {},
                 .findings = {},
                 .warnings = {},
                 .counts = {},
                 .judged_at = now,
                 .expires_at = now,
                 .scanner = {}, // until a report of one is judged
                 .db_updated_at = {},
                 .second_scanner = {},
                 .second_db_built_at = {},
                 .db_digest = {},
                 .java_db_digest = {},
                 .second_db_digest = {},
                 .policy_digest = oci::Digest::of(policy_json(policy, exceptions)).str(),
                 .threshold = severity_name(policy.threshold),
                 .from_cache = false,
                 .inventories = {}};
}

// How the gate answers a flaw of the image.
struct Answer {
  const char* code;
  const char* message; ///< what was found follows
  const char* advice;
};

Answer answer_to(oci::Flaw flaw) {
  constexpr const char* kBuildAgain = "Build it again; if it stays, report it.";
  constexpr const char* kOneReading = "Use a tool that writes it in one way only.";
  switch (flaw) {
  case oci::Flaw::unreadable:
    return {"image_invalid", "The image cannot be read", kBuildAgain};
  case oci::Flaw::ambiguous_json:
    return {"json_ambiguous", "Two readers would see two images", kOneReading};
  case oci::Flaw::ambiguous_manifest:
    return {"manifest_ambiguous", "Two readers would see two images", kOneReading};
  case oci::Flaw::digest_form:
    return {"digest_not_canonical", "A digest is not written as it must be", kOneReading};
  case oci::Flaw::foreign_content:
    return {"foreign_content", "Content would come from elsewhere, unjudged",
            "Build it without foreign layers."};
  case oci::Flaw::encrypted_layer:
    return {"layer_encrypted", "A layer cannot be read", "Push it unencrypted."};
  case oci::Flaw::unknown_layer_type:
    return {"layer_type_unknown", "A layer is nothing that can be scanned",
            "Use tar layers, plain or compressed with gzip or zstd."};
  case oci::Flaw::false_layer_type:
    return {"layer_type_false", "A layer is not what its media type says", kBuildAgain};
  case oci::Flaw::lazy_layer:
    return {"layer_lazy", "Some runtimes would read files by an index that was not judged",
            "Compress with plain gzip or zstd, not eStargz or zstd:chunked, also in base images."};
  case oci::Flaw::hidden_bytes:
    return {"layer_hidden_bytes", "A layer holds bytes that only some readers see",
            "Compress it in one piece with plain gzip or zstd."};
  case oci::Flaw::too_large:
    return {"layer_too_large", "A layer is larger than the gate may read",
            "Make it smaller, or ask the operator ([gate] max_layer, max_image)."};
  case oci::Flaw::duplicate_diff_id:
    return {"diff_id_duplicate", "A scanner would read one layer and skip another", kBuildAgain};
  case oci::Flaw::false_diff_id:
    return {"diff_id_false", "The config names other content than the layers hold", kBuildAgain};
  case oci::Flaw::wrong_bytes:
    return {"blob_mismatch", "The image is not what it says it is", kBuildAgain};
  case oci::Flaw::false_attestation:
    return {"attestation_disguise", "Something is called an attestation and is none",
            "Attestations are not scanned, so they must hold in-toto statements and nothing else."};
  }
  return {"image_invalid", "The image cannot be read", kBuildAgain}; // unreachable
}

std::string words_on(oci::Flaw flaw, const std::string& what) {
  const auto answer = answer_to(flaw);
  return std::string{answer.message} + ": " + what + ". " + answer.advice;
}

void refuse_flaw(Bench& bench, oci::Flaw flaw, const std::string& what) {
  bench.refuse(answer_to(flaw).code, words_on(flaw, what));
}

// Trivy takes layers below a CMD in the history for a base image, and looks for no secrets in them;
// but the image's author writes the history. Gives the config with such entries made harmless; none
// where there are none. Source: trivy 0.69.3, pkg/fanal/image/image.go, GuessBaseImageIndex.
std::optional<std::string> without_base_layers(const std::string& config) {
  auto document = nlohmann::json::parse(config, nullptr, false);
  const auto history = document.is_object() ? document.find("history") : document.end();
  if (!document.is_object() || history == document.end() || !history->is_array())
    return std::nullopt;
  bool changed = false;
  for (auto& step : *history) {
    if (!step.is_object() || !step.contains("created_by") || !step["created_by"].is_string())
      continue;
    auto& words = step["created_by"].get_ref<std::string&>();
    const bool is_command = words.starts_with("CMD") || words.starts_with("/bin/sh -c #(nop)  CMD");
    // "CMD-SHELL" of a health check is none.
    if (!is_command &&
        (words.find("CMD") == std::string::npos || words.find("HEALTHCHECK") != std::string::npos))
      continue;
    words.insert(0, "# ");
    changed = true;
  }
  if (!changed) return std::nullopt;
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// What the scanner is shown of one image.
struct ScanCopy {
  oci::Digest manifest;
  oci::Digest config; ///< the report has to name it
};

// The scanner takes the first image that it finds in a layout, so it gets a layout that holds one.
Result<ScanCopy> fill_single_image(const oci::Layout& from, const oci::ImageTree::Image& image,
                                   const std::filesystem::path& dir, bool base_secrets) {
  auto layout = oci::Layout::create(dir);
  if (!layout) return std::move(layout).error();
  auto plain = image.descriptor;
  plain.media_type = image.manifest.media_type;
  plain.annotations.clear();
  auto config = image.manifest.config;
  std::optional<std::string> shown;
  if (base_secrets) {
    auto text = from.read_blob(config.digest, oci::kMaxConfigBytes);
    if (!text) return std::move(text).error();
    shown = without_base_layers(*text);
  }
  if (shown) {
    auto written = layout->write_blob(*shown);
    if (!written) return std::move(written).error();
    config.digest = *std::move(written);
    config.size = shown->size();
    auto text = from.read_blob(plain.digest, oci::kMaxManifestBytes);
    if (!text) return std::move(text).error();
    auto manifest = nlohmann::json::parse(*text, nullptr, false);
    manifest["config"] = {
        {"mediaType", config.media_type}, {"digest", config.digest.str()}, {"size", config.size}};
    const auto body = manifest.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    auto made = layout->write_blob(body);
    if (!made) return std::move(made).error();
    plain.digest = *std::move(made);
    plain.size = body.size();
  } else {
    for (const auto& digest : {plain.digest, config.digest}) {
      if (auto done = layout->link_blob(from, digest); !done) return std::move(done).error();
    }
  }
  for (const auto& layer : image.manifest.layers) {
    if (auto done = layout->link_blob(from, layer.digest); !done) return std::move(done).error();
  }
  if (auto done = layout->write_index({plain}); !done) return std::move(done).error();
  return ScanCopy{plain.digest, config.digest};
}

// An image's copy for the scanner, in a folder of its own.
struct PreparedScan {
  ScratchDir scratch;
  ScanCopy copy;
  static constexpr const char* kLayout = "layout";
  std::filesystem::path layout() const { return scratch.path() / kLayout; }
};

// A scan that is begun while its image is still being verified: its sandbox comes up meanwhile, and
// the scanner gets to run only once the bytes are proven.
class EarlyScan {
public:
  EarlyScan(Scanner& scanner, oci::Digest image, PreparedScan prepared)
      : image_{std::move(image)}, prepared_{std::move(prepared)},
        scan_{std::async(std::launch::async, [this, &scanner] {
          return scanner.scan_after(prepared_.layout(), prepared_.copy.manifest,
                                    [this] { return may_begin(); });
        })} {}
  EarlyScan(const EarlyScan&) = delete;
  EarlyScan& operator=(const EarlyScan&) = delete;
  ~EarlyScan() {
    if (scan_.valid()) verified_.set_value(false);
  }
  const oci::Digest& image() const { return image_; }
  /// Once, and only after the image was verified. `report` stays empty where that took too long.
  PreparedScan finish(std::optional<Result<Scanner::Report>>& report) {
    verified_.set_value(true);
    auto scanned = scan_.get();
    if (!is_late_) report = std::move(scanned);
    return std::move(prepared_);
  }

private:
  bool may_begin() {
    is_late_ = is_verified_.wait_for(Scanner::kMostWait) != std::future_status::ready;
    return !is_late_ && is_verified_.get();
  }
  oci::Digest image_;
  PreparedScan prepared_;
  std::promise<bool> verified_;
  std::future<bool> is_verified_ = verified_.get_future();
  bool is_late_ = false;                      ///< written by the scan, read behind it
  std::future<Result<Scanner::Report>> scan_; ///< ends first: it uses all of these
};

std::string name_of(const oci::ImageTree::Image& image) {
  const auto& platform = image.descriptor.platform ? *image.descriptor.platform
                         : image.config            ? image.config->platform
                                                   : oci::Platform{};
  return printable(platform.str(), 60);
}

bool is_about(const ScanReport& report, const oci::ImageTree::Image& image, const ScanCopy& copy) {
  std::vector<std::string> diff_ids;
  for (const auto& digest : image.config->diff_ids)
    diff_ids.push_back(digest.str());
  return report.image_id == copy.config.str() && report.diff_ids == diff_ids;
}

// In what Trivy says where it met a Java archive and could not open its DB of them.
constexpr std::string_view kNoJavaDb = "Unable to initialize the Java DB";
// It has no advisories: when it is old, what is newer goes unrecognised if it does not name itself.
constexpr std::chrono::hours kOldJavaDb{24 * 30};

// None where there is no report that could be used, which was denied.
std::optional<ScanReport> read_report(const Result<Scanner::Report>& scanned,
                                      const std::string& who, Bench& bench,
                                      const Result<Database>& java_db) {
  if (!scanned) {
    const auto& error = scanned.error();
    const auto why = error.text() + (error.hint.empty() ? "" : " (" + error.hint + ")");
    if (why.find(kNoJavaDb) != std::string::npos) {
      bench.deny_operator(
          "java_db_missing",
          "In " + who + " there are Java archives, and no Java DB that tells what they are: " +
              (java_db ? why : java_db.error().text()) +
              ". The operator has to install one: [gate] java_db_dir.");
    } else if (error.kind == ErrorKind::timed_out) {
      bench.deny_operator("scanner_timed_out",
                          "The scanner did not finish " + who + " in time: " + why);
    } else if (error.kind == ErrorKind::misconfigured) {
      bench.deny_operator("scanner_untrusted",
                          "The scanner cannot be trusted or is not installed: " + why);
    } else {
      bench.deny_operator("scanner_failed", "There is no scan report for " + who + ": " + why);
    }
    return std::nullopt;
  }
  auto report = parse_report(scanned->json);
  if (!report) {
    bench.deny_operator("report_invalid", "The scanner's report on " + who +
                                              " cannot be used: " + report.error().text());
    return std::nullopt;
  }
  return *std::move(report);
}

bool is_about_the_image(const Error& error) {
  return error.kind == ErrorKind::bad_input || error.kind == ErrorKind::not_found;
}

// What follows the message that nothing is known of an image.
std::string undescribed(const Sboms::Cover& cover, bool has_packages) {
  if (cover.missing.empty())
    return cover.documents.empty() && !has_packages ? " It has no executable." : "";
  return " Of the policy's SBOMs none names " + cover.missing.front() +
         (cover.missing.size() == 1
              ? "."
              : ", nor " + std::to_string(cover.missing.size() - 1) + " more executables.");
}

// Which DBs the verdict is by, for they still lie there. Errors: unavailable (others do); io.
Status note_databases(Verdict& verdict, const ScannerConfig& config, const Database& db,
                      const Result<Database>& java_db) {
  auto digest = digest_of_database(config.db_dir / "trivy.db", config.cache_dir);
  if (!digest) return std::move(digest).error();
  const auto now = read_database(config.db_dir);
  if (!now || now->identity != db.identity) return database_replaced(config.db_dir);
  verdict.db_digest = digest->str();
  if (!java_db) return {};
  auto java = digest_of_database(config.java_db_dir / "trivy-java.db", config.cache_dir);
  if (!java) return std::move(java).error();
  const auto java_now = read_java_database(config.java_db_dir);
  if (!java_now || java_now->identity != java_db->identity)
    return database_replaced(config.java_db_dir);
  verdict.java_db_digest = java->str();
  return {};
}

Status write_sbom(const std::filesystem::path& dir, const std::string& text) {
  if (auto made = make_directory(dir, 0755); !made) return made;
  return replace_file(dir / Scanner::kSbomFile, text, 0444);
}

} // namespace

oci::KnownLayers known_layers(const std::filesystem::path& cache_dir) {
  return oci::KnownLayers{cache_dir / "layers"};
}

TrivyGate::TrivyGate(ScannerConfig config, Scanner& scanner, ContentReader& contents,
                     const Clock& clock, Scanner* second)
    : config_{std::move(config)}, scanner_{scanner}, contents_{contents}, clock_{clock},
      second_{second} {}

Result<Judgement> TrivyGate::judge(const oci::Layout& layout, const oci::Digest& root,
                                   const GatePolicy& policy, const std::string& repository) {
  const Exceptions exceptions{policy, repository, clock_.now()};
  const bool by_hand =
      repository.empty(); // a layout that others may write to: nothing is remembered
  const auto layers = known_layers(config_.cache_dir);
  oci::VerifyRules rules{.max_layer = policy.max_layer_bytes,
                         .max_image = policy.max_image_bytes,
                         .known = by_hand ? nullptr : &layers,
                         .tolerated = {}};
  for (const auto tolerable : {oci::Flaw::lazy_layer, oci::Flaw::hidden_bytes}) {
    if (exceptions.has_allowance(answer_to(tolerable).code)) rules.tolerated.insert(tolerable);
  }
  const Subject subject{layout, root, policy, exceptions, repository};
  auto flaw = oci::Flaw::unreadable;
  auto tree = oci::read_tree(layout, root, &flaw);
  if (!tree) {
    if (!is_about_the_image(tree.error()))
      return std::move(tree).error().in("judging " + root.str());
    auto verdict = begin_verdict(subject);
    Bench bench{verdict, policy, exceptions};
    refuse_flaw(bench, flaw, tree.error().text());
    return end(subject, bench, verdict);
  }

  // Whatever was remembered: each job has secrets of its own. It takes as long as a scan, so both
  // are done at once, and what comes of the scan counts where nothing is found.
  auto searching =
      std::async(std::launch::async, [&] { return contents_.search(layout, *tree); }).share();
  const auto is_leaking = [&searching] {
    return searching.wait_for(std::chrono::seconds{0}) == std::future_status::ready &&
           (!searching.get() || !searching.get()->denials.empty());
  };
  auto judged = judge_content(subject, *tree, rules, is_leaking);
  const auto& leaks = searching.get();
  if (!leaks) return Error{leaks.error()}.in("judging " + root.str());
  if (leaks->denials.empty()) {
    if (judged)
      judged->verdict.warnings.insert(judged->verdict.warnings.begin(), leaks->notes.begin(),
                                      leaks->notes.end());
    return judged;
  }
  auto verdict = begin_verdict(subject);
  verdict.warnings = leaks->notes;
  Bench bench{verdict, policy, exceptions};
  if (std::all_of(leaks->denials.begin(), leaks->denials.end(),
                  [](const Denial& denial) { return denial.code == "leaks_not_searched"; })) {
    // Mostly because the image is not what it says, for which there is a better word.
    flaw = oci::Flaw::unreadable;
    auto checked = contents_.verify(layout, *tree, rules, &flaw);
    if (!checked && is_about_the_image(checked.error())) {
      refuse_flaw(bench, flaw, checked.error().text());
      return end(subject, bench, verdict);
    }
  }
  for (const auto& denial : leaks->denials)
    (denial.operators ? bench.deny_operator(denial.code, denial.message)
                      : bench.deny(denial.code, denial.message));
  return end(subject, bench, verdict);
}

Error Scanner::not_let_begin() {
  return {ErrorKind::unavailable, "the scanner was not let begin", "", {}};
}

Result<Scanner::Report> Scanner::scan_after(const std::filesystem::path& layout_dir,
                                            const oci::Digest& manifest,
                                            const std::function<bool()>& may_begin) {
  if (!may_begin()) return not_let_begin();
  return scan(layout_dir, manifest);
}

Judgement TrivyGate::end(const Subject& subject, Bench& bench, Verdict& verdict) {
  bench.finish();
  Judgement judgement{.verdict = std::move(verdict), .pass = std::nullopt};
  if (judgement.verdict.passed && !subject.repository.empty()) {
    judgement.pass = ScanPass{subject.root, subject.repository, judgement.verdict.expires_at,
                              judgement.verdict.policy_digest};
  }
  return judgement;
}

Verdict TrivyGate::begin_verdict(const Subject& subject) const {
  return empty_verdict(subject.root, clock_.now(), subject.policy, subject.exceptions);
}

Result<Judgement> TrivyGate::judge_content(const Subject& subject, const oci::ImageTree& tree,
                                           oci::VerifyRules rules,
                                           const std::function<bool()>& is_pointless) {
  const auto& layout = subject.layout;
  const auto& root = subject.root;
  const auto& policy = subject.policy;
  const auto& exceptions = subject.exceptions;
  const auto& repository = subject.repository;
  const bool by_hand = repository.empty();
  const auto now = clock_.now();
  const auto held = hold_database(config_.db_dir);
  const auto held_java = hold_database(config_.java_db_dir);
  auto verdict = begin_verdict(subject);
  const auto covers = [this](const std::string& family,
                             const std::string& release) -> Result<std::optional<bool>> {
    const auto bucket = bucket_for(family, release);
    if (!bucket) return std::optional<bool>{};
    auto known = has_advisories(config_.db_dir, *bucket);
    if (!known) return std::move(known).error();
    return std::optional{*known};
  };
  Bench bench{verdict, policy, exceptions, covers};
  std::vector<std::string> passing_notes; // true now, not part of what is remembered
  const auto conclude = [&]() -> Judgement {
    auto judgement = end(subject, bench, verdict);
    auto& warnings = judgement.verdict.warnings;
    warnings.insert(warnings.begin(), passing_notes.begin(), passing_notes.end());
    return judgement;
  };
  const auto pointless = [&] {
    return Error{ErrorKind::unavailable, "a leaked secret was found meanwhile", "", {}};
  };

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
  verdict.expires_at = now + policy.pass_lifetime;
  const auto age = now - database->updated_at;
  if (age > policy.db_max_age) {
    if (bench.deny_operator("db_stale", "The vulnerability DB is " + period(age) +
                                            " old, the policy allows " + period(policy.db_max_age) +
                                            ". The operator has to update it."))
      return conclude();
  } else {
    verdict.expires_at = std::min(verdict.expires_at, database->updated_at + policy.db_max_age);
  }
  if (age < -std::chrono::hours{24}) {
    bench.deny_operator(
        "db_from_future",
        "The vulnerability DB claims to be of " + rfc3339(database->updated_at) +
            ", which lies ahead: its age cannot be told. Check the clock and the DB.");
    return conclude();
  }
  if (age > policy.db_warn_age)
    passing_notes.push_back("the vulnerability DB is " + period(age) + " old");
  const auto java_db = read_java_database(config_.java_db_dir);
  if (java_db && now - java_db->updated_at > kOldJavaDb)
    passing_notes.push_back("the Java DB is " + period(now - java_db->updated_at) + " old");
  if (config_.trivy_sha256.empty())
    passing_notes.push_back("the scanner is not pinned: set [gate] trivy_sha256");
  SecondScanner second{config_, second_, policy, now, verdict};
  if (second.is_wanted()) {
    if (!second.is_ready(bench)) return conclude();
    if (config_.grype_sha256.empty())
      passing_notes.push_back("the second scanner is not pinned: set [gate] grype_sha256");
  }
  Threats threats{policy.threats, now};
  if (!threats.is_ready(bench)) return conclude();
  const Sboms sboms{policy.allow_scratch ? policy.sboms : SignedFiles{}};

  // Everything that the verdict depends on. The end of a key's life is in its file.
  const auto key = oci::Digest::of(nlohmann::json{
      {"image", root.str()},
      {"repository", repository},
      {"policy", policy_json(policy, exceptions)},
      {"scanner", scanner_.version() + " " + program_identity(config_.trivy, config_.trivy_sha256)},
      {"arguments", trivy_arguments("", root, "", config_.misconfigurations)},
      {"canaries", config_.canaries},
      {"db", database->identity},
      {"java_db", java_db ? java_db->identity : ""},
      {"second", second.is_wanted() ? second.identity() : ""},
      {"threats", threats.identity()},
      {"sboms", sboms.identity()},
      {"sbom_arguments", trivy_sbom_arguments("", "")},
      {"slipway",
       std::string{SLIPWAY_VERSION} + " " +
           kJudgementVersion}}.dump());
  if (!by_hand) {
    if (auto known = load_verdict(config_.cache_dir, key, root, now)) {
      verdict = *std::move(known);
      return conclude();
    }
  }

  for (const auto* complaints : {&exceptions.complaints(), &sboms.complaints()})
    for (const auto& complaint : *complaints)
      bench.warn(complaint);
  for (const auto& image : tree.images) {
    const auto type = oci::artifact_type(image);
    if (!type || std::find(policy.artifacts.begin(), policy.artifacts.end(), *type) ==
                     policy.artifacts.end())
      continue;
    const auto& digest = image.descriptor.digest;
    auto none_runs_it = oci::verify_artifact(layout, image);
    if (!none_runs_it) {
      if (!is_about_the_image(none_runs_it.error()))
        return std::move(none_runs_it).error().in("judging " + root.str());
      bench.refuse("artifact_disguise",
                   "Manifest " + digest.str() + " calls itself an artifact of type '" +
                       printable(*type, 100) + "', but " + none_runs_it.error().what + ".");
      return conclude();
    }
    rules.artifacts.insert(digest);
    bench.warn(digest.str() + " is an artifact of type '" + printable(*type, 100) +
               "': it was searched for leaked secrets and not scanned (policy: artifacts)");
  }
  if (is_pointless()) return pointless();
  const auto scan_copy = [&](const oci::ImageTree::Image& image) -> Result<PreparedScan> {
    auto scratch = ScratchDir::under(config_.cache_dir);
    if (!scratch) return std::move(scratch).error();
    auto copy = fill_single_image(layout, image, scratch->path() / PreparedScan::kLayout,
                                  policy.base_secrets);
    if (!copy) return std::move(copy).error();
    return PreparedScan{*std::move(scratch), *std::move(copy)};
  };
  std::optional<EarlyScan> early;
  const auto first = std::find_if(tree.images.begin(), tree.images.end(), [&](const auto& image) {
    return image.config && !rules.artifacts.contains(image.descriptor.digest);
  });
  if (first != tree.images.end()) {
    if (auto prepared = scan_copy(*first)) // else it is told where it is scanned
      early.emplace(scanner_, first->descriptor.digest, *std::move(prepared));
  }
  auto flaw = oci::Flaw::unreadable;
  auto verified = contents_.verify(layout, tree, rules, &flaw);
  if (!verified) {
    if (!is_about_the_image(verified.error()))
      return std::move(verified).error().in("judging " + root.str());
    refuse_flaw(bench, flaw, verified.error().text());
    return conclude();
  }
  for (const auto& [kind, words] : *verified) {
    if (bench.deny(answer_to(kind).code, words_on(kind, words))) return conclude();
  }

  std::set<oci::Digest> wanted;
  for (const auto& image : tree.images) {
    const auto& digest = image.descriptor.digest.str();
    if (image.is_attestation || rules.artifacts.contains(image.descriptor.digest)) continue;
    if (image.called_attestation) {
      refuse_flaw(bench, oci::Flaw::false_attestation,
                  "manifest " + digest + " has some marks of one, not all");
      return conclude();
    }
    if (!image.config) {
      const auto type = oci::artifact_type(image);
      bench.refuse("not_an_image", "Manifest " + digest +
                                       " is no container image (config of type '" +
                                       printable(image.manifest.config.media_type, 100) +
                                       "'), so it cannot be scanned. A rule may let " +
                                       (type ? "artifacts = [\"" + printable(*type, 100) + "\"]"
                                             : std::string{"artifacts of a type of their own"}) +
                                       " pass.");
      return conclude();
    }
    // Some readers take what has an artifact type for no image, whatever its config is.
    for (const auto& type : {image.manifest.artifact_type, image.descriptor.artifact_type}) {
      if (type.empty() || type == image.manifest.config.media_type) continue;
      if (bench.deny("artifact_disguise",
                     "Manifest " + digest + " is an image and calls itself an artifact of type '" +
                         printable(type, 100) + "'. Build it without an artifact type."))
        return conclude();
    }
    if (image.manifest.has_subject &&
        bench.deny("artifact_disguise",
                   "Manifest " + digest +
                       " is an image and calls itself a part of another manifest (subject), where "
                       "registries would list it. Build it without a subject."))
      return conclude();
    wanted.insert(image.descriptor.digest);
  }
  for (const auto& [digest, what] : tree.odd_indexes) {
    if (bench.deny("artifact_disguise", "Index " + digest.str() + " is a list and calls itself " +
                                            printable(what, 120) + ". Make it without that."))
      return conclude();
  }
  if (wanted.empty() && rules.artifacts.empty()) {
    bench.refuse("no_image", "There is no image below " + root.str() +
                                 ", so there is nothing to judge and nothing to push.");
    return conclude();
  }
  const bool several = wanted.size() > 1;
  std::set<std::pair<std::string, std::string>> judged_systems; // family, name

  for (const auto& image : tree.images) {
    if (wanted.erase(image.descriptor.digest) == 0) continue; // attestation, or judged already
    if (is_pointless()) return pointless();
    const auto who = "the image for " + name_of(image);
    // Beside the scan.
    std::future<Result<std::vector<oci::PackageChange>>> comparing;
    if (image.config->diff_ids.size() > 1)
      comparing = std::async(std::launch::async, [&] {
        return contents_.package_changes(layout, image.descriptor.digest);
      });
    auto looking = std::async(
        std::launch::async, [&] { return contents_.false_sboms(layout, image.descriptor.digest); });
    std::optional<Result<Scanner::Report>> scan_begun;
    auto prepared = early && early->image() == image.descriptor.digest ? early->finish(scan_begun)
                                                                       : scan_copy(image);
    early.reset();
    if (!prepared) return std::move(prepared).error().in("judging " + root.str());
    const auto& copy = prepared->copy;
    const auto dir = prepared->layout();
    auto scanned = scan_begun ? *std::move(scan_begun) : scanner_.scan(dir, copy.manifest);
    auto report = read_report(scanned, who, bench, java_db);
    if (!report) return conclude();
    if (!is_about(*report, image, copy)) {
      bench.deny_operator("report_mismatch",
                          "The scanner's report is about another image than " + who +
                              ". Nothing is concluded from it; try again, and report it if it "
                              "stays.");
      return conclude();
    }
    const auto prefix = several ? name_of(image) : "";
    const ImageNames names{{root.str(), image.descriptor.digest.str()},
                           image.config->platform.architecture};
    const Origins origins{image};
    origins.name(report->findings);
    if (!threats.annotate(bench, report->findings)) return conclude();
    Sboms::Cover cover;
    if (sboms.are_asked() && !report->has_os) {
      auto executables = contents_.executables(layout, image.descriptor.digest);
      if (executables) {
        // What the scanner read itself nobody has to name.
        std::erase_if(*executables, [&](const oci::Executable& one) {
          return report->read_programs.contains(one.path);
        });
        cover = sboms.cover(*executables);
        report->is_described = cover.missing.empty() && !cover.documents.empty();
        report->undescribed = undescribed(cover, report->language_packages > 0);
      } else if (is_about_the_image(executables.error())) {
        report->undescribed =
            " Its executables cannot be told: " + executables.error().text() + ".";
      } else {
        return std::move(executables).error().in("judging " + root.str());
      }
    }
    verdict.scanner = scanner_.version();
    bench.judge_report(*report, scanned->diagnostics, who, prefix, names);
    const auto false_sboms = looking.get();
    if (!false_sboms && !is_about_the_image(false_sboms.error()))
      return Error{false_sboms.error()}.in("judging " + root.str());
    bench.judge_false_sboms(false_sboms, who);
    if (comparing.valid() && report->os_packages > 0) {
      auto changes = comparing.get();
      if (!changes && !is_about_the_image(changes.error()))
        return std::move(changes).error().in("judging " + root.str());
      bench.judge_package_changes(changes, *report, who);
    }
    if (second.is_wanted() &&
        !second.judge(bench,
                      {dir, copy.manifest, copy.config, image.config->diff_ids, who, prefix, names,
                       origins, threats},
                      *report))
      return conclude();
    Inventory inventory{.manifest = image.descriptor.digest,
                        .platform = name_of(image),
                        .os_family = std::move(report->os_family),
                        .os_name = std::move(report->os_name),
                        .packages = std::move(report->packages)};
    judged_systems.insert({inventory.os_family, inventory.os_name});
    if (report->is_described) {
      for (const auto* document : cover.documents) {
        const auto sbom_dir = prepared->scratch.path() / "sbom";
        if (auto written = write_sbom(sbom_dir, document->text); !written)
          return std::move(written).error().in("judging " + root.str());
        const auto of = who + ", by the SBOM " + document->name;
        const auto sbom_prefix = (prefix.empty() ? "" : prefix + ": ") + document->name;
        auto looked_up = scanner_.scan_sbom(sbom_dir);
        auto described = read_report(looked_up, of, bench, java_db);
        if (!described) return conclude();
        if (!threats.annotate(bench, described->findings)) return conclude();
        bench.judge_report(*described, looked_up->diagnostics, of, sbom_prefix, names);
        if (second.is_wanted() && !second.judge(bench,
                                                {sbom_dir,
                                                 copy.manifest,
                                                 copy.config,
                                                 {},
                                                 of,
                                                 sbom_prefix,
                                                 names,
                                                 origins,
                                                 threats,
                                                 true},
                                                *described))
          return conclude();
        judged_systems.insert({described->os_family, described->os_name});
        for (auto& package : described->packages)
          inventory.packages.push_back(std::move(package));
        bench.warn(who + " was judged by what the SBOM " + document->name + " names");
      }
    }
    verdict.inventories.push_back(std::move(inventory));
  }

  bench.finish();
  // What the scanner found is found, whatever else it does not find; that it found nothing says
  // something only where it would have.
  if (verdict.passed && config_.canaries) {
    const ProofSubject proof{
        scanner_.version() + " " + program_identity(config_.trivy, config_.trivy_sha256),
        database->identity,
        trivy_arguments("", oci::Digest::of(""), "", config_.misconfigurations)};
    std::set<std::optional<std::string>> asked;
    for (const auto& [family, name] : judged_systems) {
      auto bucket = bucket_for(family, name);
      if (!asked.insert(bucket).second) continue;
      auto wrong = prove_scanner(scanner_, config_, proof, bucket);
      if (!wrong) return std::move(wrong).error().in("judging " + root.str());
      if (!wrong->empty()) bench.deny_operator("canary_not_found", *std::move(wrong));
      if (!second.is_wanted()) continue;
      wrong = second.prove(database->identity, bucket);
      if (!wrong) return std::move(wrong).error().in("judging " + root.str());
      if (!wrong->empty()) bench.deny_operator("second_canary_not_found", *std::move(wrong));
    }
    bench.finish();
  }
  if (verdict.passed) {
    if (auto noted = note_databases(verdict, config_, *database, java_db); !noted)
      return std::move(noted).error().in("judging " + root.str());
    if (second.is_wanted())
      if (auto noted = second.note_database(); !noted)
        return std::move(noted).error().in("judging " + root.str());
  }
  if (verdict.passed && !by_hand && verdict.expires_at > now) {
    if (auto saved = save_verdict(config_.cache_dir, key, verdict); !saved) {
      passing_notes.push_back("the verdict could not be remembered (" + saved.error().text() +
                              "); the next push scans again");
    }
  }
  return conclude();
}

Result<Verdict> replay(std::string_view text, const GatePolicy& policy,
                       const std::string& repository, WallTime now) {
  auto report = parse_report(text);
  if (!report) return std::move(report).error();
  // A report names the config, not the manifest.
  auto digest = oci::Digest::parse(report->image_id);
  const Exceptions exceptions{policy, repository, now};
  auto verdict = empty_verdict(digest ? *digest : oci::Digest::of(text), now, policy, exceptions);
  verdict.expires_at = now + policy.pass_lifetime;
  Bench bench{verdict, policy, exceptions};
  for (const auto& complaint : exceptions.complaints())
    bench.warn(complaint);
  if (policy.misconfig_threshold && !report->looked_at_config) {
    report->looked_at_config = true;
    bench.warn("the report is of a scan that did not look for misconfigurations "
               "(--image-config-scanners misconfig)");
  }
  Threats threats{policy.threats, now};
  if (!threats.is_ready(bench) || !threats.annotate(bench, report->findings)) {
    bench.finish();
    return verdict;
  }
  verdict.scanner = "trivy";
  bench.judge_report(*report, "", "the reported image", "", {});
  bench.warn(
      "a stored report was judged: image, DB and scanner were not looked at, and waivers and "
      "OpenVEX statements for a digest do not apply");
  bench.finish();
  return verdict;
}

} // namespace slipway::gate
