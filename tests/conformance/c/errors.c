/* System calls that must fail, and how: bad addresses, bad numbers, calls that do not exist. Bad addresses are for calls
 * that the C library passes on as they are on every architecture. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

int main(void) {
  char *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int zero = open("/dev/zero", O_RDWR), ends[2];
  (void)!pipe(ends);
  CALL(syscall(9999));
  CALL(read(zero, bad, 8));
  CALL(write(ends[1], bad, 8));
  CALL(read(99, bad, 8));
  CALL(read(ends[1], bad, 0));
  CALL(open(bad, O_RDONLY));
  CALL(open("", O_RDONLY));
  CALL(pipe((int *)bad));
  CALL(getcwd((char *)&zero, 1) ? 0 : -1);
  CALL(getcwd(bad, 64) ? 0 : -1);
  CALL(writev(ends[1], (struct iovec *)bad, 1));
  CALL(writev(ends[1], (struct iovec[]){{"x", 1}, {bad, 1}}, 2));
  CALL(writev(ends[1], (struct iovec *)bad, -1));
  CALL(poll((struct pollfd *)bad, 1, 0));
  CALL(nanosleep(&(struct timespec){-1, 0}, NULL));
  CALL(sigaction(0, NULL, NULL));
  CALL(sigaction(SIGSTOP, &(struct sigaction){.sa_handler = SIG_IGN}, NULL));
  CALL(sigprocmask(77, &(sigset_t){0}, NULL));
  CALL(execve("/bin/true", (char **)bad, NULL));
  CALL(waitpid(-1, NULL, 0));
  CALL(waitpid(1 << 20, NULL, 0));
  CALL(kill(1 << 22, 0));
  CALL(ioctl(zero, 0x1234));
  CALL(ioctl(1 << 20, FIONREAD));
  CALL(socket(99, SOCK_STREAM, 0));
  CALL(connect(zero, (struct sockaddr *)&zero, sizeof zero));
  CALL(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)bad, 16));
  CALL(setsockopt(socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET, 999, &zero, 4));
  CALL(epoll_wait(zero, (struct epoll_event *)bad, 1, 0));
  CALL(epoll_wait(epoll_create1(0), (struct epoll_event *)bad, 0, 0));
  CALL(lseek(ends[0], 0, SEEK_SET));
  CALL(lseek(zero, 0, 99));
  CALL(ftruncate(zero, 0));
  CALL(fcntl(zero, 9999));
  CALL(dup2(zero, -1));
  CALL(mkdir("/proc/self/x", 0700));
  CALL(rename("/etc/passwd", "/proc/passwd"));
  CALL(mprotect(bad, 4096, 0x1000));
  CALL(munmap((void *)3, 4096));
  CALL(madvise(bad, 4096, 999));
  CALL(setitimer(9, &(struct itimerval){0}, NULL));
  CALL(clock_settime(CLOCK_MONOTONIC, &(struct timespec){0, 0}));
  CALL(readlink("/etc/passwd", (char *)&zero, 4));
  CALL(symlink("x", "/etc"));
  CALL(rmdir("/etc/passwd"));
  CALL(getdents64(zero, bad, 1024));
  return 0;
}
