/* sysinfo(2): as much memory as /proc/meminfo says, in units by which it fits. */
#include "must.h"
#include <sys/syscall.h>
#include <sys/sysinfo.h>

static unsigned long long kilobytes(const char *name) {
  FILE *file = fopen("/proc/meminfo", "r");
  char line[256];
  unsigned long long value = 0;
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, name, strlen(name))) sscanf(line + strlen(name), "%llu", &value);
  if (file) fclose(file);
  return value;
}

int main(void) {
  struct sysinfo info;
  MUST(sysinfo(&info) == 0);
  unsigned long long unit = info.mem_unit, total = info.totalram * unit / 1024, free = info.freeram * unit / 1024;
  int fits = sizeof(long) == 8 || (kilobytes("MemTotal:") < 4 << 20 && kilobytes("SwapTotal:") < 4 << 20);
  MUST(total / 4 == kilobytes("MemTotal:") / 4);
  MUST(info.totalswap * unit / 4096 == kilobytes("SwapTotal:") / 4);
  MUST(free <= total && free > kilobytes("MemFree:") / 2);
  MUST(unit == (fits ? 1 : sysconf(_SC_PAGESIZE)));
  MUST(syscall(SYS_sysinfo, NULL) == -1 && errno == EFAULT);
  return broken;
}
