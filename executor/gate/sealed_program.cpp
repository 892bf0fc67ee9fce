// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/sealed_program.hpp"

#include "executor/base/file_state.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string>
#include <utility>

#ifndef MFD_EXEC // Linux 6.3
#define MFD_EXEC 0x0010U
#endif

namespace slipway::gate {
namespace {

constexpr std::uint64_t kMostBytes = 1UL << 30;
constexpr std::size_t kPieceBytes = 8UL << 20;

Result<UniqueFd> make_memory() {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd{::memfd_create("scanner", kFlags | MFD_EXEC)};
  if (!fd && errno == EINVAL) fd.reset(::memfd_create("scanner", kFlags)); // before 6.3
  if (fd) return fd;
  const int cause = errno;
  if (cause == EACCES)
    return Error{ErrorKind::misconfigured,
                 "this machine lets no program run from memory",
                 "set the sysctl vm.memfd_noexec to 0 or 1",
                 {}};
  return io_error("memfd_create", cause);
}

Status copy_all(int from, int into, std::uint64_t size, const std::string& name) {
  std::uint64_t copied = 0;
  while (copied < size) {
    const auto sent = ::sendfile(into, from, nullptr, kPieceBytes);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return io_error("sendfile", errno, name);
    if (sent == 0) break;
    copied += static_cast<std::uint64_t>(sent);
    if (copied > kMostBytes) break;
  }
  if (copied == size) return {};
  return Error{ErrorKind::unavailable, name + " changed while it was read", "try again", {}};
}

/// The last one that was made of each file. There are as many files as there are scanners.
struct Kept {
  struct One {
    std::string state;
    std::shared_ptr<const SealedProgram> program;
  };
  std::mutex mutex;
  std::map<std::filesystem::path, One> programs;
};
Kept& kept() {
  static Kept one;
  return one;
}

} // namespace

Result<std::shared_ptr<const SealedProgram>> SealedProgram::of(const std::filesystem::path& file) {
  const UniqueFd source{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!source) {
    const int cause = errno;
    return Error{ErrorKind::misconfigured,
                 "cannot read the scanner " + file.string() + ": " + errno_text(cause),
                 "install it with packaging/tools, and name it in [gate]",
                 {}};
  }
  struct stat facts {};
  if (::fstat(source.get(), &facts) != 0) return io_error("fstat", errno, file.string());
  if (!S_ISREG(facts.st_mode) || (facts.st_mode & 0111) == 0)
    return Error{ErrorKind::misconfigured, file.string() + " is no program", "", {}};
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (size > kMostBytes)
    return Error{ErrorKind::misconfigured,
                 file.string() + " is too large for a program: " + std::to_string(size) + " bytes",
                 "",
                 {}};

  auto& all = kept();
  const std::lock_guard guard{all.mutex}; // whoever comes while one copies waits for it
  auto& last = all.programs[file];
  const auto state = file_state(facts);
  if (last.program && last.state == state) return last.program;
  auto memory = make_memory();
  if (!memory) return std::move(memory).error();
  if (auto done = copy_all(source.get(), memory->get(), size, file.string()); !done)
    return std::move(done).error();
  if (::fchmod(memory->get(), 0555) != 0) return io_error("fchmod", errno, file.string());
  if (::fcntl(memory->get(), F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
    return io_error("F_ADD_SEALS", errno, file.string());
  last.program = std::shared_ptr<const SealedProgram>{new SealedProgram{*std::move(memory)}};
  last.state = state;
  return last.program;
}

Result<oci::Digest> SealedProgram::digest() const {
  const std::lock_guard guard{mutex_};
  if (digest_) return *digest_;
  // By a description of its own: the offset of fd_ is whatever it is.
  const UniqueFd reader{
      ::open(("/proc/self/fd/" + std::to_string(fd_.get())).c_str(), O_RDONLY | O_CLOEXEC)};
  if (!reader) return io_error("open", errno, "the sealed scanner");
  auto digest = oci::digest_of_fd(reader.get());
  if (digest) digest_ = *digest;
  return digest;
}

std::string digits_of_pin(const std::string& pin) {
  return pin.starts_with("sha256:") ? pin.substr(7) : pin;
}

Result<std::shared_ptr<const SealedProgram>>
sealed_scanner(const std::string& name, const std::filesystem::path& file, const std::string& pin) {
  auto program = SealedProgram::of(file);
  if (!program || pin.empty()) return program;
  auto real = (*program)->digest();
  if (!real) return std::move(real).error().in(file.string());
  if (real->hex() != digits_of_pin(pin)) {
    return Error{ErrorKind::misconfigured,
                 file.string() + " is not the pinned scanner: it digests to " + real->str(),
                 "find out who replaced it; if it was you, set [gate] " + name + "_sha256",
                 {}};
  }
  return program;
}

} // namespace slipway::gate
