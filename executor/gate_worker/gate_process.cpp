// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/gate_process.hpp"

#include "executor/base/file.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/gate_worker/protocol.hpp"
#include "executor/process/process.hpp"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <cerrno>

namespace slipway::gate_worker {
namespace {

using std::chrono::milliseconds;

constexpr int kWorkerSocket = 3;
constexpr std::chrono::seconds kFrameDeadline{10};
constexpr std::chrono::seconds kGrace{5};
/// For the largest image that policy lets pass, 60 GiB of unpacked layers.
constexpr milliseconds kDeadline = std::chrono::minutes{60};

struct Wiper {
  std::string& bytes;
  ~Wiper() { ::explicit_bzero(bytes.data(), bytes.size()); }
};

} // namespace

Result<std::string> GateProcess::ask(std::string request) const {
  const Wiper wiper{request};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return io_error("socketpair", errno);
  const UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  process::Command command;
  command.argv = {program_.string()};
  command.fds = {{theirs.get(), kWorkerSocket}};
  auto child = process::spawn(command);
  if (!child) return std::move(child).error().in("starting slipway-gate");
  theirs.reset();
  const auto died = [&](const Error& why) {
    const auto ending = child->wait(std::chrono::seconds{1}, kGrace);
    return Error{ErrorKind::internal,
                 "slipway-gate gave no answer: " + why.text() + "; " + process::describe(ending),
                 "",
                 {}};
  };
  if (auto sent = engine_api::send_frame(ours.get(), request, {}, kFrameDeadline, kMaxRequestBytes);
      !sent)
    return died(sent.error());
  pollfd waits[] = {{ours.get(), POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  int ready = 0;
  while ((ready = ::poll(waits, 2, static_cast<int>(kDeadline.count()))) < 0 && errno == EINTR)
    continue;
  if (ready == 0)
    return Error{
        ErrorKind::timed_out, "slipway-gate did not read the image within an hour", "", {}};
  if (waits[1].revents != 0)
    return Error{ErrorKind::unavailable, "stopped while slipway-gate read the image", "", {}};
  auto frame = engine_api::receive_frame(ours.get(), kFrameDeadline, kMaxAnswerBytes);
  if (!frame) return died(frame.error());
  (void)child->wait(kGrace, kGrace);
  return std::move(frame->body);
}

Result<leaks::Report> GateProcess::search(const oci::Layout& layout, const oci::Digest& root,
                                          const SearchTask& task) {
  // It can make no folder.
  const auto& settings = task.settings;
  if (!settings.cache_dir.empty())
    if (auto made = make_directory(settings.cache_dir, 0700); !made)
      return std::move(made).error().in("remembering what was searched");
  if (settings.layers)
    if (auto made = make_directory(settings.layers->dir(), 0700); !made)
      return std::move(made).error();
  auto answer = ask(encode_search(std::filesystem::absolute(layout.path()), root, task));
  if (!answer) return std::move(answer).error();
  return decode_report(*answer);
}

Result<oci::Tolerated> GateProcess::verify(const oci::Layout& layout, const oci::Digest& root,
                                           const oci::VerifyRules& rules, oci::Flaw* flaw) {
  if (rules.known != nullptr)
    if (auto made = make_directory(rules.known->dir(), 0700); !made) return std::move(made).error();
  auto answer = ask(encode_verify(std::filesystem::absolute(layout.path()), root, rules));
  if (!answer) return std::move(answer).error();
  return decode_tolerated(*answer, flaw);
}

} // namespace slipway::gate_worker
