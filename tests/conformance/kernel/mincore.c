/* mincore(2): of nothing too, into any byte, and no byte more than there are pages. */
#include "must.h"
#include <sys/mman.h>

int main(void) {
  size_t page = sysconf(_SC_PAGESIZE);
  unsigned char vector[8];
  char *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(mincore(NULL, 0, NULL) == 0);
  MUST(mincore(pages, 0, NULL) == 0);
  pages[0] = pages[page] = 1;
  memset(vector, 0xff, sizeof vector);
  MUST(mincore(pages, page + 1, vector) == 0);
  MUST((vector[0] & 1) && (vector[1] & 1) && vector[2] == 0xff);
  MUST(mincore(pages + 1, page, vector) == -1 && errno == EINVAL);
  MUST(mincore(pages, page, NULL) == -1 && errno == EFAULT);
  munmap(pages + 2 * page, page);
  MUST(mincore(pages, 4 * page, vector) == -1 && errno == ENOMEM);
  return broken;
}
