// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/confine.hpp"

#include "executor/base/unique_fd.hpp"

#include <seccomp.h>

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>

namespace slipway::gate_worker {
namespace {

constexpr rlim_t kMostMemory = 2UL << 30;

// Rights that this system's header may not know yet; Linux 6.2, 6.10.
constexpr std::uint64_t kTruncate = 1ULL << 14;
constexpr std::uint64_t kIoctlDev = 1ULL << 15;

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

Error refused(const std::string& what, int cause) {
  auto error = io_error(what, cause);
  error.kind = ErrorKind::misconfigured;
  error.hint = "slipway-gate reads images only where it can be confined";
  return error;
}

Status allow_files(const Reach& reach, int abi) {
  const auto handled = rights_of(abi);
  // By its size a kernel that knows more rights tells which are meant: the files alone.
  const std::uint64_t attributes = handled;
  const UniqueFd rules{
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0U))};
  if (!rules) return refused("landlock_create_ruleset", errno);
  const auto allow = [&](const std::filesystem::path& dir, std::uint64_t rights) -> Status {
    const UniqueFd folder{::open(dir.c_str(), O_PATH | O_CLOEXEC | O_DIRECTORY)};
    if (!folder) return refused("open " + dir.string(), errno);
    landlock_path_beneath_attr rule{};
    rule.allowed_access = rights & handled;
    rule.parent_fd = folder.get();
    if (::syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0U) != 0)
      return refused("landlock_add_rule " + dir.string(), errno);
    return {};
  };
  for (const auto& dir : reach.read)
    if (auto allowed = allow(dir, kReading); !allowed) return allowed;
  for (const auto& dir : reach.write)
    if (auto allowed = allow(dir, kReading | kWriting | kTruncate); !allowed) return allowed;
  if (::syscall(SYS_landlock_restrict_self, rules.get(), 0U) != 0)
    return refused("landlock_restrict_self", errno);
  return {};
}

Status allow_calls() {
  const std::unique_ptr<void, decltype(&::seccomp_release)> filter{
      ::seccomp_init(SCMP_ACT_ERRNO(EPERM)), &::seccomp_release};
  if (!filter) return refused("seccomp_init", ENOMEM);
  int failed = 0;
  const auto allow = [&](int call, const std::vector<scmp_arg_cmp>& arguments = {}) {
    if (call == __NR_SCMP_ERROR) return;
    const int done =
        ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call,
                                 static_cast<unsigned>(arguments.size()), arguments.data());
    if (done != 0 && done != -EEXIST) failed = done;
  };
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
                         SCMP_SYS(fcntl),
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
    allow(call);
  // New memory is data for good.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    allow(call, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  // Threads alone. What clone3(2) is asked for a filter cannot see; glibc then uses clone(2).
  allow(SCMP_SYS(clone), {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  if (::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) != 0)
    failed = -EINVAL;
  // Its own end, as abort(3) makes it.
  allow(SCMP_SYS(tgkill), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()))});
  if (failed != 0) return refused("seccomp_rule_add", -failed);
  if (const int done = ::seccomp_load(filter.get()); done != 0)
    return refused("seccomp_load", -done);
  return {};
}

} // namespace

int landlock_abi() {
  const auto abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0UL,
                             static_cast<unsigned>(LANDLOCK_CREATE_RULESET_VERSION));
  return abi < 0 ? 0 : static_cast<int>(abi);
}

Status confine(const Reach& reach) {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return refused("setrlimit", errno);
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return refused("prctl", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return refused("prctl", errno);
#ifndef __SANITIZE_ADDRESS__ // whose shadow is terabytes
  const rlimit memory{kMostMemory, kMostMemory};
  if (::setrlimit(RLIMIT_AS, &memory) != 0) return refused("setrlimit", errno);
#endif
  if (const int abi = landlock_abi(); abi > 0)
    if (auto allowed = allow_files(reach, abi); !allowed) return allowed;
  return allow_calls();
}

} // namespace slipway::gate_worker
