// SPDX-License-Identifier: Apache-2.0
#include "executor/process/process.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>

namespace slipway::process {
namespace {

using Steady = std::chrono::steady_clock;

struct ChildSetup {
  const char* path;
  char* const* argv;
  char* const* envp;
  const char* cwd;
  const int* sources; // descriptors already moved above every target
  const int* targets;
  std::size_t count;
  int null_fd;
  int error_pipe;
  bool no_new_privileges;
  bool ends_with_caller;
  pid_t caller;
};

// Runs between fork and exec: async-signal-safe calls only, no allocation, no C++ objects.
[[noreturn]] void exec_child(const ChildSetup& setup) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number)
    (void)::sigaction(number, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  // A forked child has one thread.
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr); // NOLINT(concurrency-mt-unsafe)
  (void)::setpgid(0, 0);
  int cause = 0;
  for (int standard_fd = 0; standard_fd < 3; ++standard_fd) {
    if (::dup2(setup.null_fd, standard_fd) < 0) cause = errno;
  }
  int highest = 2;
  for (std::size_t i = 0; i < setup.count; ++i) {
    if (::dup2(setup.sources[i], setup.targets[i]) < 0) cause = errno;
    if (setup.targets[i] > highest) highest = setup.targets[i];
  }
  // Everything that was not donated closes at exec, whatever a library opened without O_CLOEXEC.
  // The targets in between are not sparse in practice; those never named are marked one by one.
  for (int fd = 3; fd <= highest; ++fd) {
    bool donated = false;
    for (std::size_t i = 0; i < setup.count; ++i)
      donated = donated || setup.targets[i] == fd;
    if (!donated && fd != setup.error_pipe) (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  (void)::syscall(SYS_close_range, static_cast<unsigned>(highest + 1), ~0U, 4U /* CLOEXEC */);
  if (cause == 0 && ::chdir(setup.cwd) != 0) cause = errno;
  if (cause == 0 && setup.no_new_privileges && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    cause = errno;
  }
  if (cause == 0 && setup.ends_with_caller) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) cause = errno;
    if (::getppid() != setup.caller) ::_exit(127); // it was faster
  }
  if (cause == 0) {
    ::execve(setup.path, setup.argv, setup.envp);
    cause = errno;
  }
  (void)!::write(setup.error_pipe, &cause, sizeof cause);
  ::_exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (auto& text : strings)
    result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

Ending ending_of(int status) {
  if (WIFSIGNALED(status)) return Signaled{WTERMSIG(status), WCOREDUMP(status) != 0};
  return Exited{WEXITSTATUS(status)};
}

int left(Steady::time_point until) {
  const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(until - Steady::now());
  return static_cast<int>(std::clamp<long>(rest.count(), 0, 1L << 30));
}

// Waits on the pidfd; EINTR goes on.
bool ended_by(int pidfd, Steady::time_point until) {
  for (;;) {
    pollfd ready{pidfd, POLLIN, 0};
    const int count = ::poll(&ready, 1, left(until));
    if (count > 0) return true;
    if (count == 0) return false;
    if (errno != EINTR) return false;
  }
}

} // namespace

bool succeeded(const Ending& ending) {
  const auto* exited = std::get_if<Exited>(&ending);
  return exited != nullptr && exited->code == 0;
}

std::string describe(const Ending& ending) {
  if (const auto* exited = std::get_if<Exited>(&ending)) {
    return "exit code " + std::to_string(exited->code);
  }
  if (const auto* signaled = std::get_if<Signaled>(&ending)) {
    const char* name = ::sigdescr_np(signaled->signal);
    return "signal " + std::to_string(signaled->signal) + " (" + (name == nullptr ? "?" : name) +
           ")";
  }
  const auto after = std::get<DeadlinePassed>(ending).after;
  return "did not end within " + std::to_string(after.count() / 1000) + " s";
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)}, pidfd_{std::move(other.pidfd_)} {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  signal(SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::signal(int number) noexcept {
  if (pid_ > 0) (void)::kill(-pid_, number);
}

Ending ChildProcess::wait(std::chrono::milliseconds deadline, std::chrono::milliseconds grace) {
  const auto end = [&] {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    signal(SIGKILL); // what the child left in its group ends with it
    pid_ = -1;
    return status;
  };
  if (ended_by(pidfd_.get(), Steady::now() + deadline)) return ending_of(end());
  signal(SIGTERM);
  if (!ended_by(pidfd_.get(), Steady::now() + grace)) signal(SIGKILL);
  (void)end();
  return DeadlinePassed{deadline};
}

Result<ChildProcess> spawn(const Command& command) {
  if (command.argv.empty() || command.argv[0].empty() || command.argv[0][0] != '/') {
    return Error{ErrorKind::misconfigured,
                 "program path is not absolute: '" +
                     (command.argv.empty() ? std::string{} : command.argv[0]) + "'",
                 "give the full path of the program",
                 {}};
  }
  std::vector<std::string> arguments = command.argv;
  std::vector<std::string> variables;
  variables.reserve(command.env.size());
  for (const auto& [name, value] : command.env)
    variables.push_back(name + "=" + value);
  auto argv = pointers(arguments);
  auto envp = pointers(variables);

  int highest = 2;
  for (const auto& [ours, theirs] : command.fds)
    highest = std::max(highest, theirs);
  // Sources are moved above every target first, so that no dup2 overwrites one not yet used.
  std::vector<UniqueFd> moved;
  std::vector<int> sources;
  std::vector<int> targets;
  for (const auto& [ours, theirs] : command.fds) {
    moved.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, highest + 1));
    if (!moved.back()) return io_error("dup", errno, command.argv[0]);
    sources.push_back(moved.back().get());
    targets.push_back(theirs);
  }
  const UniqueFd null_fd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  if (!null_fd) return io_error("open", errno, "/dev/null");
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io_error("pipe", errno);
  UniqueFd error_read{ends[0]};
  UniqueFd error_write{ends[1]};
  if (error_write.get() <= highest) {
    error_write.reset(::fcntl(error_write.get(), F_DUPFD_CLOEXEC, highest + 1));
    if (!error_write) return io_error("dup", errno);
  }
  const ChildSetup setup{argv[0],
                         argv.data(),
                         envp.data(),
                         command.cwd.c_str(),
                         sources.data(),
                         targets.data(),
                         sources.size(),
                         null_fd.get(),
                         error_write.get(),
                         command.no_new_privileges,
                         command.ends_with_caller,
                         ::getpid()};

  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) exec_child(setup);
  const int fork_cause = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return io_error("fork", fork_cause, command.argv[0]);
  (void)::setpgid(pid, pid); // also here: a signal sent at once must find the group
  error_write.reset();

  int cause = 0;
  ssize_t got = 0;
  while ((got = ::read(error_read.get(), &cause, sizeof cause)) < 0 && errno == EINTR) {
  }
  if (got == sizeof cause) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    const auto kind = cause == ENOENT   ? ErrorKind::not_found
                      : cause == EACCES ? ErrorKind::misconfigured
                                        : ErrorKind::io;
    return Error{kind, "cannot start " + command.argv[0] + ": " + errno_text(cause), "", {}};
  }
  UniqueFd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  if (!pidfd) {
    const int pidfd_cause = errno;
    (void)::kill(-pid, SIGKILL);
    return io_error("pidfd_open", pidfd_cause, command.argv[0]);
  }
  return ChildProcess{pid, std::move(pidfd)};
}

namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io_error("pipe", errno);
  return Pipe{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

bool names(const Command& command, int fd) {
  return std::any_of(command.fds.begin(), command.fds.end(),
                     [fd](const auto& pair) { return pair.second == fd; });
}

} // namespace

Result<Output> LocalRunner::run(const Command& command) {
  const auto stopped = [&] {
    pollfd stop{stop_fd_, POLLIN, 0};
    return stop_fd_ >= 0 && ::poll(&stop, 1, 0) > 0;
  };
  const auto stopped_error = [&] {
    return Error{ErrorKind::unavailable, "stopped while running " + command.argv[0], "", {}};
  };
  if (!command.argv.empty() && stopped()) return stopped_error();
  Command full = command;
  full.ends_with_caller = true; // this thread waits for it
  std::array<Pipe, 3> pipes;
  for (int fd = 0; fd < 3; ++fd) {
    if (names(command, fd) || (fd == 0 && command.input.empty())) continue;
    auto made = make_pipe();
    if (!made) return std::move(made).error();
    auto& pipe = pipes[static_cast<std::size_t>(fd)];
    pipe = *std::move(made);
    full.fds.emplace_back(fd == 0 ? pipe.read.get() : pipe.write.get(), fd);
  }
  auto child = spawn(full);
  if (!child) return std::move(child).error();
  pipes[0].read.reset();
  pipes[1].write.reset();
  pipes[2].write.reset();
  for (const auto* pipe_end : {&pipes[0].write, &pipes[1].read, &pipes[2].read}) {
    if (*pipe_end) (void)::fcntl(pipe_end->get(), F_SETFL, O_NONBLOCK);
  }

  Output output{Exited{0}, "", ""};
  std::string_view input = command.input;
  const auto until = Steady::now() + command.deadline;
  const bool sigpipe_was_ignored = [] {
    struct sigaction old {};
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &old);
    return old.sa_handler == SIG_IGN;
  }();
  (void)sigpipe_was_ignored; // slipway ignores SIGPIPE in every process; set here for tests' sake
  bool child_ended = false;
  auto drain_until = until;
  std::optional<Error> failed;
  while (pipes[1].read || pipes[2].read || pipes[0].write || !child_ended) {
    std::vector<pollfd> waits;
    if (pipes[0].write) waits.push_back({pipes[0].write.get(), POLLOUT, 0});
    if (pipes[1].read) waits.push_back({pipes[1].read.get(), POLLIN, 0});
    if (pipes[2].read) waits.push_back({pipes[2].read.get(), POLLIN, 0});
    if (!child_ended) waits.push_back({child->pidfd(), POLLIN, 0});
    if (!child_ended && stop_fd_ >= 0) waits.push_back({stop_fd_, POLLIN, 0});
    const auto limit = child_ended ? std::min(until, drain_until) : until;
    const int count = ::poll(waits.data(), waits.size(), left(limit));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    for (const auto& wait : waits) {
      if (wait.revents == 0) continue;
      if (wait.fd == stop_fd_) {
        (void)child->wait(std::chrono::milliseconds{0}, command.grace);
        return stopped_error();
      }
      if (!child_ended && wait.fd == child->pidfd()) {
        // A daemonised grandchild may hold the pipe for ever: after the end, drain only briefly.
        child_ended = true;
        drain_until = Steady::now() + std::chrono::milliseconds{250};
      } else if (wait.fd == pipes[0].write.get()) {
        const ssize_t put = ::write(wait.fd, input.data(), input.size());
        if (put > 0) input.remove_prefix(static_cast<std::size_t>(put));
        if (input.empty() || (put < 0 && errno != EAGAIN)) pipes[0].write.reset();
      } else {
        const bool is_out = wait.fd == pipes[1].read.get();
        auto& text = is_out ? output.out : output.err;
        std::array<char, 65536>
            chunk; // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
        const ssize_t got = ::read(wait.fd, chunk.data(), chunk.size());
        if (got > 0) {
          if (text.size() + static_cast<std::size_t>(got) > command.output_limit) {
            failed = Error{ErrorKind::bad_input,
                           command.argv[0] + " wrote more than " +
                               std::to_string(command.output_limit) + " bytes",
                           "",
                           {}};
            break;
          }
          text.append(chunk.data(), static_cast<std::size_t>(got));
        } else if (got == 0 || errno != EAGAIN) {
          (is_out ? pipes[1] : pipes[2]).read.reset();
        }
      }
    }
    if (failed) return *std::move(failed);
  }
  output.ending = child_ended ? child->wait(std::chrono::milliseconds{1000}, command.grace)
                              : child->wait(std::chrono::milliseconds{0}, command.grace);
  if (auto* passed = std::get_if<DeadlinePassed>(&output.ending)) passed->after = command.deadline;
  return output;
}

} // namespace slipway::process
