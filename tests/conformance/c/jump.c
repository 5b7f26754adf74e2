/* setjmp and longjmp: values, registers, signal masks; and contexts that are switched by hand. */
#include "check.h"
#include <setjmp.h>
#include <ucontext.h>

static jmp_buf there;
static sigjmp_buf masked;
static ucontext_t first, second;
static char stack[64 << 10];

__attribute__((noinline)) static void clobber(double x) {
  volatile double values[16];
  for (int i = 0; i < 16; i++) values[i] = x * i;
  longjmp(there, (int)values[3]);
}

__attribute__((noinline)) static double registers(long a, double x) {
  long b = a * 3, c = a * 5, d = a * 7, e = a * 11, f = a * 13;
  double y = x * 3, z = x * 5, v = x * 7, w = x * 11;
  int got = setjmp(there);
  if (got == 0) clobber(x);
  return a + b + c + d + e + f + x + y + z + v + w + got;
}

static void coroutine(int from, int to) {
  for (int i = from; i < to; i++) {
    VALUE(i);
    swapcontext(&second, &first);
  }
  puts("the coroutine ends");
}

int main(void) {
  printf("%a\n", registers(1, 2.0));
  volatile int rounds = 0;
  int got = setjmp(there);
  if (rounds++ < 5) longjmp(there, 5 - rounds);
  VALUE(got);
  VALUE(rounds);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  for (int save = 0; save < 2; save++) {
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (sigsetjmp(masked, save) == 0) {
      sigprocmask(SIG_BLOCK, &set, NULL);
      siglongjmp(masked, 1);
    }
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    VALUE(sigismember(&now, SIGUSR1));
  }
  CALL(getcontext(&second));
  second.uc_stack.ss_sp = stack;
  second.uc_stack.ss_size = sizeof stack;
  second.uc_link = &first;
  makecontext(&second, (void (*)(void))(uintptr_t)coroutine, 2, 10, 13);
  for (int i = 0; i < 4; i++) CALL(swapcontext(&first, &second));
  return 0;
}
