/* Calls that came to Linux in its later years. */
#include "must.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static volatile int alarms;
static void on_alarm(int signal) { alarms++, (void)signal; }

static long wait_for(int epoll, struct epoll_event *event, int64_t *limit, sigset_t *mask) {
  return syscall(SYS_epoll_pwait2, epoll, event, 1, limit, mask, 8);
}
static void waiting(void) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefULL}, got = {0};
  int64_t none[2] = {0, 0}, little[2] = {0, 20000000}, wrong[2] = {0, 2000000000};
  uint64_t mask[2] = {0};
  struct timespec before, after;
  int pipes[2], epoll = epoll_create1(0);
  pipe(pipes);
  epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
  MUST(wait_for(epoll, &got, none, NULL) == 0);
  clock_gettime(CLOCK_MONOTONIC, &before);
  MUST(wait_for(epoll, &got, little, NULL) == 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  MUST((after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec >= 20000000);
  MUST(wait_for(epoll, &got, wrong, NULL) == -1 && errno == EINVAL);
  MUST(wait_for(epoll, &got, (int64_t *)1, NULL) == -1 && errno == EFAULT);
  signal(SIGALRM, on_alarm);
  alarm(1);
  MUST(wait_for(epoll, &got, NULL, (sigset_t *)mask) == -1 && errno == EINTR && alarms == 1);
  write(pipes[1], "x", 1);
  MUST(wait_for(epoll, &got, NULL, NULL) == 1 && got.data.u64 == event.data.u64 && got.events == EPOLLIN);
}

static void memory(void) {
  size_t page = sysconf(_SC_PAGESIZE);
  char *at = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int status;
  MUST(syscall(SYS_mlock2, at, page, 0) == 0);
  MUST(syscall(SYS_mlock2, at + page, page, 1 /* MLOCK_ONFAULT */) == 0);
  MUST(syscall(SYS_mlock2, at, page, 8) == -1 && errno == EINVAL);
  MUST(munlock(at, 4 * page) == 0);
  at[0] = at[2 * page] = 7;
  MUST(madvise(at, page, MADV_DONTFORK) == 0);
  if (fork() == 0) _exit(*(volatile char *)at);
  wait(&status);
  MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  MUST(madvise(at, page, MADV_DOFORK) == 0);
  if (fork() == 0) _exit(*(volatile char *)at);
  wait(&status);
  MUST(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  MUST(madvise(at, page, MADV_DONTDUMP) == 0 && madvise(at, page, MADV_DODUMP) == 0);
  int file = memfd_create("holes", MFD_CLOEXEC);
  ftruncate(file, 2 * page);
  char *shared = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  shared[0] = shared[page] = 9;
  MUST(madvise(shared, page, MADV_REMOVE) == 0 && shared[0] == 0 && shared[page] == 9);
}

static void file_status(void) {
  struct { uint32_t mask, rest[63]; } stx;
  int file = open("/proc/self/fdinfo/0", O_RDONLY), number = -1;
  memset(&stx, 0xff, sizeof stx);
  MUST(syscall(SYS_statx, 0, "", AT_EMPTY_PATH, 0x7ff | 0x1000 /* STATX_MNT_ID */, &stx) == 0);
  char text[512] = "", *found;
  read(file, text, sizeof text - 1);
  if ((found = strstr(text, "mnt_id:"))) number = atoi(found + 7);
  uint64_t mount;
  memcpy(&mount, (char *)&stx + 0x90, sizeof mount);
  MUST(!(stx.mask & 0x1000) || mount == (uint64_t)number);
}

int main(void) {
  close(0);
  open("/tmp", O_RDONLY | O_DIRECTORY);
  waiting();
  memory();
  file_status();
  return broken;
}
