/* A program that becomes set-user-ID root, and what its caller tries with it:
 *
 *   privileged attack PROGRAM   links what an emulator would call the program's core in the next seconds to /root/of-root, and has
 *                               the program die of SIGSEGV in this folder
 *   privileged start PROGRAM    starts the program with settings of QEMU's in its environment
 *   privileged exchange PROGRAM starts it through a link that leads to another program now and then, many times
 *   privileged die              dies of SIGSEGV
 *   privileged run              as root to the last, runs another program, and says what it sees of the settings
 *   privileged who              fails if it is root's and /proc/self/exe is another program
 */
#include "../c/check.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static int settings(void) {
  int count = 0;
  for (char **at = environ; *at; at++) count += !strncmp(*at, "QEMU_", 5);
  return count;
}

static int attack(const char *program) {
  struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  int ends[2];
  char byte;
  IS(setrlimit(RLIMIT_CORE, &unlimited) == 0);
  (void)!pipe(ends);
  pid_t pid = fork();
  if (!pid) {
    close(ends[1]);
    (void)!read(ends[0], &byte, 1);
    execl(program, program, "die", NULL);
    _exit(1);
  }
  const char *slash = strrchr(program, '/');
  for (time_t at = time(NULL) - 1, end = at + 100; at < end; at++) {
    char when[50], core[300];
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", localtime(&at));
    snprintf(core, sizeof core, "qemu_%s_%s_%d.core", slash + 1, when, pid);
    if (symlink("/root/of-root", core)) perror(core);
  }
  close(ends[0]);
  close(ends[1]);
  int status;
  IS(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  return 0;
}

static int start(const char *program) {
  setenv("QEMU_LOG", "page", 1);
  setenv("QEMU_LOG_FILENAME", "/root/of-root", 1);
  setenv("QEMU_STRACE", "1", 1);
  setenv("QEMU_SET_ENV", "PASSED=on", 1);
  execl(program, program, "run", NULL);
  return 1;
}

static int run(void) {
  IS(geteuid() == 0);
  IS(setuid(0) == 0);
  VALUE(settings());
  int passed = getenv("PASSED") != NULL;
  VALUE(passed);
  execl("/bin/true", "true", NULL);
  return 1;
}

static int exchange(const char *program) {
  int wrong = 0, status;
  if (symlink(program, "it") || symlink("/bin/true", "other")) return 1;
  pid_t exchanging = fork();
  if (!exchanging)
    for (;;) renameat2(AT_FDCWD, "it", AT_FDCWD, "other", RENAME_EXCHANGE);
  for (int i = 0; i < 60; i++) {
    pid_t pid = fork();
    if (!pid) {
      execl("./it", "it", "who", NULL);
      _exit(0);
    }
    waitpid(pid, &status, 0);
    wrong += status != 0;
  }
  kill(exchanging, SIGKILL);
  VALUE(wrong);
  return 0;
}

static int who(void) {
  char path[300] = "";
  (void)!readlink("/proc/self/exe", path, sizeof path - 1);
  return geteuid() == 0 && !strstr(path, "/privileged");
}

int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "exchange")) return exchange(argv[2]);
  if (argc > 1 && !strcmp(argv[1], "who")) return who();
  if (argc > 2 && !strcmp(argv[1], "attack")) return attack(argv[2]);
  if (argc > 2 && !strcmp(argv[1], "start")) return start(argv[2]);
  if (argc > 1 && !strcmp(argv[1], "run")) return run();
  if (argc > 1 && !strcmp(argv[1], "die")) raise(SIGSEGV);
  return 1;
}
