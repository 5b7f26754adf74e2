/* /proc/cpuinfo and uname(2): of this program's architecture, as many processors as there are, in the words that programs look for. */
#include "must.h"
#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static int lines(const char *start) { /* of /proc/cpuinfo that begin so */
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[8192];
  int count = 0;
  while (file && fgets(line, sizeof line, file)) count += !strncmp(line, start, strlen(start));
  if (file) fclose(file);
  return count;
}

int main(void) {
  struct utsname name;
  cpu_set_t set;
  int processors = get_nprocs();
  uname(&name);
#if defined __s390x__
  const char *machine = "s390x", *each = "cpu number", *once = "vendor_id       : IBM/S390";
#elif defined __powerpc64__
  const char *machine = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? "ppc64le" : "ppc64", *each = "cpu\t\t: POWER", *once = "platform\t: ";
#elif defined __mips__
  const char *machine = "mips", *each = "cpu model\t\t: ", *once = "system type\t\t: ";
#elif defined __riscv
  const char *machine = "riscv", *each = "isa\t\t: rv", *once = NULL;
#elif defined __arm__ || defined __aarch64__
  const char *machine = "a", *each = "CPU implementer\t: 0x", *once = NULL;
#else
  const char *machine = "", *each = "vendor_id", *once = NULL;
#endif
  MUST(!strncmp(name.machine, machine, strlen(machine)));
  MUST(lines(each) == processors);
  MUST(!once || lines(once) == 1);
  MUST(sched_getaffinity(0, sizeof set, &set) > -1 && CPU_COUNT(&set) >= 1 && CPU_COUNT(&set) <= processors);
#if defined __powerpc64__ || defined __mips__ || defined __arm__ || defined __aarch64__
  MUST(lines("processor") == processors && lines("vendor_id") == 0);
#endif
  return broken;
}
