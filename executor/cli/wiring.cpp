// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/wiring.hpp"

#include "executor/backends/buildah/store.hpp"
#include "executor/backends/buildkit/builder.hpp"
#include "executor/backends/dockerd/builder.hpp"
#include "executor/backends/kaniko/pool.hpp"
#include "executor/base/file.hpp"
#include "executor/cli/backends.hpp"
#include "executor/cli/db.hpp"
#include "executor/cli/doctor.hpp"
#include "executor/cli/gate_check.hpp"
#include "executor/confine/confine.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate_worker/gate_process.hpp"
#include "executor/gitlab/job_identity.hpp"
#include "executor/gitlab/job_log.hpp"
#include "executor/gitlab/job_logins.hpp"
#include "executor/gitlab/known_secrets.hpp"
#include "executor/log/log.hpp"
#include "executor/oci/digest.hpp"
#include "executor/process/remembered.hpp"
#include "executor/sandbox/host_platforms.hpp"
#include "executor/sandbox/memory_watch.hpp"
#include "executor/sandbox/podman_api.hpp"
#include "executor/sandbox/quick_kill.hpp"
#include "stages/image/images.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <set>
#include <utility>

namespace slipway::cli {
namespace {

log::Level level_from(const std::string& word) {
  if (word == "debug") return log::Level::debug;
  if (word == "warning") return log::Level::warning;
  if (word == "error") return log::Level::error;
  return log::Level::info;
}

/// Where it cannot be read nobody has a range of its own, and prepare says why.
sandbox::SlotPlan slots_for(const config::Config& config, const std::string& user) {
  const auto plan = sandbox::read_slot_plan({}, user, slot_wishes(config));
  return plan ? *plan : sandbox::SlotPlan{};
}

void say_error(const Error& error) {
  std::cerr << "slipway: " << error.text() << "\n";
  if (!error.hint.empty()) std::cerr << "  what to do: " << error.hint << "\n";
}

} // namespace

image::WiredBackends wired_backends(const config::Config& config, process::ProcessRunner& runner) {
  namespace buildah = backends::buildah;
  image::WiredBackends wired;
  if (::access(config.buildkit.buildkitd.c_str(), X_OK) == 0)
    if (auto version = backends::buildkit::buildkit_version(
            runner, config.buildkit.buildctl.parent_path().parent_path()))
      wired.emplace("buildkit", image::wire_buildkit(*version));
  for (const auto& [tool, path] : {std::pair{buildah::Tool::buildah, config.buildah.buildah},
                                   std::pair{buildah::Tool::podman, config.buildah.podman}}) {
    if (path.empty()) continue;
    const auto program = buildah::probe(runner, tool, path);
    if (!program) continue;
    auto backend = image::wire_buildah(*program);
    wired.emplace(backend.descriptor.name, std::move(backend));
  }
  // Where there is none each stage would start a process to learn it.
  if (::access(config.kaniko.executor.c_str(), X_OK) == 0)
    if (const auto program = backends::kaniko::probe(runner, config.kaniko.executor))
      wired.emplace("kaniko", image::wire_kaniko(*program));
  const auto& tools = config.dind.tools;
  if (const auto daemon = backends::dockerd::find_daemon(tools); !daemon.empty())
    if (const auto program = backends::dockerd::probe(runner, daemon, tools))
      wired.emplace("dind", image::wire_dockerd(*program));
  return wired;
}

Wiring::Wiring(config::Config config, int stop_fd, sandbox::Engine engine, std::string user,
               std::string owner)
    : config_{std::move(config)}, runner_{stop_fd}, stop_fd_{stop_fd}, engine_{std::move(engine)},
      user_{std::move(user)}, owner_{std::move(owner)},
      podman_{engine_, runner_, std::make_shared<sandbox::PodmanService>(engine_, stop_fd)},
      folders_{config_.slipway.state_dir, config_.slipway.runtime_dir},
      audit_{config_.slipway.audit_file, clock_}, slots_{slots_for(config_, user_)},
      jobs_{
          job::Tools{config_, podman_, folders_, audit_, clock_, user_, owner_, slots_, stop_fd}} {}

std::filesystem::path audit_file_of(const config::Config& config) {
  return config.slipway.audit_file.empty() ? config.slipway.state_dir / "audit.jsonl"
                                           : config.slipway.audit_file;
}

Result<std::unique_ptr<Wiring>> Wiring::make(config::Config config, int stop_fd) {
  const passwd* user =
      ::getpwuid(::geteuid()); // NOLINT(concurrency-mt-unsafe): before any thread of ours asks
  if (user == nullptr) {
    return Error{ErrorKind::misconfigured,
                 "the user id " + std::to_string(::geteuid()) + " has no passwd entry",
                 "run slipway as a real user with subordinate ids",
                 {}};
  }
  sandbox::Engine engine;
  engine.podman = config.sandbox.podman;
  engine.home = user->pw_dir;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR"); // NOLINT(concurrency-mt-unsafe): as above
  // `runuser` hands root's on: a folder of another user is none.
  struct ::stat facts {};
  const bool is_own =
      runtime != nullptr && *runtime == '/' &&
      (::stat(runtime, &facts) != 0 ? errno == ENOENT : facts.st_uid == ::geteuid());
  engine.runtime_dir = is_own ? runtime : "/run/user/" + std::to_string(::geteuid());
  if (config.slipway.runtime_dir.empty())
    config.slipway.runtime_dir = engine.runtime_dir / "slipway";
  if (config.slipway.log_file.empty())
    config.slipway.log_file = config.slipway.state_dir / "slipway.log";
  config.slipway.audit_file = audit_file_of(config);
  std::error_code failed;
  const auto beside = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
  if (config.programs.init.empty()) config.programs.init = beside / "slipway-init";
  if (config.programs.shim.empty()) config.programs.shim = beside / "slipway-shim";
  if (config.programs.push.empty()) config.programs.push = beside / "slipway-push";
  if (config.programs.gate.empty()) config.programs.gate = beside / "slipway-gate";
  if (config.programs.pkcs11.empty()) config.programs.pkcs11 = beside / "slipway-pkcs11";
  for (const auto& dir : {config.slipway.state_dir, config.slipway.runtime_dir}) {
    if (auto made = make_directory(dir, 0700); !made) {
      auto error = std::move(made).error();
      error.kind = ErrorKind::misconfigured;
      return std::move(error)
          .in("making slipway's own folders")
          .hinting("give the folder to the user " + std::string{user->pw_name} +
                   ", or set state_dir and runtime_dir in [slipway]");
    }
  }
  if (auto written = sandbox::write_containers_conf(engine, config.slipway.runtime_dir); !written) {
    return std::move(written).error().in("writing Podman's settings");
  }
  if (auto written = sandbox::use_stand_ins(engine, config.slipway.runtime_dir); !written)
    return std::move(written).error().in("writing Podman's settings");
  std::string log_problem;
  if (!log::open(config.slipway.log_file, level_from(config.slipway.log_level)))
    log_problem = "the operator log " + config.slipway.log_file.string() +
                  " cannot be opened, nothing is written to it; give it to the user " +
                  user->pw_name;
  const auto owner = std::string{user->pw_name} + "-" +
                     oci::Digest::of(config.slipway.state_dir.string()).hex().substr(0, 8);
  std::unique_ptr<Wiring> wiring{
      new Wiring{std::move(config), stop_fd, std::move(engine), user->pw_name, owner}};
  wiring->log_problem_ = std::move(log_problem);
  return wiring;
}

gitlab::StageTools Wiring::stage_tools() {
  return gitlab::StageTools{
      config_,
      jobs_,
      folders_,
      engine_.home,
      [this](image::Leftovers which) { return image::collect_leftovers(image_tools(), which); },
      [this](const gitlab::JobResponse& response) { return check_identity(response); },
      [this](const std::string& job) {
        // What a job leaves is ended now; what died before it is asked for with patience.
        return leases().collect(job, job.empty() ? image::Leases::Haste::patient
                                                 : image::Leases::Haste::insist);
      },
      [this](const gitlab::JobResponse& response, const state::JobRecord& record,
             egress::Proxy* proxy) {
        std::map<std::string, Secret> secrets;
        for (const auto& issuer : config_.credentials) {
          for (const auto& [key, name] : issuer.settings) {
            if (!key.ends_with("_variable") || name.empty()) continue;
            if (const auto value = response.variable(name); !value.empty())
              secrets.emplace(name, std::string_view{value});
          }
        }
        auto parts = image_tools();
        parts.proxy = proxy;
        const auto log = std::make_shared<gitlab::JobLog>();
        log->mask(gitlab::masked_values(response));
        parts.masked = [log](std::string_view text) { return log->masked(text); };
        return std::make_unique<image::Images>(parts, record, gitlab::job_logins(response).logins,
                                               std::move(secrets),
                                               gitlab::known_secrets(response, record.created));
      }};
}

Result<int> Wiring::collect_garbage(bool all) {
  // Whatever else fails, a credential that is out is asked for.
  auto ended = leases().collect("", image::Leases::Haste::insist);
  auto dead = all ? jobs_.cleanup_all() : jobs_.reap();
  if (!dead) return dead;
  if (auto swept = jobs_.sweep(); !swept)
    return std::move(swept).error().in("removing what killed jobs left");
  const bool is_short =
      gitlab::is_short_of_space({folders_.state_dir(), engine_.home}, config_.sandbox.disk_floor);
  if (auto builders = image::collect_leftovers(
          image_tools(), all || is_short ? image::Leftovers::unused : image::Leftovers::old);
      !builders) {
    return std::move(builders).error().in("removing idle builders");
  }
  // Also of a scan that left nothing else.
  if (auto scans = gate::SandboxedTrivy::remove_orphans(podman_, owner_); !scans)
    return std::move(scans).error().in("removing what killed scans left");
  sandbox::end_orphans(engine_.containers_conf, [this](const std::string& id) {
    const auto facts = podman_.inspect(id);
    return facts || facts.error().kind != ErrorKind::not_found;
  });
  if (!ended) return std::move(ended).error().in("revoking what dead jobs left");
  return dead;
}

Result<identity::Claims> Wiring::check_identity(const gitlab::JobResponse& response) {
  const auto& section = config_.identity;
  const auto algorithm =
      section.algorithm == "ES256" ? identity::Algorithm::es256 : identity::Algorithm::rs256;
  const auto fetch = [&](const std::string& url) {
    engine_api::KeysRequest request;
    request.url = url;
    request.ca_file = section.ca_file;
    request.proxy = section.proxy;
    request.plain_http = section.plain_http;
    request.limit = identity::kMaxKeySetBytes;
    return image::PushClient{config_.programs.push}.fetch_keys(request);
  };
  const identity::KeyCache keys{config_.slipway.state_dir / "gitlab-keys.json",
                                gitlab::keys_url(section), algorithm, fetch, clock_};
  return gitlab::check_identity(response, section, keys, clock_.now());
}

int Wiring::doctor() {
  const image::PushClient client{config_.programs.push};
  std::set<std::string> wired;
  for (const auto& [name, backend] : wired_backends(config_, runner_))
    wired.insert(name);
  const int of_backends =
      cli::doctor_backends(config_, probe_backends(config_, runner_, wired), std::cout);
  for (const auto& line : sandbox::platform_lines(sandbox::host_platforms()))
    std::cout << line << "\n";
  doctor_ids(slots_, slot_wishes(config_), std::cout);
  int of_gate = 1;
  const auto empty = oci::Layout::create(config_.slipway.state_dir / "gate" / "empty");
  if (empty) {
    gate_worker::GateProcess gate{config_.programs.gate};
    of_gate = doctor_gate(gate, *empty, confine::landlock_abi(), std::cout);
  } else {
    std::cout << "  problem: " << empty.error().text() << "\n";
  }
  const auto scanner = image::scanner_config(config_.gate, config_);
  ScannerWatch watch{scanner.limits.memory_bytes,
                     [](std::string_view line) { std::cerr << std::string{line} + "\n"; }};
  gate::SandboxedTrivy trivy{scanner, podman_, slots_.scanners(), owner_, watch.started()};
  gate::SandboxedGrype grype{scanner, podman_, slots_.scanners(), owner_, watch.started()};
  const int of_scanners = doctor_scanners(scanner, trivy, grype, std::cout);
  cli::doctor_limits(config_, std::cout);
  cli::doctor_save(config_, std::cout);
  const int of_push = doctor_push(client.fetch_keys({}), confine::landlock_abi(), std::cout);
  const int of_signing = cli::doctor_signing(config_, std::cout);
  return of_backends + of_gate + of_scanners + of_push + of_signing +
         cli::doctor_egress(config_, std::cout) +
         cli::doctor(
             config_, leases().all(), clock_,
             [&](const engine_api::IssuerSpec& issuer) -> Result<engine_api::IssuerFacts> {
               engine_api::IssuerRequest request;
               request.issuer = issuer;
               auto answer = client.ask_issuer(request);
               if (!answer) return std::move(answer).error();
               return answer->facts.value_or(engine_api::IssuerFacts{});
             },
             std::cout);
}

image::Leases Wiring::leases() {
  return {config_, audit_, clock_};
}

image::Tools Wiring::image_tools() {
  return {config_, podman_,    folders_, audit_,  clock_,
          owner_,  backends(), slots_,   nullptr, stop_fd_};
}

const image::WiredBackends& Wiring::backends() {
  if (!backends_) {
    process::RememberingRunner remembering{runner_, config_.slipway.state_dir / "tools"};
    backends_ = wired_backends(config_, remembering);
  }
  return *backends_;
}

int Wiring::gate_check(const std::string& layout, const policy::Subject& subject,
                       const std::string& db, bool json, const std::string& format) {
  auto section = policy::effective_for(config_, subject).gate;
  if (!db.empty()) section.db_dir = db;
  GateCheckOptions options;
  options.layout = layout;
  options.policy = image::gate_policy(section, config_);
  options.scanner = image::scanner_config(section, config_);
  options.project = subject.project;
  options.json = json;
  options.format = report::parse_format(format);
  options.engine = engine_;
  options.ids = slots_.scanners();
  options.owner_label = owner_;
  options.gate_program = config_.programs.gate;
  return cli::gate_check(options);
}

int Wiring::promote(const std::string& source, const std::string& target,
                    const policy::Subject& subject) {
  const auto complain = [](const Error& error) {
    say_error(error);
    return is_the_jobs_fault(error.kind) ? 1 : 2;
  };
  auto from = oci::Reference::parse(source);
  if (!from) return complain(from.error());
  auto to = oci::Reference::parse(target);
  if (!to) return complain(to.error());
  auto own = subject;
  if (own.project.empty()) own.project = to->repository();
  const auto record = begin_command("promote", own);
  if (!record) return complain(record.error());
  image::Images images{image_tools(), *record, {}};
  const auto memory =
      image::watch_memory(config_, folders_, record->key, [](std::string_view line) {
        std::cerr << "slipway: " + std::string{line} + "\n";
      });
  auto pushed = images.promote(*from, *to, [](std::string_view text) { std::cout << text; });
  if (const auto summary = images.summary(); !summary.empty()) std::cout << summary;
  auto ended = end_command(*record);
  if (!pushed) return complain(pushed.error());
  return ended ? 0 : complain(ended.error());
}

int Wiring::explain(ExplainOptions question) {
  const auto record =
      begin_command("explain", {question.project, question.ref_protected, 0, question.source,
                                config_.runner_tags, config::full_ref(question.ref)});
  if (!record) {
    say_error(record.error());
    return kExplainBadInput;
  }
  image::Images images{image_tools(), *record, {}};
  question.read_base = [&images](const oci::Reference& reference, const std::string& platform) {
    return images.base_configs(reference, platform);
  };
  const int code =
      cli::explain(question, config_, image::descriptors_of(backends()), std::cout, std::cerr);
  if (auto ended = end_command(*record); !ended) say_error(std::move(ended).error().in("WARNING"));
  return code;
}

Result<state::JobRecord> Wiring::begin_command(const std::string& name,
                                               const policy::Subject& subject) {
  state::JobRecord record;
  record.runner = state::ProcessIdentity::self();
  record.key = name + "-" + std::to_string(record.runner.pid) + "-" +
               std::to_string(record.runner.start_time);
  record.project = subject.project;
  record.ref = name;
  record.ref_protected = subject.ref_protected;
  record.pipeline_source = subject.source;
  record.runner_tags = subject.runner_tags;
  record.full_ref = subject.ref;
  record.created = rfc3339(clock_.now());
  const auto alone = folders_.lock_all(std::chrono::seconds{60});
  if (!alone) return alone.error();
  if (auto made = folders_.create(record.key); !made) return std::move(made).error();
  if (auto saved = folders_.save(record); !saved) return std::move(saved).error();
  return record;
}

Status Wiring::end_command(const state::JobRecord& record) {
  auto ended = leases().collect(record.key, image::Leases::Haste::patient);
  auto removed = folders_.remove(record.key);
  return ended ? std::move(removed) : Status{ended.error()};
}

int Wiring::db_update(const std::vector<std::string>& accepted_losses) {
  RegistryMirror mirror{config_};
  return cli::db_update(config_, accepted_losses, mirror, audit_, clock_, std::cout, std::cerr);
}

int Wiring::db_rollback(const vulndb::Kind& kind) {
  return cli::db_rollback(kind, config_, audit_, std::cout, std::cerr);
}

} // namespace slipway::cli
