/* What a handler is told: siginfo of kill, sigqueue, tgkill, alarm, a child; and masks while it runs. */
#include "check.h"
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int depth;

static void handler(int number, siginfo_t *info, void *context) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  printf("%s depth %d code %d from me %d value %d context %d blocked:", sigabbrev_np(number), depth, info->si_code,
         info->si_pid == getpid(), info->si_code == SI_QUEUE ? info->si_value.sival_int : 0, context != NULL);
  for (int i = 1; i < 32; i++) if (sigismember(&mask, i)) printf(" %s", sigabbrev_np(i));
  puts("");
  depth++;
  if (depth == 1 && number != SIGUSR2) raise(SIGUSR2);
  depth--;
}

static void child(int number, siginfo_t *info, void *context) {
  (void)context;
  printf("%s code %d status %d\n", sigabbrev_np(number), info->si_code, info->si_status);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}, old;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGTERM);
  CALL(sigaction(SIGUSR1, &action, NULL));
  CALL(sigaction(SIGUSR2, &action, NULL));
  CALL(sigaction(SIGALRM, &action, NULL));
  CALL(kill(getpid(), SIGUSR1));
  CALL(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711}));
  CALL(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
  CALL(raise(SIGUSR1));
  action.sa_flags |= SA_NODEFER | SA_RESETHAND;
  CALL(sigaction(SIGUSR2, &action, &old));
  IS(old.sa_sigaction == handler && old.sa_flags & SA_SIGINFO && sigismember(&old.sa_mask, SIGTERM) == 1);
  raise(SIGUSR2);
  sigaction(SIGUSR2, NULL, &old);
  IS(old.sa_handler == SIG_DFL);
  signal(SIGUSR2, SIG_IGN);
  alarm(1);
  CALL(pause());
  sigset_t none, usr1, pending;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  CALL(sigprocmask(SIG_BLOCK, &usr1, NULL));
  raise(SIGUSR1);
  sigpending(&pending);
  IS(sigismember(&pending, SIGUSR1));
  CALL(sigsuspend(&none));
  action.sa_sigaction = child;
  action.sa_flags = SA_SIGINFO;
  CALL(sigaction(SIGCHLD, &action, NULL));
  for (int way = 0; way < 3; way++) {
    pid_t pid = fork();
    if (pid == 0) {
      if (way == 1) kill(getpid(), SIGKILL);
      if (way == 2) kill(getpid(), SIGTERM);
      _exit(42);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0);
    VALUE(status);
  }
  CALL(sigaction(SIGKILL, &action, NULL));
  CALL(kill(getpid(), 65));
  return 0;
}
