// SPDX-License-Identifier: Apache-2.0
// Becomes a daemon by the book (fork, setsid, fork), ignores SIGTERM and keeps stdout open; the
// first process ends at once.
#include <signal.h>
#include <unistd.h>

int main() {
  if (::fork() != 0) return 0;
  (void)::setsid();
  if (::fork() != 0) return 0;
  (void)::signal(SIGTERM, SIG_IGN);
  for (unsigned left = 600; left > 0;)
    left = ::sleep(left);
  return 0;
}
