// SPDX-License-Identifier: Apache-2.0
#include "stages/image/push_client.hpp"

#include "executor/engine_api/script_protocol.hpp"
#include "executor/process/process.hpp"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace slipway::image {

namespace {

constexpr int kWorkerSocket = 3;
constexpr std::chrono::seconds kFrameDeadline{10};
constexpr std::chrono::seconds kGrace{5};
constexpr std::chrono::seconds kMargin{
    15}; ///< the worker's own deadline comes first, with a better text
constexpr std::chrono::seconds kRevoking{90};       ///< after the deadline of what it was for
constexpr std::chrono::seconds kCancelledGrace{15}; ///< to end the upload and revoke

/// Overwrites a frame once it is sent, or could not be.
struct Wiper {
  std::string& frame;
  void now() { ::explicit_bzero(frame.data(), frame.size()); }
  ~Wiper() { now(); }
};

} // namespace

std::vector<engine_api::PushBlob> blobs_to_push(const oci::ImageTree& tree) {
  std::vector<engine_api::PushBlob> list;
  list.reserve(tree.blobs.size());
  for (const auto& blob : tree.blobs) {
    engine_api::PushBlob one{blob.digest.str(), blob.size, "", false, false};
    for (const auto& index : tree.index_digests) {
      if (index == blob.digest) one.is_manifest = true;
    }
    for (const auto& image : tree.images) {
      if (image.descriptor.digest != blob.digest) continue;
      one.is_manifest = true;
      if (!image.is_attestation && blob.digest != tree.root) one.is_image = true;
    }
    if (one.is_manifest) one.media_type = blob.media_type;
    list.push_back(std::move(one));
  }
  return list;
}

Result<engine_api::WorkerAnswer> PushClient::push(engine_api::PushRequest request,
                                                  const gate::ScanPass& pass,
                                                  const Progress& progress,
                                                  const Cancelled& cancelled) const {
  request.pass_digest = pass.digest().str();
  request.pass_repository = pass.repository();
  request.pass_expires_at = rfc3339(pass.expires_at());
  return ask(engine_api::encode(request), std::chrono::seconds{request.deadline_seconds}, progress,
             cancelled);
}

Result<engine_api::WorkerAnswer> PushClient::pull(const engine_api::PullRequest& request,
                                                  const Progress& progress,
                                                  const Cancelled& cancelled) const {
  return ask(engine_api::encode(request), std::chrono::seconds{request.deadline_seconds}, progress,
             cancelled);
}

Result<engine_api::WorkerAnswer>
PushClient::ask_issuer(const engine_api::IssuerRequest& request) const {
  return ask(engine_api::encode(request), std::chrono::seconds{request.deadline_seconds}, nullptr,
             nullptr);
}

Result<std::string> PushClient::fetch_keys(const engine_api::KeysRequest& request) const {
  auto answer = ask(engine_api::encode(request), std::chrono::seconds{request.deadline_seconds},
                    nullptr, nullptr);
  if (!answer) return std::move(answer).error();
  return std::move(answer->body);
}

Result<engine_api::WorkerAnswer> PushClient::ask(std::string request, std::chrono::seconds deadline,
                                                 const Progress& progress,
                                                 const Cancelled& cancelled) const {
  Wiper wiper{request};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return io_error("socketpair", errno);
  UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  process::Command command;
  command.argv = {program_.string()};
  command.fds = {{theirs.get(), kWorkerSocket}};
  auto child = process::spawn(command);
  if (!child) return std::move(child).error().in("starting slipway-push");
  theirs.reset();
  const auto sent = engine_api::send_frame(ours.get(), request, {}, kFrameDeadline,
                                           engine_api::kMaxWorkerRequestBytes);
  wiper.now();
  if (!sent) {
    const auto ending = child->wait(std::chrono::seconds{1}, kGrace);
    return Error{ErrorKind::internal,
                 "slipway-push took no request: " + sent.error().text() + "; " +
                     process::describe(ending),
                 "",
                 {}};
  }

  const auto whole = deadline + kMargin + (on_lease_ ? kRevoking : std::chrono::seconds{0});
  auto end = std::chrono::steady_clock::now() + whole;
  bool is_cancelled = false;
  const Error as_cancelled{
      ErrorKind::timed_out, "cancelled while slipway-push was at work", "", {}};
  while (true) {
    if (!is_cancelled && cancelled && cancelled()) {
      // The worker sees this, ends its upload session, revokes, and says so.
      ::shutdown(ours.get(), SHUT_WR);
      is_cancelled = true;
      end = std::min(end, std::chrono::steady_clock::now() + kCancelledGrace);
    }
    if (std::chrono::steady_clock::now() >= end) {
      (void)child->wait(std::chrono::milliseconds{0}, kGrace);
      if (is_cancelled) return as_cancelled;
      return Error{ErrorKind::timed_out,
                   "slipway-push did not answer within " + std::to_string(whole.count()) + " s",
                   "",
                   {}};
    }
    pollfd waiting{ours.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, 100);
    if (ready < 0 && errno != EINTR) return io_error("poll", errno);
    if (ready <= 0) continue;
    auto frame = engine_api::receive_frame(ours.get(), kFrameDeadline);
    if (!frame) {
      const auto ending = child->wait(std::chrono::seconds{1}, kGrace);
      if (is_cancelled) return as_cancelled;
      return Error{ErrorKind::internal,
                   "slipway-push ended without an answer: " + process::describe(ending),
                   "",
                   {}};
    }
    if (const auto line = engine_api::decode_progress(frame->body)) {
      if (progress) progress(*line);
      continue;
    }
    if (const auto note = engine_api::decode_lease_note(frame->body)) {
      const auto noted = on_lease_ ? on_lease_(*note) : Status{};
      if (note->state != engine_api::LeaseNote::State::renewing) continue;
      if (!noted || !engine_api::send_frame(ours.get(), "{}", {}, kFrameDeadline))
        ::shutdown(ours.get(), SHUT_WR);
      continue;
    }
    auto answer = engine_api::decode_worker_answer(frame->body);
    (void)child->wait(kGrace, kGrace);
    if (is_cancelled) return as_cancelled;
    if (!answer) return std::move(answer).error();
    if (!answer->ok) return engine_api::error_of(*answer);
    return answer;
  }
}

} // namespace slipway::image
