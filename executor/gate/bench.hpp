// SPDX-License-Identifier: Apache-2.0
// Collects what is said about one image tree and makes a verdict of it: denials, findings, what the
// operator lifted, and when all of this ends.
#pragma once

#include "executor/gate/exceptions.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/grype_report.hpp"
#include "executor/gate/report.hpp"

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <tuple>

namespace slipway::gate {

class Bench {
public:
  /// Asks whether the DB knows a release (family, name); none where that cannot be told. Errors:
  /// the DB cannot be read.
  using Covers = std::function<Result<std::optional<bool>>(const std::string&, const std::string&)>;

  /// `verdict`, `policy` and `exceptions` outlive the bench. Without `covers` nobody asks the DB.
  Bench(Verdict& verdict, const GatePolicy& policy, const Exceptions& exceptions,
        Covers covers = {});

  /// Denies what no allowance lifts: the judgement ends here, unfinished.
  void refuse(const std::string& code, std::string message);
  /// False where the operator lifted this denial: then the judgement has to go on.
  bool deny(const std::string& code, std::string message);
  bool deny_operator(const std::string& code, std::string message);
  void warn(std::string text);
  /// A pass ends then at the latest.
  void end_at(WallTime time);

  /// Judges one image by its report. `who` names it in messages, `prefix` in its findings;
  /// `image` is what waivers may call it.
  void judge_report(const ScanReport& report, const std::string& diagnostics,
                    const std::string& who, const std::string& prefix, const ImageNames& image);
  /// What the second scanner says about the image that judge_report() judged last, by `first`: its
  /// findings are added, and nothing is taken back.
  void judge_second_report(const GrypeReport& report, const GrypeCoverage& coverage,
                           const ScanReport& first, const std::string& who,
                           const std::string& prefix, const ImageNames& image);
  /// Judges what the layers of the image that judge_report() judged last, by `report`, change of
  /// packages.
  void judge_package_changes(const Result<std::vector<oci::PackageChange>>& changes,
                             const ScanReport& report, const std::string& who);
  /// Judges the files of one image that the scanner passed over for their names
  /// (ContentReader::false_sboms()).
  void judge_false_sboms(const Result<std::vector<std::string>>& paths, const std::string& who);
  /// Sorts the findings, says whether it passed, and until when at most.
  void finish();

private:
  bool add(Denial denial);
  void keep(Denial denial);
  void judge_os(const ScanReport& report, const std::string& who);
  void judge_release(const ScanReport& report, const std::string& who, bool unlisted);
  bool said(const std::string& code, const std::string& who) const;
  void take(Finding finding, const ImageNames& image);
  bool both_found(const Finding& finding);

  Verdict& verdict_;
  const GatePolicy& policy_;
  const Exceptions& exceptions_;
  Covers covers_;
  std::optional<WallTime> ends_;
  std::size_t image_begins_ = 0; ///< the first finding of the image that is judged
  std::set<std::pair<std::string, std::string>> said_; ///< code and image; of the image judged now
  std::set<std::tuple<std::string, std::string, std::string, std::string, std::string, std::string>>
      seen_; ///< of the image that is judged now
};

} // namespace slipway::gate
