// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/threats.hpp"

#include "executor/gate/operator_file.hpp"
#include "executor/oci/digest.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>

namespace slipway::gate {
namespace {

// Hashes the whole file and has `reader` read it; only up to the date where `date_only`.
// Errors: those of the reader; bad_input (grew beyond the limit); io.
Result<oci::Digest> read_scores(int fd, EpssReader& reader, bool date_only) {
  oci::Hasher hasher;
  std::array<char, 65536> piece;
  off_t at = 0;
  while (true) {
    const auto got = ::pread(fd, piece.data(), piece.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno, "the EPSS scores");
    if (got == 0) break;
    at += got;
    if (static_cast<std::size_t>(at) > kMaxEpssBytes)
      return Error{ErrorKind::bad_input, "the file grows while it is read", "", {}};
    const std::string_view bytes{piece.data(), static_cast<std::size_t>(got)};
    hasher.update(bytes);
    if (date_only && reader.knows_date()) continue;
    if (auto fine = reader.feed(bytes); !fine) return std::move(fine).error();
  }
  if (!date_only) {
    if (auto fine = reader.finish(); !fine) return std::move(fine).error();
  } else if (!reader.knows_date()) {
    return Error{ErrorKind::bad_input, "EPSS scores: there is not one line", "", {}};
  }
  return hasher.finish();
}

void deny_unusable(Bench& bench, const std::string& name, const std::filesystem::path& file,
                   const Error& error) {
  const bool missing = error.kind == ErrorKind::not_found;
  bench.deny_operator(name + (missing ? "_missing" : "_invalid"),
                      "The file of [gate] " + name + "_file (" + file.string() + ") " +
                          (missing ? "is not there" : "cannot be used") + ": " + error.text() +
                          ". The operator has to bring a new one.");
}

std::vector<std::string> names_of(const Finding& finding) {
  auto names = finding.aliases;
  names.push_back(finding.id);
  return names;
}

} // namespace

Threats::Threats(const ThreatPolicy& policy, WallTime now) : policy_{policy}, now_{now} {}

bool Threats::is_ready(Bench& bench) {
  if (policy_.asks_kev() && !open_kev(bench)) return false;
  return !policy_.asks_epss() || open_epss(bench);
}

bool Threats::judge_age(Bench& bench, const std::string& name, WallTime of,
                        std::chrono::seconds most) {
  const auto age = now_ - of;
  if (age < -std::chrono::hours{24}) {
    bench.deny_operator(name + "_invalid",
                        "The file of [gate] " + name + "_file claims to be of " + rfc3339(of) +
                            ", which lies ahead: its age cannot be told. Check the clock and the "
                            "file.");
    return false;
  }
  if (age > most) {
    const auto hours = [](std::chrono::seconds time) {
      return std::to_string(std::chrono::duration_cast<std::chrono::hours>(time).count()) + " h";
    };
    return !bench.deny_operator(name + "_stale", "The file of [gate] " + name + "_file is of " +
                                                     rfc3339(of) + ", " + hours(age) + " old; " +
                                                     name + "_max_age allows " + hours(most) +
                                                     ". The operator has to bring a new one.");
  }
  bench.end_at(of + most);
  return true;
}

bool Threats::open_kev(Bench& bench) {
  const auto refused = [&](const Error& error) {
    deny_unusable(bench, "kev", policy_.kev_file, error);
    return false;
  };
  auto text = read_operator_file(policy_.kev_file, kMaxKevBytes);
  if (!text) return refused(text.error());
  auto catalogue = parse_kev(*text);
  if (!catalogue) return refused(catalogue.error());
  kev_ = *std::move(catalogue);
  identity_ += "kev " + oci::Digest::of(*text).str();
  return judge_age(bench, "kev", kev_->released, policy_.kev_max_age);
}

bool Threats::open_epss(Bench& bench) {
  const auto refused = [&](const Error& error) {
    deny_unusable(bench, "epss", policy_.epss_file, error);
    return false;
  };
  auto fd = open_operator_file(policy_.epss_file, kMaxEpssBytes);
  if (!fd) return refused(fd.error());
  epss_ = *std::move(fd);
  EpssReader reader{[](std::string_view, double) {}};
  auto digest = read_scores(epss_.get(), reader, true);
  if (!digest) return refused(digest.error());
  epss_digest_ = digest->str();
  identity_ += " epss " + epss_digest_;
  return judge_age(bench, "epss", reader.scored_at(), policy_.epss_max_age);
}

bool Threats::annotate(Bench& bench, std::vector<Finding>& findings) {
  std::map<std::string, std::optional<double>, std::less<>> scores;
  std::set<std::string> nameless;
  for (auto& finding : findings) {
    if (!finding.is_vulnerability()) continue;
    const auto names = names_of(finding);
    if (std::none_of(names.begin(), names.end(),
                     [](const auto& name) { return name.starts_with("CVE-"); }))
      nameless.insert(finding.id);
    for (const auto& name : names) {
      if (policy_.asks_epss()) scores.try_emplace(name);
      if (!kev_) continue;
      const auto known = kev_->entries.find(name);
      if (known == kev_->entries.end()) continue;
      finding.kev_since = known->second.added;
      finding.kev_due = known->second.due;
      finding.kev_ransomware = known->second.ransomware;
    }
  }
  if (!nameless.empty() && (kev_ || policy_.asks_epss()))
    bench.warn(
        "KEV and EPSS know CVEs alone, and the report names none for " +
        printable(*nameless.begin(), 40) +
        (nameless.size() > 1 ? " and " + std::to_string(nameless.size() - 1) + " more" : "") +
        ": those block by severity and CVSS alone");
  if (!policy_.asks_epss()) return true;
  EpssReader reader{[&](std::string_view cve, double score) {
    const auto wanted = scores.find(cve);
    if (wanted != scores.end()) wanted->second = std::max(wanted->second.value_or(0), score);
  }};
  auto digest = read_scores(epss_.get(), reader, false);
  if (digest && digest->str() != epss_digest_)
    digest = Error{ErrorKind::bad_input, "it was written to while it was read", "", {}};
  if (!digest) {
    deny_unusable(bench, "epss", policy_.epss_file, digest.error());
    return false;
  }
  for (auto& finding : findings) {
    if (!finding.is_vulnerability()) continue;
    for (const auto& name : names_of(finding)) {
      if (const auto score = scores.at(name))
        finding.epss = std::max(finding.epss.value_or(0), *score);
    }
  }
  return true;
}

} // namespace slipway::gate
