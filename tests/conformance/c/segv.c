/* Faults that a program recovers from: address, code, and that it goes on afterwards. */
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf back;
static char *base;

static void handler(int number, siginfo_t *info, void *context) {
  (void)context;
  printf("  %s code %d", sigabbrev_np(number), info->si_code);
  /* QEMU fills in no address for SIGBUS: what is there varies */
  if (number == SIGSEGV) printf(" at %ld", (long)((char *)info->si_addr - base));
  puts("");
  siglongjmp(back, 1);
}

#define FAULT(expression) \
  do { \
    puts(#expression); \
    if (sigsetjmp(back, 1) == 0) { expression; puts("  no fault"); } \
  } while (0)

static volatile int zero;

int main(void) {
  long page = sysconf(_SC_PAGESIZE);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  for (int i = 0; i < 4; i++) sigaction((int[]){SIGSEGV, SIGBUS, SIGILL, SIGTRAP}[i], &action, NULL);
  volatile char *at = base = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(base + page, page, PROT_READ);
  mprotect(base + 2 * page, page, PROT_NONE);
  munmap(base + 3 * page, page);
  FAULT(at[0] = 1);
  FAULT(at[page + 5] = 1);
  FAULT(zero += at[page + 5]);
  FAULT(zero += at[2 * page + 9]);
  FAULT(at[3 * page - 1] = 1);
  FAULT(at[3 * page + 123] = 1);
  FAULT(memset((void *)(base + page - 8), 1, 16));
  bytes("before the fault", base + page - 8, 8);
  CALL(write(1, (void *)(base + 2 * page), 1));
  mprotect(base + page, page, PROT_READ | PROT_WRITE);
  FAULT(at[page + 5] = 1);
  FAULT(((void (*)(void))(uintptr_t)(base + 2 * page))());
  int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  CALL(ftruncate(file, page));
  at = base = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  FAULT(at[page - 1] = 1);
  FAULT(at[page + 7] = 1);
  base = NULL;
  FAULT(*(volatile char *)(uintptr_t)zero = 1);
  FAULT(*(volatile char *)(uintptr_t)(zero + 24) = 1);
  for (int i = 0; i < 1000; i++) if (sigsetjmp(back, 1) == 0) continue;
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  VALUE(sigismember(&mask, SIGSEGV));
  return 0;
}
