/* The link to its own program that a process has in /proc: every call that follows it finds the program. */
#include "must.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static char program[512];
static struct stat real;

static int same(const struct stat *one) { return one->st_dev == real.st_dev && one->st_ino == real.st_ino && S_ISREG(one->st_mode); }
static int opens(int folder, const char *path, int flags) {
  struct stat st;
  int file = openat(folder, path, flags | O_CLOEXEC);
  if (file < 0) return 0;
  int is = fstat(file, &st) == 0 && same(&st);
  close(file);
  return is;
}
static int stats(int folder, const char *path) {
  struct stat st;
  struct statx stx;
  return fstatat(folder, path, &st, 0) == 0 && same(&st) && statx(folder, path, 0, STATX_INO | STATX_SIZE, &stx) == 0 &&
         stx.stx_ino == real.st_ino && stx.stx_size == real.st_size;
}
static int reads(int folder, const char *path) {
  char target[512] = "";
  return readlinkat(folder, path, target, sizeof target - 1) == (ssize_t)strlen(program) && !strcmp(target, program);
}
/* In the process that runs it: its own. */
static int runs(const char *folder, const char *path) {
  int status = -1;
  if (fork() == 0) {
    if (folder) chdir(folder);
    execve(path, (char *[]){"again", "again", NULL}, (char *[]){NULL});
    _exit(9);
  }
  wait(&status);
  return WIFEXITED(status) && WEXITSTATUS(status) == 77;
}
static int all(int folder, const char *path) {
  int good = opens(folder, path, O_RDONLY) && opens(folder, path, O_PATH) && stats(folder, path) && reads(folder, path) &&
             faccessat(folder, path, X_OK, 0) == 0;
  if (!good) printf("%s: ", path);
  return good;
}

static void *thread(void *unused) {
  char path[64];
  MUST(all(AT_FDCWD, "/proc/thread-self/exe"));
  snprintf(path, sizeof path, "/proc/%d/exe", gettid());
  MUST(all(AT_FDCWD, path));
  snprintf(path, sizeof path, "/proc/%d/task/%d/exe", getpid(), gettid());
  MUST(all(AT_FDCWD, path));
  return unused;
}

int main(int argc, char **argv) {
  struct stat st, other;
  struct statfs fs, here;
  char path[64];
  pthread_t id;
  if (argc > 1) return 77;
  if (!realpath(argv[0], program) || stat(program, &real)) return 1;

  MUST(all(AT_FDCWD, "/proc/self/exe"));
  MUST(all(AT_FDCWD, "/proc/thread-self/exe"));
  MUST(all(AT_FDCWD, "/proc//self/../self/exe"));
  snprintf(path, sizeof path, "/proc/%d/exe", getpid());
  MUST(all(AT_FDCWD, path));
  int folder = open("/proc/self", O_PATH | O_DIRECTORY);
  MUST(all(folder, "exe"));
  MUST(all(folder, "task/../exe"));
  chdir("/proc/self");
  MUST(all(AT_FDCWD, "exe"));
  MUST(all(AT_FDCWD, "./exe"));
  chdir("/");
  pthread_create(&id, NULL, thread, NULL);
  pthread_join(id, NULL);

  MUST(runs(NULL, "/proc/self/exe"));
  MUST(runs(NULL, "/proc/thread-self/exe"));
  MUST(runs("/proc/self", "exe"));
  MUST(runs("/proc/self/task", "../exe"));
  MUST(access("/proc/self/exe", R_OK | X_OK) == 0);
  MUST(statfs("/proc/self/exe", &fs) == 0 && statfs(program, &here) == 0 && fs.f_type == here.f_type);
  MUST(getxattr("/proc/self/exe", "user.none", NULL, 0) == -1 && (errno == ENODATA || errno == EOPNOTSUPP));
  MUST(lstat("/proc/self/exe", &st) == 0 && S_ISLNK(st.st_mode));
  MUST(fstatat(folder, "exe", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
  MUST(open("/proc/self/exe", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
  int link = openat(folder, "exe", O_PATH | O_NOFOLLOW);
  MUST(fstat(link, &st) == 0 && S_ISLNK(st.st_mode));
  MUST(reads(link, ""));
  MUST(open("/proc/self/exe", O_RDONLY | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
  MUST(open("/proc/self/exe/", O_RDONLY) == -1 && errno == ENOTDIR);
  MUST(syscall(SYS_execveat, folder, "exe", (char *[]){"again", NULL}, (char *[]){NULL}, AT_SYMLINK_NOFOLLOW) == -1 && errno == ELOOP);

  /* not its own: a file that is only called so */
  char folder_name[] = "/tmp/exe-XXXXXX";
  mkdtemp(folder_name);
  chdir(folder_name);
  MUST(stat("exe", &st) == -1 && errno == ENOENT);
  MUST(close(open("exe", O_CREAT | O_WRONLY, 0600)) == 0);
  MUST(stat("exe", &st) == 0 && st.st_size == 0 && !same(&st));
  unlink("exe");
  int pid, status;

  /* in a new pid namespace, by the old /proc and by one of its own */
  if (unshare(CLONE_NEWPID | CLONE_NEWNS) == 0) {
    pid = fork();
    if (pid == 0) {
      broken = 0;
      MUST(getpid() == 1);
      MUST(stats(AT_FDCWD, "/proc/self/exe"));
      MUST(stat("/proc/1/exe", &other) == -1 || !same(&other) || access("/proc/2", F_OK));
      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
      MUST(mount("proc", folder_name, "proc", 0, NULL) == 0);
      MUST(stats(AT_FDCWD, "1/exe") || (chdir(folder_name) == 0 && stats(AT_FDCWD, "1/exe")));
      MUST(all(AT_FDCWD, "self/exe"));
      _exit(broken);
    }
    waitpid(pid, &status, 0);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  chdir("/");
  rmdir(folder_name);
  return broken;
}
