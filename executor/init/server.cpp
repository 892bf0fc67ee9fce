// SPDX-License-Identifier: Apache-2.0
#include "executor/init/server.hpp"

#include "executor/engine_api/script_protocol.hpp"
#include "executor/init/killing.hpp"
#include "executor/init/program.hpp"
#include "executor/init/unrouted.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <list>
#include <optional>
#include <utility>

namespace slipway::init {
namespace {

using engine_api::ScriptEnding;
using engine_api::ScriptRequest;
using Steady = std::chrono::steady_clock;

enum class State { reading, waiting, running, done };

/// One connection and the program it asked for. The program outlives a connection that hangs up.
struct Run {
  UniqueFd socket;
  engine_api::FrameReader reader;
  State state = State::reading;
  Steady::time_point request_until;
  ScriptRequest request;
  std::vector<UniqueFd> stdio;
  pid_t pid = -1;
  std::uint64_t unrouted = 0; ///< when it began
  bool terminating = false;
  std::optional<Steady::time_point> kill_at;

  bool exclusive() const { return !request.keep_others; }
};

ScriptEnding ending_of(int status) {
  ScriptEnding ending;
  if (WIFSIGNALED(status)) {
    ending.signal = WTERMSIG(status);
  } else {
    ending.exit_code = WEXITSTATUS(status);
  }
  return ending;
}

ScriptEnding refused(std::string why) {
  ScriptEnding ending;
  ending.error_code = "bad_request";
  ending.error = std::move(why);
  return ending;
}

class Server {
public:
  Server(UniqueFd listener, UniqueFd signals, const ServerLimits& limits)
      : listener_{std::move(listener)}, signals_{std::move(signals)}, limits_{limits} {}

  Status loop() {
    while (!stopping_) {
      std::vector<pollfd> waits{
          {signals_.get(), POLLIN, 0},
          {runs_.size() < limits_.connections ? listener_.get() : -1, POLLIN, 0}};
      std::vector<Run*> owners;
      for (auto& run : runs_) {
        if (!run.socket) continue;
        waits.push_back({run.socket.get(), POLLIN, 0});
        owners.push_back(&run);
      }
      if (::poll(waits.data(), waits.size(), next_timeout()) < 0) {
        const int cause = errno;
        if (cause != EINTR) return io_error("poll", cause, "init");
        continue;
      }
      if (waits[0].revents != 0) read_signals();
      reap();
      for (std::size_t i = 0; i < owners.size(); ++i) {
        if (waits[i + 2].revents != 0 && owners[i]->socket) hear(*owners[i]);
      }
      if (waits[1].revents != 0) take_connection();
      pass_deadlines();
      start_waiting();
      runs_.remove_if([](const Run& run) { return run.state == State::done; });
    }
    shut_down();
    return {};
  }

private:
  int next_timeout() const {
    std::optional<Steady::time_point> next;
    const auto consider = [&](Steady::time_point at) { next = next ? std::min(*next, at) : at; };
    for (const auto& run : runs_) {
      if (run.state == State::reading) consider(run.request_until);
      if (run.kill_at) consider(*run.kill_at);
    }
    if (!next) return -1;
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(*next - Steady::now());
    return static_cast<int>(std::clamp<std::int64_t>(rest.count(), 0, 3'600'000));
  }

  void read_signals() {
    signalfd_siginfo news{};
    while (::read(signals_.get(), &news, sizeof news) == static_cast<ssize_t>(sizeof news)) {
      // A sender inside the sandbox has a pid here, the engine outside has none: a script that
      // signals PID 1 does not end its sandbox.
      if (news.ssi_signo != SIGCHLD && news.ssi_pid == 0) stopping_ = true;
    }
  }

  void take_connection() {
    UniqueFd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket) return; // gone again, or out of descriptors: the next round tries anew
    Run run;
    run.socket = std::move(socket);
    run.request_until = Steady::now() + limits_.request_deadline;
    runs_.push_back(std::move(run));
    hear(runs_.back());
  }

  void hear(Run& run) {
    auto frame = run.reader.read(run.socket.get());
    if (frame && !*frame) return;
    if (run.state == State::reading) {
      if (!frame) {
        // A peer that went away gets no answer; one that talks nonsense hears so.
        if (frame.error().kind == ErrorKind::bad_input) answer(run, refused(frame.error().what));
        run.state = State::done;
        return;
      }
      take_request(run, **std::move(frame));
      return;
    }
    // Whatever comes while a program runs ends it: the word for it, nonsense, or the hangup.
    if (!frame) run.socket.reset();
    if (run.state == State::waiting) {
      run.state = State::done;
    } else {
      terminate(run);
    }
  }

  void take_request(Run& run, engine_api::Frame frame) {
    auto request = engine_api::decode_request(frame.body);
    if (!request || frame.fds.size() != 3) {
      answer(run,
             refused(request ? "a run request needs three descriptors" : request.error().what));
      run.state = State::done;
      return;
    }
    run.request = *std::move(request);
    run.stdio = std::move(frame.fds);
    run.state = State::waiting;
    start_waiting(); // a request on an idle sandbox starts without another round of the loop
  }

  // Requests that end all others run one at a time; the rest run side by side.
  void start_waiting() {
    for (auto& run : runs_) {
      if (run.state != State::waiting) continue;
      const bool taken = std::any_of(runs_.begin(), runs_.end(), [](const Run& other) {
        return other.state == State::running && other.exclusive();
      });
      if (!run.exclusive() || !taken) start(run);
    }
  }

  void start(Run& run) {
    // Of what runs beside others nobody asks it.
    const auto before = run.exclusive() ? unrouted() : 0;
    auto started =
        start_program(run.request, {run.stdio[0].get(), run.stdio[1].get(), run.stdio[2].get()});
    run.stdio.clear(); // else the pipes would never come to their end
    if (const auto* pid = std::get_if<pid_t>(&started)) {
      run.pid = *pid;
      run.unrouted = before;
      run.state = State::running;
      return;
    }
    answer(run, std::get<ScriptEnding>(started));
    run.state = State::done;
  }

  void reap() {
    for (;;) {
      // Looked at before it is reaped: while it is a zombie, its pid names its session and no
      // other.
      siginfo_t news{};
      if (::waitid(P_ALL, 0, &news, WEXITED | WNOHANG | WNOWAIT) != 0 || news.si_pid == 0) return;
      const pid_t pid = news.si_pid;
      Run* run = running(pid);
      if (run != nullptr && !run->exclusive()) kill_session(pid, std::chrono::seconds{2});
      int status = 0;
      if (::waitpid(pid, &status, WNOHANG) == pid) finish(pid, status);
    }
  }

  void finish(pid_t pid, int status) {
    Run* run = running(pid);
    if (run == nullptr) return; // an orphan of the sandbox
    run->state = State::done;
    run->kill_at.reset();
    std::vector<Reaped> others;
    if (run->exclusive()) kill_everything(limits_.kill_bound, others);
    auto ending = ending_of(status);
    const auto now = run->exclusive() ? unrouted() : 0;
    ending.unrouted = now - std::min(now, run->unrouted);
    answer(*run, ending);
    for (const auto& other : others)
      finish(other.pid, other.status);
  }

  Run* running(pid_t pid) {
    const auto found = std::find_if(runs_.begin(), runs_.end(), [&](const Run& run) {
      return run.state == State::running && run.pid == pid;
    });
    return found == runs_.end() ? nullptr : &*found;
  }

  void terminate(Run& run) {
    if (run.terminating) return;
    run.terminating = true;
    run.kill_at = Steady::now() + run.request.grace;
    if (run.exclusive()) {
      (void)::kill(-1, SIGTERM);
      (void)::kill(-1, SIGCONT); // what is stopped would not hear the first
    } else {
      (void)signal_session(run.pid, SIGTERM, false);
      (void)signal_session(run.pid, SIGCONT, false);
    }
  }

  void pass_deadlines() {
    const auto now = Steady::now();
    for (auto& run : runs_) {
      if (run.state == State::reading && now >= run.request_until) run.state = State::done;
      if (run.state != State::running || !run.kill_at || now < *run.kill_at) continue;
      run.kill_at.reset();
      if (run.exclusive()) {
        (void)::kill(-1, SIGKILL);
      } else {
        kill_session(run.pid, std::chrono::milliseconds{100});
      }
    }
  }

  // A client that does not read its one small frame has lost it.
  static void answer(Run& run, const ScriptEnding& ending) {
    if (!run.socket) return;
    (void)engine_api::send_frame(run.socket.get(), engine_api::encode(ending), {},
                                 std::chrono::milliseconds{0});
    run.socket.reset();
  }

  void shut_down() {
    listener_.reset();
    (void)::kill(-1, SIGTERM);
    (void)::kill(-1, SIGCONT);
    const auto until = Steady::now() + limits_.shutdown_grace;
    while (Steady::now() < until) {
      int status = 0;
      pid_t pid = 0;
      while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
        if (Run* run = running(pid)) {
          run->state = State::done;
          answer(*run, ending_of(status));
        }
      }
      if (pid < 0 && errno == ECHILD) break;
      pollfd ready{signals_.get(), POLLIN, 0};
      (void)::poll(&ready, 1, 20);
      read_signals();
    }
    std::vector<Reaped> rest;
    kill_everything(limits_.kill_bound, rest);
    for (const auto& other : rest) {
      if (Run* run = running(other.pid)) {
        run->state = State::done;
        answer(*run, ending_of(other.status));
      }
    }
  }

  UniqueFd listener_;
  UniqueFd signals_;
  ServerLimits limits_;
  std::list<Run> runs_;
  bool stopping_ = false;
};

} // namespace

Status serve(UniqueFd listener, const ServerLimits& limits) {
  sigset_t watched;
  ::sigemptyset(&watched);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT})
    ::sigaddset(&watched, number);
  UniqueFd signals{::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!signals) return io_error("signalfd", errno, "init");
  return Server{std::move(listener), std::move(signals), limits}.loop();
}

} // namespace slipway::init
