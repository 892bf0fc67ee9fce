// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/lent_agents.hpp"

#include "executor/base/result.hpp"

#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <future>
#include <utility>

namespace slipway::shim {
namespace {

constexpr timeval kPatience{10, 0}; // to be taken, and for what it is sent

Result<UniqueFd> connect_agent(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{ErrorKind::bad_input, "the path of the SSH agent is too long: " + path, "", {}};
  ::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd agent{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!agent ||
      ::setsockopt(agent.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience) != 0 ||
      ::connect(agent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error{ErrorKind::not_found,
                 "no SSH agent answers at " + path + ": " + errno_text(errno),
                 "start one with ssh-agent in the same job, and export SSH_AUTH_SOCK",
                 {}};
  return agent;
}

/// Without the signal that an agent's end would be.
Status send_to(int agent, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(agent, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return io_error("send", errno, "to the SSH agent");
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

/// So that builds which run beside each other do not meet.
std::string random_name() {
  std::array<unsigned char, 16> bytes{};
  (void)!::getrandom(bytes.data(), bytes.size(), 0);
  std::string name;
  for (const unsigned char byte : bytes)
    for (const unsigned half : {unsigned{byte} >> 4U, unsigned{byte} & 15U})
      name += "0123456789abcdef"[half];
  return name;
}

} // namespace

LentAgents::~LentAgents() {
  for (auto& lent : lent_) {
    (void)::shutdown(lent.agent.get(), SHUT_RDWR); // the broker is told, and hangs up
    if (lent.carrier.joinable()) lent.carrier.join();
  }
}

Result<std::string> LentAgents::lend(const std::string& socket) {
  auto agent = connect_agent(socket);
  if (!agent) return std::move(agent).error();
  const std::string name = random_name();
  auto& lent = lent_.emplace_back();
  lent.agent = *std::move(agent);
  std::promise<Status> taken;
  auto is_taken = taken.get_future();
  lent.carrier =
      std::thread{[this, name, fd = lent.agent.get(), taken = std::move(taken)]() mutable {
        bool begun = false;
        const auto ended = client_.attach(
            {.method = "POST", .target = "/slipway/v1/ssh-agents/" + name, .upgrades = true}, fd,
            [&]() -> Status {
              begun = true;
              taken.set_value({});
              return {};
            },
            [fd](std::string_view bytes) { return send_to(fd, bytes); });
        if (begun) return;
        taken.set_value(ended ? Error{ErrorKind::unavailable,
                                      "slipway does not take the SSH agent: " + ended->body,
                                      "",
                                      {}}
                              : ended.error());
      }};
  if (auto status = is_taken.get(); !status) return std::move(status).error();
  return name;
}

} // namespace slipway::shim
