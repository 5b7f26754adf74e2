/* The low 4 GB are the program's: it may map any page of them that it has not mapped itself. */
#include "check.h"
#include <sys/mman.h>

/* Whether one of this program's mappings has a byte of these. */
static int is_own(unsigned long start, unsigned long end) {
  char line[400];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps)) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx", &from, &to) == 2) found |= from < end && start < to;
  }
  fclose(maps);
  return found;
}

int main(void) {
  unsigned long page = sysconf(_SC_PAGESIZE), taken = 0;
  for (unsigned long at = 0x1000000; at < 0xbf000000; at += 0x1000000) {
    void *wanted = (void *)at;
    void *got = mmap(wanted, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == wanted) munmap(got, page);
    else if (!is_own(at, at + page)) taken++;
  }
  VALUE(taken);
  return 0;
}
