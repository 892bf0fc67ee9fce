// SPDX-License-Identifier: Apache-2.0
#include "stages/image/leases.hpp"

#include "stages/image/push_client.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <set>

namespace slipway::image {
namespace {

using engine_api::LeaseNote;
using std::chrono::seconds;

constexpr seconds kFirstPause{30};
constexpr seconds kLongestPause{3600};
constexpr seconds kSilence{10}; ///< an issuer that costs so much is not asked again in one sweep
constexpr seconds kSkew{60};    ///< what the issuer's clock may be behind

} // namespace

Result<engine_api::LeaseOrder> Leases::intend(const config::Registry& registry,
                                              const std::string& repository, const std::string& job,
                                              const std::map<std::string, Secret>& job_secrets) {
  const auto* issuer = config::credential_named(config_, registry.issuer);
  if (issuer == nullptr) {
    return Error{ErrorKind::misconfigured,
                 "there is no [[credential]] \"" + registry.issuer + "\"",
                 "correct issuer in the [[registry]] entry of " + registry.host,
                 {}};
  }
  auto name = state::LeaseJournal::new_name(job);
  if (!name) return std::move(name).error();
  state::LeaseRecord record;
  record.name = *name;
  record.issuer = issuer->name;
  record.job = job;
  record.registry = registry.host;
  record.repository = repository;
  record.created = rfc3339(clock_.now());
  record.owner = state::ProcessIdentity::self();
  if (auto written = journal_.write(record); !written)
    return std::move(written).error().in("writing down what will be minted");
  engine_api::LeaseOrder order;
  order.issuer = *issuer;
  order.name = *std::move(name);
  order.job = job;
  for (const auto& [key, value] : issuer->settings) {
    const auto found = key.ends_with("_variable") ? job_secrets.find(value) : job_secrets.end();
    if (found != job_secrets.end()) order.job_secrets.emplace(value, found->second.clone());
  }
  return order;
}

Status Leases::note(const std::string& name, const LeaseNote& note) {
  auto record = journal_.load(name);
  if (!record) return std::move(record).error();
  audit::AuditLog::Fields fields{{"job", record->job},
                                 {"issuer", record->issuer},
                                 {"lease", name},
                                 {"repository", record->registry + "/" + record->repository}};
  if (note.state == LeaseNote::State::ended) {
    if (auto removed = journal_.remove(name); !removed) return removed;
    return audit_.append("credential_ended", fields).ok()
               ? Status{}
               : Error{ErrorKind::io, "the audit log cannot be written", "", {}};
  }
  if (note.state == LeaseNote::State::renewing) {
    record->created = rfc3339(clock_.now());
    record->id.clear();
    record->expires_at.clear();
    return journal_.write(*record);
  }
  if (!note.id.empty()) record->id = note.id;
  if (!note.expires_at.empty()) record->expires_at = note.expires_at;
  record->problem = note.what;
  if (note.state == LeaseNote::State::left) {
    record->until_end = record->id.empty() ? !note.facts.can_list : !note.facts.can_revoke;
    ++record->tries;
    record->tried_at = rfc3339(clock_.now());
  }
  if (auto written = journal_.write(*record); !written) return written;
  fields.emplace_back("expires_at", record->expires_at);
  if (note.state == LeaseNote::State::left) {
    fields.emplace_back("why", note.what);
  } else if (note.facts.bypassable) {
    fields.emplace_back("bypassable", "the job itself can mint the same");
  } else if (note.facts.standing) {
    const auto* issuer = config::credential_named(config_, record->issuer);
    fields.emplace_back("static", issuer == nullptr ? "" : issuer->text("reason"));
  }
  auto head = audit_.append(
      note.state == LeaseNote::State::left ? "credential_left" : "credential_minted", fields);
  if (!head) return std::move(head).error();
  return {};
}

bool Leases::is_over(const state::LeaseRecord& record) const {
  WallTime end;
  return parse_rfc3339(record.expires_at, end) && clock_.now() >= end + kSkew;
}

bool Leases::is_due(const state::LeaseRecord& record) const {
  WallTime tried;
  if (!parse_rfc3339(record.tried_at, tried)) return true;
  const auto pause = std::min(kLongestPause, kFirstPause * (1 << std::clamp(record.tries, 0, 10)));
  return clock_.now() >= tried + pause;
}

Result<bool> Leases::end(const state::LeaseRecord& record) {
  if (record.issuer.empty())
    return Error{ErrorKind::bad_input, record.problem, "remove the file once that is done", {}};
  const auto* issuer = config::credential_named(config_, record.issuer);
  if (issuer == nullptr) {
    return Error{ErrorKind::misconfigured,
                 "the lease " + record.name + " is of [[credential]] \"" + record.issuer +
                     "\", which is no longer configured",
                 "put the entry back until the lease is revoked, or revoke it at the issuer and "
                 "remove its file in STATE_DIR/leases",
                 {}};
  }
  engine_api::IssuerRequest request;
  request.action = engine_api::IssuerRequest::Action::revoke;
  request.issuer = *issuer;
  request.lease_name = record.name;
  request.lease_id = record.id;
  request.repository = record.repository;
  request.since = record.created;
  std::optional<LeaseNote> told;
  const PushClient client{config_.programs.push, [&](const LeaseNote& note) -> Status {
                            told = note;
                            return {};
                          }};
  auto answer = client.ask_issuer(request);
  if (answer && !told)
    answer = Error{ErrorKind::internal, "slipway-push told nothing of the lease", "", {}};
  if (!answer) {
    told.emplace();
    told->state = LeaseNote::State::left;
    told->what = answer.error().text();
    told->facts = {true, true, false, false}; // nothing is known: it is tried again
  }
  if (auto noted = note(record.name, *told); !noted) return std::move(noted).error();
  if (!answer) return std::move(answer).error().in("ending the lease " + record.name);
  return told->state == LeaseNote::State::ended;
}

Status Leases::collect(const std::string& job, Haste haste) {
  std::optional<Error> failed;
  std::set<std::string> silent; // issuers that did not answer just now
  for (const auto& record : journal_.all()) {
    if (is_over(record)) {
      if (auto removed = journal_.remove(record.name); !removed && !failed)
        failed = std::move(removed).error();
      continue;
    }
    if (record.until_end || (job.empty() ? record.owner.alive() : record.job != job)) continue;
    if (haste == Haste::patient && !is_due(record)) continue;
    if (silent.contains(record.issuer)) continue;
    const auto began = std::chrono::steady_clock::now();
    auto ended = end(record);
    if (std::chrono::steady_clock::now() - began > kSilence) silent.insert(record.issuer);
    if (!ended && !failed) failed = std::move(ended).error();
  }
  if (failed) return *std::move(failed);
  return {};
}

Status Leases::revoke(const std::string& name) {
  auto record = journal_.load(name);
  if (!record) return std::move(record).error().hinting("`slipway leases` lists what is out");
  auto ended = end(*record);
  if (!ended) return std::move(ended).error();
  if (*ended) return {};
  record = journal_.load(name);
  if (!record) return {};
  return Error{ErrorKind::unavailable,
               name + " may still live" +
                   (record->expires_at.empty() ? "" : " until " + record->expires_at) + ": " +
                   record->problem,
               record->until_end ? "nothing but time ends it"
                                 : "`slipway gc` and the next jobs try again",
               {}};
}

std::optional<std::chrono::hours> age_of_static(const engine_api::IssuerSpec& spec,
                                                const Clock& clock) {
  struct stat found {};
  if (::stat(spec.text("password_file").c_str(), &found) != 0) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::hours>(clock.now().time_since_epoch() -
                                                        seconds{found.st_mtim.tv_sec});
}

std::string lease_line(const engine_api::IssuerSpec& spec, const LeaseNote& note,
                       const Clock& clock) {
  std::string line = spec.type + " \"" + spec.name + "\"";
  if (note.facts.standing) {
    const auto age = age_of_static(spec, clock);
    return line + ", a password that does not end" +
           (age ? ", " + std::to_string(age->count() / 24) + " days old" : "") + " (" +
           spec.text("reason") + ")";
  }
  line += ", minted for this push";
  if (note.state == LeaseNote::State::ended) line += ", revoked";
  if (note.state == LeaseNote::State::left)
    line += ", not revoked" +
            (note.expires_at.empty() ? std::string{} : ", ends " + note.expires_at) + ": " +
            note.what;
  if (note.facts.bypassable) line += "; bypassable: the job itself can mint the same";
  return line;
}

} // namespace slipway::image
