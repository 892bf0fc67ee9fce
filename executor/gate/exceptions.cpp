// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/exceptions.hpp"

#include "config/package_url.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace slipway::gate {
namespace {

// The gate is told the name of Docker Hub's API; people write the name of references.
bool names(const std::vector<std::string>& globs, const std::string& repository) {
  const auto familiar = familiar_name(repository);
  return !repository.empty() &&
         std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
           return config::glob_matches(glob, repository) || config::glob_matches(glob, familiar);
         });
}

bool covers(const config::Waiver& waiver, const Finding& finding, const ImageNames& image) {
  if (waiver.id != finding.id &&
      std::find(finding.aliases.begin(), finding.aliases.end(), waiver.id) == finding.aliases.end())
    return false;
  if (!waiver.digest.empty() && !image.digests.contains(waiver.digest)) return false;
  if (!waiver.path.empty() && !config::glob_matches(waiver.path, finding.path)) return false;
  if (waiver.purl.empty()) return true;
  // A finding that names no package is not covered by a waiver for one.
  const auto scope = config::PackageUrl::parse(waiver.purl);
  const auto package = config::PackageUrl::parse(finding.purl);
  return scope && package && scope->covers(*package);
}

bool over_threshold(const Finding& finding, const GatePolicy& policy) {
  switch (finding.kind) {
  case FindingKind::secret:
    return policy.secrets_block;
  case FindingKind::license:
    return true; // none is told that the policy does not deny
  case FindingKind::misconfiguration:
    return policy.misconfig_threshold && (finding.severity >= *policy.misconfig_threshold ||
                                          finding.severity == Severity::unknown);
  case FindingKind::vulnerability:
    break;
  }
  const bool fixable = !finding.fixed.empty();
  // Nobody has rated it yet: too new to be called harmless.
  if (finding.severity == Severity::unknown && policy.threshold != Severity::unknown) {
    return policy.unknown_blocks_when_fixable && fixable;
  }
  return finding.severity >= policy.threshold && (fixable || !policy.fixed_only);
}

bool is_at_least(const std::optional<double>& score, double threshold) {
  return score && threshold > 0 && *score >= threshold;
}

bool is_exploited(const Finding& finding, const GatePolicy& policy) {
  return policy.threats.kev_blocks && !finding.kev_since.empty();
}

std::string number(const char* format, double value) {
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

// Why it is to block beside its severity.
std::string threat_of(const Finding& finding, const GatePolicy& policy) {
  std::vector<std::string> reasons;
  if (is_exploited(finding, policy)) {
    reasons.push_back("KEV since " + finding.kev_since +
                      (finding.kev_due.empty() ? "" : ", due " + finding.kev_due) +
                      (finding.kev_ransomware ? ", used by ransomware" : ""));
  }
  const auto& threats = policy.threats;
  if (is_at_least(finding.epss, threats.epss_threshold))
    reasons.push_back("EPSS " + number("%.5g", *finding.epss) +
                      " >= " + number("%.5g", threats.epss_threshold));
  if (is_at_least(finding.cvss, threats.cvss_threshold))
    reasons.push_back("CVSS " + number("%.1f", *finding.cvss) + " >= " +
                      number("%.1f", threats.cvss_threshold) + " (" + finding.cvss_source + ")");
  std::string text;
  for (const auto& reason : reasons)
    text += (text.empty() ? "" : "; ") + reason;
  return text;
}

std::string named(const config::Waiver& waiver) {
  return waiver.owner + " (" + waiver.ticket + ")";
}

} // namespace

std::string day_of(WallTime time) {
  return rfc3339(time).substr(0, 10);
}

Exceptions::Exceptions(const GatePolicy& policy, const std::string& repository, WallTime now)
    : policy_{policy}, repository_{repository}, now_{now}, vex_{policy.vex, now} {
  for (const auto& waiver : policy.waivers) {
    if (waiver.repositories.empty() || names(waiver.repositories, repository))
      waivers_.push_back(waiver);
  }
  for (const auto& allowance : policy.allowances) {
    if (names(allowance.repositories, repository)) allowances_.push_back(allowance);
  }
}

Exceptions::State Exceptions::state_of(WallTime expires) const {
  if (expires <= now_) return State::over;
  return config::is_too_far(expires, now_, policy_.waiver_max_days) ? State::too_far : State::live;
}

std::optional<WallTime> Exceptions::decide(Finding& finding, const ImageNames& image) const {
  if (finding.is_vulnerability()) finding.threat = threat_of(finding, policy_);
  const bool unspared = is_exploited(finding, policy_) && !policy_.threats.kev_spared;
  finding.blocks = over_threshold(finding, policy_) || unspared ||
                   (!finding.threat.empty() && (!finding.fixed.empty() || !policy_.fixed_only));
  if (!finding.blocks) return std::nullopt;
  const auto published = finding.published;
  const auto grace_ends = published + std::chrono::days{policy_.fixed_grace_days};
  if (!unspared && finding.is_vulnerability() && !finding.fixed.empty() &&
      published.time_since_epoch().count() > 0 && published <= now_ && now_ < grace_ends) {
    finding.blocks = false;
    finding.note = "published on " + day_of(published) + ": blocks from " + day_of(grace_ends) +
                   " on (fixed_grace_days)";
    return grace_ends;
  }
  if (auto word = vex_.about(finding, image, repository_)) {
    finding.note = std::move(word->text);
    finding.blocks = !word->excuses;
    finding.waived = word->excuses;
    if (finding.waived) return std::nullopt; // until another document says otherwise
  }
  // Of several live ones, the one that lasts longest.
  const config::Waiver* best = nullptr;
  for (const auto& waiver : waivers_) {
    if (!covers(waiver, finding, image)) continue;
    switch (state_of(waiver.expires)) {
    case State::live:
      if (best == nullptr || waiver.expires > best->expires) best = &waiver;
      break;
    case State::over:
      finding.note = "the waiver of " + named(waiver) + " ended on " + day_of(waiver.expires);
      break;
    case State::too_far:
      finding.note = "the waiver of " + named(waiver) + " counts for nothing: it ends on " +
                     day_of(waiver.expires) + ", more than " +
                     std::to_string(policy_.waiver_max_days) + " days ahead";
      break;
    }
  }
  if (best == nullptr) return std::nullopt;
  finding.blocks = false;
  finding.waived = true;
  finding.note =
      "waived by " + named(*best) + " until " + day_of(best->expires) + ": " + best->reason;
  return best->expires;
}

const config::Allowance* Exceptions::allowance(const std::string& code, std::string& note) const {
  if (!config::allowable_codes().contains(code)) return nullptr;
  const config::Allowance* best = nullptr;
  for (const auto& allowance : allowances_) {
    if (allowance.code != code) continue;
    switch (state_of(allowance.expires)) {
    case State::live:
      if (best == nullptr || allowance.expires > best->expires) best = &allowance;
      break;
    case State::over:
      note = "What " + allowance.owner + " allowed ended on " + day_of(allowance.expires) + ".";
      break;
    case State::too_far:
      note = "What " + allowance.owner + " allowed counts for nothing: it ends on " +
             day_of(allowance.expires) + ", more than " + std::to_string(policy_.waiver_max_days) +
             " days ahead.";
      break;
    }
  }
  return best;
}

bool Exceptions::has_allowance(const std::string& code) const {
  std::string unused;
  return allowance(code, unused) != nullptr;
}

std::string Exceptions::fingerprint() const {
  auto live = nlohmann::json::array();
  for (const auto& waiver : waivers_) {
    if (state_of(waiver.expires) == State::live)
      live.push_back({waiver.id, waiver.repositories, waiver.digest, waiver.purl, waiver.path,
                      waiver.owner, waiver.ticket, waiver.reason, rfc3339(waiver.expires)});
  }
  for (const auto& allowance : allowances_) {
    if (state_of(allowance.expires) == State::live)
      live.push_back({allowance.code, allowance.repositories, allowance.owner, allowance.reason,
                      rfc3339(allowance.expires)});
  }
  if (const auto vex = vex_.identity(); !vex.empty()) live.push_back(vex);
  return live.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

} // namespace slipway::gate
