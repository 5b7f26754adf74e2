/* Runs a program and lets system calls of it go wrong: inject REPORT count|kill|fail|forbid POINT VARIANT PROGRAM ARGUMENT...
 *
 *   count    nothing goes wrong; what goes into the report is how many were counted before it first became a program again
 *   kill     the program is killed before its system call number POINT, and what it started with it
 *   fail     that system call is not made and returns an error instead, the one that VARIANT chooses of those plausible for it;
 *            close(2) fails as Linux lets it fail: what was open is let go all the same
 *   forbid   each system call of the names POINT (open,openat) returns EPERM, in whichever program, as behind a container's filter
 *
 * Counted are the system calls of the program and of processes that are it, not of other programs that it becomes or
 * starts, and only those that may fail (`calls`). In REPORT goes a line: how many were counted, and what was done at
 * which, or nothing where POINT or VARIANT do not exist. The exit status is the program's, or 128 and its signal; 250 if something
 * that it started is there 3 seconds after its end.
 *
 * A seccomp filter hands each system call to this process (seccomp_unotify(2)), since the program uses ptrace itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* of Linux 6.6, newer than the headers of Debian bookworm */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, unsigned long long)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif

#define PATIENCE_MS 3000
#define LEFTOVER 250

struct call {
  int number;
  const char *name;
  int errors[4];
};

#define CALL(name, ...) {SYS_##name, #name, {__VA_ARGS__}}

/* What each may plausibly fail with on a machine that is short of something, ill, or forbids it. What is not here cannot fail by
 * itself: signal masks, process ids, exits. */
static const struct call calls[] = {
    CALL(openat, EACCES, EMFILE, EIO),
    CALL(openat2, EACCES, ENOSYS),
    CALL(open, EACCES, EMFILE, EIO),
    CALL(read, EIO, EINTR),
    CALL(pread64, EIO, EINTR),
    CALL(write, EIO, ENOSPC, EINTR),
    CALL(close, EIO, EINTR),
    CALL(getdents64, EIO, ENOMEM),
    CALL(fstat, EIO, ENOMEM),
    CALL(newfstatat, EIO, EACCES),
    CALL(stat, EIO, EACCES),
    CALL(lstat, EIO, EACCES),
    CALL(statx, EIO, EACCES, ENOSYS),
    CALL(statfs, EIO, EACCES),
    CALL(fstatfs, EIO, ENOSYS),
    CALL(lseek, EIO),
    CALL(readlink, EACCES, EIO),
    CALL(readlinkat, EACCES, EIO),
    CALL(mmap, ENOMEM),
    CALL(mprotect, ENOMEM),
    CALL(munmap, ENOMEM),
    CALL(mremap, ENOMEM),
    CALL(brk, ENOMEM),
    CALL(clone, EAGAIN, ENOMEM),
    CALL(clone3, EAGAIN, ENOSYS),
    CALL(vfork, EAGAIN, ENOMEM),
    CALL(fork, EAGAIN, ENOMEM),
    CALL(execve, ENOENT, EACCES, ENOMEM),
    CALL(execveat, ENOENT, EACCES, ENOSYS),
    CALL(ptrace, EPERM), // ESRCH is said of a process that is gone
    CALL(wait4, EINTR),
    CALL(waitid, EINTR),
    CALL(poll, EINTR, ENOMEM),
    CALL(ppoll, EINTR, ENOMEM),
    CALL(signalfd4, EMFILE, ENOMEM),
    CALL(pipe2, EMFILE, ENFILE),
    CALL(socketpair, EMFILE),
    CALL(dup, EMFILE),
    CALL(dup2, EMFILE),
    CALL(dup3, EMFILE),
    CALL(fcntl, EMFILE, ENOLCK),
    CALL(mount, EPERM, EBUSY, ENOMEM),
    CALL(umount2, EBUSY, EPERM),
    CALL(fsopen, EPERM, ENODEV),
    CALL(fsconfig, EPERM),
    CALL(fsmount, EPERM),
    CALL(open_tree, EPERM),
    CALL(move_mount, EPERM),
    CALL(pivot_root, EPERM, EINVAL),
    CALL(unshare, EPERM, ENOSPC),
    CALL(setns, EPERM),
    CALL(chroot, EPERM, EACCES),
    CALL(chdir, EACCES),
    CALL(fchdir, EACCES),
    CALL(chown, EPERM),
    CALL(fchownat, EPERM),
    CALL(chmod, EPERM),
    CALL(fchmodat, EPERM),
    CALL(memfd_create, EMFILE, ENOMEM),
    CALL(prctl, EPERM),
    CALL(prlimit64, EPERM),
    CALL(kill, EPERM),
    CALL(getrandom, EINTR, ENOSYS),
    CALL(ioctl, EIO),
};

static void fail(const char *what) {
  fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
  exit(125);
}

#define CALLS (sizeof calls / sizeof *calls)

/* The call of that number, or of that name. */
static const struct call *find(int number, const char *name) {
  for (size_t i = 0; i < CALLS; i++)
    if (name ? !strcmp(calls[i].name, name) : calls[i].number == number) return &calls[i];
  return NULL;
}

/* Every system call that may fail asks. None of them hands over who is asked. */
static int filter(void) {
  struct sock_filter steps[2 * CALLS + 2], *step = steps;
  *step++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < CALLS; i++) {
    *step++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
    *step++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  }
  *step++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {(unsigned short)(step - steps), steps};
  // who has no privilege may set a filter for programs that get none
  if (geteuid()) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void send_file(int socket, int file) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  char byte = 0;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  memcpy(CMSG_DATA(&control.header), &file, sizeof file);
  sendmsg(socket, &message, 0);
}

static int receive_file(int socket) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  char byte;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  int file = -1;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && message.msg_controllen >= sizeof control.header)
    memcpy(&file, CMSG_DATA(&control.header), sizeof file);
  return file;
}

static int is_program(pid_t pid, const struct stat *program) {
  char path[64];
  struct stat other;
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  return !stat(path, &other) && other.st_dev == program->st_dev && other.st_ino == program->st_ino;
}

/* The process that the thread belongs to. */
static pid_t process_of(pid_t thread) {
  char path[64], line[128];
  int process = 0;
  snprintf(path, sizeof path, "/proc/%d/status", thread);
  FILE *status = fopen(path, "r");
  while (status && fgets(line, sizeof line, status) && sscanf(line, "Tgid: %d", &process) != 1) {
  }
  if (status) fclose(status);
  return process;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct plan {
  const char *what;
  long point;
  char forbidden[CALLS];
  int variant;
  long counted;
  char done[128];
};

/* Whoever asks keeps its descriptor, but the file that was open there is let go. */
static void let_go(int listener, const struct seccomp_notif *request) {
  int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  struct seccomp_notif_addfd instead = {
      .id = request->id,
      .flags = SECCOMP_ADDFD_FLAG_SETFD,
      .srcfd = nothing,
      .newfd = request->data.args[0],
      .newfd_flags = O_CLOEXEC,
  };
  /* who asked may have been killed meanwhile */
  if (nothing < 0 || (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &instead) < 0 && errno != ENOENT))
    fail("a descriptor that is to be closed");
  close(nothing);
}

/* Decides about one system call: an error for it, or 0 to let it be made. */
static int decide(struct plan *plan, const struct seccomp_notif *request, pid_t program, int listener) {
  const struct call *call = find(request->data.nr, NULL);
  if (!strcmp(plan->what, "forbid")) {
    if (!call || !plan->forbidden[call - calls]) return 0;
    snprintf(plan->done, sizeof plan->done, "%s is forbidden", call->name);
    return EPERM;
  }
  if (!call) return 0;
  if (!strcmp(plan->what, "count") && !plan->done[0] && (call->number == SYS_execve || call->number == SYS_execveat))
    snprintf(plan->done, sizeof plan->done, "%ld", plan->counted);
  if (++plan->counted != plan->point) return 0;
  if (!strcmp(plan->what, "kill")) {
    /* who is killed does not get to make it; a child that asked goes on */
    int answer = process_of(request->pid) == program ? EINTR : 0;
    kill(program, SIGKILL);
    snprintf(plan->done, sizeof plan->done, "killed at %s", call->name);
    return answer;
  }
  int error = !strcmp(plan->what, "fail") && plan->variant < 4 ? call->errors[plan->variant] : 0;
  if (error) snprintf(plan->done, sizeof plan->done, "%s fails with %s", call->name, strerrorname_np(error));
  if (error && call->number == SYS_close) let_go(listener, request);
  return error;
}

/* Answers until nobody is left to ask; how the program ended. */
static int supervise(int listener, pid_t program, const struct stat *file, struct plan *plan) {
  int status = -1;
  long end = 0;
  /* who asks and who answers take turns on one processor, where the kernel knows how */
  ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  for (;;) {
    struct pollfd asked = {listener, POLLIN, 0};
    if (poll(&asked, 1, 20) < 0) fail("poll");
    if (!end && !(asked.revents & POLLIN) && waitpid(program, &status, WNOHANG) == program) end = now_ms();
    if (end && now_ms() - end > PATIENCE_MS) return LEFTOVER << 8;
    if (asked.revents & POLLIN) {
      struct seccomp_notif request = {0};
      /* its process may have been killed meanwhile */
      if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) continue;
      struct seccomp_notif_resp answer = {.id = request.id};
      int error = !strcmp(plan->what, "forbid") || is_program(request.pid, file) ? decide(plan, &request, program, listener) : 0;
      if (error)
        answer.error = -error;
      else
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
      ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    } else if (asked.revents & POLLHUP) {
      if (!end) waitpid(program, &status, 0);
      return status;
    }
  }
}

int main(int count, char **words) {
  if (count < 6) {
    fputs("usage: inject REPORT count|kill|fail|forbid POINT VARIANT PROGRAM ARGUMENT...\n", stderr);
    return 2;
  }
  struct plan plan = {.what = words[2], .point = atol(words[3]), .variant = atoi(words[4])};
  struct stat file;
  int pair[2];
  if (stat(words[5], &file)) fail(words[5]);
  if (!strcmp(plan.what, "forbid")) {
    for (char *name = strtok(words[3], ","); name; name = strtok(NULL, ",")) {
      const struct call *call = find(0, name);
      if (!call) {
        fprintf(stderr, "inject: %s is not in the list of system calls\n", name);
        return 2;
      }
      plan.forbidden[call - calls] = 1;
    }
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
  pid_t program = fork();
  if (program < 0) fail("fork");
  if (!program) {
    int listener = filter();
    if (listener < 0) fail("seccomp");
    send_file(pair[1], listener);
    close(listener);
    execv(words[5], words + 5);
    _exit(126);
  }
  close(pair[1]);
  int listener = receive_file(pair[0]);
  if (listener < 0) fail("no listener");
  int status = supervise(listener, program, &file, &plan);
  FILE *report = fopen(words[1], "w");
  if (!report || fprintf(report, "%ld\n%s\n", plan.counted, plan.done) < 0 || fclose(report)) fail(words[1]);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
