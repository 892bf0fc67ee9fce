// SPDX-License-Identifier: Apache-2.0
// The slipway command: stages for GitLab Runner, and commands for operators.
#include "executor/audit/audit.hpp"
#include "executor/cli/backends.hpp"
#include "executor/cli/db.hpp"
#include "executor/cli/doctor.hpp"
#include "executor/cli/explain.hpp"
#include "executor/cli/gate_check.hpp"
#include "executor/cli/policy_test.hpp"
#include "executor/cli/waivers.hpp"
#include "executor/cli/wiring.hpp"
#include "executor/egress/learned.hpp"
#include "executor/gitlab/stages.hpp"
#include "executor/log/log.hpp"
#include "executor/policy/policy.hpp"
#include "executor/report/report.hpp"
#include "executor/sandbox/host_platforms.hpp"
#include "stages/image/images.hpp"
#include "stages/image/reports.hpp"

#include <CLI/CLI.hpp>

#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <set>
#include <string>
#include <string_view>

namespace {

using namespace slipway;

// For commands that a person started: what, why, what next; 2 where we could not do it.
int complain(const Error& error, int code = 2) {
  std::cerr << "slipway: " << error.text() << "\n";
  if (!error.hint.empty()) std::cerr << "  what to do: " << error.hint << "\n";
  return code;
}

int refuse_root(const gitlab::StageEnvironment& environment) {
  return gitlab::report(
      environment,
      Error{
          ErrorKind::misconfigured,
          "slipway was started as root and refuses to run jobs so",
          "run GitLab Runner as an unprivileged user: `packaging/setup-runner` writes the systemd "
          "drop-in (User, Delegate, runtime directory), the subordinate ids and the configuration",
          {}});
}

/// State and sandboxes belong to the service's user: what root makes there stops his jobs, and what
/// root's own Podman shows is none of them.
Error not_as_root(const std::filesystem::path& state_dir) {
  struct ::stat facts {};
  const ::passwd* user = ::stat(state_dir.c_str(), &facts) == 0 && facts.st_uid != 0
                             ? ::getpwuid(facts.st_uid) // NOLINT(concurrency-mt-unsafe)
                             : nullptr;
  const std::string name = user == nullptr ? "gitlab-runner" : user->pw_name;
  return Error{ErrorKind::misconfigured,
               "slipway was started as root, and this command works as the service's user alone",
               "runuser -u " + name + " -- slipway …",
               {}};
}

/// What every command line says first.
struct Installation {
  std::string config_file;
  std::vector<std::string> runner_tags;
};

void print_verified(const audit::Verified& verified) {
  std::cout << verified.records << " records, chain intact, head " << verified.head << "\n";
  if (verified.repairs > 0) {
    std::cout << verified.repairs
              << " of them audit_repaired: each names the file beside the log that has an "
                 "incomplete line, written when slipway or the machine was cut off\n";
  }
}

Result<config::Config> load(const Installation& installation) {
  auto config = config::load(installation.config_file);
  if (config) config->runner_tags = installation.runner_tags;
  return config;
}

int stage_of(const std::string& stage, const Installation& installation, const std::string& script,
             const std::string& sub_stage, const gitlab::StageEnvironment& environment,
             gitlab::StopSignal& stop) {
  // Clean-up goes to its end, whoever wants it to stop.
  const bool stops = stage == "prepare" || stage == "run";
  auto config = load(installation);
  if (!config) return gitlab::report(environment, config.error());
  auto wiring = cli::Wiring::make(*std::move(config), stops ? stop.fd() : -1);
  if (!wiring) return gitlab::report(environment, wiring.error());
  const auto tools = (*wiring)->stage_tools();
  if (stage == "prepare" && !(*wiring)->log_problem().empty()) // once in a job
    std::cerr << "slipway: " << (*wiring)->log_problem() << "\n";
  if (stage == "config") return gitlab::run_config(tools, environment);
  if (stage == "prepare") return gitlab::run_prepare(tools, environment, stop);
  if (stage == "run") return gitlab::run_run(tools, environment, stop, script, sub_stage);
  return gitlab::run_cleanup(tools, environment);
}

// The runner knows two codes; a signal or an exception that nobody expected would be neither.
int gitlab_stage(const std::string& stage, const Installation& installation,
                 const std::string& script, const std::string& sub_stage) {
  // A stage has the job's secrets, and its environment has them too: no core dump, and nobody of
  // the same user reads them in /proc. What it starts is as it was. Source: prctl(2), ptrace(2).
  (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const auto environment = gitlab::StageEnvironment::read();
  if (::geteuid() == 0) return refuse_root(environment);
  static int code_of_terminate = 0;
  code_of_terminate = environment.system_failure;
  // Of a thread that nobody waits for.
  std::set_terminate([] {
    constexpr std::string_view kWords =
        "ERROR (runner system failure): slipway came to an unexpected end\n";
    (void)!::write(STDERR_FILENO, kWords.data(), kWords.size());
    ::_exit(code_of_terminate);
  });
  try {
    gitlab::StopSignal stop;
    return gitlab::code_at_end(environment, stop, [&] {
      return stage_of(stage, installation, script, sub_stage, environment, stop);
    });
  } catch (const std::exception& unexpected) {
    return gitlab::report(environment,
                          Error{ErrorKind::internal,
                                stage + " came to an unexpected end: " + unexpected.what(),
                                "`slipway gc` removes what it left; report this",
                                {}});
  }
}

} // namespace

int main(int argc, char** argv) {
  CLI::App app{"slipway: container builds in CI without Docker's root", "slipway"};
  app.set_version_flag("--version", "slipway " SLIPWAY_VERSION);
  app.require_subcommand(1);
  std::string config_file = "/etc/slipway/config.toml";
  app.add_option("--config", config_file, "configuration file");
  std::vector<std::string> runner_tags;
  app.add_option("--runner-tag", runner_tags, "which runner this is, for runner_tag in a [[rule]]")
      ->allow_extra_args(false);

  auto* gitlab_command = app.add_subcommand("gitlab", "stages of GitLab Runner's custom executor");
  gitlab_command->require_subcommand(1);
  std::string script;
  std::string sub_stage;
  std::string stage;
  for (const char* name : {"config", "prepare", "run", "cleanup"}) {
    auto* command = gitlab_command->add_subcommand(name, std::string{"the "} + name + " stage");
    command->callback([&stage, name] { stage = name; });
    if (std::string{name} == "run") {
      command->add_option("script", script, "script file")->required();
      command->add_option("sub_stage", sub_stage, "sub-stage")->required();
    }
  }

  auto* config_command = app.add_subcommand("config", "look at the configuration");
  config_command->require_subcommand(1);
  auto* config_check =
      config_command->add_subcommand("check", "read configuration and policy, say what is wrong");
  auto* config_print = config_command->add_subcommand("print", "print what is in force");

  auto* audit_command = app.add_subcommand("audit", "the audit log");
  audit_command->require_subcommand(1);
  auto* audit_verify = audit_command->add_subcommand("verify", "check the chain");
  std::string head;
  std::string audit_file;
  audit_verify->add_option("--head", head, "head hash from a job log: also finds truncation");
  audit_verify->add_option("file", audit_file, "audit log (default: the configured one)");

  auto* gc = app.add_subcommand("gc", "clean up after jobs whose runner died, idle builders too");
  bool everything = false;
  gc->add_flag("--all", everything,
               "remove every job, builder, store and cache of this installation, running ones too");

  auto* leases = app.add_subcommand("leases", "credentials that are out, and until when");
  auto* lease_revoke = leases->add_subcommand("revoke", "end one now");
  std::string lease;
  lease_revoke->add_option("name", lease, "its name in the list")->required();
  auto* doctor =
      app.add_subcommand("doctor", "what each credential's issuer can do, what is wrong");

  auto* gate_command = app.add_subcommand("gate", "the gate");
  gate_command->require_subcommand(1);
  auto* gate_check =
      gate_command->add_subcommand("check", "judge an OCI layout as a push would be");
  std::string layout;
  policy::Subject subject;
  constexpr const char* kRefWords = "as for this branch, or refs/tags/NAME";
  const CLI::Validator is_ref{[](const std::string& text) {
                                return config::is_ref(text)
                                           ? std::string{}
                                           : "'" + text +
                                                 "' is no branch, refs/tags/NAME or "
                                                 "refs/merge-requests/7/head";
                              },
                              "REF"};
  const auto as_for_job = [&subject, &is_ref](CLI::App* command, const char* whose_policy) {
    command->add_option("--project", subject.project, whose_policy);
    command->add_flag("--protected", subject.ref_protected, "as for a protected ref");
    command->add_option("--source", subject.source, "as for a pipeline of this source");
    command->add_option("--ref", subject.ref, kRefWords)->check(is_ref);
  };
  std::string db;
  bool json = false;
  gate_check->add_option("layout", layout, "LAYOUT_DIR[@DIGEST]")->required();
  as_for_job(gate_check, "judge by the policy for this project");
  gate_check->add_option("--db", db, "vulnerability database folder");
  auto* as_json = gate_check->add_flag("--json", json, "print the verdict as JSON");
  std::string format;
  gate_check
      ->add_option("--format", format, "print it as a report for another program, or as a page")
      ->check(CLI::IsMember(report::format_words()))
      ->excludes(as_json);
  auto* gate_test =
      gate_command->add_subcommand("test", "say what the policy makes of a stored report of Trivy");
  std::string report;
  std::string repository;
  gate_test->add_option("report", report, "file made by `trivy image --format json`")->required();
  as_for_job(gate_test, "judge by the policy for this project");
  gate_test->add_option("--repository", repository,
                        "as for a push to this REGISTRY/REPOSITORY: waivers may name it");
  gate_test->add_flag("--json", json, "print the verdict as JSON");

  auto* waivers = app.add_subcommand("waivers", "what the gate puts up with, and until when");
  int soon = -1;
  waivers->add_option("--soon", soon, "only what is over or ends within so many days")
      ->check(CLI::Range(0, 3650));
  waivers->add_flag("--json", json, "print them as JSON");

  auto* db_command = app.add_subcommand("db", "the databases of the gate");
  db_command->require_subcommand(1);
  auto* db_status = db_command->add_subcommand(
      "status", "how old it is, what it knows; exit code 1 where old, 2 where unusable");
  db_status->add_flag("--json", json, "print it as JSON");
  auto* db_update = db_command->add_subcommand("update", "take a newer one from [[db_source]]");
  std::vector<std::string> accepted_losses;
  db_update
      ->add_option(
          "--accept-loss", accepted_losses,
          "a source of advisories that may have lost more than a fifth; `all` is the sum, `bytes` "
          "the Java DB")
      ->allow_extra_args(false);
  bool java_db = false;
  const auto kind_of_db = [&java_db]() -> const vulndb::Kind& {
    return java_db ? vulndb::kJavaArchives : vulndb::kAdvisories;
  };
  auto* db_rollback = db_command->add_subcommand("rollback", "put the former one in force again");
  db_rollback->add_flag("--java", java_db, "the one of Java archives");
  auto* db_digest = db_command->add_subcommand("digest", "print what is to be signed of one");
  std::string db_path;
  db_digest->add_option("path", db_path, "db.tar.gz, or a folder")->required();
  db_digest->add_flag("--java", java_db, "it is one of Java archives");

  auto* explain = app.add_subcommand("explain", "which backend would build a Dockerfile, and why");
  cli::ExplainOptions question;
  std::vector<std::string> build_args;
  explain->add_option("path", question.path, "DOCKERFILE or CONTEXT")->required();
  explain->add_option("--project", question.project, "by the policy for this project");
  explain->add_option("--ref", question.ref, kRefWords)->check(is_ref);
  explain->add_flag("--ref-protected", question.ref_protected, "as for a protected ref");
  explain->add_option("--source", question.source, "as for a pipeline of this source");
  explain->add_option("--backend", question.backend, "what would be if policy had this one only");
  explain->add_option("--build-arg", build_args, "NAME=VALUE")->allow_extra_args(false);
  std::vector<std::string> build_contexts;
  explain->add_option("--build-context", build_contexts, "NAME=FOLDER or NAME=docker-image://IMAGE")
      ->allow_extra_args(false);
  explain->add_option("--target", question.target, "stage");
  explain->add_option("--platform", question.platform, "such as linux/arm64");
  bool read_bases = false;
  explain->add_flag("--read-bases", read_bases, "ask registries for the configs of base images");
  explain->add_flag("--json", question.json, "print it as JSON");

  auto* backends = app.add_subcommand("backends", "which tools that build are on this host");
  bool backends_json = false;
  backends->add_flag("--json", backends_json, "print it as JSON");

  auto* egress_command = app.add_subcommand("egress", "what jobs may connect to");
  egress_command->require_subcommand(1);
  auto* egress_learn = egress_command->add_subcommand(
      "learn", "print the egress_allow that a project's jobs needed under egress_learn = true");
  std::string learner;
  egress_learn->add_option("--project", learner, "its full path")->required();

  auto* policy_command = app.add_subcommand("policy", "the policy");
  policy_command->require_subcommand(1);
  auto* policy_test = policy_command->add_subcommand("test", "hold it against a table of yours");
  std::string expectations;
  policy_test->add_option("file", expectations, "TOML with [[expect]]")->required();

  auto* promote =
      app.add_subcommand("promote", "copy an image to another repository, by that one's policy");
  std::string promote_from;
  std::string promote_to;
  promote->add_option("source", promote_from, "REGISTRY/REPOSITORY@sha256:…")->required();
  promote->add_option("target", promote_to, "REGISTRY/REPOSITORY:TAG")->required();
  as_for_job(promote, "by the policy for this project (default: the target's repository)");

  auto* why = app.add_subcommand("why", "what was judged of a digest, and why");
  std::string digest;
  why->add_option("digest", digest, "sha256:…, or at least 8 of its first digits")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    const int code = app.exit(wrong);
    return code == 0 ? 0 : 2;
  }

  if (gitlab_command->parsed())
    return gitlab_stage(stage, {config_file, runner_tags}, script, sub_stage);

  if (audit_verify->parsed() && !audit_file.empty()) {
    auto verified = audit::verify(audit_file, head.empty() ? std::nullopt : std::optional{head});
    if (!verified) return complain(verified.error(), 1);
    print_verified(*verified);
    return 0;
  }
  if (db_digest->parsed()) return cli::db_digest(kind_of_db(), db_path, std::cout, std::cerr);
  auto config = load({config_file, runner_tags});
  if (!config) return complain(config.error(), config_check->parsed() ? 1 : 2);
  subject.runner_tags = runner_tags;
  subject.ref = config::full_ref(subject.ref);
  if (config_check->parsed()) {
    const auto ignored = config::too_far_ahead(*config, SystemClock{}.now());
    for (const auto& line : ignored)
      std::cerr << "slipway: " << line << "\n";
    if (!ignored.empty()) return 1;
    std::cout << config_file << ": ok, " << config->registries.size() << " registries, "
              << config->rules.size() << " rules\n";
    return 0;
  }
  if (config_print->parsed()) {
    std::cout << config::print(*config);
    return 0;
  }
  if (explain->parsed()) {
    const auto pairs = [](const std::string& flag, const std::vector<std::string>& given,
                          std::vector<std::pair<std::string, std::string>>& into) -> Status {
      for (const auto& text : given) {
        const auto equals = text.find('=');
        if (equals == 0 || equals == std::string::npos)
          return Error{ErrorKind::bad_input, flag + " needs NAME=VALUE", "", {}};
        into.emplace_back(text.substr(0, equals), text.substr(equals + 1));
      }
      return {};
    };
    if (auto read = pairs("--build-arg", build_args, question.build_args); !read)
      return complain(read.error());
    if (auto read = pairs("--build-context", build_contexts, question.build_contexts); !read)
      return complain(read.error());
    process::LocalRunner runner;
    if (!read_bases)
      return cli::explain(question, *config,
                          image::descriptors_of(cli::wired_backends(*config, runner)), std::cout,
                          std::cerr);
  }
  if (backends->parsed()) {
    process::LocalRunner runner;
    std::set<std::string> wired;
    for (const auto& [name, backend] : cli::wired_backends(*config, runner))
      wired.insert(name);
    const int code =
        cli::print_backends(cli::probe_backends(*config, runner, wired), backends_json, std::cout);
    if (!backends_json)
      for (const auto& line : sandbox::platform_lines(sandbox::host_platforms()))
        std::cout << line << "\n";
    return code;
  }
  if (db_status->parsed()) return cli::db_status(*config, SystemClock{}.now(), json, std::cout);
  if (egress_learn->parsed()) {
    auto targets = egress::learned(policy::learned_dir(*config), learner);
    if (!targets) return complain(targets.error());
    if (targets->empty()) {
      return complain(
          Error{ErrorKind::not_found,
                "nothing was learned of '" + learner + "'",
                "set egress = \"allowlist\" and egress_learn = true in a [[rule]] of the "
                "project, and let its jobs run",
                {}},
          1);
    }
    std::cout << egress::as_allowlist(*targets);
    return 0;
  }
  if (policy_test->parsed()) return cli::policy_test(expectations, *config, std::cout, std::cerr);
  if (why->parsed()) {
    auto kept = image::Reports{config->slipway.state_dir}.find(digest);
    if (!kept) return complain(kept.error(), kept.error().kind == ErrorKind::not_found ? 1 : 2);
    for (const auto& one : *kept) {
      std::cout << one.judged_at << "  " << one.image << "  job " << one.job << " of "
                << one.project << ", ref " << one.ref << "\n";
      if (!one.backend.empty())
        std::cout << "  built: " << one.backend
                  << (one.dockerfile.empty() ? "" : "; Dockerfile " + one.dockerfile) << "\n";
      std::cout << one.text << "  All of it: " << one.file.string() << "\n";
      if (!one.page.empty()) std::cout << "  As a page: " << one.page.string() << "\n";
    }
    return 0;
  }
  if (waivers->parsed()) {
    cli::print_waivers(*config, SystemClock{}.now(), soon < 0 ? std::nullopt : std::optional{soon},
                       json, std::cout);
    return 0;
  }
  if (audit_verify->parsed()) {
    auto verified = audit::verify(cli::audit_file_of(*config),
                                  head.empty() ? std::nullopt : std::optional{head});
    if (!verified) return complain(verified.error(), 1);
    print_verified(*verified);
    return 0;
  }
  // Whoever asks: it writes nothing, neither state nor log.
  if (gate_test->parsed()) {
    const auto section = policy::effective_for(*config, subject).gate;
    return cli::gate_test(report, image::gate_policy(section, *config), repository, json,
                          SystemClock{}, std::cout, std::cerr);
  }
  if (::geteuid() == 0) return complain(not_as_root(config->slipway.state_dir));
  auto wiring = cli::Wiring::make(*std::move(config), -1);
  if (!wiring) return complain(wiring.error());
  if (!(*wiring)->log_problem().empty())
    std::cerr << "slipway: " << (*wiring)->log_problem() << "\n";
  if (gc->parsed()) {
    auto removed = (*wiring)->collect_garbage(everything);
    if (!removed) return complain(removed.error());
    std::cout << "removed " << *removed << (everything ? " jobs\n" : " dead jobs\n");
    return 0;
  }
  if (lease_revoke->parsed()) {
    if (auto revoked = (*wiring)->leases().revoke(lease); !revoked)
      return complain(revoked.error(), 1);
    std::cout << "revoked " << lease << "\n";
    return 0;
  }
  if (leases->parsed()) {
    cli::print_leases((*wiring)->leases().all(), std::cout);
    return 0;
  }
  if (doctor->parsed()) return (*wiring)->doctor() == 0 ? 0 : 1;
  if (explain->parsed()) return (*wiring)->explain(question);
  if (promote->parsed()) return (*wiring)->promote(promote_from, promote_to, subject);
  if (db_update->parsed()) return (*wiring)->db_update(accepted_losses);
  if (db_rollback->parsed()) return (*wiring)->db_rollback(kind_of_db());
  return (*wiring)->gate_check(layout, subject, db, json, format);
}
