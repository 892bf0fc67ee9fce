// SPDX-License-Identifier: Apache-2.0
// Verdicts that stay: for the job, which may fetch them as files, and for the operator, who asks
// later why something was pushed or was not (`slipway why`).
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/reference.hpp"
#include "executor/report/report.hpp"

#include <chrono>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace slipway::image {

/// Below STATE_DIR/reports: HEX/TIME-JOB-PROJECT-PLACE.json, and the same as a page (.html), a
/// folder for each digest. No secret is
/// in them: the scanner names the file of a secret and its kind.
class Reports {
public:
  explicit Reports(const std::filesystem::path& state_dir) : dir_{state_dir / "reports"} {}

  /// Writes a verdict down for the operator. Errors: io.
  Status keep(const std::string& job, const report::Subject& subject, const gate::Verdict& verdict,
              WallTime now) const;

  struct Kept {
    std::string judged_at; ///< RFC 3339
    std::string job;
    std::string image;
    std::string project;
    std::string ref;
    std::string backend;
    std::string dockerfile; ///< digest; "" = not built by the job
    std::string text;       ///< as the job log had it
    std::filesystem::path file;
    std::filesystem::path page; ///< the HTML report; "" = it is not there
  };
  /// The verdicts on a digest ("sha256:…", the hex, or at least 8 of its first digits), oldest
  /// first; unreadable files are left out. Errors: bad_input (no digest, or one that is not alone);
  /// not_found.
  Result<std::vector<Kept>> find(const std::string& digest) const;

  /// Removes what is older than `age`, and the oldest of each project beyond so many bytes: a
  /// verdict of one job may tell of as many findings as it likes.
  void collect(WallTime now, std::chrono::hours age, std::uintmax_t project_bytes) const;

private:
  std::filesystem::path dir_;
};

/// The verdicts that this job may have as files: those on its own pushes, held by the process that
/// serves its script and by nothing else. Any thread.
class JobReports {
public:
  /// A name's former verdict is forgotten; so are the oldest beyond kMostReports and
  /// kMostReportBytes, but for the last.
  void keep(const oci::Reference& reference, const report::Subject& subject,
            const gate::Verdict& verdict);

  struct File {
    std::string format; ///< report::format_words()
    std::string name;
    std::string text;
  };
  /// The last verdict under this name in every format. Errors: not_found.
  Result<std::vector<File>> files(const oci::Reference& reference) const;

private:
  struct Kept {
    oci::Reference reference;
    report::Subject subject;
    gate::Verdict verdict;
    std::size_t bytes; ///< as JSON
  };
  mutable std::mutex mutex_;
  std::vector<Kept> kept_; ///< oldest first
};

inline constexpr std::size_t kMostReports = 32;
inline constexpr std::size_t kMostReportBytes = 32UL << 20;

} // namespace slipway::image
