// SPDX-License-Identifier: Apache-2.0
#include "executor/state/job_record.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"
#include "executor/base/passing_file.hpp"
#include "executor/base/process_stat.hpp"
#include "executor/oci/digest.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <sstream>

namespace slipway::state {
namespace {

constexpr std::size_t kMaxRecordBytes = 4UL << 20;
constexpr const char* kEnded = "ended";     ///< file: see end()
constexpr const char* kWatched = "watched"; ///< folder: a file for each sandbox

std::uint64_t start_time_of(std::int64_t pid) {
  const auto stat = read_process_stat(pid);
  return stat ? stat->start_time : 0;
}

std::string boot_id() {
  auto id = read_file("/proc/sys/kernel/random/boot_id", 128);
  if (!id) return "";
  while (!id->empty() && id->back() == '\n')
    id->pop_back();
  return *id;
}

nlohmann::json to_value(const ProcessIdentity& process) {
  return {{"pid", process.pid}, {"start_time", process.start_time}, {"boot_id", process.boot_id}};
}

ProcessIdentity identity_from(const nlohmann::json& json) {
  ProcessIdentity process;
  process.pid = json.value("pid", std::int64_t{0});
  process.start_time = json.value("start_time", std::uint64_t{0});
  process.boot_id = json.value("boot_id", "");
  return process;
}

} // namespace

Result<UniqueFd> lock_file(const std::filesystem::path& file, LockMode mode,
                           std::chrono::milliseconds deadline) {
  const int operation = mode == LockMode::shared ? LOCK_SH : LOCK_EX;
  auto fd = slipway::lock_file(file, operation, deadline);
  if (!fd && fd.error().kind == ErrorKind::not_found)
    return Error{
        ErrorKind::not_found, "no such job folder: " + file.parent_path().string(), "", {}};
  if (fd && !*fd)
    return Error{ErrorKind::timed_out, "another slipway process holds " + file.string(), "", {}};
  // Who held it may have removed it.
  struct stat ours {};
  struct stat there {};
  if (fd && (::fstat(fd->get(), &ours) != 0 || ::stat(file.c_str(), &there) != 0 ||
             ours.st_ino != there.st_ino || ours.st_dev != there.st_dev))
    return Error{ErrorKind::not_found, "removed meanwhile: " + file.parent_path().string(), "", {}};
  return fd;
}

ProcessIdentity ProcessIdentity::of(std::int64_t pid) {
  return {pid, start_time_of(pid), slipway::state::boot_id()};
}

ProcessIdentity ProcessIdentity::parent() {
  return of(static_cast<std::int64_t>(::getppid()));
}

ProcessIdentity ProcessIdentity::self() {
  return of(static_cast<std::int64_t>(::getpid()));
}

bool ProcessIdentity::alive() const {
  if (pid <= 0 || boot_id != slipway::state::boot_id()) return false;
  return start_time != 0 && start_time_of(pid) == start_time;
}

std::string to_json(const JobRecord& r) {
  const nlohmann::json json{{"version", 1},
                            {"key", r.key},
                            {"job_id", r.job_id},
                            {"project", r.project},
                            {"project_id", r.project_id},
                            {"ref", r.ref},
                            {"sha", r.sha},
                            {"ref_protected", r.ref_protected},
                            {"pipeline_source", r.pipeline_source},
                            {"runner_tags", r.runner_tags},
                            {"full_ref", r.full_ref},
                            {"created", r.created},
                            {"runner", to_value(r.runner)},
                            {"slot_first", r.slot_first},
                            {"slot_size", r.slot_size},
                            {"slot_number", r.slot_number},
                            {"slot_shared", r.slot_shared},
                            {"ready", r.ready},
                            {"image_env", r.image_env},
                            {"entrypoint", r.entrypoint},
                            {"user", r.user},
                            {"working_dir", r.working_dir},
                            {"image_id", r.image_id},
                            {"containers", r.containers},
                            {"network", r.network},
                            {"bridge", r.bridge},
                            {"volume", r.volume},
                            {"cache_volume", r.cache_volume},
                            {"network_closed", r.network_closed},
                            {"no_proxy", r.no_proxy},
                            {"payload", r.payload},
                            {"blocked_hosts", r.blocked_hosts},
                            {"isolated", r.isolated}};
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<JobRecord> parse_record(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    JobRecord r;
    r.key = json.at("key");
    r.job_id = json.at("job_id");
    r.project = json.at("project");
    r.project_id = json.at("project_id");
    r.ref = json.at("ref");
    r.sha = json.at("sha");
    r.ref_protected = json.at("ref_protected");
    r.pipeline_source = json.value("pipeline_source", "");
    r.runner_tags = json.value("runner_tags", std::vector<std::string>{});
    r.full_ref = json.value("full_ref", "");
    r.created = json.at("created");
    r.runner = identity_from(json.at("runner"));
    r.slot_first = json.at("slot_first");
    r.slot_size = json.at("slot_size");
    r.slot_number = json.at("slot_number");
    r.slot_shared = json.at("slot_shared");
    r.ready = json.at("ready");
    r.image_env = json.at("image_env").get<std::vector<std::string>>();
    r.entrypoint = json.at("entrypoint").get<std::vector<std::string>>();
    r.user = json.at("user");
    r.working_dir = json.value("working_dir", "");
    r.image_id = json.at("image_id");
    r.containers = json.at("containers").get<std::vector<std::string>>();
    r.network = json.at("network");
    r.bridge = json.value("bridge", "");
    r.volume = json.at("volume");
    r.cache_volume = json.at("cache_volume");
    r.network_closed = json.value("network_closed", false);
    r.no_proxy = json.value("no_proxy", "");
    r.payload = json.value("payload", "");
    r.blocked_hosts = json.value("blocked_hosts", std::vector<std::string>{});
    r.isolated = json.value("isolated", true);
    return r;
  } catch (const nlohmann::json::exception& refused) {
    return Error{ErrorKind::bad_input,
                 std::string{"the job record cannot be read: "} + refused.what(),
                 "",
                 {}};
  }
}

std::string JobFolders::key_for(std::int64_t job_id, const std::string& job_token) {
  return "j" + std::to_string(job_id) + "-" + oci::Digest::of(job_token).hex().substr(0, 8);
}

Status JobFolders::create(const std::string& key) {
  for (const auto& parent : {state_dir_ / "jobs", runtime_dir_}) {
    if (auto made = make_directory(parent, 0700); !made) return made;
  }
  for (const auto& folder : {dir(key), run_dir(key)}) {
    if (auto made = make_directory(folder, 0700); !made) return made;
  }
  const auto mark = dir(key) / kEnded;
  if (::unlink(mark.c_str()) != 0 && errno != ENOENT)
    return io_error("remove", errno, mark.string());
  return {};
}

Status JobFolders::save(const JobRecord& record) {
  return replace_file(dir(record.key) / "record.json", to_json(record));
}

Result<JobRecord> JobFolders::load(const std::string& key) const {
  auto text = read_file(dir(key) / "record.json", kMaxRecordBytes);
  if (!text) return std::move(text).error().in("reading the job record of " + key);
  return parse_record(*text);
}

std::vector<JobRecord> JobFolders::all() const {
  std::vector<JobRecord> records;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{state_dir_ / "jobs", none}) {
    const auto key = entry.path().filename().string();
    auto record = load(key);
    if (record) {
      records.push_back(*std::move(record));
    } else {
      records.emplace_back().key = key;
    }
  }
  return records;
}

bool JobFolders::is_first(const std::string& key, const std::string& what) const {
  const auto file = dir(key) / ("said-" + what);
  return UniqueFd{::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)}.get() >= 0;
}

Status JobFolders::watch(const std::string& key, const std::string& name,
                         std::int64_t first) const {
  const auto process = ProcessIdentity::of(first);
  const auto folder = dir(key) / kWatched;
  if (auto made = make_directory(folder, 0700); !made) return made;
  // One file a process: two builds of one backend side by side have the same name. No crash of the
  // machine leaves a process behind.
  const auto id = std::to_string(process.pid) + "-" + std::to_string(process.start_time);
  return replace_passing_file(folder / id, std::to_string(process.pid) + " " +
                                               std::to_string(process.start_time) + " " +
                                               process.boot_id + " " + name);
}

std::vector<WatchedSandbox> JobFolders::watched(const std::string& key) const {
  std::vector<WatchedSandbox> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{dir(key) / kWatched, failed}, end;
       !failed && it != end; it.increment(failed)) {
    if (it->path().has_extension()) continue; // is being written
    const auto text = read_file(it->path(), 512);
    if (!text) continue;
    WatchedSandbox one;
    std::istringstream words{*text};
    words >> one.first.pid >> one.first.start_time >> one.first.boot_id >> one.name;
    if (words && one.first.alive()) {
      found.push_back(std::move(one));
    } else {
      std::error_code ignored; // the next look tries again
      std::filesystem::remove(it->path(), ignored);
    }
  }
  return found;
}

Status JobFolders::end(const std::string& key) const {
  return replace_file(dir(key) / kEnded, "");
}

bool JobFolders::has_ended(const std::string& key) const {
  return ::access((dir(key) / kEnded).c_str(), F_OK) == 0;
}

Status JobFolders::remove(const std::string& key) {
  // The record goes last: what is left of an interrupted removal is found again by it.
  std::error_code failed;
  std::filesystem::remove_all(run_dir(key), failed);
  if (failed) return io_error("remove", failed.value(), run_dir(key).string());
  for (const auto& entry : std::filesystem::directory_iterator{dir(key), failed}) {
    const auto name = entry.path().filename();
    if (name == "record.json" || name == "lock" || name == kEnded) continue;
    std::error_code cause;
    std::filesystem::remove_all(entry.path(), cause);
    if (cause) return io_error("remove", cause.value(), entry.path().string());
  }
  failed.clear();
  std::filesystem::remove_all(dir(key), failed);
  if (failed) return io_error("remove", failed.value(), dir(key).string());
  return {};
}

Result<UniqueFd> JobFolders::lock(const std::string& key, Mode mode,
                                  std::chrono::milliseconds deadline) const {
  return lock_file(dir(key) / "lock", mode, deadline);
}

Result<UniqueFd> JobFolders::lock_all(std::chrono::milliseconds deadline) const {
  if (auto made = make_directory(state_dir_, 0700); !made) return std::move(made).error();
  return lock_file(state_dir_ / "lock", LockMode::exclusive, deadline);
}

} // namespace slipway::state
