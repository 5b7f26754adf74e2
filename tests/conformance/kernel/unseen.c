/* Descriptors: those that a program has opened, and no other, by every call that could tell. */
#include "must.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { HIGH = 1024 };

static int listed(const char *folder, int fd) {
  DIR *open_ones = opendir(folder);
  struct dirent *entry;
  int found = 0;
  while ((entry = readdir(open_ones))) found += atoi(entry->d_name) == fd && entry->d_name[0] != '.';
  closedir(open_ones);
  return found;
}

static void absent(void) {
  char byte;
  struct stat status;
  MUST(fcntl(HIGH, F_GETFD) == -1 && errno == EBADF);
  MUST(fcntl(HIGH, F_SETFD, 0) == -1 && errno == EBADF);
  MUST(fstat(HIGH, &status) == -1 && errno == EBADF);
  MUST(read(HIGH, &byte, 1) == -1 && errno == EBADF);
  MUST(dup(HIGH) == -1 && errno == EBADF);
  MUST(dup2(HIGH, 9) == -1 && errno == EBADF);
  MUST(close(HIGH) == -1 && errno == EBADF);
  MUST(listed("/proc/self/fd", HIGH) == 0);
  MUST(listed("/proc/self/fdinfo", HIGH) == 0);
}

int main(void) {
  struct rlimit limit;
  for (int fd = 3; fd < 9; fd++) close(fd);
  MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  absent();

  limit.rlim_cur = HIGH;
  MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  absent();
  MUST(dup2(0, HIGH) == -1 && errno == EBADF);
  MUST(fcntl(0, F_DUPFD, HIGH) == -1 && errno == EINVAL);

#ifdef SYS_close_range
  MUST(dup2(0, 5) == 5);
  MUST(syscall(SYS_close_range, 5, ~0u, 0) == 0 || errno == ENOSYS);
  MUST(syscall(SYS_close_range, HIGH, HIGH, 0) == 0 || errno == ENOSYS);
  MUST(syscall(SYS_close_range, HIGH, HIGH, 1 << 20) == -1);
  close(5);
  absent();
#endif

  if (limit.rlim_max > 2 * HIGH) {
    limit.rlim_cur = 2 * HIGH;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    absent();
    MUST(dup2(0, HIGH) == HIGH);
    MUST(fcntl(HIGH, F_GETFD) == 0);
    MUST(listed("/proc/self/fd", HIGH) == 1);
    MUST(dup(HIGH) == 3 && close(3) == 0);
    MUST(close(HIGH) == 0);
    absent();
  }
  return broken;
}
