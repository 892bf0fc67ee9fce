// SPDX-License-Identifier: Apache-2.0
#include "executor/init/killing.hpp"

#include "executor/base/unique_fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <unordered_set>

namespace slipway::init {
namespace {

using Steady = std::chrono::steady_clock;

void pause_a_little() {
  const timespec half{0, 500'000};
  (void)::nanosleep(&half, nullptr);
}

struct Process {
  pid_t pid;
  pid_t parent;
  pid_t session;
  char state;
};

// Source: proc(5), /proc/PID/stat: the name stands in parentheses and may hold any byte.
bool read_process(pid_t pid, Process& process) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  char text[512];
  if (!fd) return false;
  const auto count = ::read(fd.get(), text, sizeof text - 1);
  if (count <= 0) return false;
  text[count] = '\0';
  const std::string line{text};
  const auto name_end = line.rfind(')');
  int group = 0;
  process.pid = pid;
  // The kernel wrote these numbers: they fit.
  return name_end != std::string::npos &&
         // NOLINTNEXTLINE(cert-err34-c)
         ::sscanf(line.c_str() + name_end + 1, " %c %d %d %d", &process.state, &process.parent,
                  &group, &process.session) == 4;
}

std::vector<Process> all_processes() {
  std::vector<Process> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc{::opendir("/proc"), ::closedir};
  if (!proc) return found;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own
  while (const dirent* entry = ::readdir(proc.get())) {
    char* end = nullptr;
    const long pid = ::strtol(entry->d_name, &end, 10);
    Process process{};
    if (*end == '\0' && pid > 1 && read_process(static_cast<pid_t>(pid), process)) {
      found.push_back(process);
    }
  }
  return found;
}

} // namespace

void kill_everything(std::chrono::milliseconds bound, std::vector<Reaped>& reaped) {
  if (::getpid() != 1) return; // anywhere else this would end the machine
  const auto until = Steady::now() + bound;
  for (;;) {
    const bool alone = ::kill(-1, SIGKILL) != 0 && errno == ESRCH;
    bool childless = false;
    for (;;) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      if (pid > 0) {
        reaped.push_back({pid, status});
        continue;
      }
      childless = pid < 0 && errno == ECHILD;
      break;
    }
    if ((alone && childless) || Steady::now() >= until) return;
    if (!childless) pause_a_little();
  }
}

int signal_session(pid_t sid, int signal, bool spare_leader) {
  const auto processes = all_processes();
  std::unordered_set<pid_t> members{sid};
  for (bool grown = true; grown;) {
    grown = false;
    for (const auto& process : processes) {
      const bool belongs = process.session == sid || members.contains(process.parent);
      if (belongs && members.insert(process.pid).second) grown = true;
    }
  }
  int reached = 0;
  for (const auto& process : processes) {
    if (!members.contains(process.pid) || process.state == 'Z' || process.state == 'X') continue;
    if (process.pid == sid && spare_leader) continue;
    if (::kill(process.pid, signal) == 0) ++reached;
  }
  return reached;
}

void kill_session(pid_t sid, std::chrono::milliseconds bound) {
  const auto until = Steady::now() + bound;
  while (signal_session(sid, SIGKILL, false) > 0 && Steady::now() < until)
    pause_a_little();
}

} // namespace slipway::init
