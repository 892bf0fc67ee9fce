// SPDX-License-Identifier: Apache-2.0
// Makes system calls that containers do not need, and some that they do, each in a process of its
// own, and says of each what came of it: "NAME ok", or "NAME" and the error's number. Static, so
// that it runs in an image with nothing in it.
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>

namespace {

constexpr int kUserModeOnly = 1;  // UFFD_USER_MODE_ONLY, of newer headers
constexpr int kSizeOfBuffer = 10; // SYSLOG_ACTION_SIZE_BUFFER, of the kernel's log
constexpr long kHighBits = 1L << 32;

/// Of a call that makes a process: the new one ends, this one waits.
bool made_process(long pid) {
  if (pid == 0) ::_exit(0);
  if (pid < 0) return false;
  const int problem = errno;
  (void)::waitpid(static_cast<pid_t>(pid), nullptr, __WALL);
  errno = problem;
  return true;
}

bool add_key() {
  return ::syscall(SYS_add_key, "user", "slipway-test", "x", 1, KEY_SPEC_PROCESS_KEYRING) >= 0;
}
bool keyctl() {
  return ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1) >= 0;
}
bool perf_event_open() {
  perf_event_attr what{};
  what.type = PERF_TYPE_SOFTWARE;
  what.size = sizeof what;
  what.config = PERF_COUNT_SW_TASK_CLOCK;
  what.exclude_kernel = 1;
  what.exclude_hv = 1;
  return ::syscall(SYS_perf_event_open, &what, 0, -1, -1, 0) >= 0;
}
bool userfaultfd() {
  return ::syscall(SYS_userfaultfd, kUserModeOnly) >= 0;
}
bool io_uring_setup() {
  io_uring_params settings{};
  return ::syscall(SYS_io_uring_setup, 1, &settings) >= 0;
}
bool kernel_log() {
  return ::klogctl(kSizeOfBuffer, nullptr, 0) >= 0;
}
bool mount_tmpfs() {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount("x", "/tmp", "tmpfs", 0, nullptr) == 0;
}
bool unshare_user() {
  return ::unshare(CLONE_NEWUSER) == 0;
}
bool clone_user() {
  return made_process(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, 0));
}
bool clone3_user() {
  clone_args how{};
  how.flags = CLONE_NEWUSER;
  how.exit_signal = SIGCHLD;
  return made_process(::syscall(SYS_clone3, &how, sizeof how));
}
bool no_randomize() {
  return ::syscall(SYS_personality, ADDR_NO_RANDOMIZE) >= 0;
}
bool socket_alg() {
  return ::syscall(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0) >= 0;
}
bool socket_alg_high() {
  return ::syscall(SYS_socket, kHighBits | AF_ALG, SOCK_SEQPACKET, 0) >= 0;
}
bool socket_vsock() {
  return ::syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0) >= 0;
}

bool socket_inet() {
  return ::socket(AF_INET, SOCK_STREAM, 0) >= 0;
}
bool socket_inet6() {
  return ::socket(AF_INET6, SOCK_DGRAM, 0) >= 0 || errno == EAFNOSUPPORT; // a kernel without
}
bool socket_netlink() {
  return ::socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
}
bool socket_unix() {
  return ::socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}
/// socketcall(2) of a 32-bit program, with its arguments below 4 GiB; true where the kernel has no
/// such calls.
bool old_send_and_receive() {
#ifdef __x86_64__
  (void)::signal(SIGSEGV, [](int) { ::_exit(0); });
  constexpr int kSocketcall = 102;
  constexpr int kSend = 9;
  constexpr int kReceive = 10;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return false;
  void* const low =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (low == MAP_FAILED) return false;
  auto* const words = static_cast<std::uint32_t*>(low);
  const auto text = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(words + 8));
  const auto ask = [&](int kind, int fd) {
    words[0] = static_cast<std::uint32_t>(fd);
    words[1] = text;
    words[2] = 4;
    words[3] = 0;
    long answer = 0;
    asm volatile("int $0x80"
                 : "=a"(answer)
                 : "a"(kSocketcall), "b"(kind), "c"(words)
                 : "memory", "r8", "r9", "r10", "r11");
    const int said = static_cast<int>(answer);
    if (said < 0) errno = -said;
    return said == 4;
  };
  return ask(kSend, ends[0]) && ask(kReceive, ends[1]);
#else
  return true;
#endif
}
bool socket_nftables() {
  return ::socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER) >= 0;
}
bool socket_packet() {
  return ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 && ::socket(AF_PACKET, SOCK_RAW, 0) >= 0;
}
bool personality_asked() {
  return ::syscall(SYS_personality, 0xffffffffUL) >= 0;
}
bool trace_me() {
  return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0;
}
bool memfd() {
  return ::syscall(SYS_memfd_create, "x", 0) >= 0;
}
bool threads() {
  int count = 0;
  for (int i = 0; i < 8; ++i)
    std::thread{[&] { ++count; }}.join();
  return count == 8;
}

struct Deed {
  const char* name;
  bool (*done)();
};
constexpr Deed kDeeds[] = {
    {"add_key", add_key},
    {"keyctl", keyctl},
    {"perf_event_open", perf_event_open},
    {"userfaultfd", userfaultfd},
    {"io_uring_setup", io_uring_setup},
    {"kernel_log", kernel_log},
    {"mount_tmpfs", mount_tmpfs},
    {"unshare_user", unshare_user},
    {"clone_user", clone_user},
    {"clone3_user", clone3_user},
    {"no_randomize", no_randomize},
    {"socket_alg", socket_alg},
    {"socket_alg_high", socket_alg_high},
    {"socket_vsock", socket_vsock},
    {"socket_inet", socket_inet},
    {"socket_inet6", socket_inet6},
    {"socket_netlink", socket_netlink},
    {"socket_unix", socket_unix},
    {"socket_nftables", socket_nftables},
    {"socket_packet", socket_packet},
    {"old_send_and_receive", old_send_and_receive},
    {"personality_asked", personality_asked},
    {"trace_me", trace_me},
    {"memfd", memfd},
    {"threads", threads},
};

} // namespace

int main() {
  for (const Deed& deed : kDeeds) {
    const pid_t child = ::fork();
    if (child == 0) {
      errno = 0;
      ::_exit(deed.done() ? 0 : errno);
    }
    int ended = 0;
    if (child < 0 || ::waitpid(child, &ended, 0) != child || !WIFEXITED(ended)) {
      std::printf("%s ended\n", deed.name);
    } else if (WEXITSTATUS(ended) == 0) {
      std::printf("%s ok\n", deed.name);
    } else {
      std::printf("%s %d\n", deed.name, WEXITSTATUS(ended));
    }
  }
  return 0;
}
