/* What a program of 64 bits may not do to the memory of its own emulator, which is in the same address space. Where that is, only
 * another process can see. Natively there is nothing, so that mapping there would work; the rest answers as it does here. */
#include "../c/check.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>

enum { MOST = 64 };
static char *emulators[MOST];

/* The first page of each mapping of this process's emulator's file, and of its heap. */
static int look(void) {
  int ends[2], count = 0;
  (void)!pipe(ends);
  if (fork() == 0) {
    char path[50], line[400];
    sprintf(path, "/proc/%d/maps", getppid());
    FILE *maps = fopen(path, "r");
    while (fgets(line, sizeof line, maps)) {
      unsigned long at = strtoul(line, NULL, 16);
      if (strstr(line, "qemu-") || strstr(line, "[heap]")) (void)!write(ends[1], &at, sizeof at);
    }
    _exit(0);
  }
  close(ends[1]);
  while (count < MOST && read(ends[0], &emulators[count], sizeof(char *)) == sizeof(char *)) count++;
  close(ends[0]);
  wait(NULL);
  return count;
}

static int failed(void *result, int error) { return result == (void *)-1 && errno == error; }

int main(void) {
  if (sizeof(long) < 8) return 0;
  long page = sysconf(_SC_PAGESIZE);
  int private = MAP_PRIVATE | MAP_ANONYMOUS, all = PROT_READ | PROT_WRITE;
  int count = look(), shared = shmget(IPC_PRIVATE, page, 0600);
  IS(count >= 3);
  for (int i = 0; i < count; i++) {
    char *at = emulators[i], *own = mmap(NULL, 2 * page, all, private, -1, 0);
    *own = i;
    if (mprotect(at, page, PROT_NONE) != -1 || errno != ENOMEM) printf("%d: mprotect\n", i);
    if (munmap(at, page) != 0) printf("%d: munmap\n", i);
    if (!failed(mmap(at, page, all, private | MAP_FIXED, -1, 0), ENOMEM)) printf("%d: mmap\n", i);
    if (!failed(mmap(at, page, all, private | MAP_FIXED_NOREPLACE, -1, 0), EEXIST)) printf("%d: mmap, no replacing\n", i);
    if (!failed(mremap(own, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, at), ENOMEM)) printf("%d: mremap to it\n", i);
    if (!failed(mremap(at, page, 2 * page, MREMAP_MAYMOVE), EFAULT)) printf("%d: mremap of it\n", i);
    if (!failed(shmat(shared, at, SHM_REMAP), EINVAL)) printf("%d: shmat\n", i);
    /* half of it the program's */
    char *before = mmap(at - page, page, all, private | MAP_FIXED_NOREPLACE, -1, 0);
    if (before == at - page) {
      *before = 7;
      if (!failed(mmap(before, 2 * page, all, private | MAP_FIXED, -1, 0), ENOMEM)) printf("%d: mmap of half\n", i);
      if (mprotect(before, 2 * page, PROT_READ) != -1 || errno != ENOMEM) printf("%d: mprotect of half\n", i);
      if (*before != 7) printf("%d: lost\n", i);
      munmap(before, 2 * page);
    }
    if (*own != i) printf("%d: lost\n", i);
    munmap(own, 2 * page);
  }
  shmctl(shared, IPC_RMID, NULL);
  puts("alive");
  return 0;
}
