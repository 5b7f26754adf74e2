/* Real-time signals queue: each arrives, in order of number and then of sending, with its value. */
#include "check.h"

static void handler(int number, siginfo_t *info, void *context) {
  (void)context;
  printf("SIGRTMIN+%d value %d code %d\n", number - SIGRTMIN, info->si_value.sival_int, info->si_code);
}

int main(void) {
  sigset_t all, old;
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigfillset(&all);
  sigfillset(&action.sa_mask);
  VALUE(SIGRTMAX - SIGRTMIN);
  for (int number = SIGRTMIN; number <= SIGRTMIN + 5; number++) sigaction(number, &action, NULL);
  signal(SIGUSR1, SIG_IGN);
  sigprocmask(SIG_SETMASK, &all, &old);
  for (int i = 0; i < 12; i++) CALL(sigqueue(getpid(), SIGRTMIN + 5 - i % 3, (union sigval){.sival_int = i}));
  sigset_t one;
  siginfo_t info;
  sigemptyset(&one);
  sigaddset(&one, SIGRTMIN + 4);
  IS(sigwaitinfo(&one, &info) == SIGRTMIN + 4);
  VALUE(info.si_value.sival_int);
  sigprocmask(SIG_SETMASK, &old, NULL);
  VALUE(sigaction(SIGRTMAX, &action, NULL));
  raise(SIGRTMIN);
  return 0;
}
