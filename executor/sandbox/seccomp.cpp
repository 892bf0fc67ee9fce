// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/seccomp.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::sandbox {
namespace {

using nlohmann::json;

/// What any program may need. ptrace and process_vm_* among it: since Linux 4.8 a tracer changes no
/// call behind the filter's back.
constexpr std::string_view kAlways =
    "_llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat "
    "capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres "
    "clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 "
    "close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 "
    "epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit "
    "exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir "
    "fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
    "file_getattr file_setattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 "
    "fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 "
    "futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd "
    "getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups "
    "getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom "
    "getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname "
    "getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch "
    "inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents "
    "io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill "
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr "
    "link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr "
    "lsm_get_self_attr lsm_list_modules lstat lstat64 madvise map_shadow_stack membarrier "
    "memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap "
    "mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive "
    "mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl "
    "msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep "
    "newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc "
    "pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 "
    "process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace "
    "pwrite64 pwritev pwritev2 read readahead readdir readlink readlinkat readv recv recvfrom "
    "recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename "
    "renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask "
    "rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
    "rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity "
    "sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp select send semctl semget semop semtimedop "
    "semtimedop_time64 sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list "
    "set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
    "setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid "
    "setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid "
    "setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaction sigaltstack "
    "signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socketpair splice "
    "stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs "
    "sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime "
    "timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime "
    "timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 "
    "ugetrlimit umask uname unlink unlinkat uprobe uretprobe utime utimensat utimensat_time64 "
    "utimes vfork vmsplice wait4 waitid waitpid write writev "
    // Of 32-bit ARM.
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// What mounts, and makes or enters namespaces: for builders, and for a container that was given
/// CAP_SYS_ADMIN.
constexpr std::string_view kAdmin =
    "fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree "
    "open_tree_attr pivot_root quotactl quotactl_fd setdomainname sethostname setns umount umount2 "
    "unshare";

struct ByCapability {
  const char* capability;
  std::string_view calls;
};
constexpr std::array<ByCapability, 6> kByCapability{{
    {"CAP_SYS_BOOT", "reboot"}, // of its own PID namespace
    {"CAP_SYS_CHROOT", "chroot"},
    {"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
    {"CAP_SYS_TTY_CONFIG", "vhangup"},
    {"CAP_SYSLOG", "syslog"},
}};

/// Whatever a capability says, since these change or read the host as a whole, or are the kernel's
/// to give to nobody but its own root; or since they have let programs become it before.
constexpr std::string_view kOfTheHost =
    "acct bpf clock_settime clock_settime64 create_module delete_module finit_module init_module "
    "io_uring_enter io_uring_register io_uring_setup ioperm iopl kexec_file_load kexec_load "
    "lookup_dcookie lsm_set_self_attr nfsservctl open_by_handle_at perf_event_open query_module "
    "settimeofday stime swapoff swapon uselib userfaultfd vm86 vm86old";
/// Keys are in a user namespace as one: containers of an engine, steps of a builder would share
/// them. runc itself makes each container a session keyring with keyctl, so its sandbox has that.
constexpr std::string_view kKeys = "add_key request_key";
/// What no program of today uses. 32-bit programs of glibc make and use their sockets by
/// socketcall: libseccomp allows each of its kinds where the call of that name is (`send` and
/// `recv` have no other form), and sees no arguments of theirs.
constexpr std::string_view kOld =
    "_sysctl afs_syscall bdflush break epoll_ctl_old epoll_wait_old ftime get_kernel_syms getpmsg "
    "gtty idle lock migrate_pages move_pages mpx nice oldfstat oldlstat oldolduname oldstat "
    "olduname prof profil putpmsg security sgetmask socketcall ssetmask stty sysfs tuxcall ulimit "
    "ustat vserver";

/// What a capability gives a container, and no builder needs: to look at the host's kernel log, to
/// end its own PID namespace, to hang up a terminal.
constexpr std::string_view kNotForBuilders = "reboot syslog vhangup";

/// Of those, a builder's root has no use for raw frames; and of netlink for routes, a look at
/// sockets, audit's users, the kernel's events and the generic family, but none for nftables and
/// IPsec.
constexpr std::array<int, 3> kBuildersFamilies{AF_UNIX, AF_INET, AF_INET6};
constexpr std::array<int, 5> kBuildersNetlink{NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_AUDIT,
                                              NETLINK_KOBJECT_UEVENT, NETLINK_GENERIC};

/// Others carry what no container needs, and errors of the kernel's that reached beyond namespaces.
/// libpcap wants the kernel's own word on Bluetooth, which is none outside of the first namespace.
constexpr std::array<int, 6> kFamilies{AF_UNIX,    AF_INET,   AF_INET6,
                                       AF_NETLINK, AF_PACKET, AF_BLUETOOTH};
/// The kernel looks at these bits of an int alone; whoever asks sets the others as it likes.
constexpr std::uint64_t kInt = 0xffffffff;
/// PER_LINUX, PER_LINUX32, both with an old version's name; and the question which it is.
constexpr std::array<std::uint64_t, 5> kPersonalities{0, 0x8, 0x20000, 0x20008, 0xffffffff};
constexpr std::uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                         CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

std::vector<std::string> call_names(std::string_view text) {
  std::istringstream in{std::string{text}};
  std::vector<std::string> all;
  for (std::string word; in >> word;)
    all.push_back(word);
  return all;
}

json call_rule(std::vector<std::string> names, const char* action) {
  return {{"names", std::move(names)}, {"action", action}};
}
json allow(std::vector<std::string> names) {
  return call_rule(std::move(names), "SCMP_ACT_ALLOW");
}
json refuse(std::vector<std::string> names, int error) {
  auto made = call_rule(std::move(names), "SCMP_ACT_ERRNO");
  made["errnoRet"] = error;
  return made;
}
/// The first argument, as far as MASK goes, is VALUE.
json masked(std::uint64_t mask, std::uint64_t value) {
  return json::array(
      {{{"index", 0}, {"value", mask}, {"valueTwo", value}, {"op", "SCMP_CMP_MASKED_EQ"}}});
}
json with_admin() {
  return {{"caps", {"CAP_SYS_ADMIN"}}};
}

/// Without x32, which no distribution has programs of.
json architectures() {
  return json::array(
      {{{"architecture", "SCMP_ARCH_X86_64"}, {"subArchitectures", {"SCMP_ARCH_X86"}}},
       {{"architecture", "SCMP_ARCH_AARCH64"}, {"subArchitectures", {"SCMP_ARCH_ARM"}}}});
}

std::string profile_text(const char* otherwise, json rules, std::optional<int> error = {}) {
  json profile{
      {"defaultAction", otherwise}, {"archMap", architectures()}, {"syscalls", std::move(rules)}};
  if (error) profile["defaultErrnoRet"] = *error;
  return profile.dump(1) + "\n";
}

/// The third argument is that, too.
json with_protocol(json arguments, int protocol) {
  arguments.push_back(
      {{"index", 2}, {"value", kInt}, {"valueTwo", protocol}, {"op", "SCMP_CMP_MASKED_EQ"}});
  return arguments;
}

void allow_builders_sockets(json& rules) {
  for (const int family : kBuildersFamilies) {
    rules.push_back(allow({"socket"}));
    rules.back()["args"] = masked(kInt, static_cast<std::uint64_t>(family));
  }
  for (const int protocol : kBuildersNetlink) {
    rules.push_back(allow({"socket"}));
    rules.back()["args"] = with_protocol(masked(kInt, AF_NETLINK), protocol);
  }
}

/// Sockets of the families that programs use.
void allow_sockets(json& rules) {
  for (const int family : kFamilies) {
    rules.push_back(allow({"socket"}));
    rules.back()["args"] = masked(kInt, static_cast<std::uint64_t>(family));
  }
}

std::set<std::string> refused_to_all() {
  std::set<std::string> all;
  for (const auto calls : {kOfTheHost, kKeys, kOld})
    for (auto& call : call_names(calls))
      all.insert(std::move(call));
  return all;
}

} // namespace

std::string container_seccomp() {
  auto rules = json::array({allow(call_names(kAlways))});
  for (const auto& [capability, calls] : kByCapability) {
    rules.push_back(allow(call_names(calls)));
    rules.back()["includes"] = {{"caps", {capability}}};
  }
  auto admin = call_names(kAdmin);
  admin.insert(admin.end(), {"clone", "clone3"});
  rules.push_back(allow(std::move(admin)));
  rules.back()["includes"] = with_admin();

  rules.push_back(allow({"clone"}));
  rules.back()["args"] = masked(kNewNamespaces, 0);
  rules.back()["excludes"] = with_admin();
  // Its flags are in memory, where no filter sees them: C libraries then take clone.
  rules.push_back(refuse({"clone3"}, ENOSYS));
  rules.back()["excludes"] = with_admin();

  allow_sockets(rules);
  for (const auto personality : kPersonalities) {
    rules.push_back(allow({"personality"}));
    rules.back()["args"] = masked(kInt, personality);
  }
  return profile_text("SCMP_ACT_ERRNO", std::move(rules));
}

std::string engine_seccomp() {
  auto refused = call_names(kOfTheHost);
  for (auto& key : call_names(kKeys))
    refused.push_back(std::move(key));
  return profile_text("SCMP_ACT_ALLOW", json::array({refuse(std::move(refused), EPERM)}));
}

std::string builder_seccomp(StepsBy steps) {
  const auto refused = calls_refused_to_builders(steps);
  auto allowed = call_names(kAlways);
  const auto add = [&](std::string_view calls) {
    for (auto& call : call_names(calls))
      if (!refused.contains(call)) allowed.push_back(std::move(call));
  };
  add(kAdmin);
  for (const auto& [capability, calls] : kByCapability)
    add(calls);
  add("clone clone3 keyctl personality");

  auto rules = json::array({allow(std::move(allowed))});
  allow_builders_sockets(rules);
  auto named = refused;
  named.erase("socketcall"); // else 32-bit programs of glibc have no socket at all
  // As from a kernel without keys: runc and PAM then go on.
  std::vector<std::string> keys;
  for (const char* call : {"add_key", "keyctl", "request_key"})
    if (named.erase(call) != 0) keys.emplace_back(call);
  rules.push_back(refuse(std::move(keys), ENOSYS));
  rules.push_back(refuse({named.begin(), named.end()}, EPERM));
  // A call that is newer than this: C libraries then take an older one.
  return profile_text("SCMP_ACT_ERRNO", std::move(rules), ENOSYS);
}

std::set<std::string> refused_calls() {
  auto all = refused_to_all();
  all.insert("keyctl");
  return all;
}

std::set<std::string> calls_refused_to_builders(StepsBy steps) {
  auto all = refused_to_all();
  for (auto& call : call_names(kNotForBuilders))
    all.insert(std::move(call));
  if (steps == StepsBy::changed_root) all.insert("keyctl");
  return all;
}

Status write_builder_seccomp(const SandboxSpec& spec, StepsBy steps) {
  return replace_file(spec.seccomp_profile, builder_seccomp(steps), 0600);
}

} // namespace slipway::sandbox
