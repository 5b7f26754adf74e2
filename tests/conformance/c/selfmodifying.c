/* Code that is written, run, and written over: the emulator's translations of it must go with it. */
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

typedef int function(int);
enum { ROOM = 64 };
/* Functions that are copied hold no addresses; that they fit is seen below. */
#define COPIED __attribute__((noinline, noclone, optimize("O1", "no-stack-protector"), aligned(ROOM)))
COPIED static int add(int x) { return x + 1; }
COPIED static int subtract(int x) { return x - 1; }
COPIED static int invert(int x) { return ~x; }
static function *const all[] = {add, subtract, invert};

/* The lowest bit of an address is no part of it where it says Thumb. */
#ifdef __thumb__
enum { MODE = 1 };
#else
enum { MODE = 0 };
#endif

static char *code;

static void put(char *at, function *which) {
  memcpy(at, (void *)((uintptr_t)which & ~(uintptr_t)MODE), ROOM);
  __builtin___clear_cache(at, at + ROOM);
}

static int call(char *at, int x) { return ((function *)((uintptr_t)at | MODE))(x); }

static void *writer(void *unused) {
  put(code, invert);
  return unused;
}

int main(void) {
  long page = sysconf(_SC_PAGESIZE);
  code = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long sum = 0;
  for (int i = 0; i < 3000; i++) {
    put(code + i % 5 * ROOM, all[i % 3]);
    sum = sum * 3 + call(code + i % 5 * ROOM, i);
  }
  VALUE(sum);
  /* next to data that is written, and across a boundary of pages */
  volatile int *data = (int *)(code + page - 4);
  put(code + page - 2 * ROOM, add);
  for (int i = 0; i < 1000; i++) *data = call(code + page - 2 * ROOM, *data);
  VALUE(*data);
  for (int i = 0; i < 100; i++) {
    put(code + page - 4, all[i % 3]);
    sum = sum * 3 + call(code + page - 4, i);
  }
  VALUE(sum);
  /* by way of mprotect */
  for (int i = 0; i < 100; i++) {
    mprotect(code + 2 * page, page, PROT_READ | PROT_WRITE);
    put(code + 2 * page, all[i % 3]);
    mprotect(code + 2 * page, page, PROT_READ | PROT_EXEC);
    sum = sum * 3 + call(code + 2 * page, i);
  }
  VALUE(sum);
  /* by way of mmap, and of read */
  for (int i = 0; i < 30; i++) {
    mmap(code + 3 * page, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int file = memfd_create("code", 0);
    (void)!write(file, (void *)((uintptr_t)all[i % 3] & ~(uintptr_t)MODE), ROOM);
    VALUE(pread(file, code + 3 * page, ROOM, 0));
    __builtin___clear_cache(code + 3 * page, code + 3 * page + ROOM);
    sum = sum * 3 + call(code + 3 * page, i);
    close(file);
  }
  VALUE(sum);
  /* another thread writes, a child writes its own copy */
  put(code, add);
  VALUE(call(code, 5));
  pthread_t thread;
  pthread_create(&thread, NULL, writer, NULL);
  pthread_join(thread, NULL);
  VALUE(call(code, 5));
  if (fork() == 0) {
    put(code, subtract);
    VALUE(call(code, 5));
    _exit(0);
  }
  wait(NULL);
  VALUE(call(code, 5));
  return 0;
}
