/* What the kernel, and so the emulator, tells a program at its start: the auxiliary vector, arguments, environment. */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>

extern char **environ;

int main(int argc, char **argv) {
  VALUE(argc);
  puts(argv[0]);
  for (char **at = environ; *at; at++) puts(*at);
  unsigned long ours = 0;
#ifdef __aarch64__
  ours = 3UL << 30; /* PACA and PACG, which our emulator has off: kernel/pauth.c */
#endif
  printf("AT_HWCAP %lx\n", getauxval(AT_HWCAP) & ~ours);
  printf("AT_HWCAP2 %lx\n", getauxval(AT_HWCAP2));
  for (int i = 0; i < 2; i++) {
    const char *text = (const char *)getauxval(i ? AT_BASE_PLATFORM : AT_PLATFORM);
    printf("%s %s\n", i ? "AT_BASE_PLATFORM" : "AT_PLATFORM", text ? text : "none");
  }
  printf("AT_EXECFN %s\n", (char *)getauxval(AT_EXECFN));
  static const int plain[] = {AT_PAGESZ, AT_PHENT, AT_PHNUM, AT_FLAGS, AT_UID, AT_EUID, AT_GID, AT_EGID, AT_CLKTCK, AT_SECURE,
    AT_MINSIGSTKSZ, AT_DCACHEBSIZE, AT_ICACHEBSIZE, AT_UCACHEBSIZE, AT_L1D_CACHESHAPE};
  for (unsigned i = 0; i < sizeof plain / sizeof *plain; i++) {
    errno = 0;
    unsigned long value = getauxval(plain[i]);
    printf("%d: %lu%s\n", plain[i], value, errno ? " (absent)" : "");
  }
  static const int addresses[] = {AT_PHDR, AT_BASE, AT_ENTRY, AT_RANDOM, AT_SYSINFO_EHDR};
  for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++)
    printf("%d: %s\n", addresses[i], getauxval(addresses[i]) ? "there" : "not there");
  IS(getauxval(AT_PHDR) % sizeof(long) == 0);
  IS(*(unsigned char *)getauxval(AT_RANDOM) < 256);
  /* in the order that they are in */
  char **end = environ;
  while (*end) end++;
  printf("types:");
  for (unsigned long *entry = (unsigned long *)(end + 1); *entry; entry += 2) printf(" %lu", *entry);
  puts("");
  IS((uintptr_t)__builtin_frame_address(0) % 4 == 0);
  return 0;
}
