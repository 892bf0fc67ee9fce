// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/stages.hpp"

#include "executor/base/file.hpp"
#include "executor/broker/server.hpp"
#include "executor/gitlab/disk_share.hpp"
#include "executor/gitlab/job_identity.hpp"
#include "executor/gitlab/job_log.hpp"
#include "executor/gitlab/job_logins.hpp"
#include "executor/gitlab/masker.hpp"
#include "executor/log/log.hpp"
#include "executor/sandbox/memory_watch.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace slipway::gitlab {
namespace {

constexpr std::size_t kMaxScriptBytes = 64UL << 20;
constexpr std::chrono::seconds kBrokerPatience{8};
constexpr std::chrono::seconds kLookAtNames{20};
// A look at what was refused takes some 20 ms: after scripts that failed, or took so long.
constexpr std::chrono::milliseconds kWorthALook{500};
// The script is ended after that, and may write on meanwhile.
constexpr std::chrono::seconds kCountingShare{1};
constexpr std::size_t kMaxRoomBytes = 1024;
constexpr const char* kGreen = "\033[32;1m";
constexpr const char* kPlain = "\033[0;m";

const char* from_environment(const char* name) {
  return std::getenv(name); // NOLINT(concurrency-mt-unsafe): nothing here changes it
}

std::string env_or(const char* name, const char* otherwise) {
  const char* value = from_environment(name);
  return value == nullptr ? otherwise : value;
}

int code_from(const char* name, int otherwise) {
  const auto text = env_or(name, "");
  if (text.empty() || text.size() > 3 || text.find_first_not_of("0123456789") != std::string::npos)
    return otherwise;
  int code = 0;
  std::from_chars(text.data(), text.data() + text.size(), code); // digits only, checked above
  return code > 0 && code < 256 ? code : otherwise;
}

void to_stdout(std::string_view text) {
  (void)!write_all(STDOUT_FILENO, text).ok();
}
void to_stderr(std::string_view text) {
  (void)!write_all(STDERR_FILENO, text).ok();
}

std::string section(const std::string& name, const std::string& title,
                    const std::function<std::string()>& body) {
  const auto now = [] { return std::to_string(std::time(nullptr)); };
  std::string text = "section_start:" + now() + ":" + name + "\r\033[0K" + title + "\n";
  text += body();
  return text + "section_end:" + now() + ":" + name + "\r\033[0K\n";
}

Error no_runner() {
  return {ErrorKind::unavailable,
          "the runner that started this stage has gone: its parent is process " +
              std::to_string(::getppid()) + ", an init",
          "where a wrapper (systemd-run) starts slipway, name slipway itself in config.toml",
          {}};
}

// Forwards one stream through a masker; flushed when the stream pauses is not needed: what is held
// back can only be the beginning of a secret.
class MaskedStream {
public:
  MaskedStream(int fd, const std::vector<std::string>& secrets) : fd_{fd}, masker_{secrets} {}
  void write(std::string_view bytes) {
    const std::lock_guard guard{masking_};
    (void)!write_all(fd_, masker_.feed(bytes)).ok();
  }
  void finish() {
    const std::lock_guard guard{masking_};
    (void)!write_all(fd_, masker_.flush()).ok();
  }
  /// From any thread.
  void mask_also(const std::vector<std::string>& secrets) {
    const std::lock_guard guard{masking_};
    masker_.add(secrets);
  }

private:
  int fd_;
  std::mutex masking_;
  Masker masker_;
};

} // namespace

std::chrono::milliseconds until_next(std::chrono::milliseconds every,
                                     std::optional<std::chrono::milliseconds> ago) {
  if (!ago || ago->count() < 0) return std::chrono::milliseconds{0};
  return std::max(every - *ago, std::chrono::milliseconds{0});
}

Repeated::Repeated(std::chrono::milliseconds first, std::chrono::milliseconds every,
                   std::function<Status()> work, std::function<void(const Error&)> failed)
    : thread_{[this, first, every, work = std::move(work), failed = std::move(failed)] {
        std::string told;
        std::unique_lock lock{mutex_};
        for (auto wait = first; !ended_.wait_for(lock, wait, [this] { return done_; });
             wait = every) {
          lock.unlock();
          if (auto worked = work();
              !worked && std::exchange(told, worked.error().text()) != worked.error().text())
            failed(worked.error());
          lock.lock();
        }
      }} {}

Repeated::~Repeated() {
  {
    const std::lock_guard lock{mutex_};
    done_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

struct StopSignal::Watcher {
  UniqueFd signals;
  UniqueFd parent;
  UniqueFd quit;
  std::thread thread;
};

StopSignal::StopSignal()
    : event_{::eventfd(0, EFD_CLOEXEC)}, watcher_{std::make_unique<Watcher>()} {
  sigset_t stops;
  ::sigemptyset(&stops);
  for (const int number : {SIGTERM, SIGINT, SIGHUP})
    ::sigaddset(&stops, number);
  ::pthread_sigmask(SIG_BLOCK, &stops, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  watcher_->signals.reset(::signalfd(-1, &stops, SFD_CLOEXEC));
  // The runner's threads come and go, so PR_SET_PDEATHSIG would fire at the wrong time.
  watcher_->parent.reset(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
  watcher_->quit.reset(::eventfd(0, EFD_CLOEXEC));
  watcher_->thread = std::thread{[this] {
    pollfd waits[] = {{watcher_->signals.get(), POLLIN, 0},
                      {watcher_->quit.get(), POLLIN, 0},
                      {watcher_->parent.get(), POLLIN, 0}};
    while (::poll(waits, 3, -1) < 0 && errno == EINTR) {
    }
    if (waits[1].revents != 0) return;
    const std::uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
  }};
}

StopSignal::~StopSignal() {
  const std::uint64_t one = 1;
  (void)!::write(watcher_->quit.get(), &one, sizeof one);
  watcher_->thread.join();
}

bool StopSignal::raised() const {
  // Not what the watcher makes of them: it may not have had its turn.
  pollfd waits[] = {{watcher_->signals.get(), POLLIN, 0}, {watcher_->parent.get(), POLLIN, 0}};
  return raised_ || ::poll(waits, 2, 0) > 0;
}

void StopSignal::raise() {
  raised_ = true;
  end_work();
}

void StopSignal::end_work() {
  const std::uint64_t one = 1;
  (void)!::write(event_.get(), &one, sizeof one);
}

bool runner_has_gone() {
  const pid_t parent = ::getppid();
  if (parent == 0 || ::getsid(parent) == ::getsid(0)) return false;
  if (parent == 1) return true;
  const auto name = read_file("/proc/" + std::to_string(parent) + "/comm", 64);
  return name && *name == "systemd\n"; // a user's own takes over that user's orphans
}

int code_at_end(const StageEnvironment& environment, const StopSignal& stop,
                const std::function<int()>& stage) {
  const int code = stage();
  return code == 0 && stop.raised() ? environment.system_failure : code;
}

bool is_short_of_space(const std::vector<std::filesystem::path>& places, std::uint64_t floor) {
  return std::any_of(places.begin(), places.end(), [&](const std::filesystem::path& place) {
    const auto room = Room::of(place);
    return room && room->is_short(floor);
  });
}

struct DiskWatchdog::Watch {
  UniqueFd quit{::eventfd(0, EFD_CLOEXEC)};
  std::atomic<bool> fired{false};
  std::promise<void> told; ///< `before_stop` has come to its end
  std::shared_future<void> end_of_telling = told.get_future().share();
  std::thread thread;
};

DiskWatchdog::DiskWatchdog(std::vector<std::filesystem::path> places, std::uint64_t floor,
                           StopSignal& stop, std::function<void()> before_stop)
    : watch_{std::make_unique<Watch>()} {
  watch_->thread = std::thread{[watch = watch_.get(), places = std::move(places), floor, &stop,
                                before_stop = std::move(before_stop)] {
    pollfd quit{watch->quit.get(), POLLIN, 0};
    while (::poll(&quit, 1, 1000) <= 0) {
      if (!is_short_of_space(places, floor)) continue;
      auto telling = std::async(std::launch::async, [&] {
        if (before_stop) before_stop();
      });
      // Not while it takes what others need, too.
      while (telling.wait_for(std::chrono::milliseconds{50}) != std::future_status::ready &&
             !is_short_of_space(places, floor / 2)) {
      }
      if (::poll(&quit, 1, 0) > 0) return; // the script came to its end meanwhile
      watch->fired = true;
      stop.raise();
      telling.wait();
      watch->told.set_value();
      return;
    }
  }};
}

DiskWatchdog::~DiskWatchdog() {
  const std::uint64_t one = 1;
  (void)!::write(watch_->quit.get(), &one, sizeof one);
  watch_->thread.join();
}

bool DiskWatchdog::fired() const {
  if (!watch_->fired) return false;
  watch_->end_of_telling.wait();
  return true;
}

StageEnvironment StageEnvironment::read() {
  StageEnvironment environment;
  environment.build_failure = code_from("BUILD_FAILURE_EXIT_CODE", 1);
  environment.system_failure = code_from("SYSTEM_FAILURE_EXIT_CODE", 2);
  environment.exit_code_file = env_or("BUILD_EXIT_CODE_FILE", "");
  environment.job_response_file = env_or("JOB_RESPONSE_FILE", "");
  return environment;
}

namespace {

int report(const StageEnvironment& environment, const Error& error, JobLog& job_log) {
  job_log.report(error);
  return is_the_jobs_fault(error.kind) ? environment.build_failure : environment.system_failure;
}

} // namespace

int report(const StageEnvironment& environment, const Error& error) {
  JobLog unmasked;
  return report(environment, error, unmasked);
}

job::Where where_for(std::string_view sub_stage) {
  const bool in_job =
      sub_stage == "build_script" || sub_stage == "after_script" || sub_stage.starts_with("step_");
  return in_job ? job::Where::job : job::Where::helper;
}

std::string shell_check(std::string_view script) {
  if (script.find("eval $'") == std::string_view::npos) return "";
  return "if [ $'a' != a ]; then printf '%s\\n' "
         "\"\033[31;1mERROR: the shell of this image does not read \\$'...' (dash, for one), in "
         "which "
         "GitLab Runner writes its scripts\033[0;m\" "
         "'  what to do: use an image with bash or busybox, or set in the job: "
         "variables: { FF_POSIXLY_CORRECT_ESCAPES: \"true\" }' >&2; exit 1; fi\n";
}

std::vector<std::string> words_on_replaced_services(const JobResponse& response) {
  std::vector<std::string> lines;
  for (const auto& service : response.services) {
    const auto name = response.expand(service.name);
    if (!is_docker_in_docker(name)) continue;
    auto line = name + ": not started, slipway's broker takes its place";
    std::string idle;
    for (const auto& [word, is_set] : {std::pair{"command", !service.command.empty()},
                                       std::pair{"entrypoint", service.has_entrypoint},
                                       std::pair{"variables", !service.variables.empty()}})
      if (is_set) idle += (idle.empty() ? "" : ", ") + std::string{word};
    if (!idle.empty()) line += "; without effect: its " + idle;
    const auto has = [&](std::string_view flag) {
      const auto holds = [&](const std::string& word) {
        return word.find(flag) != std::string::npos;
      };
      return std::any_of(service.command.begin(), service.command.end(), holds) ||
             std::any_of(service.entrypoint.begin(), service.entrypoint.end(), holds);
    };
    if (has("--registry-mirror"))
      line += "; for --registry-mirror: name the mirror's host in FROM, the operator configures it "
              "with a [[registry]] entry (host, ca_file)";
    if (has("--insecure-registry"))
      line += "; for --insecure-registry: the operator configures registries, with ca_file or "
              "plain_http in their [[registry]] entries";
    lines.push_back(std::move(line));
  }
  return lines;
}

Result<job::JobSpec> job_spec_from(const JobResponse& response, const config::Config& config) {
  job::JobSpec spec;
  spec.key = state::JobFolders::key_for(response.id, response.token);
  spec.job_id = response.id;
  spec.subject = {response.project,    response.ref_protected,
                  response.project_id, "",
                  config.runner_tags,  policy::full_ref_of_job(response.ref, response.ref_type)};
  spec.project_id = response.project_id;
  spec.ref = response.ref;
  spec.sha = response.sha;
  spec.runner = state::ProcessIdentity::parent();
  spec.image = config.gitlab.default_image;
  spec.helper_network = config.gitlab.helper_network == "always" || response.helper_needs_network();
  spec.docker_certs = response.expand(response.variable("DOCKER_TLS_CERTDIR"));
  while (spec.docker_certs.size() > 1 && spec.docker_certs.ends_with('/'))
    spec.docker_certs.pop_back(); // "/certs/" is /certs
  if (response.image) {
    spec.image = response.expand(response.image->name);
    spec.entrypoint = response.image->entrypoint;
    spec.has_entrypoint = response.image->has_entrypoint;
    spec.user = response.expand(response.image->user);
    spec.platform = response.expand(response.image->platform);
    spec.pull_policies = response.image->pull_policies;
  }
  std::vector<std::pair<std::string, std::string>> public_env;
  for (const auto& variable : response.variables) {
    if (variable.is_public && !variable.file)
      public_env.emplace_back(variable.key,
                              variable.raw ? variable.value : response.expand(variable.value));
  }
  for (const auto& service : response.services) {
    auto named = service;
    named.name = response.expand(service.name);
    const auto aliases = service_aliases(named);
    if (is_docker_in_docker(named.name)) {
      spec.docker_names.insert(spec.docker_names.end(), aliases.begin(), aliases.end());
      continue;
    }
    job::ServiceSpec added;
    added.image = named.name;
    added.aliases = aliases;
    added.entrypoint = service.entrypoint;
    added.has_entrypoint = service.has_entrypoint;
    added.command = service.command;
    added.env = public_env;
    for (const auto& variable : service.variables) {
      added.env.emplace_back(variable.key,
                             variable.raw ? variable.value : response.expand(variable.value));
    }
    added.pull_policies = service.pull_policies;
    added.user = response.expand(service.user);
    added.platform = response.expand(service.platform);
    spec.services.push_back(std::move(added));
  }
  spec.logins = job_logins(response).logins;
  return spec;
}

int run_config(const StageTools& tools, const StageEnvironment& environment) {
  auto response = read_job_response(environment.job_response_file, from_environment);
  if (!response) return report(environment, response.error());
  JobLog job_log;
  job_log.mask(masked_values(*response));
  auto spec = job_spec_from(*response, tools.config);
  if (!spec) return report(environment, spec.error(), job_log);
  if (auto admitted = tools.jobs.admit(*spec); !admitted)
    return report(environment, admitted.error(), job_log);
  const nlohmann::json document{{"driver", {{"name", "slipway"}, {"version", "v" SLIPWAY_VERSION}}},
                                {"builds_dir", tools.config.gitlab.builds_dir},
                                {"cache_dir", tools.config.gitlab.cache_dir},
                                {"builds_dir_is_shared", false},
                                {"hostname", "slipway sandbox " + spec->key},
                                {"shell", tools.config.gitlab.shell}};
  to_stdout(document.dump());
  return 0;
}

namespace {

/// A credential that is still out is no reason to fail a job: it is in the journal.
void end_leases(const StageTools& tools, const std::string& job, JobLog& job_log) {
  auto ended = tools.end_leases(job);
  if (ended) return;
  log::write(log::Level::warning, "could not revoke all credentials, the next cleanup tries again",
             {{"job", job},
              {"why", job_log.masked(ended.error().text())},
              {"what to do", ended.error().hint}});
}

std::vector<std::filesystem::path> disks_of(const StageTools& tools) {
  return {tools.folders.state_dir(), tools.storage};
}

std::filesystem::path room_file(const StageTools& tools, const std::string& key) {
  return tools.folders.dir(key) / "room";
}

/// What this job has of what filled the disk. Errors: those of Jobs::disk_use.
Result<std::optional<DiskShare>> share_of_disk(const StageTools& tools,
                                               const state::JobRecord& record,
                                               const std::vector<std::string>& builders) {
  auto text = read_file(room_file(tools, record.key), kMaxRoomBytes);
  if (!text) return std::move(text).error();
  const auto before = RoomAtStart::parse(*text);
  const auto now = RoomAtStart::of(disks_of(tools)).rooms;
  if (!before) return std::optional<DiskShare>{};
  auto use = tools.jobs.disk_use(record, builders, before->since, kCountingShare);
  if (!use) return std::move(use).error();
  return share_of(*before, now, tools.config.sandbox.disk_floor, *use);
}

std::unique_ptr<sandbox::MemoryWatch> watch_memory(const StageTools& tools, const std::string& key,
                                                   JobLog& job_log) {
  return image::watch_memory(tools.config, tools.folders, key,
                             [&job_log](std::string_view line) { job_log.say(line); });
}

/// The time of the job's last look at the registries' names is that of this file.
std::filesystem::path looked_file(const StageTools& tools, const std::string& key) {
  return tools.folders.dir(key) / "looked";
}

/// Where that cannot be written the next script looks at once.
void note_look(const StageTools& tools, const std::string& key, const timespec& when) {
  const UniqueFd file{
      ::open(looked_file(tools, key).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  const timespec times[] = {when, when};
  if (file.get() >= 0) (void)::futimens(file.get(), times);
}

timespec wall_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

std::optional<std::chrono::milliseconds> since_look(const StageTools& tools,
                                                    const std::string& key) {
  struct stat looked {};
  if (::stat(looked_file(tools, key).c_str(), &looked) != 0) return std::nullopt;
  const auto span = [](const timespec& time) {
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
  };
  return std::chrono::duration_cast<std::chrono::milliseconds>(span(wall_clock()) -
                                                               span(looked.st_mtim));
}

/// The way to registries stays closed while their names change, also for a job whose scripts are
/// all shorter than the time between two looks.
std::unique_ptr<Repeated> follow_registries(const StageTools& tools, const std::string& key) {
  auto known = std::make_shared<std::optional<sandbox::Addresses>>();
  return std::make_unique<Repeated>(
      until_next(kLookAtNames, since_look(tools, key)), kLookAtNames,
      [&tools, key, known]() -> Status {
        const auto when = wall_clock();
        auto followed = tools.jobs.follow_registries(*known);
        if (followed) note_look(tools, key, when);
        return followed;
      },
      [key](const Error& error) {
        log::write(log::Level::warning, "cannot follow the registries' names",
                   {{"job", key}, {"why", error.text()}});
      });
}

} // namespace

int run_prepare(const StageTools& tools, const StageEnvironment& environment, StopSignal& stop) {
  auto response = read_job_response(environment.job_response_file, from_environment);
  if (!response) return report(environment, response.error());
  JobLog job_log;
  job_log.mask(masked_values(*response));
  auto spec = job_spec_from(*response, tools.config);
  if (!spec) return report(environment, spec.error(), job_log);
  spec->payload = environment.job_response_file;
  spec->masked_image = job_log.masked(spec->image);
  // Its record would name the init, and the job would count as alive as long as that.
  if (runner_has_gone()) return report(environment, no_runner(), job_log);
  log::write(log::Level::info, "prepare",
             {{"job", spec->key}, {"project", response->project}, {"image", spec->masked_image}});
  auto claims = tools.check_identity(*response);
  if (!claims) return report(environment, claims.error(), job_log);
  spec->subject.source = claims->pipeline_source;
  for (const auto& note : job_logins(*response).notes)
    job_log.say("Warning: " + note);
  for (const auto& line : words_on_replaced_services(*response))
    job_log.say(line);
  // Room is short for all jobs, not by this one's fault: the runner may try again.
  const auto without_space = [&] {
    auto error = no_space("prepare was ended", tools.config.sandbox.disk_floor, {});
    error.kind = ErrorKind::unavailable;
    return report(environment, error, job_log);
  };
  const auto is_short = [&] {
    return is_short_of_space(disks_of(tools), tools.config.sandbox.disk_floor);
  };
  // What dead jobs had written goes first, then what is kept for later jobs and used by none.
  if (is_short()) {
    if (auto reaped = tools.jobs.reap(); !reaped)
      job_log.say("WARNING: could not clean up after dead jobs (" + reaped.error().text() + ")");
  }
  if (is_short()) {
    job_log.say("Little disk is left on this runner: removing caches that nobody uses");
    if (auto emptied = tools.collect(image::Leftovers::unused); !emptied)
      job_log.say("WARNING: could not remove all of them (" + emptied.error().text() + ")");
  }
  if (is_short()) return without_space();
  const DiskWatchdog disk{disks_of(tools), tools.config.sandbox.disk_floor, stop};
  const auto memory = watch_memory(tools, spec->key, job_log);
  const auto looked = wall_clock(); // or a little later
  auto prepared = tools.jobs.prepare(*spec, [&](std::string_view line) { job_log.say(line); });
  if (disk.fired()) return without_space();
  if (stop.raised()) {
    to_stderr("prepare was stopped\n");
    return environment.system_failure;
  }
  if (!prepared) return report(environment, prepared.error(), job_log);
  note_look(tools, spec->key, looked);
  if (auto written =
          replace_file(room_file(tools, spec->key), RoomAtStart::of(disks_of(tools)).to_text());
      !written) {
    log::write(log::Level::warning, "a full disk will count as this job's own fault",
               {{"job", spec->key}, {"why", written.error().text()}});
  }
  end_leases(tools, "", job_log);
  return 0;
}

int run_run(const StageTools& tools, const StageEnvironment& environment, StopSignal& stop,
            const std::filesystem::path& script, const std::string& sub_stage) {
  // The file is the same for all sub-stages: a code of an earlier one must not be told again.
  if (!environment.exit_code_file.empty()) ::unlink(environment.exit_code_file.c_str());
  if (runner_has_gone()) return report(environment, no_runner());
  auto response = read_job_response(environment.job_response_file, from_environment);
  if (!response) return report(environment, response.error());
  const auto secrets = masked_values(*response);
  JobLog job_log;
  job_log.mask(secrets);
  const auto key = state::JobFolders::key_for(response->id, response->token);
  auto lock = tools.folders.lock(key, state::JobFolders::Mode::shared, std::chrono::seconds{60});
  auto record = lock ? tools.folders.load(key) : Result<state::JobRecord>{std::move(lock).error()};
  if (!record || !record->ready) {
    Error error = record
                      ? Error{ErrorKind::unavailable, "the job was not prepared to its end", "", {}}
                      : std::move(record).error();
    error.kind = ErrorKind::unavailable;
    return report(environment, std::move(error).in("running " + sub_stage), job_log);
  }
  auto body = read_file(script, kMaxScriptBytes);
  if (!body) {
    auto error = std::move(body).error();
    error.kind = ErrorKind::misconfigured;
    return report(environment, std::move(error).in("reading the script of " + sub_stage), job_log);
  }
  hide_identity(*body, *response, tools.config.identity);

  MaskedStream out{STDOUT_FILENO, secrets};
  MaskedStream err{STDERR_FILENO, secrets};
  const auto where = where_for(sub_stage);
  sandbox::ScriptIo io;
  if (where == job::Where::job) body->insert(0, shell_check(*body));
  io.input = *body;
  io.out = [&](std::string_view bytes) { out.write(bytes); };
  io.err = [&](std::string_view bytes) { err.write(bytes); };
  io.stop_fd = stop.fd();

  const auto say_egress = [&](std::string_view line) {
    job_log.say(line); // a name that was asked for may be a masked value
    log::write(log::Level::info, "egress", {{"job", key}, {"said", job_log.masked(line)}});
  };
  auto proxies = tools.jobs.open_proxies(*record, where, response->sources_host(), say_egress);
  if (!proxies) return report(environment, std::move(proxies).error(), job_log);
  std::unique_ptr<image::Images> images;
  std::unique_ptr<broker::Server> broker;
  std::unique_ptr<broker::Server> registry;
  if (where == job::Where::job) {
    images = tools.make_images(*response, *record,
                               record->network_closed ? proxies->front().get() : nullptr);
    images->on_secrets([&](const std::vector<leaks::KnownSecret>& more) {
      const auto values = masked_values(more);
      out.mask_also(values);
      err.mask_also(values);
      job_log.mask_also(values);
    });
    auto started =
        broker::Server::start(tools.jobs.broker_socket(key), *images, {}, &images->containers(),
                              &images->sessions(), &images->fetches(), images->statements());
    if (!started)
      return report(environment, std::move(started).error().in("starting the broker"), job_log);
    broker = *std::move(started);
    auto endpoint =
        images->registry_endpoint([&job_log](std::string_view line) { job_log.say(line); });
    if (!endpoint) return report(environment, std::move(endpoint).error(), job_log);
    if (*endpoint != nullptr) {
      auto served = broker::Server::start(tools.jobs.registry_socket(key), **endpoint, {});
      if (!served)
        return report(environment, std::move(served).error().in("starting the registry endpoint"),
                      job_log);
      registry = *std::move(served);
    }
  }
  Result<std::optional<DiskShare>> share{std::nullopt};
  const DiskWatchdog disk{
      disks_of(tools), tools.config.sandbox.disk_floor, stop, [&] {
        share =
            share_of_disk(tools, *record, images ? images->builders() : std::vector<std::string>{});
      }};
  const auto memory = watch_memory(tools, key, job_log);
  const auto registries = follow_registries(tools, key);
  const auto began = std::chrono::steady_clock::now();
  auto result = tools.jobs.run(*record, where, io);
  out.finish();
  err.finish();
  const auto took = std::chrono::steady_clock::now() - began;
  const bool succeeded = result && result->ending.exit_code == 0;
  if (!stop.raised() && (!succeeded || took > kWorthALook)) {
    if (auto told = tools.jobs.tell_refused(
            *record, images ? images->build_networks() : std::vector<std::string>{},
            std::chrono::ceil<std::chrono::seconds>(took) + std::chrono::seconds{1}, say_egress);
        !told)
      log::write(log::Level::warning, "cannot tell what was refused",
                 {{"job", key}, {"why", told.error().text()}});
  }
  if (result) tools.jobs.tell_unrouted(*record, result->ending.unrouted, say_egress);
  if (registry) registry->stop(kBrokerPatience);
  if (broker) {
    broker->stop(kBrokerPatience);
    // Whoever asked for what is still done (a scan, a lookup) has ended with the script.
    stop.end_work();
    const auto summary = images->summary();
    if (!summary.empty())
      job_log.print(section("slipway_summary", std::string{kGreen} + "slipway" + kPlain,
                            [&] { return std::string{summary}; }));
  }
  ::explicit_bzero(body->data(), body->size());

  const auto job_failed = [&](int code) {
    if (!environment.exit_code_file.empty()) {
      if (auto written = replace_file(environment.exit_code_file, std::to_string(code) + "\n");
          !written) {
        log::write(log::Level::warning, "cannot write the exit code, the runner will see 1",
                   {{"why", written.error().text()}});
      }
    }
    return environment.build_failure;
  };
  if (disk.fired()) {
    if (!share)
      log::write(log::Level::warning, "cannot tell who filled the disk, it counts as the job's own",
                 {{"job", key}, {"why", share.error().text()}});
    return report(environment,
                  no_space("the script was ended", tools.config.sandbox.disk_floor,
                           share ? *share : std::nullopt),
                  job_log);
  }
  if (!result) {
    if (stop.raised()) return environment.build_failure;
    return report(environment, std::move(result).error().in("running " + sub_stage), job_log);
  }
  const auto& ending = result->ending;
  if (!ending.error.empty()) {
    Error error{ErrorKind::unavailable, ending.error, "", {}};
    if (ending.error_code == "no_shell") {
      error.kind = ErrorKind::bad_input;
      error.hint = "use an image with bash or sh for the job (for kaniko: the -debug image with "
                   "entrypoint [\"\"])";
    } else if (ending.error_code == "no_user" || ending.error_code == "exec") {
      error.kind = ErrorKind::bad_input;
      error.hint = "check USER and ENTRYPOINT of the job's image";
    }
    return report(environment, std::move(error).in("running " + sub_stage), job_log);
  }
  if (result->stopped || stop.raised()) return environment.build_failure;
  if (ending.signal) return job_failed(128 + *ending.signal);
  if (ending.exit_code.value_or(1) != 0) return job_failed(ending.exit_code.value_or(1));
  return 0;
}

int run_cleanup(const StageTools& tools, const StageEnvironment& environment) {
  auto response = read_job_response(environment.job_response_file, from_environment);
  if (!response) return report(environment, response.error());
  JobLog job_log;
  job_log.mask(masked_values(*response));
  const auto key = state::JobFolders::key_for(response->id, response->token);
  if (auto cleaned = tools.jobs.cleanup(key); !cleaned) {
    return report(environment, std::move(cleaned).error().hinting(
                                   "the next prepare tries again, and so does `slipway gc`"));
  }
  end_leases(tools, key, job_log);
  end_leases(tools, "", job_log);
  // After the job, so that no job waits for it.
  if (auto collected = tools.collect(image::Leftovers::old); !collected) {
    log::write(log::Level::warning, "could not remove idle builders, the next cleanup tries again",
               {{"why", job_log.masked(collected.error().text())}});
  }
  log::write(log::Level::info, "cleanup done", {{"job", key}});
  return 0;
}

} // namespace slipway::gitlab
