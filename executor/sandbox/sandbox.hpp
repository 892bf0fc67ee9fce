// SPDX-License-Identifier: Apache-2.0
// Sandboxes are rootless Podman containers. Every sandbox made from a SandboxSpec:
//   - maps an id range that does not hold the service user (explicit --uidmap of one id slot);
//   - has no-new-privileges, no host namespace, no device and no host mount unless a token allows
//   it;
//   - has a filter of system calls: Podman's own, or where it is privileged one of slipway's;
//   - sits on the job's own isolated network, or on none;
//   - carries labels that name its owner, so that a reaper finds it;
//   - has limits that were read back after start.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/process/process.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::sandbox {

/// Where Podman is and where it keeps its things; the same for every call of one slipway.
struct Engine {
  std::filesystem::path podman = "/usr/bin/podman";
  std::filesystem::path home;            ///< HOME of the service user
  std::filesystem::path runtime_dir;     ///< XDG_RUNTIME_DIR
  std::filesystem::path containers_conf; ///< see write_containers_conf(); "": the host's own
  std::filesystem::path first_in_path;   ///< see use_stand_ins(); "": none
  std::vector<std::string> global_args;  ///< e.g. --root DIR, for tests
  std::chrono::milliseconds deadline{std::chrono::minutes{2}}; ///< of one Podman call
};

/// Writes DIR/containers.conf, which takes the place of the host's and the user's: those can add
/// mounts, devices and variables to every sandbox, and by default the host's hosts file is copied
/// into them. A file that stays, because conmon's clean-up reads it too.
Status write_containers_conf(Engine& engine, const std::filesystem::path& dir);

/// Writes stand-ins for what Podman starts into DIR/netavark (decision 0009; not where DIR's
/// programs cannot be executed):
///   - iptables and ip6tables, which say yes to everything: what netavark asks them for is in the
///     table that enforce_egress() installs and reads back. A netavark that speaks nftables itself
///     (from 1.10 on) never calls them. They come before the real ones in Podman's PATH;
///   - conmon, which calls the real one without an exit command: nothing of slipway's restarts or
///     removes itself, and the `podman container cleanup` of each sandbox's end would only be in
///     the way of the removal. Podman's service gets it, the program does not.
Status use_stand_ins(Engine& engine, const std::filesystem::path& dir);

/// One range of subordinate ids: `--uidmap 0:first:size`, `first` counted in the rootless user's
/// own namespace, where 0 is the service user and is never mapped.
struct IdSlot {
  std::uint32_t first = 1;
  std::uint32_t size = 65536;
  int number = 0;      ///< which slot; its lock file is held by `lock`
  bool shared = false; ///< true where subordinate ids do not suffice for a range per job
  bool operator==(const IdSlot& other) const { return first == other.first && size == other.size; }
};

struct Limits {
  std::int64_t pids = 4096;
  std::uint64_t memory_bytes = 0; ///< 0: none asked
  double cpus = 0;                ///< 0: none asked
  std::uint64_t file_bytes = 0;   ///< RLIMIT_FSIZE fallback; 0: none
  std::uint64_t open_files = 65536;
};

/// What the kernel really enforces, read back from the running sandbox's cgroup and limits.
struct LimitsReport {
  bool pids_enforced = false;
  bool memory_enforced = false;
  bool cpu_enforced = false;
  struct Missing {
    std::string what;    ///< "memory"
    std::string instead; ///< what is in force; "": nothing
  };
  std::vector<Missing> missing; ///< asked and not enforced; "disk" always
};

/// One line for the job log that says what the host does not enforce, and what holds instead. "":
/// nothing is missing.
std::string limits_notice(const std::vector<LimitsReport::Missing>& missing);

struct Mount {
  std::string source; ///< host path, or the name of a Podman volume
  std::string target;
  bool read_only = true;
};

/// Weakenings. Each is a token with a reason; `grep -rn 'allow('` lists the holes.
struct PrivilegedInUserNamespace {
  std::string justification;
}; ///< --privileged, bounded by the id slot
struct AllSystemCalls {
  std::string justification;
}; ///< PrivilegedInUserNamespace without a filter of system calls
struct NewPrivileges {
  std::string justification;
}; ///< setuid programs inside
struct HostMount {
  Mount mount;
  std::string justification;
};
struct Device {
  std::string path;
  std::string justification;
};

/// What a sandbox is. Defaults deny.
class SandboxSpec {
public:
  std::string name; ///< "slipway-<job key>-job"
  std::map<std::string, std::string>
      labels;                          ///< io.slipway.job, io.slipway.role, io.slipway.owner …
  std::string image;                   ///< id or reference already in the store (never pulled here)
  std::vector<std::string> entrypoint; ///< empty: the image's own
  std::vector<std::string> command;
  std::optional<std::string> user; ///< none: the image's USER
  std::string working_dir;
  std::vector<std::pair<std::string, std::string>> env; ///< in a request's body, never in argv
  IdSlot ids;
  std::string network; ///< network name; "" = none
  std::string address; ///< on `network`; "" = Podman's choice
  /// Another sandbox, whose user and network namespace this one shares; its `ids` and `network` are
  /// not read then. "" = none.
  std::string joins;
  std::vector<std::string> network_aliases;
  std::vector<std::pair<std::string, std::string>> hosts; ///< {name, address}
  std::vector<Mount> volumes; ///< Podman volumes and slipway's own runtime folders
  std::vector<std::pair<std::string, std::string>> tmpfs; ///< {target, options}
  Limits limits;
  int script_listener = -1; ///< lent; slipway-init gets it, see handover.hpp; -1: none
  /// Path of a filter of system calls in Podman's format, on the host; "" = Podman's own, and none
  /// where the sandbox is privileged: that one is refused then (see seccomp.hpp). It has to be
  /// there as long as the sandbox starts.
  std::string seccomp_profile;
  bool read_only_root = false;
  bool keep_log = true; ///< what PID 1 says, for Podman::logs
  std::string hostname;

  void allow(PrivilegedInUserNamespace token) { privileged_ = std::move(token); }
  void allow(AllSystemCalls token) { all_system_calls_ = std::move(token); }
  void allow(NewPrivileges token) { new_privileges_ = std::move(token); }
  void allow(HostMount token) { host_mounts_.push_back(std::move(token)); }
  void allow(Device token) { devices_.push_back(std::move(token)); }
  const std::optional<PrivilegedInUserNamespace>& privileged() const { return privileged_; }
  const std::optional<AllSystemCalls>& all_system_calls() const { return all_system_calls_; }
  const std::optional<NewPrivileges>& new_privileges() const { return new_privileges_; }
  const std::vector<HostMount>& host_mounts() const { return host_mounts_; }
  const std::vector<Device>& devices() const { return devices_; }

private:
  std::optional<PrivilegedInUserNamespace> privileged_;
  std::optional<AllSystemCalls> all_system_calls_;
  std::optional<NewPrivileges> new_privileges_;
  std::vector<HostMount> host_mounts_;
  std::vector<Device> devices_;
};

/// The body of a "create container" call of Podman's API for a spec. Pure; golden-tested.
std::string create_body(const SandboxSpec& spec);

struct PullRequest {
  std::string reference;
  std::string policy = "always"; ///< always | if-not-present | never
  std::string platform;          ///< "" = the host's
  std::string username;
  Secret password;              ///< through a 0600 file in the runtime folder, removed afterwards
  std::filesystem::path ca_dir; ///< --cert-dir; empty: the system's
  bool tls_verify = true;
};

struct ImageFacts {
  std::string id;
  std::string user;
  std::string working_dir;
  std::vector<std::string> entrypoint;
  std::vector<std::string> command;
  std::vector<std::string> env;
  std::vector<std::string> exposed_ports; ///< "5432/tcp"
  std::vector<std::string> volumes;
  std::string digest;
};

struct ContainerFacts {
  std::string id;
  std::string name;
  bool running = false;
  int exit_code = 0;
  std::int64_t host_pid = 0;
  std::string address; ///< on its network; "" for none
  std::map<std::string, std::string> labels;
  /// Of start() and run_attached(): read back after the start; none where it had ended already.
  std::optional<LimitsReport> limits;
};

/// A bridge of Podman's.
struct Network {
  /// "10.89.4.": the first three numbers of all its addresses; "" where it is no /24 (an operator's
  /// `default_subnet_pools`), and then no address can be given.
  std::string prefix;
  std::string bridge; ///< its interface's name; "" where it is none of Podman's or of ours
  /// Addresses from 100 on are given by whoever starts a sandbox, lower ones by Podman.
  std::string address(int number) const { return prefix + std::to_string(number); }
};

/// Podman, as slipway uses it: its API where it can, its program else. Every call has a deadline
/// and a clean environment; no child of it keeps this process's descriptors (conmon is the trap: it
/// would hold the runner's pipes).
class PodmanApi;

class Podman {
public:
  /// `runner` starts what the API does not do; `api`: none = a PodmanService of this engine.
  Podman(Engine engine, process::ProcessRunner& runner, std::shared_ptr<PodmanApi> api = nullptr);

  Result<ImageFacts> pull(const PullRequest& request);
  Result<ImageFacts> image(const std::string& reference); ///< Errors: not_found
  /// Makes the near-empty "toolbox" image (root file system skeleton) if the store lacks it.
  Result<std::string> toolbox_image();
  /// The same for an image that has nothing but one empty folder, FOLDER ("work").
  Result<std::string> bare_image(const std::string& folder);
  /// Makes and starts it, hands over its listener, and reads back its limits. Errors: not_found
  /// (image); bad_input (its command cannot be executed); unavailable. What failed to start is
  /// removed.
  Result<ContainerFacts> start(const SandboxSpec& spec);
  /// Runs a sandbox to its end and returns what it said; it is removed afterwards, whatever
  /// happened. It has no listener. Exit codes 125-127 may be Podman's own. `started` is told of it
  /// from another thread, unless it ends before anybody could look. `program` gives what
  /// slipway-init, its entrypoint with the word "program", executes (lent); it is asked once, from
  /// another thread, and nothing is executed where it fails.
  /// Errors: as start, apart from those exit codes; bad_input (more output than the limit). A
  /// deadline that passed is an Ending, not an Error.
  Result<process::Output>
  run_attached(const SandboxSpec& spec, std::chrono::milliseconds deadline,
               std::size_t output_limit,
               const std::function<void(const ContainerFacts&)>& started = nullptr,
               const std::function<Result<int>()>& program = nullptr);
  Result<ContainerFacts> inspect(const std::string& name); ///< Errors: not_found
  Result<std::string> logs(const std::string& name, std::size_t limit);
  /// Everything that carries LABEL=VALUE ("" value: any); also stopped ones.
  Result<std::vector<ContainerFacts>> list(const std::string& label, const std::string& value);
  /// Kill and remove, with anonymous volumes; absent ones are no error.
  Status remove(const std::vector<std::string>& names);
  /// The same, and then the network that only they are on ("": none), in less time: the bridge is
  /// kept from netavark and deleted with its last port in one go.
  Status remove_job(const std::vector<std::string>& names, const std::string& network);
  Result<Network> create_network(const std::string& name,
                                 const std::map<std::string, std::string>& labels,
                                 bool isolate = true);
  /// One whose packets stay on its bridge, whatever its sandboxes' root does: the bridge has a name
  /// ("swc0" to "swc255") that the table of enforce_egress() is about. Names are looked up nowhere;
  /// a sandbox's `hosts` has what it shall know. Errors: unavailable (another's, no name is free).
  Result<Network> create_closed_network(const std::string& name,
                                        const std::map<std::string, std::string>& labels);
  Status remove_networks(const std::vector<std::string>& names);
  std::string bridge_of(const std::string& network); ///< "": none is there, or it cannot be told
  Result<std::vector<std::string>> list_networks(const std::string& label,
                                                 const std::string& value);
  Status create_volume(const std::string& name, const std::map<std::string, std::string>& labels);
  Status remove_volumes(const std::vector<std::string>& names);
  Result<std::vector<std::string>> list_volumes(const std::string& label, const std::string& value);
  /// True where the namespace that holds Podman's bridges is there: from the first sandbox with a
  /// network to the last.
  bool has_network_namespace() const;
  /// Runs a program of the host in the rootless user namespace (`podman unshare`), for files that
  /// belong to subordinate ids.
  Result<process::Output> unshare(const std::vector<std::string>& argv, std::string input = "",
                                  bool rootless_netns = false);
  Result<LimitsReport> read_back_limits(const ContainerFacts& container, const Limits& asked);
  const Engine& engine() const { return engine_; }

private:
  Result<std::string> import_image(const std::string& name, const std::string& tar);
  Result<ContainerFacts> create(const SandboxSpec& spec);
  Status remove_one(const std::string& target, const std::string& name);
  Status remove_when(const std::vector<std::string>& names, const std::shared_future<void>& ready);

  Engine engine_;
  process::ProcessRunner& runner_;
  std::shared_ptr<PodmanApi> api_;
};

/// The builder, helper and scanner root: the host's /usr read-only on the toolbox skeleton.
/// Adds the mounts to `spec` (with their tokens) and sets its image.
Status use_host_tools(Podman& podman, SandboxSpec& spec);

/// Takes the first free id slot; its lock is held while the returned descriptor lives. Falls back
/// to slot 0 shared where /etc/subuid has too few ids. Source: subuid(5).
struct HeldSlot {
  IdSlot slot;
  UniqueFd lock;
};
Result<HeldSlot> take_id_slot(const std::filesystem::path& lock_dir, const std::string& user,
                              int most);

/// What sandboxes' networks may do, as one nftables table in the namespace that holds Podman's
/// bridges, where no sandbox's root can flush it: they get out (masquerading), not to each other,
/// and not to registries; closed ones (create_closed_network) get nowhere at all. Netavark would
/// make the first two with twenty calls of iptables a job; see use_stand_ins().
struct Egress {
  std::vector<std::string> blocked_hosts; ///< "host" or "host:port"; all addresses, every protocol
  bool enabled = true;                    ///< false: no host is blocked
  bool isolate = true;                    ///< false: one network's sandboxes reach another's
};
/// A packet that the table refused: from which bridge, and to what address last.
struct NotedRefusal {
  std::string bridge;
  std::string address;
  std::chrono::seconds left{0}; ///< until it is forgotten, an hour after that
};
/// The nftables script: pure, golden-tested. `noted` is what it knows from the beginning.
std::string egress_script(const std::vector<std::string>& addresses4,
                          const std::vector<std::string>& addresses6, bool isolate,
                          const std::vector<NotedRefusal>& noted = {});
/// Resolves and installs, idempotent and atomic; verifies by reading back. Needs a running sandbox
/// on a bridge (the namespace exists only then). Errors: unavailable (a host does not resolve and
/// was never resolved before), io. What the table has noted of `fresh_bridge` ("": none), a new
/// network's, was another's of this name: it is forgotten.
Status enforce_egress(Podman& podman, const Egress& egress, const std::string& fresh_bridge = "");

} // namespace slipway::sandbox
