// SPDX-License-Identifier: Apache-2.0
// Prints what a program sees from where it runs, one fact a line: its environment, working folder,
// descriptors, processes, network, rights, and which folders it can write to. Static, so that it
// runs in a sandbox with nothing in it.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

template <typename Visit> void each_in(const char* folder, Visit visit) {
  DIR* open = ::opendir(folder);
  if (open == nullptr) {
    std::printf("unreadable %s\n", folder);
    return;
  }
  while (const dirent* entry = ::readdir(open)) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && name != std::to_string(::dirfd(open))) visit(name);
  }
  ::closedir(open);
}

void print_lines_of(const char* label, const char* file, const char* begin) {
  std::FILE* open = std::fopen(file, "re");
  if (open == nullptr) return;
  char line[512];
  while (std::fgets(line, sizeof line, open) != nullptr) {
    if (std::strncmp(line, begin, std::strlen(begin)) != 0) continue;
    line[std::strcspn(line, "\n")] = '\0';
    for (char* at = line; *at != '\0'; ++at)
      if (*at == '\t') *at = ' ';
    std::printf("%s %s\n", label, line);
  }
  std::fclose(open);
}

// An address of TEST-NET-1: it is asked for a way there, nothing is sent.
void look_for_a_way_out() {
  const int udp = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in away{};
  away.sin_family = AF_INET;
  away.sin_port = htons(53);
  ::inet_pton(AF_INET, "192.0.2.1", &away.sin_addr);
  const bool routed = ::connect(udp, reinterpret_cast<const sockaddr*>(&away), sizeof away) == 0;
  std::printf("route %s\n", routed ? "there is one" : std::strerror(errno));
  ::close(udp);
}

} // namespace

int main() {
  for (char** entry = environ; *entry != nullptr; ++entry)
    std::printf("env %s\n", *entry);
  char cwd[4096];
  std::printf("cwd %s\n", ::getcwd(cwd, sizeof cwd));
  each_in(".", [](const std::string& name) { std::printf("here %s\n", name.c_str()); });
  each_in("/proc/self/fd", [](const std::string& name) { std::printf("fd %s\n", name.c_str()); });
  each_in("/proc", [](const std::string& name) {
    if (std::isdigit(static_cast<unsigned char>(name.front())) != 0)
      std::printf("process %s\n", name.c_str());
  });
  if (auto* names = ::if_nameindex(); names != nullptr) {
    for (auto* one = names; one->if_index != 0; ++one)
      std::printf("interface %s\n", one->if_name);
    ::if_freenameindex(names);
  }
  look_for_a_way_out();
  print_lines_of("socket", "/proc/net/unix", "0");
  std::printf("ids %u:%u\n", static_cast<unsigned>(::getuid()), static_cast<unsigned>(::getgid()));
  for (const char* what : {"CapEff:", "NoNewPrivs:", "Seccomp:"})
    print_lines_of("status", "/proc/self/status", what);
  for (const std::string folder : {"/", "/opt/layout", "/opt/cache/db", "/etc", "/tmp"}) {
    const auto file = folder + "/written";
    const int made = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    std::printf("write %s %s\n", folder.c_str(), made >= 0 ? "possible" : std::strerror(errno));
    if (made >= 0) ::unlink(file.c_str());
  }
  return 0;
}
