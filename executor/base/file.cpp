// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"

#include "executor/base/passing_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace slipway {

Result<std::string> read_all(int fd, std::size_t limit, const std::string& subject) {
  std::string bytes;
  std::array<char, 65536> chunk; // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  for (;;) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      return io_error("read", errno, subject);
    }
    if (got == 0) return bytes;
    if (bytes.size() + static_cast<std::size_t>(got) > limit) {
      return Error{ErrorKind::bad_input,
                   subject + " is larger than the limit of " + std::to_string(limit) + " bytes",
                   "",
                   {}};
    }
    bytes.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

Result<std::string> read_file(const std::filesystem::path& file, std::size_t limit) {
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) {
    const int cause = errno;
    if (cause == ENOENT)
      return Error{ErrorKind::not_found, "no such file: " + file.string(), "", {}};
    return io_error("open", cause, file.string());
  }
  return read_all(fd.get(), limit, file.string());
}

Status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      return io_error("write", errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

namespace {

enum class Durable { no, yes };

Status replace(const std::filesystem::path& file, std::string_view bytes, unsigned mode,
               Durable durable) {
  std::string temporary = file.string() + ".XXXXXX";
  const UniqueFd fd{::mkostemp(temporary.data(), O_CLOEXEC)};
  if (!fd) return io_error("create", errno, temporary);
  auto done = write_all(fd.get(), bytes);
  if (done.ok() && ::fchmod(fd.get(), mode) != 0) done = io_error("fchmod", errno, temporary);
  if (done.ok() && durable == Durable::yes && ::fsync(fd.get()) != 0)
    done = io_error("fsync", errno, temporary);
  if (done.ok() && ::rename(temporary.c_str(), file.c_str()) != 0) {
    done = io_error("rename", errno, file.string());
  }
  if (!done.ok()) ::unlink(temporary.c_str());
  return done;
}

} // namespace

Status replace_file(const std::filesystem::path& file, std::string_view bytes, unsigned mode) {
  return replace(file, bytes, mode, Durable::yes);
}

Status replace_passing_file(const std::filesystem::path& file, std::string_view bytes,
                            unsigned mode) {
  return replace(file, bytes, mode, Durable::no);
}

Result<UniqueFd> make_unnamed_file(const std::filesystem::path& dir) {
  UniqueFd file{::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  if (!file) return io_error("open (O_TMPFILE)", errno, dir.string());
  return file;
}

Status make_directory(const std::filesystem::path& dir, unsigned mode) {
  std::error_code failed;
  if (dir.has_parent_path()) std::filesystem::create_directories(dir.parent_path(), failed);
  if (failed) return io_error("mkdir", failed.value(), dir.parent_path().string());
  if (::mkdir(dir.c_str(), mode) != 0 && errno != EEXIST)
    return io_error("mkdir", errno, dir.string());
  return {};
}

} // namespace slipway
