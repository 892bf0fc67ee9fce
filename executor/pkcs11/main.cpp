// SPDX-License-Identifier: Apache-2.0
// slipway-pkcs11 MODULE URI: signs what is on stdin, prints the signature in base64 and ends.
// - loads a vendor's module, which slipway-push does not: that holds the registry's token;
// - leaves no core dump and cannot be traced by others of its user; gains no privileges;
// - what the module prints goes nowhere: what is told is slipway's own, without the PIN;
// - exit status 1: the operator has to mend the configuration; 2: the module did not sign.
#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/pkcs11/token_key.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

constexpr std::size_t kMaxMessageBytes = 64UL << 20;

bool lock_down() {
  const rlimit none{0, 0};
#ifndef __SANITIZE_ADDRESS__ // whose shadow is terabytes
  constexpr rlim_t kMostMemory = 2UL << 30;
  const rlimit memory{kMostMemory, kMostMemory};
  if (::setrlimit(RLIMIT_AS, &memory) != 0) return false;
#endif
  return ::setrlimit(RLIMIT_CORE, &none) == 0 && ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::close_range(3, ~0U, 0) == 0;
}

} // namespace

int main(int argc, char** argv) {
  using namespace slipway;
  const auto tell = [](int fd, const std::string& text) { return write_all(fd, text + "\n").ok(); };
  if (argc != 3) {
    tell(2, "slipway-pkcs11 MODULE URI: is started by slipway, see [signing]");
    return 1;
  }
  if (!lock_down()) {
    tell(2, "slipway-pkcs11 cannot lock itself down");
    return 2;
  }
  auto message = read_all(0, kMaxMessageBytes, "what is to be signed");
  const UniqueFd out{::fcntl(1, F_DUPFD_CLOEXEC, 3)};
  const UniqueFd err{::fcntl(2, F_DUPFD_CLOEXEC, 3)};
  const UniqueFd nothing{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  if (!message || !out || !err || !nothing) return 2;
  for (int fd = 0; fd <= 2; ++fd)
    if (::dup2(nothing.get(), fd) != fd) return 2;
  const auto signature = pkcs11::sign(argv[1], argv[2], *message);
  if (!signature) {
    const auto& error = signature.error();
    tell(err.get(), error.text() + (error.hint.empty() ? "" : " (" + error.hint + ")"));
    return error.kind == ErrorKind::misconfigured ? 1 : 2;
  }
  return tell(out.get(), base64(*signature)) ? 0 : 2;
}
