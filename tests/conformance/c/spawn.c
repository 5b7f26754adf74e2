/* New processes: vfork, posix_spawn with its actions and attributes, popen, system, and failures of exec. */
#include "check.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static void ended(pid_t pid) {
  int status = -1;
  IS(waitpid(pid, &status, 0) == pid);
  printf("  exited %d status %d signal %d\n", WIFEXITED(status), WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

int main(void) {
  volatile int touched = 0;
  pid_t pid = vfork();
  if (pid == 0) {
    touched = 1;
    _exit(3);
  }
  ended(pid);
  VALUE(touched); /* 0: the emulator makes it a fork, which POSIX allows */
  pid = vfork();
  if (pid == 0) {
    execl("/bin/sh", "sh", "-c", "echo from vfork; exit 4", NULL);
    _exit(127);
  }
  ended(pid);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t set;
  int ends[2];
  VALUE(pipe(ends));
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addopen(&actions, 0, "/etc/hostname", O_RDONLY, 0);
  posix_spawnattr_init(&attributes);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  posix_spawnattr_setsigmask(&attributes, &set);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  char *script[] = {"sh", "-c", "cat; grep SigBlk /proc/self/status; test $$ = $(ps -o pgid= $$)", NULL};
  VALUE(posix_spawn(&pid, "/bin/sh", &actions, &attributes, script, environ));
  close(ends[1]);
  char text[256] = "";
  ssize_t size = 0, got;
  while ((got = read(ends[0], text + size, sizeof text - 1 - size)) > 0) size += got;
  fputs(text, stdout);
  ended(pid);
  char *nothing[] = {"nothing", NULL}, *directory[] = {"/etc", NULL};
  VALUE(posix_spawn(&pid, "/nonexistent", NULL, NULL, nothing, environ));
  VALUE(posix_spawn(&pid, "/etc", NULL, NULL, directory, environ));
  VALUE(posix_spawnp(&pid, "true", NULL, NULL, nothing, environ));
  ended(pid);
  FILE *child = popen("tr a-z A-Z", "w");
  fputs("to a pipe\n", child);
  VALUE(pclose(child));
  VALUE(system("exit 5"));
  VALUE(system("kill -9 $$"));
  int file = open("/tmp/garbage", O_CREAT | O_WRONLY, 0755);
  VALUE(write(file, "\177ELFgarbage", 11));
  close(file);
  CALL(execl("/tmp/garbage", "garbage", NULL));
  chmod("/tmp/garbage", 0644);
  CALL(execl("/tmp/garbage", "garbage", NULL));
  CALL(unlink("/tmp/garbage"));
  CALL(execl("/etc/passwd/x", "x", NULL));
  return 0;
}
