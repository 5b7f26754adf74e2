/* flags: -static -no-pie
 * A program at a fixed place grows its heap for as long as nothing of its own is in the way. */
#include "check.h"

int main(void) {
  if (sizeof(long) < 8) {
    IS(sbrk(1 << 30) != (void *)-1);
    return 0;
  }
  char *first = sbrk(0);
  for (int gigabytes = 1; gigabytes <= 3; gigabytes++) IS(sbrk(1 << 30) != (void *)-1);
  char *last = sbrk(0);
  IS(last - first == 3L << 30);
  last[-1] = 1;
  VALUE(last[-1]);
  return 0;
}
