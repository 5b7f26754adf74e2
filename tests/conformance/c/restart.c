/* System calls that a signal interrupts: which are restarted, which say EINTR, and waiting for signals. */
#include "check.h"
#include <poll.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile int caught;
static int ends[2];

static void handler(int number) {
  (void)number;
  caught++;
  if (caught == 1) (void)!write(ends[1], "x", 1);
}

/* Late enough that what it is to interrupt has begun, on a busy machine too. */
static void soon(void) {
  caught = 0;
  setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 300000}}, NULL);
}

int main(void) {
  char byte;
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  CALL(pipe(ends));
  sigaction(SIGALRM, &action, NULL);
  soon();
  CALL(read(ends[0], &byte, 1)); /* restarted, and then there is a byte */
  VALUE(caught);
  soon();
  CALL(poll(NULL, 0, 5000)); /* never restarted */
  soon();
  CALL(nanosleep(&(struct timespec){5, 0}, NULL));
  soon();
  CALL(pause());
  action.sa_flags = 0;
  sigaction(SIGALRM, &action, NULL);
  while (poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 0) > 0) CALL(read(ends[0], &byte, 1));
  soon();
  caught = 1;
  CALL(read(ends[0], &byte, 1));
  pid_t pid = fork();
  if (pid == 0) for (;;) pause();
  soon();
  CALL(waitpid(pid, NULL, 0));
  kill(pid, SIGKILL);
  IS(waitpid(pid, NULL, 0) == pid);
  struct timespec rest = {0, 0};
  soon();
  CALL(nanosleep(&(struct timespec){5, 0}, &rest));
  IS(rest.tv_sec == 4);
  sigset_t set;
  siginfo_t info;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  soon();
  VALUE(sigwaitinfo(&set, &info));
  VALUE(info.si_code);
  VALUE(caught);
  CALL(sigtimedwait(&set, &info, &(struct timespec){0, 1000}));
  return 0;
}
