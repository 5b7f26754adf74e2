/* What a program reads about itself in /proc, and starting itself by what it read. */
#include "check.h"
#include <ctype.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void print_file(const char *path) {
  char text[4096];
  int file = open(path, O_RDONLY);
  ssize_t size = read(file, text, sizeof text);
  printf("%s (%zd):", path, size);
  for (ssize_t i = 0; i < size; i++) putchar(text[i] ? text[i] : '|');
  puts("");
  close(file);
}

/* Every line is as proc(5) says, addresses go up, and what must be there is. */
static void maps(void) {
  FILE *file = fopen("/proc/self/maps", "r");
  char line[4096], flags[5], name[4096];
  unsigned long start, end, offset, inode, last = 0;
  unsigned major, minor;
  int malformed = 0, unsorted = 0, own = 0, stack = 0, here = 0, local;
  while (fgets(line, sizeof line, file)) {
    *name = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %s", &start, &end, flags, &offset, &major, &minor, &inode, name) < 7) malformed++;
    if (start < last || end <= start) unsorted++;
    last = end;
    if (!strcmp(name, "/binaries/self") && flags[2] == 'x') own++;
    if (!strcmp(name, "[stack]")) stack += (uintptr_t)&local >= start && (uintptr_t)&local < end;
    if ((uintptr_t)maps >= start && (uintptr_t)maps < end) here += !strcmp(name, "/binaries/self");
  }
  fclose(file);
  printf("maps: malformed %d unsorted %d own code %d stack %d this function %d\n", malformed, unsorted, own, stack, here);
}

int main(int argc, char **argv) {
  char path[256] = "";
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  printf("exe (%zd): %s\n", length, path);
  print_file("/proc/self/cmdline");
  print_file("/proc/self/comm");
  print_file("/proc/self/environ");
  maps();
  for (int i = 0; i < argc; i++) printf("argv[%d] = %s\n", i, argv[i]);
  printf("%s %s\n", program_invocation_name, program_invocation_short_name);
  ElfW(Ehdr) header;
  int file = open("/proc/self/exe", O_RDONLY);
  VALUE(read(file, &header, sizeof header));
  VALUE(header.e_machine);
  struct stat one, other;
  fstat(file, &one);
  stat("/binaries/self", &other);
  IS(one.st_ino == other.st_ino && one.st_dev == other.st_dev);
  int pid, parent;
  char state, name[64];
  FILE *status = fopen("/proc/self/stat", "r");
  VALUE(fscanf(status, "%d (%63[^)]) %c %d", &pid, name, &state, &parent));
  printf("%s %c\n", name, state);
  IS(pid == getpid() && parent == getppid());
  snprintf(path, sizeof path, "/proc/%d/exe", getpid());
  char target[256] = "";
  VALUE(readlink(path, target, sizeof target - 1));
  puts(target);
  VALUE(readlinkat(AT_FDCWD, "/proc/thread-self/exe", target, 4));
  FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
  char line[1024];
  for (int i = 0; i < 3 && cpuinfo && fgets(line, sizeof line, cpuinfo);) {
    /* the host's own cpuinfo, where the emulator makes up none, says what it measures */
    if (!strstr(line, "MHz") && !strstr(line, "mips")) { fputs(line, stdout); i++; }
  }
  if (argc < 3) {
    if (fork() == 0) execl("/proc/self/exe", "another name", "again", "", NULL);
    int code;
    wait(&code);
    VALUE(code);
    if (fork() == 0) fexecve(file, (char *[]){"by descriptor", "one", "two", NULL}, (char *[]){"A=B", NULL});
    wait(&code);
    VALUE(code);
  }
  return argc;
}
