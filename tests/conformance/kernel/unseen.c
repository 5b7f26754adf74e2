/* Descriptors: those that a program has opened, and no other, by every call that could tell. */
#include "must.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
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

/* As /proc has it: by the process's own folder, by that of its parent, and from a folder that is open. */
static int has_a_name(const char *folder) {
  char name[64], target[64];
  struct stat status;
  int dir = open(folder, O_RDONLY | O_DIRECTORY), found = 0;
  snprintf(name, sizeof name, "%s/%d", folder, HIGH);
  found += open(name, O_RDONLY) != -1 || errno != ENOENT;
  found += open(name, O_PATH | O_NOFOLLOW) != -1 || errno != ENOENT;
  found += openat(dir, "1024", O_RDWR) != -1 || errno != ENOENT;
  found += stat(name, &status) != -1 || errno != ENOENT;
  found += lstat(name, &status) != -1 || errno != ENOENT;
  found += access(name, F_OK) != -1 || errno != ENOENT;
  found += readlink(name, target, sizeof target) != -1 || errno != ENOENT;
  found += readlinkat(dir, "1024", target, sizeof target) != -1 || errno != ENOENT;
  found += truncate(name, 0) != -1 || errno != ENOENT;
  close(dir);
  return found;
}

/* Whether it can be sent to another process. */
static int can_be_sent(void) {
  int pair[2], fd = HIGH, sent;
  char byte = 0, control[CMSG_SPACE(sizeof fd)] = { 0 };
  struct iovec data = { &byte, 1 };
  struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 2;
  sent = sendmsg(pair[0], &message, 0) != -1 || errno != EBADF;
  close(pair[0]);
  close(pair[1]);
  return sent;
}

static void absent(void) {
  char byte, parents[64];
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
  snprintf(parents, sizeof parents, "/proc/%d/fd", getppid());
  MUST(has_a_name("/proc/self/fd") == 0);
  MUST(has_a_name("/proc/thread-self/fdinfo") == 0);
  MUST(access(parents, X_OK) == -1 || has_a_name(parents) == 0);
  MUST(mmap(NULL, 4096, PROT_READ, MAP_SHARED, HIGH, 0) == MAP_FAILED && errno == EBADF);
  MUST(can_be_sent() == 0);
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
