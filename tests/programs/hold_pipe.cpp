// SPDX-License-Identifier: Apache-2.0
// Writes "held", then keeps stdout and stderr open without another byte for ten minutes.
#include <unistd.h>

int main() {
  (void)!::write(STDOUT_FILENO, "held\n", 5);
  for (unsigned left = 600; left > 0;)
    left = ::sleep(left);
  return 0;
}
