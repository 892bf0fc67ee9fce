// SPDX-License-Identifier: Apache-2.0
#include "tests/component/executor/init/init_sandbox.hpp"

#include "executor/sandbox/docker_tls.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

namespace slipway::init {
namespace fs = std::filesystem;

fs::path built_program(const std::string& name) {
  if (const char* dir = ::getenv("SLIPWAY_BIN")) return fs::path{dir} / name;
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin" / name;
}

fs::path misbehaving_program(const std::string& name) {
  return fs::read_symlink("/proc/self/exe").parent_path() / name;
}

namespace {

void raise_loopback() {
  const UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  ::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_UP;
  (void)::ioctl(socket.get(), SIOCSIFFLAGS, &request);
}

// Runs as PID 1 of the new namespaces.
[[noreturn]] void become_init(const InitSandbox::Options& options, const fs::path& folder,
                              int listener) {
  raise_loopback();
  bool ready = ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  fs::path program = built_program("slipway-init");
  if (options.docker) {
    // init writes into /run: a folder of the namespace, not the machine's.
    ready = ready && ::mount("none", "/run", "tmpfs", 0, nullptr) == 0;
    ready = ready && ::mkdir("/run/slipway", 0755) == 0;
    ready =
        ready && ::mount((folder / "run").c_str(), "/run/slipway", nullptr, MS_BIND, nullptr) == 0;
  }
  if (options.empty_root) {
    ready = ready && ::chroot((folder / "root").c_str()) == 0 && ::chdir("/") == 0;
    program = "/init";
  }
  ready = ready && ::mount("proc", "/proc", "proc", 0, nullptr) == 0;
  if (!ready || ::dup2(listener, 3) < 0 || ::fcntl(3, F_SETFD, 0) != 0) ::_exit(99);
  const char* argv[] = {"slipway-init", nullptr};
  const char* docker_env[] = {"SLIPWAY_DOCKER=sandbox", "OF_INIT=secret", nullptr};
  const char* plain_env[] = {"OF_INIT=secret", nullptr};
  ::execve(program.c_str(), const_cast<char**>(argv),
           const_cast<char**>(options.docker ? docker_env : plain_env));
  ::_exit(98);
}

} // namespace

InitSandbox::InitSandbox() : InitSandbox{Options{}} {}

InitSandbox::InitSandbox(const Options& options) {
  char name[] = "/tmp/slipway-init-test-XXXXXX";
  folder_ = ::mkdtemp(name);
  (void)::chmod(folder_.c_str(), 0755);
  if (::geteuid() != 0) {
    problem_ = "needs root to make namespaces";
    return;
  }
  if (options.docker) fs::create_directories(folder_ / "run/sock");
  if (options.tls) {
    const auto made = sandbox::make_docker_tls(folder_ / "tls");
    if (!made) problem_ = made.error().text();
    fs::copy(folder_ / "tls/server", folder_ / "run/tls");
  }
  if (options.empty_root) {
    fs::create_directories(folder_ / "root/proc");
    fs::copy_file(built_program("slipway-init"), folder_ / "root/init");
    if (options.fill_root) options.fill_root(folder_ / "root");
  }
  auto listener = sandbox::listen_for_scripts(socket());
  if (!listener) {
    problem_ = listener.error().text();
    return;
  }
  const auto flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD;
  pid_ = static_cast<pid_t>(::syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
  if (pid_ == 0) become_init(options, folder_, listener->get());
  if (pid_ < 0) problem_ = "clone: " + std::string{::strerror(errno)};
}

InitSandbox::~InitSandbox() {
  if (pid_ > 0) {
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

UniqueFd InitSandbox::in_network(const std::function<int()>& make) const {
  UniqueFd made;
  std::thread{[&] {
    const std::string path = "/proc/" + std::to_string(pid_) + "/ns/net";
    const UniqueFd ns{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (::setns(ns.get(), CLONE_NEWNET) == 0) made.reset(make());
  }}.join();
  return made;
}

int InitSandbox::others() const {
  const auto pid_namespace = [](const std::string& pid) {
    std::error_code failed;
    return fs::read_symlink("/proc/" + pid + "/ns/pid", failed).string();
  };
  const std::string own = pid_namespace(std::to_string(pid_));
  int count = 0;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator{"/proc", failed}) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    if (pid != std::to_string(pid_) && pid_namespace(pid) == own && !own.empty()) ++count;
  }
  return count;
}

Said run(const InitSandbox& sandbox, const engine_api::ScriptRequest& request,
         const std::string& script, int stop_fd, std::chrono::milliseconds deadline) {
  std::string out;
  std::string err;
  sandbox::ScriptIo io;
  io.input = script;
  io.out = [&](std::string_view bytes) { out += bytes; };
  io.err = [&](std::string_view bytes) { err += bytes; };
  io.stop_fd = stop_fd;
  io.deadline = deadline;
  auto result = sandbox::run_script(sandbox.socket(), request, io);
  return {std::move(result), std::move(out), std::move(err)};
}

engine_api::ScriptRequest shell_request() {
  engine_api::ScriptRequest request;
  request.shell = "sh";
  request.grace = std::chrono::milliseconds{300};
  return request;
}

} // namespace slipway::init
