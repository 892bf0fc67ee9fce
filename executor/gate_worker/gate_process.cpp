// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/gate_process.hpp"

#include "executor/base/file.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/gate_worker/protocol.hpp"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <optional>
#include <vector>

namespace slipway::gate_worker {
namespace {

using std::chrono::milliseconds;

constexpr int kWorkerSocket = 3;
constexpr std::chrono::seconds kFrameDeadline{10};
constexpr std::chrono::seconds kGrace{5};
constexpr milliseconds kLookAround{500}; ///< for who asked, where nothing comes
constexpr std::size_t kPipePart = 64UL << 10;
/// For the largest image that policy lets pass, 60 GiB of unpacked layers.
constexpr milliseconds kDeadline = std::chrono::minutes{60};
/// For an archive, which comes as slowly as its sender may send it.
constexpr milliseconds kUnpackDeadline = 2 * kDeadline;
/// Once all that it had to write is there.
constexpr milliseconds kAnswerDeadline = std::chrono::seconds{60};

struct Wiper {
  std::string& bytes;
  ~Wiper() { ::explicit_bzero(bytes.data(), bytes.size()); }
};

Error no_answer(process::ChildProcess& child, const Error& why) {
  const auto ending = child.wait(std::chrono::seconds{1}, kGrace);
  return Error{ErrorKind::internal,
               "slipway-gate gave no answer: " + why.text() + "; " + process::describe(ending),
               "",
               {}};
}

Error too_slow() {
  return Error{ErrorKind::timed_out, "slipway-gate did not come to an end in time", "", {}};
}

Error stopped() {
  return Error{ErrorKind::unavailable, "stopped while slipway-gate read the image", "", {}};
}

Error cut_off() {
  return Error{ErrorKind::unavailable, "the archive came to no end", "", {}};
}

Status decoded(const Result<std::string>& answer) {
  return answer ? decode_written(*answer) : Status{Error{answer.error()}};
}

/// False where the other end is gone, or takes nothing.
bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

} // namespace

Result<GateProcess::Asked> GateProcess::begin(std::string request,
                                              const std::vector<int>& fds) const {
  const Wiper wiper{request};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return io_error("socketpair", errno);
  UniqueFd ours{ends[0]};
  const UniqueFd theirs{ends[1]};
  process::Command command;
  command.argv = {program_.string()};
  command.fds = {{theirs.get(), kWorkerSocket}};
  auto child = process::spawn(command);
  if (!child) return std::move(child).error().in("starting slipway-gate");
  Asked asked{std::move(ours), *std::move(child)};
  if (auto sent = engine_api::send_frame(asked.socket.get(), request, fds, kFrameDeadline,
                                         kMaxRequestBytes);
      !sent)
    return no_answer(asked.child, sent.error());
  return asked;
}

Result<std::string> GateProcess::answer_of(Asked& asked, milliseconds patience) const {
  pollfd waits[] = {{asked.socket.get(), POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  int ready = 0;
  while ((ready = ::poll(waits, 2, static_cast<int>(patience.count()))) < 0 && errno == EINTR)
    continue;
  if (ready == 0) return too_slow();
  if (waits[1].revents != 0) return stopped();
  auto frame = engine_api::receive_frame(asked.socket.get(), kFrameDeadline, kMaxAnswerBytes);
  if (!frame) return no_answer(asked.child, frame.error());
  (void)asked.child.wait(kGrace, kGrace);
  return std::move(frame->body);
}

Result<std::string> GateProcess::ask(std::string request) const {
  auto asked = begin(std::move(request), {});
  if (!asked) return std::move(asked).error();
  return answer_of(*asked, kDeadline);
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

Result<std::vector<oci::Executable>> GateProcess::executables(const oci::Layout& layout,
                                                              const oci::Digest& manifest,
                                                              std::uint64_t max_layer) {
  auto answer =
      ask(encode_executables(std::filesystem::absolute(layout.path()), manifest, max_layer));
  if (!answer) return std::move(answer).error();
  return decode_executables(*answer);
}

Result<std::vector<oci::PackageChange>> GateProcess::package_changes(const oci::Layout& layout,
                                                                     const oci::Digest& manifest,
                                                                     std::uint64_t max_layer) {
  auto answer =
      ask(encode_package_changes(std::filesystem::absolute(layout.path()), manifest, max_layer));
  if (!answer) return std::move(answer).error();
  return decode_package_changes(*answer);
}

Result<std::size_t> GateProcess::read_part(int pipe, char* buffer, std::size_t capacity,
                                           std::chrono::steady_clock::time_point end,
                                           const std::function<bool()>& cancelled) const {
  for (;;) {
    pollfd waits[] = {{pipe, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    const int ready = ::poll(waits, 2, static_cast<int>(kLookAround.count()));
    if (ready < 0 && errno != EINTR) return io_error("poll", errno);
    if (cancelled()) return Error{ErrorKind::unavailable, "cancelled", "", {}};
    if (std::chrono::steady_clock::now() > end) return too_slow();
    if (ready <= 0) continue;
    if (waits[1].revents != 0) return stopped();
    const auto got = ::read(pipe, buffer, capacity);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return io_error("read", errno, "what slipway-gate writes");
  }
}

Status GateProcess::write_files(const oci::Layout& layout, const oci::Digest& manifest,
                                std::uint64_t max_bytes,
                                const std::function<Status(std::string_view)>& sink,
                                const std::function<bool()>& cancelled) const {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error("pipe", errno);
  const UniqueFd tar{ends[0]};
  UniqueFd theirs{ends[1]};
  auto asked = begin(encode_files(std::filesystem::absolute(layout.path()), manifest, max_bytes),
                     {theirs.get()});
  if (!asked) return std::move(asked).error();
  theirs.reset();
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  std::vector<char> part(kPipePart);
  for (;;) {
    auto got = read_part(tar.get(), part.data(), part.size(), end, cancelled);
    if (!got) return std::move(got).error();
    if (*got == 0) break;
    if (auto taken = sink({part.data(), *got}); !taken) return taken;
  }
  return decoded(answer_of(*asked, kAnswerDeadline));
}

Status GateProcess::unpack(const Source& archive,
                           const std::function<Status(const Source& entries)>& use) const {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
    return io_error("socketpair", errno);
  UniqueFd packed{sockets[0]};
  UniqueFd input{sockets[1]};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error("pipe", errno);
  const UniqueFd entries{ends[0]};
  UniqueFd output{ends[1]};
  auto begun = begin(encode_unpack(), {input.get(), output.get()});
  if (!begun) return std::move(begun).error();
  input.reset();
  output.reset();

  std::optional<Asked> asked{*std::move(begun)};
  const auto end = std::chrono::steady_clock::now() + kUnpackDeadline;
  std::atomic<bool> cut = false; // what the worker took for the archive's end is none
  std::atomic<bool> over = false;
  std::optional<Status> ending; // asked again, it is the same
  const Source source = [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
    if (!ending) {
      auto got = read_part(entries.get(), buffer, capacity, end, [] { return false; });
      if (got && *got != 0) return got;
      ending = got ? decoded(answer_of(*asked, kAnswerDeadline)) : Status{std::move(got).error()};
      if (*ending && cut) ending = Status{cut_off()};
    }
    if (!*ending) return Error{ending->error()};
    return std::size_t{0};
  };
  auto using_it = std::async(std::launch::async, [&] {
    struct End {
      std::atomic<bool>& over;
      std::optional<Asked>& asked;
      ~End() {
        over = true;
        asked.reset(); // nobody is fed any more
      }
    } at_end{over, asked};
    return use(source);
  });
  UniqueFd feeding{std::move(packed)}; // ends first, whatever comes
  Status fed;
  std::vector<char> part(kPipePart);
  for (;;) {
    auto got = archive(part.data(), part.size());
    if (!got) {
      if (!over) fed = std::move(got).error(); // else there is a reason already, or no need
      cut = true;
      break;
    }
    if (*got == 0 || !send_all(feeding.get(), {part.data(), *got})) break;
  }
  feeding.reset();
  auto used = using_it.get();
  // What fails behind the archive's end is no error.
  return used || fed ? used : fed;
}

} // namespace slipway::gate_worker
