/* Instructions that trap. Which signal it is depends on the architecture, and so does whether it returns. */
#include "check.h"
#include <fenv.h>
#include <setjmp.h>

static sigjmp_buf back;
static char *near;

static void handler(int number, siginfo_t *info, void *context) {
  (void)context;
  long distance = (char *)info->si_addr - near;
  printf("  %s code %d near %d\n", sigabbrev_np(number), info->si_code, distance >= 0 && distance < 4096);
  siglongjmp(back, 1);
}

__attribute__((noinline)) static int divide(int a, int b) { return a / b; }

__attribute__((noinline)) static void trap(void) { __builtin_trap(); }

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  for (int i = 0; i < 4; i++) sigaction((int[]){SIGFPE, SIGILL, SIGTRAP, SIGABRT}[i], &action, NULL);
  volatile int zero = 0, least = 0x80000000, minus = -1;
  near = (char *)(uintptr_t)trap;
  puts("trap");
  if (sigsetjmp(back, 1) == 0) trap();
  near = (char *)(uintptr_t)divide;
  puts("by zero");
  if (sigsetjmp(back, 1) == 0) printf("  %d\n", divide(1, zero));
  puts("overflow");
  if (sigsetjmp(back, 1) == 0) printf("  %d\n", divide(least, minus));
  puts("abort");
  if (sigsetjmp(back, 1) == 0) abort();
  puts("floating point");
  volatile double one = 1, none = 0;
  int enabled = feenableexcept(FE_DIVBYZERO);
  VALUE(enabled);
  if (sigsetjmp(back, 1) == 0) printf("  %a\n", one / none);
  return 0;
}
