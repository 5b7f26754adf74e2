/* Code that is changed by another mapping of its file while threads run it: once it is mapped anew, it is what the file has. */
#include "must.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { ROUNDS = 20000 };

/* A function that returns a number: its first instruction has it. */
#if defined __x86_64__ || defined __i386__
#define NUMBER_AT 4 /* aligned, behind three nops and the opcode */
#define FUNCTION(n) 0x90, 0x90, 0x90, 0xb8, (n) & 0xff, (n) >> 8, 0, 0, 0xc3
typedef unsigned char part;
#define FIRST(n) (n)
#else
#define NUMBER_AT 0
#define FUNCTION(n) FIRST(n), LAST
#if defined __aarch64__
typedef uint32_t part;
#define FIRST(n) (0x52800000 | (n) << 5)
#define LAST 0xd65f03c0
#elif defined __arm__
typedef uint32_t part;
#define FIRST(n) (0xe3000000 | (n))
#define LAST 0xe12fff1e
#elif defined __s390x__
typedef uint32_t part;
#define FIRST(n) (0xa7290000 | (n))
#define LAST 0x07fe0700
#elif defined __riscv
typedef uint32_t part;
#define FIRST(n) (0x513 | (n) << 20)
#define LAST 0x8067
#elif defined __powerpc64__
typedef uint32_t part;
#define FIRST(n) (0x38600000 | (n))
#define LAST 0x4e800020
#elif defined __mips__
typedef uint32_t part;
#define FIRST(n) (0x24020000 | (n))
#define LAST 0x03e00008, 0
#endif
#endif

static volatile int over;
static char *code;

static void *run(void *unused) {
  while (!over) ((int (*)(void))code)();
  return NULL;
}

int main(void) {
  const part function[] = { FUNCTION(1) };
  size_t page = sysconf(_SC_PAGESIZE);
  int file = memfd_create("code", 0), wrong = 0;
  pthread_t threads[2];
  ftruncate(file, page);
  char *written = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  code = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  memcpy(written, function, sizeof function);
  /* from now on, an emulator of ours keeps blocks for others */
  pid_t child = fork();
  if (!child) _exit(0);
  waitpid(child, NULL, 0);
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run, NULL);
  volatile uint32_t *first = (uint32_t *)(written + NUMBER_AT);
  for (unsigned round = 1; round < ROUNDS; round++) {
    unsigned number = round % 900 + 1;
    *first = FIRST(number + 1000);
    mmap(code, page, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, 0);
    for (volatile unsigned pause = round * 7919 % 6000; pause; pause--) {}
    *first = FIRST(number);
    mmap(code, page, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, 0);
    wrong += ((int (*)(void))code)() != (int)number;
  }
  over = 1;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  MUST(wrong == 0);
  return broken;
}
