/* What a program can ask about the machine and its limits, and random numbers. */
#include "check.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/personality.h>
#include <sys/utsname.h>

int main(void) {
  struct utsname name;
  CALL(uname(&name));
  printf("%s %s %s %s %s\n", name.sysname, name.nodename, name.release, name.version, name.machine);
  VALUE(sysconf(_SC_PAGESIZE));
  VALUE(sysconf(_SC_NPROCESSORS_ONLN));
  VALUE(sysconf(_SC_OPEN_MAX));
  VALUE(sysconf(_SC_ARG_MAX));
  for (int resource = 0; resource < 16; resource++) {
    struct rlimit limit;
    int failed = getrlimit(resource, &limit);
    printf("limit %d: %d %lld %lld\n", resource, failed, (long long)limit.rlim_cur, (long long)limit.rlim_max);
  }
  CALL(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}));
  CALL(dup2(1, 64));
  CALL(setrlimit(RLIMIT_NOFILE, &(struct rlimit){65, 64}));
  struct sysinfo info;
  CALL(sysinfo(&info));
  IS(info.totalram * info.mem_unit > 0 && info.procs > 0);
  cpu_set_t cpus;
  CALL(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
  IS(CPU_COUNT(&cpus) >= 1);
  CALL(sched_yield());
  CALL(sched_getscheduler(0));
  CALL(sched_get_priority_max(SCHED_FIFO));
  CALL(getpriority(PRIO_PROCESS, 0));
  CALL(setpriority(PRIO_PROCESS, 0, 5));
  CALL(getpriority(PRIO_PROCESS, 0));
  CALL(personality(0xffffffff));
  CALL(prctl(PR_SET_NAME, "a name"));
  char text[16];
  CALL(prctl(PR_GET_NAME, text));
  puts(text);
  CALL(prctl(PR_GET_DUMPABLE));
  CALL(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
  CALL(prctl(12345, 1, 2, 3, 4));
  struct statfs fs;
  CALL(statfs("/proc", &fs));
  printf("%lx\n", (long)fs.f_type);
  unsigned char one[64] = "", other[64] = "";
  CALL(getrandom(one, sizeof one, 0));
  CALL(getrandom(other, sizeof other, GRND_NONBLOCK));
  IS(memcmp(one, other, sizeof one) != 0);
  CALL(getrandom(one, 8, 0x100));
  CALL(getrandom((void *)8, 8, 0));
  CALL(getentropy(one, 257));
  printf("%s\n", getenv("HOME"));
  CALL(sethostname("other", 5));
  CALL(uname(&name));
  puts(name.nodename);
  CALL(sethostname("conformance", 11));
  return 0;
}
