// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/bench.hpp"

#include "config/package_url.hpp"
#include "executor/gate/licenses.hpp"
#include "executor/gate/release_marks.hpp"

#include <algorithm>
#include <array>

namespace slipway::gate {
namespace {

// Families whose packages Trivy 0.69.3 looks up. For any other it reports nothing, and exits with
// 0. Source: trivy 0.69.3, pkg/detector/ospkg/detect.go; without Bottlerocket, of which it only
// says that it cannot look it up (bottlerocket/bottlerocket.go).
constexpr std::array<std::string_view, 24> kFamilies{"alma",
                                                     "alpine",
                                                     "amazon",
                                                     "azurelinux",
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

constexpr std::size_t kMostDenials = 20;

bool is_same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

// In one version; scanners differ in how they name some packages, and less in their package URLs.
bool is_same_package(const Finding& a, const Finding& b) {
  if (a.installed != b.installed) return false;
  if (is_same_word(a.package, b.package)) return true;
  auto one = config::PackageUrl::parse(a.purl);
  const auto other = config::PackageUrl::parse(b.purl);
  if (!one || !other) return false;
  one->version.clear();
  one->qualifiers.clear();
  return one->covers(*other);
}

bool is_called(const Finding& finding, const std::string& id) {
  return finding.id == id ||
         std::find(finding.aliases.begin(), finding.aliases.end(), id) != finding.aliases.end();
}

bool is_same_vulnerability(const Finding& a, const Finding& b) {
  return is_called(a, b.id) || std::any_of(b.aliases.begin(), b.aliases.end(),
                                           [&](const auto& id) { return is_called(a, id); });
}

} // namespace

Bench::Bench(Verdict& verdict, const GatePolicy& policy, const Exceptions& exceptions,
             Covers covers)
    : verdict_{verdict}, policy_{policy}, exceptions_{exceptions}, covers_{std::move(covers)} {}

void Bench::refuse(const std::string& code, std::string message) {
  keep({code, std::move(message), false});
}

bool Bench::deny(const std::string& code, std::string message) {
  return add({code, std::move(message), false});
}

bool Bench::deny_operator(const std::string& code, std::string message) {
  return add({code, std::move(message), true});
}

void Bench::warn(std::string text) {
  auto& warnings = verdict_.warnings;
  if (std::find(warnings.begin(), warnings.end(), text) == warnings.end() && warnings.size() < 50) {
    warnings.push_back(std::move(text));
  }
}

bool Bench::add(Denial denial) {
  std::string note;
  if (const auto* allowance = exceptions_.allowance(denial.code, note)) {
    end_at(allowance->expires);
    auto& allowed = verdict_.allowed;
    if (std::none_of(allowed.begin(), allowed.end(), [&](const Allowed& known) {
          return known.code == denial.code && known.message == denial.message;
        })) {
      allowed.push_back({denial.code, std::move(denial.message), allowance->owner,
                         allowance->reason, allowance->expires});
    }
    return false;
  }
  if (!note.empty()) denial.message += " " + note;
  keep(std::move(denial));
  return true;
}

void Bench::keep(Denial denial) {
  auto& denials = verdict_.denials;
  if (std::none_of(denials.begin(), denials.end(), [&](const Denial& known) {
        return known.code == denial.code && known.message == denial.message;
      }))
    denials.push_back(std::move(denial));
}

void Bench::judge_report(const ScanReport& report, const std::string& diagnostics,
                         const std::string& who, const std::string& prefix,
                         const ImageNames& image) {
  image_begins_ = verdict_.findings.size();
  // What is waived or allowed of one image is neither said nor seen of another, also where an index
  // calls both by one platform.
  said_.clear();
  seen_.clear();
  if (is_malicious_trivy(report.trivy_version)) {
    deny_operator("scanner_malicious", "Trivy " + report.trivy_version +
                                           " is a known malicious release. Install 0.69.3, and "
                                           "treat what this machine holds as stolen.");
  }
  if (!report.trivy_version.empty())
    verdict_.scanner = "trivy " + printable(report.trivy_version, 40);
  judge_os(report, who);
  if (report.suppressed > 0) {
    deny_operator("findings_suppressed", "Something made the scanner hide " +
                                             std::to_string(report.suppressed) + " findings of " +
                                             who + ", although slipway gives it no ignore list.");
  }
  const bool os_was_judged =
      !report.has_os || said("os_unsupported", who) || said("no_packages", who);
  const auto coverage = read_diagnostics(diagnostics, os_was_judged);
  bool unlisted = false;
  for (const auto& gap : coverage.gaps) {
    if (gap.code == "release_unknown") {
      unlisted = true;
    } else if (!said(gap.code, who)) {
      said_.emplace(gap.code, who);
      deny(gap.code, "The scanner could not look at all of " + who + ": " + gap.line);
    }
  }
  judge_release(report, who, unlisted);
  for (const auto& line : coverage.warnings)
    warn(line);
  if (report.third_party_packages > 0) {
    warn(std::to_string(report.third_party_packages) + " packages of " + who +
         " are from third parties: their vulnerabilities are not known to the scanner");
  }
  if (policy_.misconfig_threshold && !report.looked_at_config && !report.is_of_sbom) {
    deny("coverage_partial", "Trivy did not look at the configuration of " + who +
                                 ", in which the policy wants misconfigurations looked for. An "
                                 "image without a history is one reason.");
  }
  auto findings = license_findings(report.packages, report.os_family + " " + report.os_name,
                                   policy_.denied_licenses);
  findings.insert(findings.begin(), report.findings.begin(), report.findings.end());
  for (auto& finding : findings) {
    if (!prefix.empty()) finding.target = prefix + ": " + finding.target;
    take(std::move(finding), image);
  }
}

void Bench::judge_second_report(const GrypeReport& report, const GrypeCoverage& coverage,
                                const ScanReport& first, const std::string& who,
                                const std::string& prefix, const ImageNames& image) {
  if (report.ignored > 0) {
    deny_operator("second_findings_suppressed",
                  "Something made Grype leave out " + std::to_string(report.ignored) +
                      " findings of " + who + ", although slipway gives it no rule to do so.");
  }
  if (report.os_end_of_life && !said("os_end_of_life", who)) {
    said_.emplace("os_end_of_life", who);
    deny("os_end_of_life", printable(report.distro, 80) + " (" + who +
                               ") gets no security updates any more, says Grype's DB: what was "
                               "found is not all there is. Use a newer base image.");
  }
  const auto gap = [&](const std::string& what) {
    deny("second_coverage_partial", "Grype could not look at all of " + who + ": " + what);
  };
  if (!coverage.packages) {
    gap("its log does not say how many packages it found.");
  } else if (*coverage.packages == 0 && first.os_packages + first.language_packages > 0) {
    gap("it found no package, and Trivy found " +
        std::to_string(first.os_packages + first.language_packages) + ".");
  }
  if (report.distro.empty() && first.has_os)
    gap("it did not recognise " + printable(first.os_family + " " + first.os_name, 80) + ".");
  for (const auto& line : coverage.gaps)
    gap(line);
  for (auto finding : report.findings) {
    if (!prefix.empty()) finding.target = prefix + ": " + finding.target;
    take(std::move(finding), image);
  }
}

void Bench::judge_package_changes(const Result<std::vector<oci::PackageChange>>& changes,
                                  const ScanReport& report, const std::string& who) {
  if (!changes) {
    deny("coverage_partial",
         "What the layers of " + who +
             " change of its packages cannot be told: " + changes.error().text() + ".");
    return;
  }
  for (const auto& change : *changes) {
    if (!change.remains.empty()) {
      deny("package_removed",
           printable(change.name, 80) + " " + printable(change.old_version, 80) + " of " + who +
               " is in the database of packages no longer, and its files are still there (" +
               printable(change.remains, 120) +
               "): its vulnerabilities are no longer found. Remove it with the package manager, or "
               "leave the database as it is.");
    }
    if (!change.has_files) {
      deny("package_forged",
           printable(change.name, 80) + " of " + who + " is said to be " +
               printable(change.new_version, 160) + " instead of " +
               printable(change.old_version, 160) +
               ", by a layer that brings none of its files: the database of packages was changed, "
               "and not the package. Upgrade it with the package manager, in one step of the "
               "Dockerfile.");
    }
    // In whatever version: that it really takes the other's place does not make it known to the
    // scanner. One that was this third party's from the beginning is told by a note; whether
    // another maintainer below was one too is not known here.
    if (change.old_maintainer != change.new_maintainer &&
        report.third_party_names.contains(change.name)) {
      deny("package_disowned",
           printable(change.name, 80) + " of " + who +
               " is a package of a third party now, whose vulnerabilities are not known to the "
               "scanner: a layer names '" +
               printable(change.new_maintainer, 120) + "' as its maintainer instead of '" +
               printable(change.old_maintainer, 120) +
               "'. Keep the distribution's package, or ask the operator for a [[gate_allow]] of "
               "this code for the repository.");
    }
    if (verdict_.denials.size() + verdict_.allowed.size() > kMostDenials) return;
  }
}

void Bench::judge_false_sboms(const Result<std::vector<std::string>>& paths,
                              const std::string& who) {
  if (!paths) {
    deny("coverage_partial", "Whether " + who +
                                 " has files that the scanner passes over for their names cannot "
                                 "be told: " +
                                 paths.error().text() + ".");
  } else if (!paths->empty()) {
    const auto more = paths->size() - 1;
    deny("coverage_partial",
         "The scanner passes over what is called an SBOM, and in " + who + " /" +
             printable(paths->front(), 200) +
             (more == 0 ? " is none" : " and at least " + std::to_string(more) + " more are none") +
             ": nothing is known of it. Give it a name that does not end with .spdx, .spdx.json, "
             ".cdx or .cdx.json, or take it out of the layer that brings it.");
  }
}

// Told once, in the first scanner's words, unless the second one's blocks and the first one's does
// not: one of them knows of a fix, or rates it higher.
bool Bench::both_found(const Finding& finding) {
  std::vector<Finding*> same;
  for (auto i = image_begins_; i < verdict_.findings.size(); ++i) {
    auto& known = verdict_.findings[i];
    if (known.is_vulnerability() && known.found_by != finding.found_by &&
        is_same_package(known, finding) && is_same_vulnerability(known, finding))
      same.push_back(&known);
  }
  if (same.empty()) return false;
  if (finding.blocks &&
      std::none_of(same.begin(), same.end(), [](const Finding* known) { return known->blocks; }))
    return false;
  for (auto* known : same) {
    known->found_by = "trivy, grype";
    for (const auto& id : finding.aliases)
      if (!is_called(*known, id)) known->aliases.push_back(id);
  }
  return true;
}

void Bench::finish() {
  std::stable_sort(verdict_.findings.begin(), verdict_.findings.end(),
                   [](const Finding& a, const Finding& b) {
                     return std::tuple{!a.blocks, -static_cast<int>(a.severity)} <
                            std::tuple{!b.blocks, -static_cast<int>(b.severity)};
                   });
  const bool blocked = !verdict_.findings.empty() && verdict_.findings.front().blocks;
  verdict_.passed = verdict_.denials.empty() && !blocked;
  if (ends_) verdict_.expires_at = std::min(verdict_.expires_at, *ends_);
}

bool Bench::said(const std::string& code, const std::string& who) const {
  return said_.contains({code, who});
}

void Bench::end_at(WallTime time) {
  ends_ = ends_ ? std::min(*ends_, time) : time;
}

void Bench::judge_os(const ScanReport& report, const std::string& who) {
  const auto os = printable(report.os_family + " " + report.os_name, 80);
  const auto say = [&](const char* code, std::string message) {
    said_.emplace(code, who);
    deny(code, std::move(message));
  };
  if (!report.has_os) {
    if (!policy_.allow_scratch) {
      say("no_os", "No operating system was found in " + who +
                       ", so its packages cannot be looked up. Use a base image that keeps "
                       "/etc/os-release and its package database, or ask the operator to "
                       "allow scratch images for this repository.");
    } else if (!report.undescribed.empty() ||
               (report.language_packages == 0 && !report.is_described)) {
      say("scratch_no_packages",
          std::string{report.language_packages == 0
                          ? "No operating system and no language package was found in "
                          : "No operating system, and a program of which nothing is known, was "
                            "found in "} +
              who +
              ", so it was not looked up. An image from scratch passes only where "
              "the scanner can read what its program is made of (Go and Rust "
              "binaries that keep their build information), or where an SBOM that a policy owner "
              "signed tells it." +
              report.undescribed);
    }
    return;
  }
  if (std::find(kFamilies.begin(), kFamilies.end(), report.os_family) == kFamilies.end()) {
    say("os_unsupported", "The scanner knows no vulnerabilities for " + os + " (" + who +
                              "). Use a base image of a supported distribution, such as Debian, "
                              "Ubuntu, Alpine or a RHEL-like one.");
    return;
  }
  if (report.os_end_of_life) {
    say("os_end_of_life", os + " (" + who +
                              ") gets no security updates any more: what was found is not all "
                              "there is. Use a newer base image.");
  }
  if (report.os_packages == 0) {
    say("no_packages", "The package database of " + os + " (" + who +
                           ") is missing or empty, so nothing was looked up. Keep "
                           "/var/lib/dpkg, /lib/apk/db or the rpm database in the image.");
  }
  if (const auto why = contradiction(report); !why.empty()) {
    say("release_mixed",
        who + " calls itself " + os + ", and " + why +
            ": it would be looked up as what it is not. Begin with a base image "
            "of the release that the packages are of (of an upgraded one the "
            "scanner takes the base's), and leave its /etc/os-release as it came.");
  }
}

// Of a release that the DB does not know, Trivy finds nothing, and says at most that the release is
// not on its list of ends. A release that is newer than the scanner is not on the list either;
// where the DB knows it, that is enough.
void Bench::judge_release(const ScanReport& report, const std::string& who, bool unlisted) {
  if (!report.has_os || said("os_unsupported", who)) return;
  const auto os = printable(report.os_family + " " + report.os_name, 80) + " (" + who + ")";
  std::optional<bool> covered;
  if (covers_) {
    auto asked = covers_(report.os_family, report.os_name);
    if (!asked) {
      deny_operator("db_invalid", "The vulnerability DB cannot be used: " + asked.error().text());
      return;
    }
    covered = *asked;
  }
  if (covered && !*covered) {
    deny("release_not_covered",
         "The vulnerability DB holds nothing about " + os +
             ", so nothing was looked up. Use a release that is supported; if it is one, the "
             "operator has to update the DB.");
  } else if (unlisted && covered) {
    warn("the scanner does not know when the support of " + os + " ends");
  } else if (unlisted) {
    deny("release_unknown", "The scanner does not know the release " + os +
                                ", and whether the DB holds anything about it cannot be told. Use "
                                "a release that is supported.");
  }
}

void Bench::take(Finding finding, const ImageNames& image) {
  const auto key = std::tuple{finding.id,     finding.package, finding.installed,
                              finding.target, finding.purl,    finding.found_by};
  if (!seen_.insert(key).second) return;
  if (const auto ends = exceptions_.decide(finding, image)) end_at(*ends);
  if (finding.found_by == "grype" && both_found(finding)) return;
  if (finding.is_vulnerability()) ++verdict_.counts[finding.severity];
  verdict_.findings.push_back(std::move(finding));
}

} // namespace slipway::gate
