/*
 * Who has the cache of translated blocks: told by the maps of another process, which are the emulator's.
 *
 * Each line is a case: the action of a child, and whether it has its parent's cache then, another, or none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUMBER = 1024, SIZE = 64 << 20 };

static char self[64] = "/proc/self/exe";
static int ready[2];

static unsigned long cache_of(pid_t pid) {
  char path[64], line[512], *at;
  unsigned long inode = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "r");
  while (maps && fgets(line, sizeof line, maps))
    if ((at = strstr(line, "/memfd:tb-cache"))) sscanf(line, "%*s %*s %*s %*s %lu", &inode);
  if (maps) fclose(maps);
  return inode;
}

static void wait_to_be_seen(void) {
  if (write(3, "", 1) != 1) _exit(9);
  for (;;) pause();
}

/* A program's own cache begins with the first process that it makes. */
static void begin_and_wait(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  waitpid(pid, NULL, 0);
  wait_to_be_seen();
}

static unsigned long after(void (*act)(void)) {
  char byte;
  pid_t pid;
  if (pipe(ready)) exit(8);
  pid = fork();
  if (pid == 0) {
    close(ready[0]);
    dup2(ready[1], 3);
    act();
    wait_to_be_seen();
  }
  close(ready[1]);
  if (read(ready[0], &byte, 1) != 1) printf("(child ended) ");
  close(ready[0]);
  unsigned long inode = cache_of(pid);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  return inode;
}

static void fails(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(7);
}

#define TRY(call) do { if ((call) == -1) fails(#call); } while (0)

static void nothing(void) {}
static void start_itself(void) { TRY(execl(self, "cache", "wait", NULL)); }
static void start_script(void) { TRY(execl("/tmp/cache.script", "script", NULL)); }
static void start_privileged(void) { TRY(setuid(1000)); TRY(execl("/tmp/cache.privileged", "cache", "wait", NULL)); }
static void start_unreadable(void) { TRY(setuid(1000)); TRY(execl("/tmp/cache.unreadable", "cache", "wait", NULL)); }
static void start_emulator(const char *argument) {
  char emulator[64];
  snprintf(emulator, sizeof emulator, "/proc/%d/exe", getppid());
  TRY(execl(emulator, "emulator", "/tmp/cache.plain", argument, NULL));
}
static void start_native(void) { start_emulator("wait"); }
static void start_alone(void) { start_emulator("alone"); }
static void same_user(void) { TRY(setuid(0)); TRY(setresuid(0, -1, 0)); TRY(setgid(0)); }
static void set_user(void) { TRY(setuid(1000)); }
static void set_effective(void) { TRY(seteuid(1000)); TRY(seteuid(0)); }
static void set_group(void) { TRY(setgid(1000)); }
static void set_groups(void) { TRY(setgroups(0, NULL)); }
static void new_user_starts(void) { TRY(setuid(1000)); start_itself(); }
static void no_new_privileges(void) { TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }
static void bounding_set(void) { TRY(prctl(PR_CAPBSET_DROP, 0, 0, 0, 0)); }
static void not_dumpable(void) { TRY(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)); }
static void capabilities(void) {
  unsigned header[2] = { 0x20080522, 0 }, data[6];
  TRY(syscall(SYS_capget, header, data));
  TRY(syscall(SYS_capset, header, data));
}
/* A user's own, by which the kernel does not mark what it starts. */
static void ambient_capability(void) {
  unsigned header[2] = { 0x20080522, 0 }, data[6] = { 1, 1, 1 };
  TRY(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  TRY(setresgid(1000, 1000, 1000));
  TRY(setresuid(1000, 1000, 1000));
  TRY(syscall(SYS_capset, header, data));
  TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0));
  start_itself();
}
static void new_namespace(void) { TRY(unshare(CLONE_NEWUTS)); }
/* The cache's descriptor would stay open in one of the two tables, whatever the process gives up later. */
static void *split_table(void *unused) {
  TRY(unshare(CLONE_FILES));
  return NULL;
}
static void thread_with_own_table(void) {
  pthread_t thread;
  TRY(-pthread_create(&thread, NULL, split_table, NULL));
  pthread_join(thread, NULL);
}
static void own_table(void) { TRY(syscall(436 /* close_range */, 3000, 4000, 2 /* CLOSE_RANGE_UNSHARE */)); }
static void change_root(void) { TRY(chroot("/")); }

static void hand_over(int seals, off_t size, uid_t owner) {
  struct rlimit limit;
  int fd = memfd_create("tb-cache", MFD_ALLOW_SEALING);
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max > 2048 ? 2048 : limit.rlim_max;
  TRY(setrlimit(RLIMIT_NOFILE, &limit));
  TRY(ftruncate(fd, size));
  if (owner) TRY(fchown(fd, owner, 0));
  if (seals) TRY(fcntl(fd, F_ADD_SEALS, seals));
  TRY(dup2(fd, NUMBER));
  start_itself();
}
static void empty_one(void) { hand_over(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, SIZE, 0); }
static void read_only_one(void) { hand_over(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE, SIZE, 0); }
static void anothers(void) { hand_over(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, SIZE, 1000); }
static void unsealed(void) { hand_over(0, SIZE, 0); }
static void small(void) { hand_over(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, 4096, 0); }
static const struct { const char *what; void (*act)(void); } cases[] = {
  { "fork", nothing }, { "exec", start_itself }, { "script", start_script },
  { "native", start_native }, { "alone", start_alone }, { "privileged", start_privileged },
  { "unreadable", start_unreadable }, { "same user", same_user },
  { "setuid", set_user }, { "seteuid", set_effective }, { "setgid", set_group }, { "setgroups", set_groups },
  { "new user", new_user_starts }, { "no_new_privs", no_new_privileges }, { "bounding set", bounding_set },
  { "not dumpable", not_dumpable }, { "capset", capabilities }, { "ambient capability", ambient_capability }, { "unshare", new_namespace }, { "chroot", change_root },
  { "table of a thread", thread_with_own_table }, { "close_range", own_table },
  { "empty", empty_one }, { "read-only", read_only_one }, { "of another", anothers }, { "unsealed", unsealed },
  { "small", small },
};

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "alone")) wait_to_be_seen();
  if (argc > 1) begin_and_wait();
  unsigned long own = after(nothing);
  setvbuf(stdout, NULL, _IONBF, 0);
  printf("own: %s\n", own ? "yes" : "none");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    unsigned long its = after(cases[i].act);
    printf("%s: %s\n", cases[i].what, !its ? "none" : its == own ? "the same" : "another");
  }
  return 0;
}
