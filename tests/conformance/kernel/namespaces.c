/* New namespaces, by clone(2), unshare(2) and setns(2), from processes of one thread and of several. */
#include "must.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK 65536
static int parent_of_all;

static int run(int (*task)(void *), int flags) {
  static char stack[STACK] __attribute__((aligned(16)));
  int status = -1, pid = clone(task, stack + STACK, flags | SIGCHLD, NULL);
  if (pid < 0) return 1000 + errno;
  if (waitpid(pid, &status, 0) != pid) return -2;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
static unsigned long name_of(const char *what) { /* the number of a namespace of ours */
  char path[64];
  struct stat st;
  snprintf(path, sizeof path, "/proc/self/ns/%s", what);
  return stat(path, &st) ? 0 : st.st_ino;
}
static const char *const kinds[] = {"user", "mnt", "uts", "net", "ipc", "cgroup", "time"};
static unsigned long of_parent[sizeof kinds / sizeof *kinds];
static int others(const char *what) { /* is it another than that of the process that started all? */
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (!strcmp(kinds[i], what)) return of_parent[i] && name_of(what) != of_parent[i];
  return 0;
}
static void *nothing(void *argument) { return free(malloc(100000)), argument; }
static int thread_and_child(void) { /* a process that is whole can make both */
  pthread_t id;
  int status;
  if (pthread_create(&id, NULL, nothing, NULL) || pthread_join(id, NULL)) return 0;
  int pid = fork();
  if (pid == 0) _exit(getppid() > 0 ? 5 : 6);
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5;
}

static int user(void *unused) { return others("user") && getuid() == 65534 && thread_and_child() ? 7 : 8; }
static int mounts(void *unused) {
  return others("mnt") && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", "/tmp", "tmpfs", 0, NULL) == 0 && thread_and_child() ? 7 : 8;
}
static int first(void *unused) { return getpid() == 1 && getppid() == 0 && gettid() == 1 && thread_and_child() ? 7 : 8; }
static int host_name(void *unused) { return others("uts") && sethostname("other", 5) == 0 ? 7 : 8; }
static int net(void *unused) { return others("net") ? 7 : 8; }
static int ipc(void *unused) { return others("ipc") ? 7 : 8; }
static int cgroup(void *unused) { return others("cgroup") ? 7 : 8; }
static int everything(void *unused) { return getpid() == 1 && thread_and_child() ? 7 : 8; }
static int seven(void *unused) { return 7; }

#define ALL (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWCGROUP)

static void clones(void) {
  static char stack[STACK] __attribute__((aligned(16)));
  int status;
  MUST(run(user, CLONE_NEWUSER) == 7);
  MUST(run(mounts, CLONE_NEWNS) == 7);
  MUST(run(mounts, CLONE_NEWUSER | CLONE_NEWNS) == 7);
  MUST(run(first, CLONE_NEWPID) == 7);
  MUST(run(first, CLONE_NEWUSER | CLONE_NEWPID) == 7);
  MUST(run(host_name, CLONE_NEWUTS) == 7);
  MUST(run(net, CLONE_NEWNET) == 7);
  MUST(run(ipc, CLONE_NEWIPC) == 7);
  MUST(run(cgroup, CLONE_NEWCGROUP) == 7);
  MUST(run(everything, ALL) == 7);
  MUST(run(seven, CLONE_NEWPID | CLONE_VFORK | CLONE_VM) == 7);
  MUST(run(seven, CLONE_NEWNS | CLONE_FS) == 1000 + EINVAL);
  /* with another signal at its end, and with none */
  int pid = clone(seven, stack + STACK, SIGURG, NULL);
  MUST(pid > 0 && waitpid(pid, &status, 0) == -1 && errno == ECHILD);
  MUST(waitpid(pid, &status, __WCLONE) == pid && WEXITSTATUS(status) == 7);
  pid = clone(seven, stack + STACK, CLONE_NEWUTS, NULL);
  MUST(pid > 0 && waitpid(pid, &status, __WALL) == pid && WEXITSTATUS(status) == 7);
}

/* A child of one's parent. */
static int sibling(void *unused) { return getppid() == parent_of_all ? 7 : 8; }
static void siblings(void) {
  static char stack[STACK] __attribute__((aligned(16)));
  int status, pipes[2], pid;
  pipe(pipes);
  if (fork() == 0) {
    pid = clone(sibling, stack + STACK, CLONE_PARENT | SIGCHLD, NULL);
    write(pipes[1], &pid, sizeof pid);
    _exit(0);
  }
  MUST(read(pipes[0], &pid, sizeof pid) == sizeof pid && pid > 0);
  MUST(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
  wait(&status);
}

/* While other threads are in the midst of whatever they do. */
static volatile int stop;
static int fork_alone(void) {
#ifdef __s390x__
  return syscall(SYS_clone, 0, SIGCHLD, 0, 0, 0);
#else
  return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}
static int no_allocator(void *unused) { /* its locks may be those threads' */
  int status, pid;
  for (int i = 0; i < 20; i++) munmap(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
  if ((pid = fork_alone()) == 0) _exit(5);
  return getpid() == 1 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5 ? 7 : 8;
}
static void *busy(void *unused) {
  while (!stop) {
    free(malloc(random() % 100000));
    munmap(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
  }
  return unused;
}
static void among_threads(void) {
  pthread_t ids[3];
  int good = 0;
  for (int i = 0; i < 3; i++) pthread_create(ids + i, NULL, busy, NULL);
  for (int i = 0; i < 20; i++) good += run(no_allocator, ALL) == 7;
  MUST(good == 20);
  MUST(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
  stop = 1;
  for (int i = 0; i < 3; i++) pthread_join(ids[i], NULL);
}

static int within(int (*task)(void)) {
  int status = -1, pid = fork();
  if (pid == 0) _exit(task());
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
static int unshare_user(void) {
  for (int i = 0; i < 100; i++) munmap(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20);
  return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET) == 0 ? user(NULL) : errno;
}
static int unshare_pid(void) {
  int status;
  if (unshare(CLONE_NEWPID)) return errno;
  pthread_t id;
  if (pthread_create(&id, NULL, nothing, NULL) != EINVAL) return 9;
  for (int i = 0; i < 1000; i++) munmap(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
  int pid = fork();
  if (pid == 0) _exit(first(NULL) == 7 || getppid() == 0 ? 7 : 8);
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 10;
}
static int there_and_back(void) {
  unsigned long before = name_of("uts");
  int old = open("/proc/self/ns/uts", O_RDONLY);
  if (unshare(CLONE_NEWUTS) || name_of("uts") == before) return 9;
  if (setns(old, CLONE_NEWNET) != -1 || errno != EINVAL) return 10;
  return setns(old, CLONE_NEWUTS) == 0 && name_of("uts") == before ? 7 : 8;
}
static int later(void) {
  if (unshare(0x80)) return errno == EINVAL ? 7 : 8; /* CLONE_NEWTIME; kernels without */
  int status, pid = fork();
  if (pid == 0) _exit(others("time") && thread_and_child() ? 7 : 8);
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 10;
}

int main(void) {
  char before[65], after[65];
  parent_of_all = getpid();
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) of_parent[i] = name_of(kinds[i]);
  gethostname(before, sizeof before);
  clones();
  siblings();
  among_threads();
  MUST(within(unshare_user) == 7);
  MUST(within(unshare_pid) == 7);
  MUST(within(there_and_back) == 7);
  MUST(within(later) == 7);
  gethostname(after, sizeof after);
  MUST(!strcmp(before, after));
  return broken;
}
