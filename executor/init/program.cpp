// SPDX-License-Identifier: Apache-2.0
#include "executor/init/program.hpp"

#include "executor/init/users.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

namespace slipway::init {
namespace {

using engine_api::ScriptEnding;
using engine_api::ScriptRequest;

constexpr std::size_t kPasswdLimit = 4UL << 20;
constexpr int kExecDeadlineMs = 30000;
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// The job dies before its init when memory runs out: then the ending is told as the job's own.
constexpr std::string_view kOomScore = "300";

enum class Step : int { standard_fds, identity, folder, exec };

struct Failure {
  Step step;
  int cause;
};

struct ChildSetup {
  const char* const* paths; ///< tried in turn, to a null pointer
  char* const* argv;
  char* const* envp;
  const char* cwd;
  const int* stdio;
  const gid_t* groups;
  std::size_t group_count;
  uid_t uid;
  gid_t gid;
  mode_t umask;
  int error_pipe;
};

// Runs between fork and exec: async-signal-safe calls only, no allocation, no C++ objects.
[[noreturn]] void fail(int pipe, Step step, int cause) noexcept {
  const Failure failure{step, cause};
  (void)!::write(pipe, &failure, sizeof failure);
  ::_exit(127);
}

// The raw calls: glibc's wrappers signal every thread of the process to follow, and this child of a
// process with threads has only one.
bool become(const ChildSetup& setup) noexcept {
  if (::syscall(SYS_setgroups, setup.group_count, setup.groups) != 0) return false;
  if (::syscall(SYS_setresgid, setup.gid, setup.gid, setup.gid) != 0) return false;
  if (::syscall(SYS_setresuid, setup.uid, setup.uid, setup.uid) != 0) return false;
  (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (setup.uid == 0) return true;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  return ::syscall(SYS_capset, &header, none) == 0;
}

[[noreturn]] void exec_child(const ChildSetup& setup) noexcept {
  (void)::setsid();
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number)
    (void)::sigaction(number, &standard, nullptr);
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    (void)!::write(score, kOomScore.data(), kOomScore.size());
    (void)::close(score);
  }
  for (int fd = 0; fd < 3; ++fd) {
    if (::dup2(setup.stdio[fd], fd) < 0) fail(setup.error_pipe, Step::standard_fds, errno);
  }
  (void)::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  (void)::umask(setup.umask);
  // As runc does: root can enter folders that the user cannot, and (on some network file systems)
  // the other way round.
  const bool entered = ::chdir(setup.cwd) == 0;
  if (!become(setup)) fail(setup.error_pipe, Step::identity, errno);
  if (!entered && ::chdir(setup.cwd) != 0) fail(setup.error_pipe, Step::folder, errno);
  sigset_t none;
  ::sigemptyset(&none);
  // A forked child has one thread.
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr); // NOLINT(concurrency-mt-unsafe)
  // As execvp(3) does, with the user's own rights.
  int cause = ENOENT;
  for (const auto* path = setup.paths; *path != nullptr; ++path) {
    ::execve(*path, setup.argv, setup.envp);
    if (errno != ENOENT && errno != ENOTDIR) cause = errno;
    if (cause != ENOENT && cause != EACCES) break;
  }
  fail(setup.error_pipe, Step::exec, cause);
}

ScriptEnding refusal(const char* code, std::string why) {
  ScriptEnding ending;
  ending.error_code = code;
  ending.error = std::move(why);
  return ending;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (auto& text : strings)
    result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// mkdir -p where only what is new gets the user as owner, and no link is followed to give it away.
int make_folder(const std::string& path, const Identity& owner) {
  UniqueFd at{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  std::size_t begin = 0;
  while (begin < path.size()) {
    const auto end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty()) continue;
    const bool made = ::mkdirat(at.get(), name.c_str(), 0755) == 0;
    if (!made && errno != EEXIST) return errno;
    const int flags = made ? O_RDONLY | O_NOFOLLOW : O_PATH;
    UniqueFd next{::openat(at.get(), name.c_str(), flags | O_DIRECTORY | O_CLOEXEC)};
    if (!next) return errno;
    if (made && ::fchown(next.get(), owner.uid, owner.gid) != 0) return errno;
    if (made && ::fchmod(next.get(), 0755) != 0) return errno;
    at = std::move(next);
  }
  return 0;
}

bool has_variable(const ScriptRequest& request, std::string_view name) {
  return std::any_of(request.env.begin(), request.env.end(),
                     [&](const auto& variable) { return variable.first == name; });
}

std::vector<std::string> environment_for(const ScriptRequest& request, const Identity& identity) {
  std::vector<std::string> env;
  env.reserve(request.env.size() + 2);
  for (const auto& [name, value] : request.env)
    env.push_back(name + "=" + value);
  if (!has_variable(request, "PATH")) env.push_back(std::string{"PATH="} + kDefaultPath);
  if (!has_variable(request, "HOME")) env.push_back("HOME=" + identity.home);
  return env;
}

// Where a program may be: its path, or for a bare name the folders of PATH. Relative folders are
// left out: what a job wrote where it stands is not what its image names.
std::vector<std::string> candidates(const std::string& program, const ScriptRequest& request) {
  if (program.find('/') != std::string::npos) return {program};
  std::string_view path = kDefaultPath;
  for (const auto& [name, value] : request.env)
    if (name == "PATH") path = value;
  std::vector<std::string> found;
  for (std::size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find(':', begin), path.size());
    const auto folder = path.substr(begin, end - begin);
    if (folder.starts_with('/')) found.push_back(std::string{folder} + "/" + program);
    begin = end + 1;
  }
  return found;
}

ScriptEnding refusal_for(const Failure& failure, const ScriptRequest& request,
                         const std::string& program) {
  switch (failure.step) {
  case Step::standard_fds:
    return refusal("bad_request", "cannot set up stdio: " + errno_text(failure.cause));
  case Step::identity:
    return refusal("no_user",
                   "cannot become user \"" + request.user +
                       "\" (is it within the sandbox's id range?): " + errno_text(failure.cause));
  case Step::folder:
    return refusal("bad_request", "cannot enter " + request.cwd + ": " + errno_text(failure.cause));
  case Step::exec:
    return refusal("exec", "cannot run " + program + ": " + errno_text(failure.cause));
  }
  return refusal("exec", "cannot run " + program);
}

} // namespace

std::string find_shell(const std::string& shell, const std::filesystem::path& root) {
  constexpr std::array<const char*, 3> bash{"/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash"};
  constexpr std::array<const char*, 4> sh{"/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh",
                                          "/busybox/sh"};
  const auto usable = [&](const char* path) {
    const std::string full = root / std::filesystem::path{path}.relative_path();
    struct stat facts {};
    return ::stat(full.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) &&
           (facts.st_mode & 0111U) != 0;
  };
  if (shell == "bash") {
    const auto* found = std::find_if(bash.begin(), bash.end(), usable);
    if (found != bash.end()) return *found;
  }
  const auto* found = std::find_if(sh.begin(), sh.end(), usable);
  return found != sh.end() ? *found : "";
}

std::variant<pid_t, ScriptEnding> start_program(const ScriptRequest& request,
                                                const std::array<int, 3>& stdio) {
  std::vector<std::string> arguments = request.argv;
  if (arguments.empty()) {
    const std::string shell = find_shell(request.shell);
    if (shell.empty()) {
      return refusal("no_shell", "the image has no shell (looked for " + request.shell +
                                     " and sh in /usr/local/bin, /usr/bin, /bin and /busybox)");
    }
    arguments.push_back(shell);
  }
  const std::string program = arguments[0];
  auto identity = resolve_user(request.user, read_image_file("/etc/passwd", kPasswdLimit),
                               read_image_file("/etc/group", kPasswdLimit));
  if (!identity) return refusal("no_user", identity.error().what);
  const std::string cwd = request.cwd.empty() ? "/" : request.cwd;
  if (request.make_cwd) {
    const int cause = make_folder(cwd, *identity);
    if (cause != 0) return refusal("bad_request", "cannot make " + cwd + ": " + errno_text(cause));
  }

  std::vector<std::string> variables = environment_for(request, *identity);
  auto paths = candidates(program, request);
  const auto tried = pointers(paths);
  const auto argv = pointers(arguments);
  const auto envp = pointers(variables);
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) {
    return refusal("exec", "cannot make a pipe: " + errno_text(errno));
  }
  const UniqueFd reading{pipe_ends[0]};
  UniqueFd writing{pipe_ends[1]};
  const ChildSetup setup{.paths = tried.data(),
                         .argv = argv.data(),
                         .envp = envp.data(),
                         .cwd = cwd.c_str(),
                         .stdio = stdio.data(),
                         .groups = identity->groups.data(),
                         .group_count = identity->groups.size(),
                         .uid = identity->uid,
                         .gid = identity->gid,
                         .umask = request.umask,
                         .error_pipe = writing.get()};
  const pid_t pid = ::fork();
  if (pid < 0) return refusal("exec", "cannot start a process: " + errno_text(errno));
  if (pid == 0) exec_child(setup);
  writing.reset();

  // End of file is the sign of success: exec closed the other end.
  pollfd ready{reading.get(), POLLIN, 0};
  int count = 0;
  while ((count = ::poll(&ready, 1, kExecDeadlineMs)) < 0 && errno == EINTR) {
  }
  Failure failure{Step::exec, ETIMEDOUT};
  if (count > 0) {
    ssize_t got = 0;
    while ((got = ::read(reading.get(), &failure, sizeof failure)) < 0 && errno == EINTR) {
    }
    if (got == 0) return pid;
  }
  // What failed to start is reaped by the caller's loop, as every other child.
  (void)::kill(pid, SIGKILL);
  return refusal_for(failure, request, program);
}

} // namespace slipway::init
