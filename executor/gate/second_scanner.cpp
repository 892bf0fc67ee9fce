// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/second_scanner.hpp"

#include "executor/gate/canary.hpp"
#include "executor/gate/database.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>

#include <algorithm>

namespace slipway::gate {
namespace {

bool is_about(const GrypeReport& report, const SecondScanner::Image& image) {
  return report.image_id == image.config.str() &&
         std::equal(report.diff_ids.begin(), report.diff_ids.end(), image.diff_ids.begin(),
                    image.diff_ids.end(),
                    [](const std::string& a, const oci::Digest& b) { return a == b.str(); });
}

} // namespace

std::string program_identity(const std::filesystem::path& program, const std::string& sha256) {
  if (!sha256.empty()) return sha256;
  struct stat facts {};
  if (::stat(program.c_str(), &facts) != 0) return "none";
  return std::to_string(facts.st_ino) + " " + std::to_string(facts.st_size) + " " +
         std::to_string(facts.st_mtim.tv_sec) + " " + std::to_string(facts.st_ctim.tv_sec);
}

SecondScanner::SecondScanner(const ScannerConfig& config, Scanner* scanner,
                             const GatePolicy& policy, WallTime now, Verdict& verdict)
    : config_{config}, scanner_{scanner}, policy_{policy}, now_{now}, verdict_{verdict} {}

bool SecondScanner::is_ready(Bench& bench) {
  if (scanner_ == nullptr) {
    bench.deny_operator("second_scanner_failed",
                        "[gate] grype names a second scanner, and none was started.");
    return false;
  }
  auto database = read_grype_database(config_.grype_db_dir);
  if (!database) {
    bench.deny_operator("second_db_missing", "There is no vulnerability DB for Grype in " +
                                                 config_.grype_db_dir.string() + ": " +
                                                 database.error().text() +
                                                 ". The operator has to install one.");
    return false;
  }
  db_ = *std::move(database);
  return true;
}

std::string SecondScanner::identity() const {
  return nlohmann::json{{"scanner", scanner_->version() + " " +
                                        program_identity(config_.grype, config_.grype_sha256)},
                        {"arguments", grype_arguments("")},
                        {"sbom_arguments", grype_sbom_arguments("")},
                        {"environment", grype_environment("")},
                        {"db", db_}}
      .dump();
}

bool SecondScanner::judge_age(Bench& bench, WallTime built) {
  verdict_.second_db_built_at = built;
  const auto age = now_ - built;
  if (age < -std::chrono::hours{24}) {
    bench.deny_operator("second_db_from_future",
                        "Grype's vulnerability DB claims to be of " + rfc3339(built) +
                            ", which lies ahead: its age cannot be told. Check the clock and the "
                            "DB.");
    return false;
  }
  if (age > policy_.db_max_age) {
    return !bench.deny_operator("second_db_stale", "Grype's vulnerability DB is " + period(age) +
                                                       " old, the policy allows " +
                                                       period(policy_.db_max_age) +
                                                       ". The operator has to update it.");
  }
  verdict_.expires_at = std::min(verdict_.expires_at, built + policy_.db_max_age);
  if (age > policy_.db_warn_age)
    bench.warn("Grype's vulnerability DB of " + rfc3339(built) + " was " + period(age) +
               " old when the image was judged");
  return true;
}

bool SecondScanner::judge(Bench& bench, const Image& image, const ScanReport& first) {
  auto scanned = image.is_sbom ? scanner_->scan_sbom(image.layout)
                               : scanner_->scan(image.layout, image.manifest);
  if (!scanned) {
    const auto& error = scanned.error();
    const auto why = error.text() + (error.hint.empty() ? "" : " (" + error.hint + ")");
    if (error.kind == ErrorKind::timed_out) {
      bench.deny_operator("second_scanner_timed_out",
                          "Grype did not finish " + image.who + " in time: " + why);
    } else if (error.kind == ErrorKind::misconfigured) {
      bench.deny_operator("second_scanner_untrusted",
                          "Grype cannot be trusted or is not installed: " + why);
    } else {
      bench.deny_operator("second_scanner_failed",
                          "There is no report of Grype for " + image.who + ": " + why);
    }
    return false;
  }
  auto report = parse_grype_report(scanned->json);
  if (!report) {
    bench.deny_operator("second_report_invalid", "Grype's report on " + image.who +
                                                     " cannot be used: " + report.error().text());
    return false;
  }
  if (!image.is_sbom && !is_about(*report, image)) {
    bench.deny_operator(
        "second_report_mismatch",
        "Grype's report is about another image than " + image.who +
            ". Nothing is concluded from it; try again, and report it if it stays.");
    return false;
  }
  verdict_.second_scanner = "grype " + printable(report->version, 40);
  if (!judge_age(bench, report->db_built_at)) return false;
  image.origins.name(report->findings);
  if (!image.threats.annotate(bench, report->findings)) return false;
  bench.judge_second_report(*report, read_grype_log(scanned->diagnostics), first, image.who,
                            image.prefix, image.names);
  return true;
}

Result<std::string> SecondScanner::prove(const std::string& db,
                                         const std::optional<std::string>& bucket) {
  const ProofSubject subject{identity(), db, {}, true};
  return prove_scanner(*scanner_, config_, subject, bucket);
}

Status SecondScanner::note_database() {
  auto digest = digest_of_database(config_.grype_db_dir / "6/vulnerability.db", config_.cache_dir);
  if (!digest) return std::move(digest).error();
  const auto now = read_grype_database(config_.grype_db_dir);
  if (!now || *now != db_) return database_replaced(config_.grype_db_dir);
  verdict_.second_db_digest = digest->str();
  return {};
}

} // namespace slipway::gate
