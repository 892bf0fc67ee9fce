// SPDX-License-Identifier: Apache-2.0
#include "executor/base/lock_file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace slipway {

using std::chrono::milliseconds;

Result<bool> await_lock(int fd, int operation, const std::function<bool()>& give_up,
                        const std::filesystem::path& file) {
  for (milliseconds pause{1};; pause = std::min(2 * pause, milliseconds{20})) {
    if (::flock(fd, operation | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) return io_error("flock", errno, file.string());
    if (give_up()) return false;
    std::this_thread::sleep_for(pause);
  }
}

Result<UniqueFd> lock_file(const std::filesystem::path& file, int operation,
                           const std::function<bool()>& give_up) {
  UniqueFd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!fd && errno == ENOENT)
    return Error{ErrorKind::not_found, "no such folder: " + file.parent_path().string(), "", {}};
  if (!fd) return io_error("open", errno, file.string());
  auto locked = await_lock(fd.get(), operation, give_up, file);
  if (!locked) return std::move(locked).error();
  return *locked ? std::move(fd) : UniqueFd{};
}

Result<UniqueFd> lock_file(const std::filesystem::path& file, int operation,
                           milliseconds patience) {
  return lock_file(file, operation, give_up_after(patience));
}

std::function<bool()> give_up_after(milliseconds patience) {
  return [end = std::chrono::steady_clock::now() + patience] {
    return std::chrono::steady_clock::now() >= end;
  };
}

} // namespace slipway
