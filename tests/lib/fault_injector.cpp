// SPDX-License-Identifier: Apache-2.0
// A disk that is full or fails, for one program: preloaded into it, this lets one call of a kind
// fail.
//   FAULT_PROGRAM  the name of the program; in any other nothing happens
//   FAULT_KIND     read: EIO.  short: half of the bytes.  write: ENOSPC, of files.  make: ENOSPC,
//   of a new name.
//                  open: EIO.  sync: EIO.  kill: the program's death, instead of a read or of a
//                  write to a file
//   FAULT_AT       which call of that kind, from 1; 0: none
//   FAULT_LOG      gets a line "KIND NUMBER" at the program's end: so many calls there were
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Plan {
  std::string kind;
  int log = -1; ///< open before the program confines itself
  long at = 0;
  std::atomic<long> calls{0};

  Plan() {
    const char* program = std::getenv("FAULT_PROGRAM");
    if (program == nullptr || std::strcmp(program, ::program_invocation_short_name) != 0) return;
    if (const char* value = std::getenv("FAULT_KIND")) kind = value;
    if (const char* value = std::getenv("FAULT_AT")) at = std::atol(value);
    if (const char* value = std::getenv("FAULT_LOG"))
      log = static_cast<int>(
          ::syscall(SYS_openat, AT_FDCWD, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  }
  ~Plan() { tell(); }
  void tell() {
    if (log < 0) return;
    const std::string line = kind + " " + std::to_string(calls) + "\n";
    (void)!::syscall(SYS_write, log, line.data(), line.size());
  }
  bool fails(const char* what) { return kind == what && ++calls == at; }
};

Plan& plan() {
  static Plan made;
  return made;
}

__attribute__((constructor)) void begin() {
  plan();
}

template <typename Function> Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool is_file(int fd) {
  struct stat facts {};
  return ::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
}

template <typename Result> Result failed(int cause) {
  errno = cause;
  return static_cast<Result>(-1);
}

void die() {
  if (plan().fails("kill")) ::kill(::getpid(), SIGKILL);
}

size_t shortened(size_t size) {
  return size > 1 && plan().fails("short") ? size / 2 : size;
}

mode_t mode_of(int flags, va_list more) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
}

bool open_fails(int flags) {
  if ((flags & O_CREAT) != 0 && plan().fails("make")) return errno = ENOSPC, true;
  if (plan().fails("open")) return errno = EIO, true;
  return false;
}

} // namespace

extern "C" {

ssize_t read(int fd, void* buffer, size_t size) {
  die();
  if (plan().fails("read")) return failed<ssize_t>(EIO);
  return next<decltype(read)>("read")(fd, buffer, shortened(size));
}
ssize_t pread64(int fd, void* buffer, size_t size, off64_t from) {
  if (plan().fails("read")) return failed<ssize_t>(EIO);
  return next<decltype(pread64)>("pread64")(fd, buffer, shortened(size), from);
}
ssize_t pread(int fd, void* buffer, size_t size, off_t from) {
  return pread64(fd, buffer, size, from);
}
ssize_t readv(int fd, const struct iovec* parts, int count) {
  if (plan().fails("read")) return failed<ssize_t>(EIO);
  return next<decltype(readv)>("readv")(fd, parts, count);
}
ssize_t write(int fd, const void* buffer, size_t size) {
  if (is_file(fd)) die();
  if (is_file(fd) && plan().fails("write")) return failed<ssize_t>(ENOSPC);
  return next<decltype(write)>("write")(fd, buffer, size);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  if (is_file(fd) && plan().fails("write")) return failed<ssize_t>(ENOSPC);
  return next<decltype(writev)>("writev")(fd, parts, count);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_fails(flags) ? -1 : next<decltype(open64)>("open64")(path, flags, mode);
}
int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_fails(flags) ? -1 : next<decltype(open)>("open")(path, flags, mode);
}
int openat64(int dir, const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_fails(flags) ? -1 : next<decltype(openat64)>("openat64")(dir, path, flags, mode);
}
int openat(int dir, const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_fails(flags) ? -1 : next<decltype(openat)>("openat")(dir, path, flags, mode);
}
int rename(const char* from, const char* to) {
  if (plan().fails("make")) return failed<int>(ENOSPC);
  return next<decltype(rename)>("rename")(from, to);
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  if (plan().fails("make")) return failed<int>(ENOSPC);
  return next<decltype(renameat)>("renameat")(from_dir, from, to_dir, to);
}
int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  if (plan().fails("make")) return failed<int>(ENOSPC);
  return next<decltype(linkat)>("linkat")(from_dir, from, to_dir, to, flags);
}
int mkdir(const char* path, mode_t mode) {
  if (plan().fails("make")) return failed<int>(ENOSPC);
  return next<decltype(mkdir)>("mkdir")(path, mode);
}
int mkdirat(int dir, const char* path, mode_t mode) {
  if (plan().fails("make")) return failed<int>(ENOSPC);
  return next<decltype(mkdirat)>("mkdirat")(dir, path, mode);
}
int fsync(int fd) {
  if (plan().fails("sync")) return failed<int>(EIO);
  return next<decltype(fsync)>("fsync")(fd);
}
int fdatasync(int fd) {
  if (plan().fails("sync")) return failed<int>(EIO);
  return next<decltype(fdatasync)>("fdatasync")(fd);
}
// What a program closes of its inheritance is not the log.
int close_range(unsigned first, unsigned last, int flags) {
  const auto log = static_cast<unsigned>(plan().log);
  const auto range = [&](unsigned from, unsigned to) {
    return static_cast<int>(::syscall(SYS_close_range, from, to, flags));
  };
  if (plan().log < 0 || log < first || log > last) return range(first, last);
  if (log > first && range(first, log - 1) != 0) return -1;
  return log < last ? range(log + 1, last) : 0;
}
[[noreturn]] void _exit(int status) {
  plan().tell();
  for (;;)
    ::syscall(SYS_exit_group, status);
}

} // extern "C"
