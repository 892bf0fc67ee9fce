// SPDX-License-Identifier: Apache-2.0
#include "executor/init/agent_relay.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/ssh_agent.hpp"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <list>
#include <optional>
#include <string>
#include <vector>

namespace slipway::init {
namespace {

using engine_api::AgentMessages;

constexpr std::size_t kMostClients = 64;
constexpr timeval kUnread{10, 0}; // a client that takes nothing for so long is given up

struct Client {
  UniqueFd socket;
  AgentMessages questions;
};

/// False at the end, or where the peer is broken.
bool read_some(int fd, AgentMessages& messages) {
  std::array<char, 16384> buffer; // NOLINT(cppcoreguidelines-pro-type-member-init): read fills it
  ssize_t got = 0;
  while ((got = ::read(fd, buffer.data(), buffer.size())) < 0 && errno == EINTR)
    continue;
  if (got > 0) messages.add({buffer.data(), static_cast<std::size_t>(got)});
  return got > 0;
}

bool put(int fd, std::string_view message) {
  return static_cast<bool>(write_all(fd, engine_api::agent_frame(message)));
}

/// The agent's next message; nothing once it is gone.
std::optional<std::string> answer_from(int agent, AgentMessages& answers) {
  for (;;) {
    auto message = answers.next();
    if (!message) return std::nullopt;
    if (*message) return **std::move(message);
    if (!read_some(agent, answers)) return std::nullopt;
  }
}

enum class Outcome { goes_on, client_is_done, agent_is_gone };

Outcome serve(Client& client, AgentMessages& answers) {
  if (!read_some(client.socket.get(), client.questions)) return Outcome::client_is_done;
  for (;;) {
    auto question = client.questions.next();
    if (!question || (*question && (*question)->empty())) return Outcome::client_is_done;
    if (!*question) return Outcome::goes_on;
    if (!put(STDOUT_FILENO, **question)) return Outcome::agent_is_gone;
    const auto answer = answer_from(STDIN_FILENO, answers);
    if (!answer) return Outcome::agent_is_gone;
    if (!put(client.socket.get(), *answer)) return Outcome::client_is_done;
  }
}

UniqueFd listen_at(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (::strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return {};
  }
  ::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  (void)::umask(0177);
  if (!listener ||
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), static_cast<int>(kMostClients)) != 0)
    return {};
  return listener;
}

} // namespace

int relay_agent(const char* socket) {
  (void)::signal(SIGPIPE, SIG_IGN); // a client that hung up is an error of its write
  const UniqueFd listener = listen_at(socket);
  if (!listener) {
    const std::string words = "slipway-init: cannot listen at " + std::string{socket} + ": " +
                              ::strerror(errno) + "\n"; // NOLINT(concurrency-mt-unsafe)
    (void)!::write(STDERR_FILENO, words.data(), words.size());
    return 1;
  }
  if (!put(STDOUT_FILENO, "")) return 0;
  std::list<Client> clients;
  AgentMessages answers;
  for (;;) {
    // Between two questions the agent has nothing to say: what can be read is its end.
    std::vector<pollfd> waits{{STDIN_FILENO, POLLIN, 0},
                              {clients.size() < kMostClients ? listener.get() : -1, POLLIN, 0}};
    for (const auto& client : clients)
      waits.push_back({client.socket.get(), POLLIN, 0});
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return 1;
    }
    if (waits[0].revents != 0) return 0;
    std::size_t at = 2;
    for (auto client = clients.begin(); client != clients.end(); ++at) {
      const auto outcome = waits[at].revents == 0 ? Outcome::goes_on : serve(*client, answers);
      if (outcome == Outcome::agent_is_gone) return 0;
      client = outcome == Outcome::goes_on ? std::next(client) : clients.erase(client);
    }
    if (waits[1].revents == 0) continue;
    UniqueFd one{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (one && ::setsockopt(one.get(), SOL_SOCKET, SO_SNDTIMEO, &kUnread, sizeof kUnread) == 0)
      clients.push_back({std::move(one), {}});
  }
}

} // namespace slipway::init
