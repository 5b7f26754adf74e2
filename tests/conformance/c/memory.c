/* mmap, mprotect, mremap, munmap, madvise: what is where afterwards, and who shares it. Not brk: whether there is room
 * behind a program depends on where the emulator's own memory came to be. */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

static long page;

/* Which of the pages are there, by a system call that says EFAULT. */
static void pages(const char *at, int count) {
  int ends[2];
  (void)!pipe(ends);
  printf("pages:");
  for (int i = 0; i < count; i++) {
    if (write(ends[1], at + i * page, 1) == 1) {
      char byte;
      (void)!read(ends[0], &byte, 1);
      printf(" %02x", (unsigned char)byte);
    } else printf(" %s", strerrorname_np(errno));
  }
  puts("");
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  page = sysconf(_SC_PAGESIZE);
  VALUE(page);
  int private = MAP_PRIVATE | MAP_ANONYMOUS, all = PROT_READ | PROT_WRITE;
  char *at = mmap(NULL, 8 * page, all, private, -1, 0);
  for (int i = 0; i < 8; i++) memset(at + i * page, i + 1, page);
  pages(at, 8);
  CALL(munmap(at + 2 * page, page));
  CALL(mprotect(at + 4 * page, page, PROT_NONE));
  pages(at, 8);
  IS(mmap(at + 2 * page, page, all, private | MAP_FIXED_NOREPLACE, -1, 0) == at + 2 * page);
  CALL((long)mmap(at + 3 * page, page, all, private | MAP_FIXED_NOREPLACE, -1, 0));
  IS(mmap(at + 6 * page, page, PROT_READ, private | MAP_FIXED, -1, 0) == at + 6 * page);
  pages(at, 8);
  CALL(mprotect(at + 4 * page, page, PROT_READ));
  pages(at, 8);
  CALL(madvise(at, 2 * page, MADV_DONTNEED));
  pages(at, 8);
  CALL(mprotect(at + 1, page, PROT_READ));
  CALL(munmap(at + 1, page));

  char *small = mmap(NULL, page, all, private, -1, 0);
  strcpy(small, "moved");
  char *large = mremap(small, page, 64 * page, MREMAP_MAYMOVE);
  IS(strcmp(large, "moved") == 0);
  large[64 * page - 1] = 1;
  IS(mremap(large, 64 * page, 2 * page, 0) == large);
  pages(large, 3);
  char *target = mmap(NULL, 4 * page, all, private, -1, 0);
  IS(mremap(large, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED, target + page) == target + page);
  pages(target, 4);
  CALL((long)mremap(target + 1, page, page, 0));

  int file = memfd_create("file", 0);
  CALL(ftruncate(file, 3 * page + 100));
  char *shared = mmap(NULL, 4 * page, all, MAP_SHARED, file, 0), *copy = mmap(NULL, 4 * page, all, MAP_PRIVATE, file, 0);
  strcpy(shared + page, "shared");
  IS(strcmp(copy + page, "shared") == 0);
  strcpy(copy + page, "private");
  IS(strcmp(shared + page, "shared") == 0);
  if (fork() == 0) {
    strcpy(shared + page, "child");
    strcpy(copy + page, "child");
    _exit(0);
  }
  wait(NULL);
  puts(shared + page);
  puts(copy + page);
  CALL(msync(shared, 4 * page, MS_SYNC));
  char text[8] = "";
  CALL(pread(file, text, 6, page));
  puts(text);
  bytes("beyond the end", shared + 3 * page + 100, 4);
  CALL((long)mmap(NULL, page, all, MAP_SHARED, file, 1));
  CALL((long)mmap(NULL, 0, all, private, -1, 0));
  CALL((long)mmap(NULL, page, all, MAP_SHARED, 99, 0));
  close(file);
  file = open("/etc/passwd", O_RDONLY);
  CALL((long)mmap(NULL, page, all, MAP_SHARED, file, 0));
  IS(mmap(NULL, page, PROT_READ, MAP_SHARED, file, 0) != MAP_FAILED);
  CALL(mlock(at, page));
  unsigned char core[8];
  CALL(mincore(at, 8 * page, core));
  return 0;
}
