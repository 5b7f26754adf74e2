/* The ways to end: what the parent is told, and what the emulator says. Then it ends itself by a signal. */
#include "check.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *leave(void *code) { exit((int)(long)code); }
static void *leave_all(void *code) { syscall(SYS_exit_group, (long)code); return NULL; }
static void at_end(void) { puts("at exit"); }

static void die(int way) {
  pthread_t thread;
  switch (way) {
    case 0: exit(256 + 7);
    case 1: _exit(-1);
    case 2: abort();
    case 3: *(volatile int *)8 = 1; break;
    case 4: raise(SIGTERM); break;
    case 5: raise(SIGKILL); break;
    case 6: raise(SIGRTMIN + 3); break;
    case 7: pthread_create(&thread, NULL, leave, (void *)33L); pause(); break;
    case 8: pthread_create(&thread, NULL, leave_all, (void *)34L); pause(); break;
    case 9: signal(SIGCHLD, SIG_IGN); if (fork() == 0) _exit(1); CALL(wait(NULL)); _exit(0);
    case 10: setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2}); for (;;);
    case 11: alarm(1); for (;;) pause();
    case 12: raise(SIGSTOP); for (;;) pause();
    case 13: at_quick_exit(at_end); quick_exit(9);
    case 14: atexit(at_end); exit(0);
    default: execl("/bin/false", "false", NULL);
  }
}

int main(void) {
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  for (int way = 0; way < 16; way++) {
    pid_t pid = fork();
    if (pid == 0) die(way);
    siginfo_t info;
    int status;
    do {
      memset(&info, 0, sizeof info);
      waitid(P_PID, pid, &info, WEXITED | WSTOPPED | WCONTINUED | WNOWAIT);
      printf("%d: code %d status %d mine %d\n", way, info.si_code, info.si_status, info.si_pid == pid);
      waitpid(pid, &status, WUNTRACED | WCONTINUED);
      if (WIFSTOPPED(status)) kill(pid, SIGCONT);
      if (WIFCONTINUED(status)) kill(pid, SIGTERM);
    } while (!WIFEXITED(status) && !WIFSIGNALED(status));
    printf("  %x core %d\n", status & ~0x80, WIFSIGNALED(status) && WCOREDUMP(status));
  }
  raise(SIGSEGV);
  return 0;
}
