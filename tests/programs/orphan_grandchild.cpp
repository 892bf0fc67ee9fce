// SPDX-License-Identifier: Apache-2.0
// Ends at once and leaves a grandchild behind that keeps stdout open in the same session.
#include <unistd.h>

int main() {
  if (::fork() == 0) {
    if (::fork() == 0) {
      for (unsigned left = 600; left > 0;)
        left = ::sleep(left);
    }
    ::_exit(0);
  }
  return 0;
}
