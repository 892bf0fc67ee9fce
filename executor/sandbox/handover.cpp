// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/handover.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace slipway::sandbox {
namespace {

constexpr int kPatienceMs = 20000;
constexpr const char* kFolderPrefix = "slipway-handover-";

/// The lock of a folder; none where another has it, or where the folder has gone meanwhile.
UniqueFd try_lock(const std::string& dir) {
  UniqueFd fd{::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  struct stat facts {};
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.get(), &facts) != 0 ||
      facts.st_nlink == 0)
    return {};
  return fd;
}

Status send_descriptor(int peer, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)]{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (::sendmsg(peer, &message, MSG_NOSIGNAL) != 1) return io_error("sendmsg", errno);
  return {};
}

} // namespace

Result<Handover> Handover::make(const std::filesystem::path& dir) {
  Handover handover;
  // Until it is locked, it looks like a dead one's to remove_dead_handovers.
  for (int tries = 0; !handover.lock_; ++tries) {
    handover.dir_ = (dir / (std::string{kFolderPrefix} + "XXXXXX")).string();
    if (tries == 10 || ::mkdtemp(handover.dir_.data()) == nullptr)
      return io_error("mkdtemp", errno, std::exchange(handover.dir_, {}));
    handover.lock_ = try_lock(handover.dir_);
    if (!handover.lock_) ::rmdir(handover.dir_.c_str());
  }
  const std::string path = handover.dir_ + "/s";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{ErrorKind::misconfigured, "too long for a socket: " + path, "", {}};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  handover.listener_ = UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!handover.listener_) return io_error("socket", errno);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API's own shape
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(handover.listener_.get(), name, sizeof address) != 0)
    return io_error("bind", errno, path);
  // The sandbox's root is a subordinate id; the folder above both is closed to everybody else.
  if (::chmod(path.c_str(), 0666) != 0) return io_error("chmod", errno, path);
  if (::chmod(handover.dir_.c_str(), 0755) != 0) return io_error("chmod", errno, handover.dir_);
  if (::listen(handover.listener_.get(), 1) != 0) return io_error("listen", errno, path);
  return handover;
}

Handover::Handover(Handover&& other) noexcept
    : lock_{std::move(other.lock_)}, listener_{std::move(other.listener_)}, dir_{std::exchange(
                                                                                other.dir_, {})} {}

Handover::~Handover() {
  if (dir_.empty()) return;
  ::unlink((dir_ + "/s").c_str());
  ::rmdir(dir_.c_str());
}

Result<UniqueFd> Handover::wait_for_peer(int until) const {
  std::array<pollfd, 2> waiting{{{listener_.get(), POLLIN, 0}, {until, POLLIN, 0}}};
  int got = -1;
  do { // NOLINT(cppcoreguidelines-avoid-do-while): once at least
    // What ends the wait is more patient than any time that a loaded machine may take.
    got = ::poll(waiting.data(), waiting.size(), until < 0 ? kPatienceMs : -1);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return io_error("poll", errno);
  if (waiting[0].revents == 0)
    return Error{
        ErrorKind::unavailable, "its first process did not ask for what it has to get", "", {}};
  UniqueFd peer{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  if (!peer) return io_error("accept4", errno);
  return peer;
}

Status Handover::give(int fd, std::int64_t pid) const {
  auto peer = wait_for_peer(-1);
  if (!peer) return std::move(peer).error();
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(peer->get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return io_error("getsockopt", errno);
  if (credentials.pid != pid)
    return Error{ErrorKind::unavailable,
                 "process " + std::to_string(credentials.pid) +
                     " asked for the socket of process " + std::to_string(pid),
                 "",
                 {}};
  return send_descriptor(peer->get(), fd);
}

Status Handover::give_to_first(const std::function<Result<int>()>& fd, int until) const {
  auto peer = wait_for_peer(until);
  if (!peer) return std::move(peer).error();
  auto wanted = fd();
  if (!wanted) return std::move(wanted).error();
  return send_descriptor(peer->get(), *wanted);
}

void remove_dead_handovers(const std::filesystem::path& dir) {
  std::error_code failed;
  for (std::filesystem::directory_iterator entry{dir, failed}, end; !failed && entry != end;
       entry.increment(failed)) {
    if (!entry->path().filename().string().starts_with(kFolderPrefix)) continue;
    const auto lock = try_lock(entry->path());
    if (!lock) continue;
    ::unlink((entry->path() / "s").c_str());
    ::rmdir(entry->path().c_str());
  }
}

} // namespace slipway::sandbox
