// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/doctor.hpp"

#include "config/credential_types.hpp"
#include "executor/gate/canary.hpp"
#include "executor/gate/database.hpp"
#include "executor/gate/grype_report.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate/scratch_dir.hpp"
#include "executor/gate/sealed_program.hpp"
#include "stages/image/leases.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iomanip>

namespace slipway::cli {
namespace {

constexpr std::chrono::hours kOldPassword{24 * 90};

const char* yes_or_no(bool value) {
  return value ? "yes" : "no";
}

std::string days(std::chrono::hours age) {
  return std::to_string(age.count() / 24) + " days";
}

class Report {
public:
  explicit Report(std::ostream& out) : out_{out} {}
  void problem(const std::string& what, const std::string& hint) {
    ++problems_;
    out_ << "  problem: " << what << "\n";
    if (!hint.empty()) out_ << "    what to do: " << hint << "\n";
  }
  int problems() const { return problems_; }

private:
  std::ostream& out_;
  int problems_ = 0;
};

std::string confined_by(int landlock_abi) {
  return ", confined by seccomp" +
         (landlock_abi > 0 ? " and Landlock (ABI " + std::to_string(landlock_abi) + ")" : "") +
         "\n";
}

void check_landlock(int abi, const std::string& program, Report& report) {
  if (abi == 0)
    report.problem("this kernel has no Landlock: what takes " + program +
                       " over could read the service user's files",
                   "a kernel from 5.13 with landlock in its list of security modules (lsm=)");
}

void check_closed(const std::string& key, const std::string& file, Report& report) {
  struct stat found {};
  if (::stat(file.c_str(), &found) == 0 && (found.st_mode & 0077U) != 0)
    report.problem(key + " (" + file + ") is open to other users",
                   "chmod 0600, owned by the service user");
}

// Files that hold a secret, and are open to others.
void check_files(const engine_api::IssuerSpec& spec, Report& report) {
  for (const auto& type : config::credential_types()) {
    if (type.name != spec.type) continue;
    for (const auto* settings : {&type.settings, &config::shared_settings()}) {
      for (const auto& setting : *settings) {
        if (setting.kind != config::SettingKind::file || setting.key == "ca_file" ||
            setting.key == "client_cert_file")
          continue;
        const std::string key{setting.key};
        if (!spec.text(key).empty()) check_closed(key, spec.text(key), report);
      }
    }
  }
}

void check_static(const config::Config& config, const engine_api::IssuerSpec& spec,
                  const Clock& clock, std::ostream& out, Report& report) {
  out << "  a password that does not end: " << spec.text("reason") << "\n";
  if (const auto age = image::age_of_static(spec, clock)) {
    out << "  it is " << days(*age) << " old\n";
    if (*age >= kOldPassword)
      report.problem("the password is " + days(*age) + " old",
                     "set another one at the registry and in " + spec.text("password_file"));
  }
  const bool is_named = std::any_of(config.rules.begin(), config.rules.end(), [&](const auto& r) {
    return std::find(r.static_credentials.begin(), r.static_credentials.end(), spec.name) !=
           r.static_credentials.end();
  });
  if (!is_named)
    report.problem("no rule names it, so nobody may push with it",
                   "static_credentials = [\"" + spec.name + "\"] in a [[rule]], or take it out");
}

} // namespace

void print_leases(const std::vector<state::LeaseRecord>& leases, std::ostream& out) {
  if (leases.empty()) {
    out << "no credential is out\n";
    return;
  }
  std::vector<std::vector<std::string>> rows{{"NAME", "ISSUER", "REPOSITORY", "SINCE", "ENDS"}};
  for (const auto& lease : leases)
    rows.push_back({lease.name, lease.issuer, lease.registry + "/" + lease.repository,
                    lease.created, lease.expires_at.empty() ? "not known" : lease.expires_at});
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  }
  for (std::size_t at = 0; at < rows.size(); ++at) {
    for (std::size_t i = 0; i < rows[at].size(); ++i)
      out << std::left << std::setw(static_cast<int>(widths[i]) + 2) << rows[at][i];
    if (at == 0) {
      out << "STATE\n";
      continue;
    }
    const auto& lease = leases[at - 1];
    if (lease.problem.empty()) {
      out << (lease.owner.alive() ? "in use" : "left by a dead process") << "\n";
    } else {
      out << lease.problem << (lease.until_end ? "; nothing but time ends it" : "") << "\n";
    }
  }
}

int doctor(const config::Config& config, const std::vector<state::LeaseRecord>& leases,
           const Clock& clock, const Describe& describe, std::ostream& out) {
  Report report{out};
  for (const auto& spec : config.credentials) {
    out << "credential \"" << spec.name << "\" (" << spec.type << ")";
    std::string used;
    for (const auto& registry : config.registries) {
      if (registry.issuer == spec.name) used += (used.empty() ? ", for " : ", ") + registry.host;
    }
    out << used << "\n";
    if (used.empty())
      report.problem("no registry uses it", "name it as issuer in a [[registry]], or take it out");
    if (config::is_static(spec)) check_static(config, spec, clock, out, report);
    const auto facts = describe(spec);
    if (!facts) {
      report.problem(facts.error().text(), facts.error().hint);
    } else {
      out << "  revocable " << yes_or_no(facts->can_revoke) << ", listable "
          << yes_or_no(facts->can_list) << ", bypassable " << yes_or_no(facts->bypassable) << "\n";
      if (facts->bypassable)
        report.problem("a job can mint the same and push past the gate",
                       "let slipway log in with what no job can have: docs/credentials.md");
    }
    check_files(spec, report);
  }
  for (const auto& registry : config.registries) {
    if (!registry.push || (registry.credential != "job" && registry.credential != "operator"))
      continue;
    out << "registry " << registry.host << " (credential = \"" << registry.credential << "\")\n";
    if (registry.credential == "job") {
      out << "  bypassable yes: the job's own login; the gate holds as far as sandboxes cannot "
             "reach the registry\n";
    } else {
      engine_api::IssuerSpec as_static;
      as_static.settings["password_file"] = registry.password_file;
      const auto age = image::age_of_static(as_static, clock);
      if (age) out << "  a password that does not end, " << days(*age) << " old\n";
      if (!age)
        report.problem("password_file (" + registry.password_file.string() + ") cannot be read",
                       "the service user must own it, mode 0600");
    }
  }
  const auto stuck = std::count_if(leases.begin(), leases.end(), [](const auto& lease) {
    return !lease.problem.empty() && !lease.until_end;
  });
  if (stuck > 0) {
    out << "leases\n";
    report.problem("credentials that could not be revoked yet: " + std::to_string(stuck),
                   "`slipway leases` says why; `slipway leases revoke NAME` tries again");
  }
  out << "credentials: " << config.credentials.size() << ", problems: " << report.problems()
      << "\n";
  return report.problems();
}

int doctor_egress(const config::Config& config, std::ostream& out) {
  Report report{out};
  const auto words = [&](const std::string& mode) -> std::string {
    if (mode != "open-except-registries") return mode;
    return mode + (config.sandbox.block_registries
                       ? ", a guard rail: all but the registries can be reached"
                       : ", and block_registries = false: everything can be reached");
  };
  const auto learns = [&](const std::string& where) {
    report.problem(where + " lets its jobs connect to everything, to learn what they need",
                   "`slipway egress learn --project PROJECT` prints the list; then take "
                   "egress_learn out");
  };
  out << "egress by default: " << words(config.sandbox.egress.mode) << "\n";
  if (config.sandbox.egress.learn) learns("[sandbox]");
  for (const auto& rule : config.rules) {
    if (rule.egress) out << "egress by rule " << rule.origin << ": " << words(*rule.egress) << "\n";
    if (rule.egress_learn.value_or(false)) learns("rule " + rule.origin);
  }
  return report.problems();
}

void doctor_limits(const config::Config& config, std::ostream& out) {
  const auto& limits = config.sandbox;
  const auto mebibytes = [](std::uint64_t bytes) { return std::to_string(bytes >> 20U) + " MiB"; };
  out << "limits of each sandbox: " << limits.pids << " processes";
  if (limits.memory_bytes > 0) out << ", memory " << mebibytes(limits.memory_bytes);
  if (limits.cpus > 0) out << ", " << limits.cpus << " processors";
  if (limits.file_bytes > 0) out << ", files of " << mebibytes(limits.file_bytes);
  out << "; all jobs end below " << mebibytes(limits.disk_floor) << " of free disk\n";
  if (limits.memory_bytes == 0)
    out << "  note: one job can take all of the machine's memory: [sandbox] memory\n";
}

int doctor_signing(const config::Config& config, std::ostream& out) {
  Report report{out};
  const auto& signing = config.signing;
  if (!signing.is_on()) {
    out << "signing: nothing is signed, [signing] has no key\n";
    return 0;
  }
  const auto needs = [&](const std::string& key, const std::filesystem::path& file, int mode) {
    if (::access(file.c_str(), mode) != 0)
      report.problem(key + " (" + file.string() + ") cannot be used: " + errno_text(errno),
                     "every push that is to be signed fails: see docs/supply-chain.md");
  };
  if (!signing.key_file.empty()) {
    out << "signing: by the key " << signing.key_file.string() << "\n";
    needs("key_file", signing.key_file, R_OK);
    check_closed("key_file", signing.key_file.string(), report);
    return report.problems();
  }
  if (!signing.command.empty()) {
    out << "signing: by the program " << signing.command.front() << "\n";
    needs("command", signing.command.front(), X_OK);
  } else {
    out << "signing: by a token of " << signing.pkcs11_module.string() << "\n";
    needs("pkcs11 in [programs]", config.programs.pkcs11, X_OK);
    needs("pkcs11_module", signing.pkcs11_module, R_OK);
  }
  needs("public_key_file", signing.public_key_file, R_OK);
  return report.problems();
}

void doctor_save(const config::Config& config, std::ostream& out) {
  out << "images as files (docker save, build -o): leave jobs without having been judged, where no "
         "rule says save = false\n";
  for (const auto& rule : config.rules) {
    if (rule.save.value_or(true)) continue;
    out << "images as files by rule " << rule.origin << ": none"
        << (rule.backends.dind ? ", but whatever their containers write (dind = true)" : "")
        << "\n";
  }
}

int doctor_backends(const config::Config& config, const std::vector<Tool>& tools,
                    std::ostream& out) {
  Report report{out};
  const auto is_used = [&](const std::string& name) {
    return std::any_of(tools.begin(), tools.end(),
                       [&](const Tool& tool) { return tool.backend == name && tool.is_used; });
  };
  std::size_t used = 0;
  for (const auto& tool : tools) {
    used += tool.is_used ? 1U : 0U;
    out << "backend " << tool.backend << (tool.version.empty() ? "" : " ") << tool.version << ": "
        << (tool.is_used ? "builds here" : "no: " + tool.problem) << "\n";
  }
  if (used == 0)
    report.problem("nothing on this host can build an image",
                   "`slipway backends` says how to get what is missing");
  for (const auto& rule : config.rules)
    if (!rule.backends.pin.empty() && !is_used(rule.backends.pin))
      report.problem("rule " + rule.origin + " has its jobs' images built by " + rule.backends.pin +
                         ", which does not build here",
                     "`slipway backends` says how to get it; or take `backend` out of the rule");
  out << "backends: " << used << ", problems: " << report.problems() << "\n";
  return report.problems();
}

sandbox::SlotWishes slot_wishes(const config::Config& config) {
  return {config.sandbox.id_slots, config.buildkit.warm_builders, config.buildah.stores};
}

void doctor_ids(const sandbox::SlotPlan& plan, const sandbox::SlotWishes& wishes,
                std::ostream& out) {
  const auto of = [](const sandbox::SlotShare& share, int wanted) {
    return std::to_string(share.count) + " of " + std::to_string(wanted);
  };
  out << "id ranges of their own: jobs " << of(plan.jobs, wishes.jobs) << ", builders "
      << of(plan.builders, wishes.builders) << ", stores " << of(plan.stores, wishes.stores)
      << ", scanners " << yes_or_no(plan.scanner.count > 0) << "\n";
  if (wishes.builders < wishes.jobs || wishes.stores < wishes.jobs)
    out << "  fewer builders or stores than jobs at a time (id_slots): some builds wait for "
           "others\n"
           "    what to do: warm_builders and stores of at least "
        << wishes.jobs << "\n";
  if (plan.jobs.count == wishes.jobs && plan.builders.count == wishes.builders &&
      plan.stores.count == wishes.stores && plan.scanner.count > 0)
    return;
  out << "  the others share one range\n    what to do: "
      << std::uint64_t{sandbox::kSlotSize} * static_cast<std::uint64_t>(wishes.ranges())
      << " subordinate ids (packaging/setup-runner), or fewer id_slots, warm_builders, stores\n";
}

int doctor_gate(gate_worker::ImageReader& gate, const oci::Layout& empty, int landlock_abi,
                std::ostream& out) {
  Report report{out};
  out << "images are unpacked by slipway-gate" << confined_by(landlock_abi);
  auto answer = gate.verify(empty, oci::Digest::of(""), {}, nullptr);
  if (!answer && answer.error().kind != ErrorKind::not_found)
    report.problem("slipway-gate cannot work: " + answer.error().text(),
                   answer.error().hint.empty()
                       ? "install it beside slipway, or set gate in [programs]"
                       : answer.error().hint);
  check_landlock(landlock_abi, "slipway-gate", report);
  return report.problems();
}

namespace {

/// One of the gate's scanners.
struct WantedScanner {
  std::string name; ///< of its key in [gate]
  std::filesystem::path program;
  std::string pin;
  bool is_second;
};

/// Passes on what a scanner says, and remembers which version said it.
class OverheardScanner final : public gate::Scanner {
public:
  OverheardScanner(gate::Scanner& real, bool is_second) : real_{real}, is_second_{is_second} {}
  Result<Report> scan(const std::filesystem::path& layout_dir,
                      const oci::Digest& manifest) override {
    auto scanned = real_.scan(layout_dir, manifest);
    if (!scanned) return scanned;
    if (is_second_) {
      if (auto report = gate::parse_grype_report(scanned->json)) version_ = report->version;
    } else if (auto report = gate::parse_report(scanned->json)) {
      version_ = report->trivy_version;
    }
    return scanned;
  }
  Result<Report> scan_sbom(const std::filesystem::path& dir) override {
    return real_.scan_sbom(dir);
  }
  std::string version() const override { return real_.version(); }
  /// "" = no report said.
  const std::string& reported() const { return version_; }

private:
  gate::Scanner& real_;
  bool is_second_;
  std::string version_;
};

/// What is wrong with what the scanner finds; none = nothing.
std::optional<Error> proof_of(const gate::ScannerConfig& scanner, OverheardScanner& program,
                              bool is_second) {
  const auto untold = [](const Error& error, const char* hint) {
    return Error{error.kind, "whether it finds anything cannot be told: " + error.text(), hint, {}};
  };
  const auto held = gate::hold_database(scanner.db_dir);
  if (const auto known = gate::read_database(scanner.db_dir); !known)
    return untold(known.error(), "`slipway db update`; without a DB the gate denies every push");
  if (is_second)
    if (const auto known = gate::read_grype_database(scanner.grype_db_dir); !known)
      return untold(known.error(), "import a DB of Grype's: docs/gate.md");
  // In a folder of its own: what it found before is remembered elsewhere.
  auto scratch = gate::ScratchDir::under(scanner.cache_dir);
  if (!scratch) return scratch.error();
  auto alone = scanner;
  alone.cache_dir = scratch->path();
  const auto wrong =
      gate::prove_scanner(program, alone, {program.version(), "", {}, is_second}, std::nullopt);
  if (!wrong) return wrong.error();
  if (wrong->empty()) return std::nullopt;
  return Error{ErrorKind::misconfigured, *wrong, "", {}};
}

int doctor_scanner(const WantedScanner& wanted, const gate::ScannerConfig& scanner,
                   gate::Scanner& program, std::ostream& out) {
  Report report{out};
  const auto file = wanted.program.string();
  const auto sealed = gate::sealed_scanner(wanted.name, wanted.program, wanted.pin);
  if (!sealed) {
    out << "scanner " << file << ": is not started\n";
    report.problem(sealed.error().text(), sealed.error().hint);
    return report.problems();
  }
  OverheardScanner overheard{program, wanted.is_second};
  const auto wrong = proof_of(scanner, overheard, wanted.is_second);
  const auto version = gate::printable(overheard.reported(), 40);
  out << "scanner " << file << ": " << wanted.name << (version.empty() ? "" : " " + version)
      << (wanted.pin.empty() ? ", not pinned" : ", the pinned one")
      << (!wrong ? ", finds a vulnerability that it is shown" : "") << "\n";
  if (wanted.pin.empty()) {
    const auto digest = (*sealed)->digest();
    out << "  note: whoever replaces it is not noticed"
        << (digest ? "; it digests to " + digest->str() : "") << "\n    what to do: set [gate] "
        << wanted.name << "_sha256 to the digest of the one that you installed\n";
  }
  if (!wanted.is_second && gate::is_malicious_trivy(overheard.reported()))
    report.problem("Trivy " + version + " is a known malicious release",
                   "install 0.69.3 (packaging/tools), and treat what this machine holds as stolen");
  if (wrong) report.problem(wrong->text(), wrong->hint);
  return report.problems();
}

} // namespace

int doctor_scanners(const gate::ScannerConfig& scanner, gate::Scanner& first, gate::Scanner& second,
                    std::ostream& out) {
  const int problems =
      doctor_scanner({"trivy", scanner.trivy, scanner.trivy_sha256, false}, scanner, first, out);
  if (scanner.grype.empty()) return problems;
  return problems +
         doctor_scanner({"grype", scanner.grype, scanner.grype_sha256, true}, scanner, second, out);
}

int doctor_push(const Result<std::string>& answer, int landlock_abi, std::ostream& out) {
  Report report{out};
  out << "registries and issuers are asked by slipway-push" << confined_by(landlock_abi);
  if (!answer && answer.error().kind != ErrorKind::bad_input)
    report.problem("slipway-push cannot work: " + answer.error().text(),
                   answer.error().hint.empty()
                       ? "install it beside slipway, or set push in [programs]"
                       : answer.error().hint);
  check_landlock(landlock_abi, "slipway-push", report);
  return report.problems();
}

} // namespace slipway::cli
