// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/db.hpp"

#include "executor/gate/database.hpp"
#include "executor/policy/policy.hpp"
#include "executor/vulndb/package.hpp"
#include "stages/image/push_client.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ostream>

namespace slipway::cli {
namespace {

int complain(const Error& error, int code, std::ostream& err) {
  err << "slipway: " << error.text() << "\n";
  if (!error.hint.empty()) err << "  what to do: " << error.hint << "\n";
  return code;
}

std::string hours(std::chrono::seconds age) {
  return std::to_string(std::chrono::duration_cast<std::chrono::hours>(age).count()) + " h";
}

void print_facts(const vulndb::Kind& kind, const vulndb::Facts& facts, std::ostream& out) {
  if (!facts.source.empty()) {
    out << "  from       " << facts.source << ", " << facts.digest << "\n  accepted   "
        << facts.accepted << "\n  installed  " << facts.installed_at << "\n";
  }
  out << "  " << kind.file << (kind.has_advisories ? "   " : " ") << facts.sha256 << "\n";
  if (!kind.has_advisories) return;
  out << "  advisories " << facts.total() << "\n";
  for (const auto& [source, count] : facts.advisories)
    out << "    " << source << " " << count << "\n";
}

const std::filesystem::path& dir_of(const vulndb::Kind& kind, const config::Config& config) {
  return kind.has_advisories ? config.gate.db_dir : config.gate.java_db_dir;
}

// Exit codes: those of db_update().
int update_one(const vulndb::Kind& kind, const config::Config& config, const vulndb::Rules& rules,
               vulndb::Mirror& mirror, audit::AuditLog& audit, const Clock& clock,
               std::ostream& out, std::ostream& err) {
  std::vector<vulndb::Source> sources;
  for (const auto& source : config.db_sources) {
    if ((source.kind == "java") == kind.has_advisories) continue;
    if (source.image.empty()) {
      sources.emplace_back(source.path);
      continue;
    }
    auto reference = oci::Reference::parse(source.image);
    if (!reference) return complain(reference.error(), 2, err);
    sources.emplace_back(*std::move(reference));
  }
  // Who names sources of the other kind alone fills this one in another way.
  if (sources.empty() && !config.db_sources.empty()) return 0;
  const auto& dir = dir_of(kind, config);
  auto done = vulndb::update(vulndb::Store{kind, dir}, sources, rules, mirror, audit, clock);
  if (!done) return complain(done.error(), done.error().kind == ErrorKind::denied ? 1 : 2, err);
  for (const auto& note : done->notes)
    err << "slipway: note: " << note << "\n";
  out << dir.string() << ": "
      << (done->changed ? "updated, of " : "nothing newer than what is there, of ")
      << rfc3339(done->facts.updated_at) << "\n";
  if (done->changed) print_facts(kind, done->facts, out);
  return 0;
}

} // namespace

int db_status(const config::Config& config, WallTime now, bool json, std::ostream& out) {
  const auto& gate = config.gate;
  // How old it is stands in Grype's reports; here it is there, or is missing.
  const auto second = gate.grype.empty() ? Result<std::string>{std::string{}}
                                         : gate::read_grype_database(gate.grype_db_dir);
  const auto java = vulndb::Store{vulndb::kJavaArchives, gate.java_db_dir}.current();
  const auto facts = vulndb::Store{vulndb::kAdvisories, gate.db_dir}.current();
  const auto age = facts ? now - facts->updated_at : std::chrono::seconds{0};
  const bool ahead = age < -std::chrono::hours{24};
  const int code = !facts || ahead || age > gate.db_max_age ? kDbUnusable
                   : age > gate.db_warn_age                 ? kDbOld
                                                            : kDbFresh;
  const char* state = code == kDbFresh ? "fresh"
                      : code == kDbOld ? "old"
                      : !facts         ? "unusable"
                      : ahead          ? "from the future"
                                       : "too old";
  if (json) {
    nlohmann::ordered_json document{
        {"path", gate.db_dir.string()},
        {"state", state},
        {"warn_age_seconds", gate.db_warn_age.count()},
        {"max_age_seconds", gate.db_max_age.count()},
    };
    if (facts) {
      document["schema"] = 2;
      document["updated_at"] = rfc3339(facts->updated_at);
      document["age_seconds"] = age.count();
      document["trivy_db"] = facts->sha256;
      document["digest"] = facts->digest;
      document["source"] = facts->source;
      document["accepted"] = facts->accepted;
      document["installed_at"] = facts->installed_at;
      document["advisories"] = facts->advisories;
      document["advisories_total"] = facts->total();
    } else {
      document["error"] = facts.error().text();
    }
    document["java_path"] = gate.java_db_dir.string();
    document["java_state"] = java ? "present" : "missing";
    if (java) {
      document["java_updated_at"] = rfc3339(java->updated_at);
      document["java_db"] = java->sha256;
      document["java_digest"] = java->digest;
      document["java_source"] = java->source;
      document["java_accepted"] = java->accepted;
    }
    if (!gate.grype.empty()) {
      document["grype_path"] = gate.grype_db_dir.string();
      document["grype_state"] = second ? "present" : "missing";
    }
    out << document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
    return second ? code : kDbUnusable;
  }
  if (!gate.grype.empty()) {
    out << gate.grype_db_dir.string() << ": of Grype, "
        << (second ? "present; each verdict says how old it is" : second.error().text()) << "\n";
  }
  out << gate.java_db_dir.string() << ": of Java archives, "
      << (java ? "of " + rfc3339(java->updated_at)
               : java.error().text() + "; an image with a .jar is denied")
      << "\n";
  if (java) print_facts(vulndb::kJavaArchives, *java, out);
  out << gate.db_dir.string() << ": " << state << "\n";
  if (!facts) {
    out << "  why        " << facts.error().text()
        << "\n  what to do `slipway db update`, or docs/operating.md\n";
    return kDbUnusable;
  }
  out << "  updated    " << rfc3339(facts->updated_at) << ", " << hours(age) << " ago; a note from "
      << hours(gate.db_warn_age) << " on, denied from " << hours(gate.db_max_age)
      << " on\n  schema     2\n";
  print_facts(vulndb::kAdvisories, *facts, out);
  return second ? code : kDbUnusable;
}

int db_update(const config::Config& config, const std::vector<std::string>& accepted_losses,
              vulndb::Mirror& mirror, audit::AuditLog& audit, const Clock& clock, std::ostream& out,
              std::ostream& err) {
  vulndb::Rules rules;
  rules.max_bytes = config.db.max_size;
  rules.accepted_losses = accepted_losses;
  if (!config.db.key_file.empty()) {
    auto key = vulndb::load_key(config.db.key_file);
    if (!key) return complain(key.error(), 2, err);
    rules.key = *std::move(key);
  }
  for (const auto& text : config.db.canary) {
    auto canary = vulndb::parse_canary(text);
    if (!canary) return complain(canary.error(), 2, err);
    rules.canaries.push_back(*std::move(canary));
  }
  const int code = update_one(vulndb::kAdvisories, config, rules, mirror, audit, clock, out, err);
  if (config.db_sources.empty()) return code;
  rules.canaries.clear(); // advisories
  return std::max(code,
                  update_one(vulndb::kJavaArchives, config, rules, mirror, audit, clock, out, err));
}

int db_rollback(const vulndb::Kind& kind, const config::Config& config, audit::AuditLog& audit,
                std::ostream& out, std::ostream& err) {
  const vulndb::Store store{kind, dir_of(kind, config)};
  auto locked = store.lock();
  if (!locked) return complain(locked.error(), 2, err);
  auto facts = store.rollback();
  if (!facts)
    return complain(facts.error(), facts.error().kind == ErrorKind::not_found ? 1 : 2, err);
  if (auto noted = audit.append("db_rollback", {{"digest", facts->digest},
                                                {kind.audit_name, facts->sha256},
                                                {"updated_at", rfc3339(facts->updated_at)}});
      !noted)
    return complain(noted.error(), 2, err);
  out << dir_of(kind, config).string() << ": back to the one of " << rfc3339(facts->updated_at)
      << "\n";
  print_facts(kind, *facts, out);
  return 0;
}

int db_digest(const vulndb::Kind& kind, const std::string& path, std::ostream& out,
              std::ostream& err) {
  auto digest = vulndb::digest_of(kind, path);
  if (!digest) return complain(digest.error(), 2, err);
  out << vulndb::statement(kind, *digest);
  return 0;
}

Result<oci::Digest> RegistryMirror::pull(const oci::Reference& reference, const std::string& target,
                                         oci::Layout* into, std::uint64_t max_bytes) {
  engine_api::PullRequest request;
  auto& access = request.registry;
  access.host = reference.registry() == "docker.io" ? "registry-1.docker.io" : reference.registry();
  if (reference.registry() == "docker.io") access.realm_hosts = {"auth.docker.io"};
  access.max_token_seconds = static_cast<std::uint32_t>(config_.push.token_lifetime.count());
  if (const auto* registry = policy::registry_for(config_, reference)) {
    access.ca_file = registry->ca_file;
    access.plain_http = registry->plain_http;
    access.basic_auth = registry->basic_auth;
    if (!registry->realm_hosts.empty()) {
      access.realm_hosts = registry->realm_hosts;
      access.realm_hosts.push_back(access.host);
    }
    if (registry->credential == "operator") {
      access.username = registry->username;
      access.password_file = registry->password_file;
    }
  }
  request.repository = reference.repository();
  request.target = target;
  request.manifest_only = into == nullptr;
  request.max_bytes = max_bytes;
  if (into != nullptr) request.layout_dir = into->path();
  request.deadline_seconds = static_cast<std::uint32_t>(config_.db.timeout.count());
  auto answer = image::PushClient{config_.programs.push}.pull(
      request, [](const std::string&) {}, [] { return false; });
  if (!answer) return std::move(answer).error();
  return oci::Digest::parse(answer->digest);
}

} // namespace slipway::cli
