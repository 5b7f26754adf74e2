/* execveat(2) and fexecve(3): a program that has a descriptor, and perhaps no name, starts, finds itself and starts itself. */
#include "must.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char program[512];

static long at(int folder, const char *path, int flags, const char *task) {
  return syscall(SYS_execveat, folder, path, (char *[]){"own name", (char *)task, program, NULL}, (char *[]){"A=B", NULL}, flags);
}
/* The exit status, or 200 and the error of the call. */
static int starts(int folder, const char *path, int flags, const char *task) {
  int status = -1;
  if (fork() == 0) {
    at(folder, path, flags, task);
    _exit(200 + (errno == ENOENT ? 1 : errno == EACCES ? 2 : errno == EBADF ? 3 : errno == ELOOP ? 4 : 50));
  }
  wait(&status);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
static int filled(int file, int from) {
  char block[65536];
  ssize_t size;
  lseek(from, 0, SEEK_SET);
  while ((size = read(from, block, sizeof block)) > 0) write(file, block, size);
  return file;
}
static int script(int flags) {
  int file = memfd_create("script", flags);
  write(file, "#!/bin/sh\nexit 66\n", 18);
  fchmod(file, 0755);
  return file;
}

/* Started again: what it finds. */
static int started(const char *task, char **argv, char **environment) {
  char target[512] = "", own[512] = "";
  struct stat st;
  if (strcmp(argv[0], "own name") || strcmp(environment[0], "A=B") || environment[1]) return 10;
  if (readlink("/proc/self/exe", target, sizeof target - 1) <= 0) return 11;
  int named = !strcmp(task, "named");
  snprintf(own, sizeof own, named ? "%s" : !strcmp(task, "deleted") ? "%s (deleted)" : "/memfd:the program (deleted)", argv[2]);
  if (strcmp(target, own)) return 12;
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (fstat(file, &st) || !S_ISREG(st.st_mode) || st.st_nlink != named) return 13;
  if (stat("/proc/self/exe", &st) || !S_ISREG(st.st_mode)) return 14;
  if (argv[3]) return 77;
  execve("/proc/self/exe", (char *[]){"own name", (char *)task, argv[2], "again", NULL}, environment);
  return 15;
}

int main(int argc, char **argv, char **environment) {
  char folder_name[] = "/tmp/execveat-XXXXXX", path[600];
  if (argc > 1) return started(argv[1], argv, environment);
  if (!realpath(argv[0], program)) return 1;
  int own = open(program, O_RDONLY | O_CLOEXEC), kept = open(program, O_RDONLY);
  int closing = memfd_create("the program", MFD_CLOEXEC), open_one = memfd_create("the program", 0);
  fchmod(filled(closing, own), 0755), fchmod(filled(open_one, own), 0755);

  MUST(starts(closing, "", AT_EMPTY_PATH, "memfd") == 77);
  MUST(starts(open_one, "", AT_EMPTY_PATH, "memfd") == 77);
  MUST(starts(own, "", AT_EMPTY_PATH, "named") == 77);
  MUST(starts(kept, "", AT_EMPTY_PATH, "named") == 77);
  snprintf(path, sizeof path, "/proc/self/fd/%d", closing);
  MUST(starts(AT_FDCWD, path, 0, "memfd") == 77);
  MUST(starts(-1, program, 0, "named") == 77);

  mkdtemp(folder_name);
  snprintf(path, sizeof path, "%s/copy", folder_name);
  close(filled(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755), own));
  strcpy(program, path);
  int folder = open(folder_name, O_PATH | O_DIRECTORY | O_CLOEXEC), open_folder = open(folder_name, O_RDONLY | O_DIRECTORY);
  MUST(starts(folder, "copy", 0, "named") == 77);
  MUST(starts(open_folder, "copy", 0, "named") == 77);
  MUST(starts(folder, "copy", AT_SYMLINK_NOFOLLOW, "named") == 77);
  snprintf(path, sizeof path, "%s/link", folder_name);
  symlink("copy", path);
  MUST(starts(folder, "link", 0, "named") == 77);
  MUST(starts(folder, "link", AT_SYMLINK_NOFOLLOW, "named") == 204);
  int deleted = openat(folder, "copy", O_RDONLY | O_CLOEXEC);
  unlinkat(folder, "link", 0), unlinkat(folder, "copy", 0);
  MUST(starts(deleted, "", AT_EMPTY_PATH, "deleted") == 77);

  MUST(starts(script(0), "", AT_EMPTY_PATH, NULL) == 66);
  MUST(starts(script(MFD_CLOEXEC), "", AT_EMPTY_PATH, NULL) == 201);
  MUST(starts(closing, "", 0, "memfd") == 201);
  MUST(starts(folder, "copy", 0, "named") == 201);
  MUST(starts(folder, "", AT_EMPTY_PATH, "named") == 202);
  MUST(starts(500, "", AT_EMPTY_PATH, "memfd") == 203);
  fchmod(closing, 0644);
  MUST(starts(closing, "", AT_EMPTY_PATH, "memfd") == 202);
  rmdir(folder_name);
  return broken;
}
