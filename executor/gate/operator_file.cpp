// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/operator_file.hpp"

#include "executor/base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>

namespace slipway::gate {

Result<UniqueFd> open_operator_file(const std::filesystem::path& file, std::size_t limit) {
  UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0) {
    const int cause = errno;
    if (cause == ENOENT || cause == ENOTDIR)
      return Error{ErrorKind::not_found, "no such file: " + file.string(), "", {}};
    return io_error("open", cause, file.string());
  }
  if (!S_ISREG(facts.st_mode) || facts.st_size == 0)
    return Error{ErrorKind::not_found, file.string() + " is empty or no file", "", {}};
  if (static_cast<std::uint64_t>(facts.st_size) > limit)
    return Error{ErrorKind::bad_input,
                 "larger than " + (limit >= 1UL << 20 ? std::to_string(limit >> 20) + " MiB"
                                                      : std::to_string(limit >> 10) + " KiB"),
                 "",
                 {}};
  return fd;
}

Result<std::string> read_operator_file(const std::filesystem::path& file, std::size_t limit) {
  auto fd = open_operator_file(file, limit);
  if (!fd) return std::move(fd).error();
  return read_all(fd->get(), limit, file.string());
}

} // namespace slipway::gate
