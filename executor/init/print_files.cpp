// SPDX-License-Identifier: Apache-2.0
#include "executor/init/print_files.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

namespace slipway::init {

namespace {

constexpr std::size_t kBuffer = 256UL << 10;

/// 0, or why not.
int print_file(const char* path, std::vector<char>& buffer) {
  const UniqueFd file{::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!file) return errno;
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) return errno;
  if (!S_ISREG(facts.st_mode)) return EINVAL;
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got == 0) return 0;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (!write_all(STDOUT_FILENO, {buffer.data(), static_cast<std::size_t>(got)})) return EIO;
  }
}

} // namespace

int print_files(const char* const* files, int count) {
  std::vector<char> buffer(kBuffer);
  for (int at = 0; at < count; ++at) {
    const int cause = print_file(files[at], buffer);
    if (cause == 0) continue;
    const std::string words =
        std::string{files[at]} + ": " + ::strerror(cause) + "\n"; // NOLINT(concurrency-mt-unsafe)
    (void)!::write(STDERR_FILENO, words.data(), words.size());
    return 1;
  }
  return 0;
}

} // namespace slipway::init
