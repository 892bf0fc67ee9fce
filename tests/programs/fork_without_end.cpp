// SPDX-License-Identifier: Apache-2.0
// A fork bomb with a bound (512 processes, or the sandbox's limit), each ignoring SIGTERM; the
// first process ends while the others still multiply.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <new>

int main() {
  void* shared = ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 1;
  auto* count = new (shared) std::atomic<int>{0};
  (void)::signal(SIGTERM, SIG_IGN);
  const pid_t first = ::getpid();
  for (int i = 0; i < 100000 && *count < 512; ++i) {
    if (::fork() == 0) ++*count;
    if (::getpid() == first && i > 20) return 0;
  }
  if (::getpid() == first) return 0;
  for (unsigned left = 600; left > 0;)
    left = ::sleep(left);
  return 0;
}
