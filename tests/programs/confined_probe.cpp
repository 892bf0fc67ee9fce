// SPDX-License-Identifier: Apache-2.0
// Tries one thing that slipway-gate or slipway-push must not be able to do:
//   confined_probe free|gate|push READ_DIR WRITE_DIR DEED [ARGUMENT]
// As slipway-push it pushes from READ_DIR with the login in the file READ_DIR.login, and pulls to
// WRITE_DIR.
// Ends with 0 where it could, 1 where it was refused (with errno's text), 2 where it cannot tell.
#include "executor/confine/confine.hpp"
#include "executor/push_worker/profile.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>

namespace {

bool can_connect(const sockaddr* to, socklen_t size) {
  const int fd = ::socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return fd >= 0 && ::connect(fd, to, size) == 0;
}

bool tcp(const std::string& port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return can_connect(reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

bool local_socket(const std::string& path) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::strncpy(to.sun_path, path.c_str(), sizeof to.sun_path - 1);
  return can_connect(reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

bool listens() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return fd >= 0 && ::listen(fd, 1) == 0;
}

bool resolves(const std::string& name) {
  addrinfo* found = nullptr;
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  return ::getaddrinfo(name.c_str(), "443", &wanted, &found) == 0;
}

bool opens(const std::string& file, int flags) {
  const int fd = ::open(file.c_str(), flags | O_CLOEXEC, 0600);
  return fd >= 0;
}

bool ends(pid_t child) {
  int how = 0;
  return child > 0 && ::waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0;
}

bool runs_program() {
  char name[] = "/bin/true";
  char* argv[] = {name, nullptr};
  char* env[] = {nullptr};
  ::execve(name, argv, env); // ends with 0 where it can
  return false;
}

bool reads_memory(const std::string& pid) {
  // The target is this program's own parent, where something is mapped at its stack's end; that it
  // may look is what counts.
  char byte = 0;
  iovec here{&byte, 1};
  iovec there{reinterpret_cast<void*>(1), 1};
  ::process_vm_readv(std::stoi(pid), &here, 1, &there, 1, 0);
  return errno == EFAULT; // it was let look, at nothing
}

const std::map<std::string, std::function<bool(const std::string&)>> kDeeds{
    {"read", [](const std::string& file) { return opens(file, O_RDONLY); }},
    {"write", [](const std::string& file) { return opens(file, O_WRONLY | O_CREAT); }},
    {"truncate", [](const std::string& file) { return opens(file, O_WRONLY | O_TRUNC); }},
    {"remove", [](const std::string& file) { return ::unlink(file.c_str()) == 0; }},
    {"list", [](const std::string& dir) { return ::opendir(dir.c_str()) != nullptr; }},
    {"link", [](const std::string& path) { return ::symlink("/etc", path.c_str()) == 0; }},
    {"tcp", tcp},
    {"local-socket", local_socket},
    {"listen", [](const std::string&) { return listens(); }},
    {"netlink",
     [](const std::string&) { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0; }},
    {"audit-netlink",
     [](const std::string&) { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 9) >= 0; }},
    {"resolve", resolves},
    {"program", [](const std::string&) { return runs_program(); }},
    {"process",
     [](const std::string&) {
       const pid_t child = ::fork();
       if (child == 0) ::_exit(0);
       return ends(child);
     }},
    {"thread",
     [](const std::string&) {
       bool ran = false;
       std::thread{[&] { ran = true; }}.join();
       return ran;
     }},
    {"memory-of", reads_memory},
    {"signal", [](const std::string& pid) { return ::kill(std::stoi(pid), 0) == 0; }},
    {"signal-of-file", // fcntl(2): what becomes readable sends a signal of choice
     [](const std::string& pid) { return ::fcntl(STDOUT_FILENO, F_SETOWN, std::stoi(pid)) == 0; }},
    {"datagram-pair",
     [](const std::string&) {
       int ends[2];
       return ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0;
     }},
    {"user-namespace", [](const std::string&) { return ::unshare(CLONE_NEWUSER) == 0; }},
    {"code",
     [](const std::string&) {
       return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0) != MAP_FAILED;
     }},
    {"ring", // io_uring(7): system calls that a filter does not see
     [](const std::string&) {
       return ::syscall(SYS_io_uring_setup, 0, nullptr) != 0 && errno == EFAULT;
     }},
    {"much-memory",
     [](const std::string&) {
       return ::mmap(nullptr, 3UL << 30, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
     }},
};

slipway::confine::Profile profile(const std::string& of, const std::string& read_dir,
                                  const std::string& write_dir) {
  if (of == "gate") return {"slipway-gate", {read_dir}, {write_dir}};
  slipway::engine_api::WorkerRequest request;
  request.push.emplace();
  request.push->layout_dir = read_dir;
  request.push->registry.password_file = read_dir + ".login";
  request.pull.emplace();
  request.pull->layout_dir = write_dir;
  return slipway::push_worker::profile_of(request);
}

} // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const auto deed = kDeeds.find(argv[4]);
  if (deed == kDeeds.end()) return 2;
  if (std::string{argv[1]} != "free") {
    if (auto confined = slipway::confine::confine(profile(argv[1], argv[2], argv[3])); !confined) {
      std::fprintf(stderr, "%s\n", confined.error().text().c_str());
      return 2;
    }
  }
  errno = 0;
  const bool could = deed->second(argc > 5 ? argv[5] : "");
  const int why = errno;
  std::printf("%s\n", could ? "could" : std::strerror(why)); // NOLINT(concurrency-mt-unsafe)
  std::fflush(nullptr);
  ::_exit(could ? 0 : 1);
}
