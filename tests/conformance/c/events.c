/* epoll, eventfd, signalfd, inotify and raw futexes. */
#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>

static uint32_t word;
static int woken;

static long futex(uint32_t *at, int operation, uint32_t value, void *timeout, uint32_t *other, uint32_t more) {
#ifdef SYS_futex
  return syscall(SYS_futex, at, operation, value, timeout, other, more);
#else
  return syscall(SYS_futex_time64, at, operation, value, timeout, other, more);
#endif
}

static void *sleeper(void *unused) {
  while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0) futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
  __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
  return unused;
}

int main(void) {
  int poll = epoll_create1(EPOLL_CLOEXEC), event = eventfd(3, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
  struct epoll_event wanted = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788}, got[4];
  uint64_t value;
  CALL(epoll_ctl(poll, EPOLL_CTL_ADD, event, &wanted) == 0);
  CALL(epoll_ctl(poll, EPOLL_CTL_ADD, event, &wanted));
  wanted.data.u64 = 2;
  CALL(epoll_ctl(poll, EPOLL_CTL_ADD, semaphore, &wanted));
  VALUE(epoll_wait(poll, got, 4, 1000));
  IS(got[0].data.u64 == 0x1122334455667788 && got[0].events == EPOLLIN);
  VALUE(epoll_wait(poll, got, 4, 0));
  CALL(read(event, &value, 8));
  VALUE(value);
  CALL(read(event, &value, 8));
  CALL(read(semaphore, &value, 8));
  VALUE(value);
  value = UINT64_MAX;
  CALL(write(event, &value, 8));
  value = 5;
  CALL(write(event, &value, 8));
  VALUE(epoll_pwait(poll, got, 4, 1000, NULL));
  CALL(epoll_ctl(poll, EPOLL_CTL_DEL, event, NULL));
  CALL(epoll_ctl(poll, EPOLL_CTL_MOD, event, &wanted));

  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int signals = signalfd(-1, &set, SFD_NONBLOCK);
  struct signalfd_siginfo info;
  CALL(read(signals, &info, sizeof info));
  raise(SIGUSR1);
  sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 321});
  for (int i = 0; i < 2; i++) {
    CALL(read(signals, &info, sizeof info));
    printf("%d code %d value %d\n", (int)info.ssi_signo == SIGUSR1, info.ssi_code, info.ssi_int);
    IS(info.ssi_pid == (unsigned)getpid());
  }

  char name[] = "/tmp/eventsXXXXXX", room[4096];
  mkdtemp(name);
  int notes = inotify_init1(IN_NONBLOCK);
  CALL(inotify_add_watch(notes, name, IN_CREATE | IN_DELETE | IN_MODIFY));
  char path[64];
  snprintf(path, sizeof path, "%s/file", name);
  int file = open(path, O_CREAT | O_WRONLY, 0600);
  CALL(write(file, "x", 1));
  unlink(path);
  rmdir(name);
  ssize_t size = read(notes, room, sizeof room);
  for (char *at = room; at < room + size;) {
    struct inotify_event *note = (struct inotify_event *)at;
    printf("%x %s\n", note->mask, note->len ? note->name : "");
    at += sizeof *note + note->len;
  }

  CALL(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
  CALL(futex(&word, FUTEX_WAIT, 0, &(struct timespec){0, 1000000}, NULL, 0));
  CALL(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, sleeper, NULL);
  usleep(20000);
  __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
  futex(&word, FUTEX_WAKE_PRIVATE, 3, NULL, NULL, 0);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  VALUE(woken);
  CALL(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word + 1, 9));
  CALL(futex((uint32_t *)1, FUTEX_WAKE, 1, NULL, NULL, 0));
  return 0;
}
