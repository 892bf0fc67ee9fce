// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/lent_agents.hpp"

#include "executor/base/file.hpp"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace slipway::backends::buildkit {
namespace {

constexpr std::chrono::seconds kStart{10};
constexpr timeval kUnread{10, 0}; // a relay that takes no answer for so long is given up
constexpr std::size_t kMaxWords = 1024;

} // namespace

LentAgents::LentAgents(const sandbox::ScriptRunner& run, const sandbox::BuildClock& clock,
                       std::string home)
    : run_{run}, clock_{clock}, home_{std::move(home)}, stop_{::eventfd(0, EFD_CLOEXEC)} {}

LentAgents::~LentAgents() {
  over_ = true;
  const std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  for (auto& lent : lent_) {
    (void)::shutdown(lent.answers.get(), SHUT_RDWR); // the relay ends with its standard input
    if (lent.carrier.joinable()) lent.carrier.join();
  }
}

/// What the relay says: that it listens, then questions.
void LentAgents::take(Lent& lent, std::string_view bytes) const {
  if (lent.broken) return;
  const auto end = [&lent] {
    lent.broken = true;
    (void)::shutdown(lent.answers.get(), SHUT_RDWR);
  };
  lent.questions.add(bytes);
  while (!over_) {
    auto question = lent.questions.next();
    if (!question) return end(); // nonsense: the relay sees its standard input end
    if (!*question) return;
    if ((*question)->empty()) {
      const std::lock_guard lock{lent.mutex};
      lent.listens = true;
      lent.changed.notify_all();
      continue;
    }
    std::string answer{engine_api::kAgentFailure};
    if (engine_api::is_agent_question(**question))
      if (auto given = lent.agent(**question); given) answer = *std::move(given);
    if (!write_all(lent.answers.get(), engine_api::agent_frame(answer))) return end();
  }
}

void LentAgents::carry(Lent& lent, UniqueFd theirs, const std::string& socket) {
  sandbox::ScriptIo io;
  io.input_fd = theirs.get();
  io.stop_fd = stop_.get();
  io.deadline = clock_.left();
  io.out = [this, &lent](std::string_view bytes) { take(lent, bytes); };
  std::string words;
  io.err = [&words](std::string_view bytes) {
    words += bytes.substr(0, kMaxWords - std::min(kMaxWords, words.size()));
  };
  const auto ran = run_(
      sandbox::program_request({"/run/slipway/bin/slipway-init", "ssh-agent", socket}, home_), io);
  const std::lock_guard lock{lent.mutex};
  lent.ended = ran ? Error{ErrorKind::unavailable,
                           "the agent's relay " + sandbox::describe(ran->ending) + ": " + words,
                           "",
                           {}}
                   : ran.error();
  lent.changed.notify_all();
}

Status LentAgents::lend(engine_api::SshAgent agent, const std::string& socket) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return io_error("socketpair", errno, "lending an SSH agent");
  UniqueFd theirs{ends[1]};
  Lent& lent = lent_.emplace_back();
  lent.answers = UniqueFd{ends[0]};
  lent.agent = std::move(agent);
  if (::setsockopt(lent.answers.get(), SOL_SOCKET, SO_SNDTIMEO, &kUnread, sizeof kUnread) != 0)
    return io_error("setsockopt", errno, "lending an SSH agent");
  try {
    lent.carrier = std::thread{[this, &lent, end = std::move(theirs), socket]() mutable {
      carry(lent, std::move(end), socket);
    }};
  } catch (const std::system_error& problem) {
    return Error{ErrorKind::unavailable,
                 std::string{"no thread is left for an SSH agent: "} + problem.what(),
                 "",
                 {}};
  }
  std::unique_lock lock{lent.mutex};
  lent.changed.wait_for(lock, kStart, [&] { return lent.listens || lent.ended; });
  if (lent.listens && !lent.ended) return {};
  return lent.ended ? Error{*lent.ended}.in("lending an SSH agent to the build")
                    : Error{ErrorKind::unavailable,
                            "the build sandbox opened no socket for an SSH agent within 10 s",
                            "",
                            {}};
}

} // namespace slipway::backends::buildkit
