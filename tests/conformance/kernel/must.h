/* What the programs of this folder share. Each says, line by line, what Linux does, and ends with 0 if it was so. */
#include "../c/check.h"

static int broken;

/* `&& printf` and the like would hide what a failed call said: errno is printed with it. */
#define MUST(expression) must(#expression, (expression))

__attribute__((unused)) static void must(const char *what, int is) {
  int error = errno;
  printf("%s: %s", what, is ? "yes\n" : "NO");
  if (!is) printf(" (%s)\n", strerrorname_np(error)), broken = 1;
  errno = 0;
}
