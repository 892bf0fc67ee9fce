// SPDX-License-Identifier: Apache-2.0
// What the four stages of one job share: a record and a lock in the job's folder. The record names
// everything that has to be removed, before it is made, so that a reaper can always finish.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace slipway::state {

/// A process that can be told from a later one of the same number. Source: proc(5), starttime.
struct ProcessIdentity {
  std::int64_t pid = 0;
  std::uint64_t start_time = 0; ///< clock ticks since boot
  std::string boot_id;
  static ProcessIdentity of(std::int64_t pid);
  /// This process's parent.
  static ProcessIdentity parent();
  static ProcessIdentity self();
  bool alive() const;
};

struct JobRecord {
  std::string key;
  std::int64_t job_id = 0;
  std::string project;
  std::int64_t project_id = 0;
  std::string ref;
  std::string sha;
  bool ref_protected = false;
  std::string pipeline_source;          ///< by its ID token, or ""
  std::vector<std::string> runner_tags; ///< --runner-tag of prepare
  std::string full_ref;                 ///< as policy compares it: "refs/heads/main", or ""
  std::string created;                  ///< RFC 3339
  ProcessIdentity runner;               ///< whose death makes the job dead
  std::string payload; ///< the file whose absence does so too: the runner has removed it; or ""
  std::uint32_t slot_first = 0;
  std::uint32_t slot_size = 0;
  int slot_number = -1;
  bool slot_shared = false;
  bool ready = false; ///< prepare went to its end
  // The job image's own settings, for the scripts.
  std::vector<std::string> image_env;
  std::vector<std::string> entrypoint;
  std::string user;
  std::string working_dir; ///< absolute, or ""
  std::string image_id;
  // Everything of the container engine carries the label io.slipway.job=<key>.
  std::vector<std::string> containers;
  std::string network;
  std::string bridge; ///< of the network; "" where that is not known
  std::string volume;
  std::string cache_volume;
  // What the job's sandboxes may connect to, as it was when they were made.
  std::vector<std::string> blocked_hosts; ///< sandbox::Egress, where it is enabled
  bool isolated = true;                   ///< sandbox::Egress
  bool network_closed = false; ///< slipway's proxy is the one way out, also where it lets none pass
  std::string no_proxy;        ///< hosts of the job's own network, as in NO_PROXY
};

/// A sandbox of the job whose memory only slipway looks after.
struct WatchedSandbox {
  std::string name; ///< "job", "builder"
  ProcessIdentity first;
};

std::string to_json(const JobRecord& record);
Result<JobRecord> parse_record(const std::string& json);

enum class LockMode { shared, exclusive };

/// Takes FILE's lock (flock), making the file (0600) where there is none; it is held while the
/// returned descriptor lives, by this process alone. Errors: timed_out; not_found (no such folder,
/// or the file was removed meanwhile); io.
Result<UniqueFd> lock_file(const std::filesystem::path& file, LockMode mode,
                           std::chrono::milliseconds deadline);

/// All job folders below STATE_DIR/jobs.
class JobFolders {
public:
  JobFolders(std::filesystem::path state_dir, std::filesystem::path runtime_dir)
      : state_dir_{std::move(state_dir)}, runtime_dir_{std::move(runtime_dir)} {}

  /// `j<id>-<8 hex of the job token's digest>`: the same for every stage and retry of one job.
  static std::string key_for(std::int64_t job_id, const std::string& job_token);

  std::filesystem::path dir(const std::string& key) const { return state_dir_ / "jobs" / key; }
  /// Sockets live here: short paths (sun_path holds 107 bytes).
  std::filesystem::path run_dir(const std::string& key) const { return runtime_dir_ / key; }
  const std::filesystem::path& state_dir() const { return state_dir_; }
  const std::filesystem::path& runtime_dir() const { return runtime_dir_; }

  /// A job that was prepared before begins anew: see end().
  Status create(const std::string& key);
  Status save(const JobRecord& record);
  /// Errors: not_found (never prepared or cleaned up already), bad_input.
  Result<JobRecord> load(const std::string& key) const;
  /// Every record that can be read; unreadable ones by key with an empty record.
  std::vector<JobRecord> all() const;
  /// True at the first call with WHAT (a file's name) in the job's life: what is said once a job.
  bool is_first(const std::string& key, const std::string& what) const;
  /// Writes down that the sandbox with this first process is to be watched by every `run`; NAME is
  /// one word, and others may have the same. Errors: io.
  Status watch(const std::string& key, const std::string& name, std::int64_t first) const;
  /// Those of them that live; the others are forgotten.
  std::vector<WatchedSandbox> watched(const std::string& key) const;
  /// Writes down that the job is over, whatever its runner still does: what is left of it may be
  /// removed by anyone, until it is created again. Errors: io.
  Status end(const std::string& key) const;
  bool has_ended(const std::string& key) const;
  /// Removes both folders. Files in them are slipway's own.
  Status remove(const std::string& key);

  /// Waits for the job's lock. Shared by `run`s, exclusive for prepare and cleanup. Errors:
  /// timed_out; io.
  using Mode = LockMode;
  Result<UniqueFd> lock(const std::string& key, Mode mode,
                        std::chrono::milliseconds deadline) const;
  /// The lock under which id slots are given out and dead jobs are found.
  Result<UniqueFd> lock_all(std::chrono::milliseconds deadline) const;

private:
  std::filesystem::path state_dir_;
  std::filesystem::path runtime_dir_;
};

} // namespace slipway::state
