// SPDX-License-Identifier: Apache-2.0
// Says "ready", ignores every polite request to end, and goes on for ten minutes.
#include <signal.h>
#include <unistd.h>

int main() {
  (void)::signal(SIGTERM, SIG_IGN);
  (void)::signal(SIGINT, SIG_IGN);
  (void)::signal(SIGHUP, SIG_IGN);
  (void)!::write(STDOUT_FILENO, "ready\n", 6);
  for (unsigned left = 600; left > 0;)
    left = ::sleep(left);
  return 0;
}
