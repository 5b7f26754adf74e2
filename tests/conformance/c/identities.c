/* Users and groups: changing them, what that allows, and what a file's owner and mode are afterwards. */
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void who(void) {
  uid_t r, e, s;
  gid_t a, b, c, groups[16];
  getresuid(&r, &e, &s);
  getresgid(&a, &b, &c);
  int count = getgroups(16, groups);
  printf("uid %u %u %u gid %u %u %u groups", r, e, s, a, b, c);
  for (int i = 0; i < count; i++) printf(" %u", groups[i]);
  puts("");
}

static void as_user(void) {
  CALL(setgroups(3, (gid_t[]){5, 27, 1000}));
  CALL(setresgid(1000, 1000, 1000));
  CALL(setresuid(1000, 33, 1000));
  who();
  CALL(seteuid(1000));
  CALL(setreuid(-1, 1000));
  who();
  CALL(setuid(0));
  CALL(setgroups(0, NULL));
  CALL(open("/etc/shadow", O_RDONLY));
  CALL(chown("/etc/passwd", 1000, 1000));
  CALL(kill(1, 0));
  CALL(access("/root", R_OK));
  umask(027);
  int file = open("/tmp/identities", O_CREAT | O_EXCL | O_WRONLY, 0666);
  struct stat status;
  CALL(fstat(file, &status));
  printf("%o %u %u\n", status.st_mode, status.st_uid, status.st_gid);
  CALL(fchmod(file, 06755));
  CALL(fchown(file, -1, 27));
  CALL(fstat(file, &status));
  printf("%o %u %u\n", status.st_mode, status.st_uid, status.st_gid);
  _exit(0);
}

int main(void) {
  who();
  struct passwd *user = getpwnam("user");
  printf("%s %u %s %s\n", user->pw_name, user->pw_uid, user->pw_dir, user->pw_shell);
  printf("%s\n", getgrgid(27)->gr_name);
  VALUE(setfsuid(1000));
  VALUE(setfsuid(0));
  if (fork() == 0) as_user();
  int status;
  wait(&status);
  VALUE(status);
  CALL(unlink("/tmp/identities"));
  CALL(setresuid(70000, 70000, 70000)); /* not mapped */
  CALL(seteuid(65534));
  who();
  CALL(seteuid(0));
  CALL(getsid(0) == getsid(getpid()));
  if (fork() == 0) {
    IS(setsid() == getpid() && getpgrp() == getpid() && getsid(0) == getpid());
    _exit(0);
  }
  wait(&status);
  return 0;
}
