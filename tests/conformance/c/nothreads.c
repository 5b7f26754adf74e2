/* A process that may start no thread or process any more, and executes code that it has not executed before: what an emulator does
 * beside its guest must not need a thread by then. It is a child, in which threads of its parent's emulator are not, whatever
 * they had been started for: the parent waits until they are done with that. */
#pragma GCC optimize("O0") /* there is much of it, and nothing to gain */
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static volatile unsigned touched;

__attribute__((noinline)) static void touch(unsigned n) { touched = touched * 31 + n; }

/* Each is code of its own, some thousand blocks of it. */
#define ONE(n) if (touched & 1u << (n) % 29) touch(n); else touch((n) ^ 0xaaaa);
#define FOUR(n) ONE(n) ONE(n + 1) ONE(n + 2) ONE(n + 3)
#define SIXTEEN(n) FOUR(n) FOUR(n + 4) FOUR(n + 8) FOUR(n + 12)
#define MANY(n) SIXTEEN(n) SIXTEEN(n + 16) SIXTEEN(n + 32) SIXTEEN(n + 48)
#define WALK(name, n) __attribute__((noinline)) static void name(void) { MANY(n) MANY(n + 64) MANY(n + 128) MANY(n + 192) MANY(n + 256) \
  MANY(n + 320) MANY(n + 384) MANY(n + 448) MANY(n + 512) MANY(n + 576) MANY(n + 640) MANY(n + 704) MANY(n + 768) MANY(n + 832) }

WALK(first, 0)
WALK(second, 1000)
WALK(third, 2000)

static void *nothing(void *argument) { return argument; }

/* Each time there is less to know of these pages. */
static void map(void) {
  long size = sysconf(_SC_PAGESIZE);
  for (int i = 0; i < 500; i++) {
    char *at = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(at + size, size, PROT_READ);
    munmap(at, 3 * size);
  }
}

static int child(void) {
  struct rlimit limit;
  pthread_t thread;
  getrlimit(RLIMIT_NPROC, &limit);
  limit.rlim_cur = 0;
  CALL(setrlimit(RLIMIT_NPROC, &limit));
  /* root has no limit */
  CALL(setgid(1000));
  CALL(setuid(1000));
  CALL(fork());
  IS(pthread_create(&thread, NULL, nothing, NULL) != 0);
  first();
  map();
  second();
  VALUE(touched);
  limit.rlim_cur = limit.rlim_max;
  CALL(setrlimit(RLIMIT_NPROC, &limit));
  third();
  VALUE(touched);
  IS(pthread_create(&thread, NULL, nothing, NULL) == 0);
  CALL(pthread_join(thread, NULL));
  return 7;
}

int main(void) {
  usleep(300000);
  pid_t pid = fork();
  if (!pid) _exit(child());
  int status;
  IS(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  return 0;
}
