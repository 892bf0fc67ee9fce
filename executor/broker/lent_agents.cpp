// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/lent_agents.hpp"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

namespace slipway::broker {
namespace {

constexpr std::chrono::seconds kAnswerPatience{60}; ///< for one answer of an agent
constexpr std::size_t kMostNameBytes = 64;

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= kMostNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-';
         });
}

Error gone() {
  return Error{ErrorKind::unavailable, "the SSH agent has gone", "", {}};
}

} // namespace

struct LentAgents::Lent {
  std::mutex mutex;         ///< one question at a time
  Socket* socket = nullptr; ///< nothing once it may not be asked again
  engine_api::AgentMessages answers;

  Result<std::string> ask(std::string_view question) {
    const std::lock_guard lock{mutex};
    if (socket == nullptr) return gone();
    auto answer = exchange(question);
    // An answer that comes late would be taken for that of the next question.
    if (!answer) std::exchange(socket, nullptr)->shutdown_write();
    return answer;
  }

private:
  Result<std::string> exchange(std::string_view question) {
    if (!socket->write(engine_api::agent_frame(question))) return gone();
    socket->set_deadline(std::chrono::steady_clock::now() + kAnswerPatience);
    std::array<char, 16384> buffer; // NOLINT(cppcoreguidelines-pro-type-member-init)
    for (;;) {
      auto answer = answers.next();
      if (!answer) return std::move(answer).error();
      if (*answer) return **std::move(answer);
      Socket::ReadEnd end{};
      auto got = socket->read_some(buffer.data(), buffer.size(), end);
      if (!got) return std::move(got).error();
      if (*got == 0) return gone();
      answers.add({buffer.data(), *got});
    }
  }
};

Status LentAgents::serve(const Request& request, const std::string& name, Answer& answer) {
  if (!is_name(name) || !request.upgrades)
    return Error{ErrorKind::bad_input, "an SSH agent needs a name and an upgrade", "", {}};
  const auto lent = std::make_shared<Lent>();
  {
    const std::lock_guard lock{mutex_};
    if (lent_.size() >= kMostLentAgents)
      return Error{ErrorKind::unavailable, "16 SSH agents are lent to builds already", "", {}};
    if (!lent_.emplace(name, lent).second)
      return Error{ErrorKind::bad_input, "an SSH agent is lent under that name already", "", {}};
  }
  std::unique_lock asking{lent->mutex}; // who has heard of the upgrade may have a build ask
  if (answer.upgrade("slipway-ssh-agent")) {
    lent->socket = &answer.socket();
    asking.unlock();
    std::array<pollfd, 2> waits{pollfd{answer.socket().descriptor(), POLLRDHUP, 0},
                                pollfd{answer.socket().stop_descriptor(), POLLIN, 0}};
    while (::poll(waits.data(), waits.size(), -1) < 0 && errno == EINTR)
      continue;
    asking.lock();
    lent->socket = nullptr;
  }
  asking.unlock();
  const std::lock_guard lock{mutex_};
  lent_.erase(name);
  return {};
}

Result<engine_api::SshAgent> LentAgents::find(const std::string& name) {
  const std::lock_guard lock{mutex_};
  const auto found = lent_.find(name);
  if (found == lent_.end())
    return Error{ErrorKind::not_found, "no SSH agent is lent under that name", "", {}};
  return engine_api::SshAgent{
      [lent = found->second](std::string_view question) { return lent->ask(question); }};
}

} // namespace slipway::broker
