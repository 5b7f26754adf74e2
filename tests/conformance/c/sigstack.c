/* Handlers on a stack of their own: where they run, what they are told, overflow of the main stack. */
#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { SIZE = 128 << 10 };
static char *alternate;
static sigjmp_buf back;

static int on_alternate(void *local) { return (char *)local >= alternate && (char *)local < alternate + SIZE; }

static void inner(int number) {
  int local = number;
  IS(on_alternate(&local));
}

static void outer(int number) {
  stack_t now;
  int local = number;
  IS(on_alternate(&local));
  CALL(sigaltstack(NULL, &now));
  VALUE(now.ss_flags);
  CALL(sigaltstack(&now, NULL));
  raise(SIGUSR2);
}

static void overflow(int number, siginfo_t *info, void *context) {
  int local = number;
  (void)context;
  VALUE(info->si_code);
  IS(on_alternate(&local));
  siglongjmp(back, 1);
}

__attribute__((noinline)) static int deeper(int n) {
  volatile char room[4096];
  room[0] = n;
  return deeper(n + 1) + room[0];
}

int main(void) {
  stack_t stack = {.ss_size = SIZE}, old;
  stack.ss_sp = alternate = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CALL(sigaltstack(&stack, &old));
  VALUE(old.ss_flags == SS_DISABLE);
  struct sigaction action = {.sa_handler = outer, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  action.sa_handler = inner;
  sigaction(SIGUSR2, &action, NULL);
  raise(SIGUSR1);
  action.sa_flags = 0;
  action.sa_handler = inner;
  sigaction(SIGUSR2, &action, NULL);
  raise(SIGUSR2); /* not on the alternate one */
  struct rlimit limit = {1 << 20, 1 << 20};
  CALL(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
  CALL(setrlimit(RLIMIT_STACK, &limit));
  action.sa_sigaction = overflow;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  sigaction(SIGSEGV, &action, NULL);
  for (int i = 0; i < 2; i++) if (sigsetjmp(back, 1) == 0) VALUE(deeper(0));
  stack.ss_flags = SS_DISABLE;
  CALL(sigaltstack(&stack, NULL));
  stack.ss_flags = 0;
  stack.ss_size = 16;
  CALL(sigaltstack(&stack, NULL));
  return 0;
}
