// SPDX-License-Identifier: Apache-2.0
#include "executor/confine/confine.hpp"

#include "executor/base/unique_fd.hpp"

#include <seccomp.h>

#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>

namespace slipway::confine {
namespace {

// Rights that this system's header may not know yet; Linux 6.2, 6.10.
constexpr std::uint64_t kTruncate = 1ULL << 14;
constexpr std::uint64_t kIoctlDev = 1ULL << 15;

constexpr std::uint64_t kOfAFile = LANDLOCK_ACCESS_FS_READ_FILE; ///< what a file's rule may grant
constexpr std::uint64_t kReading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWriting =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG;

/// All rights that an ABI knows: what is not handled is not denied.
std::uint64_t rights_of(int abi) {
  std::uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1U) - 1;
  if (abi >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) rights |= kTruncate;
  if (abi >= 5) rights |= kIoctlDev;
  return rights;
}

Error refused(const std::string& program, const std::string& what, int cause) {
  return {ErrorKind::misconfigured,
          program + " cannot confine itself: " + what + ": " + errno_text(cause),
          "it works only where it can: in a container, allow seccomp(2) and Landlock",
          {}};
}

Status allow_files(const Profile& profile, int abi) {
  const auto handled = rights_of(abi);
  const auto no = [&](const std::string& what) { return refused(profile.program, what, errno); };
  // By its size a kernel that knows more rights tells which are meant: the files alone.
  const std::uint64_t attributes = handled;
  const UniqueFd rules{
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0U))};
  if (!rules) return no("landlock_create_ruleset");
  const auto allow = [&](const std::filesystem::path& path, std::uint64_t rights,
                         bool must_be_there) -> Status {
    const UniqueFd place{::open(path.c_str(), O_PATH | O_CLOEXEC)};
    if (!place) return must_be_there ? Status{no("open " + path.string())} : Status{};
    struct stat facts {};
    if (::fstat(place.get(), &facts) != 0) return no("fstat " + path.string());
    landlock_path_beneath_attr rule{};
    rule.allowed_access = rights & handled & (S_ISDIR(facts.st_mode) ? handled : kOfAFile);
    rule.parent_fd = place.get();
    if (::syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0U) != 0)
      return no("landlock_add_rule " + path.string());
    return {};
  };
  for (const auto& path : profile.read)
    if (auto allowed = allow(path, kReading, true); !allowed) return allowed;
  for (const auto& path : profile.read_if_there)
    if (auto allowed = allow(path, kReading, false); !allowed) return allowed;
  for (const auto& path : profile.write)
    if (auto allowed = allow(path, kReading | kWriting | kTruncate, true); !allowed) return allowed;
  if (::syscall(SYS_landlock_restrict_self, rules.get(), 0U) != 0)
    return no("landlock_restrict_self");
  return {};
}

/// An allowlist of system calls in the making.
class Filter {
public:
  Filter() : filter_{::seccomp_init(SCMP_ACT_ERRNO(EPERM)), &::seccomp_release} {
    if (!filter_) failed_ = -ENOMEM;
  }
  void allow(int call, const std::vector<scmp_arg_cmp>& arguments = {}) {
    add(SCMP_ACT_ALLOW, call, arguments);
  }
  void add(std::uint32_t action, int call, const std::vector<scmp_arg_cmp>& arguments = {}) {
    if (failed_ != 0 || call == __NR_SCMP_ERROR) return;
    const int done = ::seccomp_rule_add_array(
        filter_.get(), action, call, static_cast<unsigned>(arguments.size()), arguments.data());
    if (done != 0 && done != -EEXIST) failed_ = done;
  }
  Status load(const std::string& program) {
    if (failed_ != 0) return refused(program, "seccomp_rule_add", -failed_);
    if (const int done = ::seccomp_load(filter_.get()); done != 0)
      return refused(program, "seccomp_load", -done);
    return {};
  }

private:
  std::unique_ptr<void, decltype(&::seccomp_release)> filter_;
  int failed_ = 0;
};

/// Files, memory, threads, time.
void allow_common(Filter& filter) {
  for (const int call : {SCMP_SYS(read),
                         SCMP_SYS(readv),
                         SCMP_SYS(pread64),
                         SCMP_SYS(write),
                         SCMP_SYS(writev),
                         SCMP_SYS(pwrite64),
                         SCMP_SYS(lseek),
                         SCMP_SYS(open),
                         SCMP_SYS(openat),
                         SCMP_SYS(close),
                         SCMP_SYS(stat),
                         SCMP_SYS(lstat),
                         SCMP_SYS(fstat),
                         SCMP_SYS(newfstatat),
                         SCMP_SYS(statx),
                         SCMP_SYS(access),
                         SCMP_SYS(faccessat),
                         SCMP_SYS(faccessat2),
                         SCMP_SYS(readlink),
                         SCMP_SYS(readlinkat),
                         SCMP_SYS(getdents64),
                         SCMP_SYS(fsync),
                         SCMP_SYS(fdatasync),
                         SCMP_SYS(ftruncate),
                         SCMP_SYS(fchmod),
                         SCMP_SYS(fadvise64),
                         SCMP_SYS(mkdir),
                         SCMP_SYS(mkdirat),
                         SCMP_SYS(unlink),
                         SCMP_SYS(unlinkat),
                         SCMP_SYS(rename),
                         SCMP_SYS(renameat),
                         SCMP_SYS(renameat2),
                         SCMP_SYS(dup),
                         SCMP_SYS(brk),
                         SCMP_SYS(munmap),
                         SCMP_SYS(mremap),
                         SCMP_SYS(madvise),
                         SCMP_SYS(mlock),
                         SCMP_SYS(mlock2),
                         SCMP_SYS(munlock),
                         SCMP_SYS(futex),
                         SCMP_SYS(set_robust_list),
                         SCMP_SYS(set_tid_address),
                         SCMP_SYS(rseq),
                         SCMP_SYS(rt_sigaction),
                         SCMP_SYS(rt_sigprocmask),
                         SCMP_SYS(rt_sigreturn),
                         SCMP_SYS(sigaltstack),
                         SCMP_SYS(restart_syscall),
                         SCMP_SYS(sched_yield),
                         SCMP_SYS(sched_getaffinity),
                         SCMP_SYS(clock_gettime),
                         SCMP_SYS(clock_nanosleep),
                         SCMP_SYS(nanosleep),
                         SCMP_SYS(gettimeofday),
                         SCMP_SYS(time),
                         SCMP_SYS(getrandom),
                         SCMP_SYS(getpid),
                         SCMP_SYS(gettid),
                         SCMP_SYS(getuid),
                         SCMP_SYS(geteuid),
                         SCMP_SYS(getgid),
                         SCMP_SYS(getegid),
                         SCMP_SYS(uname),
                         SCMP_SYS(poll),
                         SCMP_SYS(ppoll),
                         SCMP_SYS(recvmsg),
                         SCMP_SYS(sendmsg),
                         SCMP_SYS(exit),
                         SCMP_SYS(exit_group)})
    filter.allow(call);
  // Not F_SETOWN and F_SETSIG: a file may send its owner any signal.
  constexpr scmp_datum_t kCommand = 0xffffffff;
  for (const int command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL})
    filter.allow(SCMP_SYS(fcntl),
                 {SCMP_A1(SCMP_CMP_MASKED_EQ, kCommand, static_cast<scmp_datum_t>(command))});
  // Threads alone. What clone3(2) is asked for a filter cannot see; glibc then uses clone(2).
  filter.allow(SCMP_SYS(clone), {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  filter.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // Its own end, as abort(3) makes it.
  filter.allow(SCMP_SYS(tgkill), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()))});
  // New memory is data for good.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    filter.allow(call, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
}

/// Connections to others. No listening, no raw sockets; no local ones, since behind one may be a
/// container engine or a service manager that starts programs for its user.
void allow_outgoing(Filter& filter) {
  constexpr scmp_datum_t kType = 0xf; // without SOCK_CLOEXEC, SOCK_NONBLOCK
  for (const int domain : {AF_INET, AF_INET6})
    for (const int type : {SOCK_STREAM, SOCK_DGRAM})
      filter.allow(SCMP_SYS(socket),
                   {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(domain)),
                    SCMP_A1(SCMP_CMP_MASKED_EQ, kType, static_cast<scmp_datum_t>(type))});
  // Which addresses this machine has: getaddrinfo(3).
  filter.allow(SCMP_SYS(socket), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(AF_NETLINK)),
                                  SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE)});
  // Of its own threads. An end of another type could turn to any socket of this machine.
  filter.allow(SCMP_SYS(socketpair), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(AF_UNIX)),
                                      SCMP_A1(SCMP_CMP_MASKED_EQ, kType, SOCK_STREAM)});
  for (const int call :
       {SCMP_SYS(eventfd2), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(connect), SCMP_SYS(bind),
        SCMP_SYS(shutdown), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt),
        SCMP_SYS(setsockopt), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(sendmmsg),
        SCMP_SYS(recvmmsg)})
    filter.allow(call);
  filter.allow(SCMP_SYS(ioctl), {SCMP_A1(SCMP_CMP_EQ, FIONREAD)});
  // A module of the name service switch is loaded when it is first asked: code from a file.
  filter.allow(SCMP_SYS(mmap), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC),
                                SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0)});
}

} // namespace

int landlock_abi() {
  const auto abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0UL,
                             static_cast<unsigned>(LANDLOCK_CREATE_RULESET_VERSION));
  return abi < 0 ? 0 : static_cast<int>(abi);
}

Status confine(const Profile& profile) {
  const auto no = [&](const char* what) { return refused(profile.program, what, errno); };
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return no("setrlimit");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return no("prctl(PR_SET_DUMPABLE)");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return no("prctl(PR_SET_NO_NEW_PRIVS)");
#ifndef __SANITIZE_ADDRESS__ // whose shadow is terabytes
  const rlimit memory{profile.most_memory, profile.most_memory};
  if (::setrlimit(RLIMIT_AS, &memory) != 0) return no("setrlimit");
#endif
  if (const int abi = landlock_abi(); abi > 0)
    if (auto allowed = allow_files(profile, abi); !allowed) return allowed;
  Filter filter;
  allow_common(filter);
  if (profile.network == Network::outgoing) allow_outgoing(filter);
  return filter.load(profile.program);
}

} // namespace slipway::confine
