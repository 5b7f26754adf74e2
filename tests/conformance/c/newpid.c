/* Memory that is mapped, protected and unmapped over and over costs an emulator nothing that stays, also where no thread can be
 * made any more to free it: after unshare(CLONE_NEWPID), and under a limit. Each is a child, in which threads of its parent's
 * emulator are not. */
#include "check.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void map(int rounds) {
  long size = sysconf(_SC_PAGESIZE);
  for (int i = 0; i < rounds; i++) {
    char *at = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(at + size, size, PROT_READ);
    munmap(at, 3 * size);
  }
}

static long resident(void) {
  long kilobytes = -1;
  char line[200];
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status)) sscanf(line, "VmRSS: %ld", &kilobytes);
  fclose(status);
  return kilobytes;
}

/* 20,000 rounds left 11 MB. */
static int maps_for_nothing(void) {
  map(1000);
  long before = resident();
  map(20000);
  long grown = resident() - before;
  IS(before > 0);
  IS(grown < 3000);
  return 7;
}

static int in_new_namespace(void) {
  CALL(unshare(CLONE_NEWPID));
  return maps_for_nothing();
}

static int under_a_limit(void) {
  struct rlimit none = {0, 0};
  CALL(setrlimit(RLIMIT_NPROC, &none));
  /* root has no limit */
  CALL(setgid(1000));
  CALL(setuid(1000));
  CALL(fork());
  return maps_for_nothing();
}

static void as_a_child(int (*what)(void)) {
  pid_t pid = fork();
  if (!pid) _exit(what());
  int status;
  IS(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void) {
  as_a_child(in_new_namespace);
  as_a_child(under_a_limit);
  return 0;
}
